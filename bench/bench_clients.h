/*
 * bench_clients: N clients, each with a connection to the cluster and a thread of its own, let
 * loose at once. A client's struct belongs to its thread while bench_clients_run runs.
 */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs.h"

struct bench;

#define BENCH_SAMPLES_MAX (1u << 22)

/* Durations in seconds. What passes the maximum is counted, not kept. */
struct bench_samples {
    float *values;
    size_t count;
    size_t capacity;
};

void bench_samples_add(struct bench_samples *samples, double seconds);
void bench_samples_merge(struct bench_samples *into, const struct bench_samples *from);
double bench_samples_quantile(struct bench_samples *samples, double q); /* sorts; 0 of none */
void bench_samples_clear(struct bench_samples *samples);
void bench_samples_release(struct bench_samples *samples);

struct bench_client {
    unsigned index;
    unsigned count; /* of all clients */
    struct gfs *fs;
    const void *arg; /* of the run, shared */
    struct bench_samples samples;
    uint64_t bytes;
    uint64_t ops;
    char error[512]; /* empty: it did its work */
};

/* The work of one client; on failure it has called bench_client_fail. */
typedef void bench_client_fn(struct bench_client *client);

struct bench_clients {
    struct bench_client *items;
    unsigned count;
};

/* Connects; on failure it said why. */
bool bench_clients_open(struct bench_clients *clients, const struct bench *bench,
                        const char *master, unsigned count);
void bench_clients_close(struct bench_clients *clients);
/*
 * Runs fn once in each client, all starting together. tick, unless NULL, is called about ten times
 * a second meanwhile. *ret_seconds: from the start to the last one's end. Counters and samples
 * begin empty. false when a client failed, and it said why.
 */
bool bench_clients_run(struct bench_clients *clients, bench_client_fn *fn, const void *arg,
                       void (*tick)(void *tick_arg), void *tick_arg, double *ret_seconds);
void bench_client_fail(struct bench_client *client, const char *what); /* after a gfs call failed */
uint64_t bench_clients_bytes(const struct bench_clients *clients);
uint64_t bench_clients_ops(const struct bench_clients *clients);
/* All samples of the last run are added. */
void bench_clients_samples(const struct bench_clients *clients, struct bench_samples *samples);

#endif
