/*
 * retry: when to try again. Pure: the caller brings time and randomness.
 * One call has one budget, its deadline; waits double from 20 ms to 1 s, each jittered over its
 * upper half, and never shorter than the server's hint.
 */
#ifndef CLIENT_RETRY_H
#define CLIENT_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs_err.h"

#define RETRY_WAIT_MIN_MS 20u
#define RETRY_WAIT_MAX_MS 1000u

struct retry {
    uint64_t deadline_ms;
    uint32_t tries; /* that failed so far */
};

void retry_init(struct retry *retry, uint64_t now_ms, uint32_t budget_ms);
/* The pause after the tries-th failure in a row (1: the first). */
uint32_t retry_backoff_ms(uint32_t tries, uint32_t hint_ms, uint32_t random);
/* A try ended in err: true and the pause before the next one, or false: give up. */
bool retry_next(struct retry *retry, enum gfs_err err, uint32_t hint_ms, uint32_t random,
                uint64_t now_ms, uint32_t *ret_wait_ms);
/* What is left for the next try, at least 1 ms. */
uint32_t retry_left_ms(const struct retry *retry, uint64_t now_ms);

#endif
