/* bench_lesson: results of gfs-bench concurrency, for the report and the plot. */
#ifndef BENCH_LESSON_H
#define BENCH_LESSON_H

#include "bench.h"

#define BENCH_LESSON_WAYS 3

struct bench_lesson_way {
    const char *name;  /* in JSON */
    const char *title; /* in the plot */
    unsigned processes;
    double p50_ms; /* of the clients that do not read the slow chunk */
    double p99_ms;
    double calm_p50_ms; /* the same with no chunk slow */
    double calm_p99_ms;
    double ops_per_s;
    double mb_per_s;
    double memory_mib; /* anonymous, all chunkservers together */
};

struct bench_lesson {
    struct bench_lesson_way ways[BENCH_LESSON_WAYS];
    unsigned others; /* clients that do not read the slow chunk */
    unsigned delay_ms;
};

#endif
