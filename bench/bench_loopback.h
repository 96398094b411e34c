/* bench_loopback: what a plain TCP connection over the loopback carries, for comparison. */
#ifndef BENCH_LOOPBACK_H
#define BENCH_LOOPBACK_H

#include <stdbool.h>
#include <stdint.h>

/* Sends bytes from one thread to another in 1 MiB calls. On failure it said why. */
bool bench_loopback(uint64_t bytes, double *ret_mb_per_s);

#endif
