/*
 * bench_raw: raw engines, the measure for the service: LevelDB alone, fed growing keys with 64 KiB
 * values in synced batches of 1 MiB. Each runs in a process of its own (this program again, by the
 * name "raw"), as a chunkserver does.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"

#define BENCH_RAW_COMMAND "raw"

#define BENCH_RAW_ENGINES_MAX 8

/* Feeds each of `count` engines `bytes`, all at once. *ret_mb_per_s: the sum of what they reached.
 * On failure it said why. */
bool bench_raw_engines(struct bench *bench, unsigned count, uint64_t bytes, double *ret_mb_per_s);
/* main of such a process: argv is {program, "raw", DIR, BYTES}. Returns the exit status. */
int bench_raw_main(int argc, char **argv);

#endif
