/*
 * bench_raw: raw engines, the measure for the service: LevelDB alone, fed growing keys with 64 KiB
 * values in synced batches of 1 MiB. Three of them run at once, each in a process of its own (this
 * program again, by the name "raw"), as three chunkservers do.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"

#define BENCH_RAW_COMMAND "raw"

/* Feeds each of three engines `bytes`. *ret_mb_per_s: the sum of what they reached. On failure it
 * said why. */
bool bench_raw_three(struct bench *bench, uint64_t bytes, double *ret_mb_per_s);
/* main of such a process: argv is {program, "raw", DIR, BYTES}. Returns the exit status. */
int bench_raw_main(int argc, char **argv);

#endif
