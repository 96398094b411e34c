/* See the header. */
#include "chunkserver/window.h"

#include <stdlib.h>
#include <uthash.h>

#include "gfs_limits.h"

struct producer {
    uint64_t id;
    uint64_t last;                                  /* highest sequence */
    struct window_entry entries[GFS_APPEND_WINDOW]; /* by sequence, modulo */
    UT_hash_handle hh;
};

struct window {
    struct producer *by_id;
    size_t count;
    size_t max;
};

struct window *window_new(size_t entries_max)
{
    struct window *window = calloc(1, sizeof *window);

    if (window)
        window->max = entries_max;
    return window;
}

void window_free(struct window *window)
{
    struct producer *producer, *next;

    if (!window)
        return;
    HASH_ITER (hh, window->by_id, producer, next) {
        HASH_DEL(window->by_id, producer);
        free(producer);
    }
    free(window);
}

static struct producer *find(const struct window *window, uint64_t id)
{
    struct producer *producer;

    HASH_FIND(hh, window->by_id, &id, sizeof id, producer);
    return producer;
}

static bool is_too_old(const struct producer *producer, uint64_t sequence)
{
    return producer->last >= GFS_APPEND_WINDOW && sequence <= producer->last - GFS_APPEND_WINDOW;
}

enum gfs_err window_find(const struct window *window, uint64_t producer_id, uint64_t sequence,
                         struct window_entry **ret_entry)
{
    struct producer *producer = find(window, producer_id);
    struct window_entry *entry;

    if (!producer)
        return GFS_ERR_NO_DATA;
    if (is_too_old(producer, sequence))
        return GFS_ERR_TOO_LATE;
    entry = &producer->entries[sequence % GFS_APPEND_WINDOW];
    if (entry->sequence != sequence)
        return GFS_ERR_NO_DATA;
    *ret_entry = entry;
    return GFS_OK;
}

enum gfs_err window_add(struct window *window, uint64_t producer_id,
                        const struct window_entry *entry)
{
    struct producer *producer = find(window, producer_id);
    struct window_entry *place;

    if (producer && is_too_old(producer, entry->sequence))
        return GFS_OK;
    if (window->count >= window->max)
        return GFS_ERR_BUSY;
    if (!producer) {
        producer = calloc(1, sizeof *producer);
        if (!producer)
            return GFS_ERR_NO_MEMORY;
        producer->id = producer_id;
        HASH_ADD(hh, window->by_id, id, sizeof producer->id, producer);
    }
    place = &producer->entries[entry->sequence % GFS_APPEND_WINDOW];
    if (place->sequence == 0)
        window->count++;
    *place = *entry;
    if (entry->sequence > producer->last)
        producer->last = entry->sequence;
    return GFS_OK;
}

void window_remove(struct window *window, uint64_t producer_id, uint64_t sequence)
{
    struct producer *producer = find(window, producer_id);
    struct window_entry *place;

    if (!producer)
        return;
    place = &producer->entries[sequence % GFS_APPEND_WINDOW];
    if (place->sequence == sequence) {
        *place = (struct window_entry){0};
        window->count--;
    }
}

size_t window_count(const struct window *window)
{
    return window->count;
}
