/*
 * bench: what the benches of gfs-bench share.
 *
 *   main.c -> bench_supervise (temporary directory, worker process) -> bench_write.c, ...
 *                 worker: bench_cluster (daemons as children)  bench_clients (threads)  report
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_MIB (1024.0 * 1024.0)

#define BENCH_FIELD_STRING const char *
#define BENCH_FIELD_U64    uint64_t
#define BENCH_FIELD_SIZE   uint64_t
#define BENCH_FIELD_BOOL   bool

struct bench_options {
#define OPT(name, type, default_text, min, max, unit, help) BENCH_FIELD_##type name;
#include "bench_options.tbl"
#undef OPT
};

struct bench_kind;

struct bench {
    const struct bench_kind *kind;
    struct bench_options options;
    unsigned clients;     /* the option, or the bench's default */
    const char *work_dir; /* an empty directory of this run */
    char bin_dir[4096];   /* where the daemons are: beside this program */
    cJSON *report;
};

struct bench_kind {
    const char *name;
    const char *summary;
    unsigned clients;                 /* default */
    bool (*run)(struct bench *bench); /* false: it said why on stderr */
};

/* One line on stderr. Always false. */
bool bench_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same for a gfs call that just failed on this thread. */
bool bench_fail_gfs(const char *what);
/* The option, or the default when it is 0. */
uint64_t bench_or(uint64_t value, uint64_t otherwise);
double bench_now_s(void); /* monotonic */
/* Fills with bytes that no compressor shortens, the same for the same seed. */
void bench_fill(void *data, size_t len_bytes, uint64_t seed);
uint64_t bench_random(uint64_t *state);
/* Sorts. 0 of no values. */
double bench_median(double *values, size_t count);

bool bench_write_run(struct bench *bench);
bool bench_read_run(struct bench *bench);
bool bench_small_run(struct bench *bench);
bool bench_append_run(struct bench *bench);
bool bench_failover_run(struct bench *bench);
bool bench_meta_run(struct bench *bench);
bool bench_lesson_run(struct bench *bench);
bool bench_compare_run(struct bench *bench);

#endif
