/* Chunks the master has yet to hear of. See the header. */
#include "chunkserver/delta.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct delta_entry {
    uint64_t handle;
    bool taken;
    bool again; /* marked while it was being told */
    UT_hash_handle hh;
};

void delta_init(struct delta *delta, size_t entries_max)
{
    memset(delta, 0, sizeof *delta);
    delta->entries_max = entries_max;
}

static void entry_drop(struct delta *delta, struct delta_entry *entry)
{
    HASH_DEL(delta->by_handle, entry);
    free(entry);
}

static void drop_all(struct delta *delta)
{
    struct delta_entry *entry, *next;

    HASH_ITER (hh, delta->by_handle, entry, next)
        entry_drop(delta, entry);
    delta->taken = 0;
}

void delta_release(struct delta *delta)
{
    drop_all(delta);
}

void delta_mark(struct delta *delta, uint64_t handle)
{
    struct delta_entry *entry;

    HASH_FIND(hh, delta->by_handle, &handle, sizeof handle, entry);
    if (entry) {
        entry->again = entry->taken;
        return;
    }
    if (HASH_COUNT(delta->by_handle) < delta->entries_max)
        entry = calloc(1, sizeof *entry);
    if (!entry) {
        drop_all(delta);
        delta->overflowed = true;
        return;
    }
    entry->handle = handle;
    HASH_ADD(hh, delta->by_handle, handle, sizeof entry->handle, entry);
}

size_t delta_take(struct delta *delta, uint64_t *ret_handles, size_t max)
{
    struct delta_entry *entry, *next;

    assert(delta->taken == 0);
    HASH_ITER (hh, delta->by_handle, entry, next) {
        if (delta->taken == max)
            break;
        entry->taken = true;
        entry->again = false;
        ret_handles[delta->taken++] = entry->handle;
    }
    return delta->taken;
}

static void end_take(struct delta *delta, bool acked)
{
    struct delta_entry *entry, *next;
    size_t left = delta->taken;

    HASH_ITER (hh, delta->by_handle, entry, next) {
        if (left == 0)
            break;
        if (!entry->taken)
            continue;
        left--;
        entry->taken = false;
        if (acked && !entry->again)
            entry_drop(delta, entry);
    }
    delta->taken = 0;
}

void delta_acked(struct delta *delta)
{
    end_take(delta, true);
}

void delta_failed(struct delta *delta)
{
    end_take(delta, false);
}

void delta_clear(struct delta *delta)
{
    drop_all(delta);
    delta->overflowed = false;
}

bool delta_overflowed(const struct delta *delta)
{
    return delta->overflowed;
}

size_t delta_count(const struct delta *delta)
{
    return HASH_COUNT(delta->by_handle);
}
