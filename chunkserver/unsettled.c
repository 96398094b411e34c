/* See the header. */
#include "chunkserver/unsettled.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define UNSETTLED_CAP_FIRST 8u

void unsettled_release(struct unsettled *unsettled)
{
    free(unsettled->entries);
    memset(unsettled, 0, sizeof *unsettled);
}

bool unsettled_is_full(const struct unsettled *unsettled)
{
    return unsettled->count >= UNSETTLED_MAX;
}

enum gfs_err unsettled_add(struct unsettled *unsettled, uint64_t serial, uint32_t from_bytes,
                           uint32_t to_bytes)
{
    struct unsettled_entry *last =
        unsettled->count ? &unsettled->entries[unsettled->count - 1] : NULL;

    assert(!last || last->serial < serial);
    if (unsettled_is_full(unsettled)) {
        last->serial = serial;
        last->from_bytes = from_bytes < last->from_bytes ? from_bytes : last->from_bytes;
        last->to_bytes = to_bytes > last->to_bytes ? to_bytes : last->to_bytes;
        return GFS_OK;
    }
    if (unsettled->count == unsettled->cap) {
        uint32_t cap = unsettled->cap ? 2 * unsettled->cap : UNSETTLED_CAP_FIRST;
        struct unsettled_entry *entries =
            realloc(unsettled->entries, cap * sizeof *unsettled->entries);

        if (!entries)
            return GFS_ERR_NO_MEMORY;
        unsettled->entries = entries;
        unsettled->cap = cap;
    }
    unsettled->entries[unsettled->count++] =
        (struct unsettled_entry){serial, from_bytes, to_bytes, false};
    return GFS_OK;
}

static void drop_first(struct unsettled *unsettled, uint32_t count)
{
    unsettled->count -= count;
    if (unsettled->count == 0)
        unsettled_release(unsettled);
    else if (count > 0)
        memmove(unsettled->entries, unsettled->entries + count,
                unsettled->count * sizeof *unsettled->entries);
}

void unsettled_take_back(struct unsettled *unsettled, uint64_t serial)
{
    uint32_t i = 0;

    while (i < unsettled->count && unsettled->entries[i].serial != serial)
        i++;
    if (i == unsettled->count)
        return;
    memmove(unsettled->entries + i, unsettled->entries + i + 1,
            (unsettled->count - i - 1) * sizeof *unsettled->entries);
    if (--unsettled->count == 0)
        unsettled_release(unsettled);
}

void unsettled_done(struct unsettled *unsettled, uint64_t serial)
{
    uint32_t settled = 0;

    for (uint32_t i = 0; i < unsettled->count; i++)
        if (unsettled->entries[i].serial == serial)
            unsettled->entries[i].done = true;
    while (settled < unsettled->count && unsettled->entries[settled].done)
        settled++;
    drop_first(unsettled, settled);
}

void unsettled_settle(struct unsettled *unsettled, uint64_t serial)
{
    uint32_t settled = 0;

    while (settled < unsettled->count && unsettled->entries[settled].serial <= serial)
        settled++;
    drop_first(unsettled, settled);
}

bool unsettled_overlaps(const struct unsettled *unsettled, uint32_t from_bytes, uint32_t to_bytes)
{
    for (uint32_t i = 0; i < unsettled->count; i++)
        if (unsettled->entries[i].from_bytes < to_bytes &&
            from_bytes < unsettled->entries[i].to_bytes)
            return true;
    return false;
}

uint64_t unsettled_first(const struct unsettled *unsettled)
{
    return unsettled->count ? unsettled->entries[0].serial : 0;
}
