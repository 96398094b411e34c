/*
 * delta: chunks that changed since the master last heard of them. Floor 5: pure, one thread.
 * One heartbeat is under way at a time: delta_take, then delta_acked or delta_failed. A chunk
 * marked again in between is told again. Too many: nothing is kept, and the caller begins a full
 * report (delta_overflowed).
 */
#ifndef CHUNKSERVER_DELTA_H
#define CHUNKSERVER_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct delta_entry;

struct delta {
    struct delta_entry *by_handle; /* in the order of marking */
    size_t entries_max;
    size_t taken;
    bool overflowed;
};

void delta_init(struct delta *delta, size_t entries_max);
void delta_release(struct delta *delta);
void delta_mark(struct delta *delta, uint64_t handle);
/* Up to max handles, the oldest mark first. */
size_t delta_take(struct delta *delta, uint64_t *ret_handles, size_t max);
void delta_acked(struct delta *delta);
void delta_failed(struct delta *delta);
/* A full report begins: what was marked before is in it. */
void delta_clear(struct delta *delta);
bool delta_overflowed(const struct delta *delta);
size_t delta_count(const struct delta *delta);

#endif
