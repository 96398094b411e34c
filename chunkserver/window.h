/*
 * window: the appends that a chunk knows, so that a retry gets its first try's offset and no record
 * is there twice (decision 12). Floor 5, pure. Held by the primary while it has the lease; the
 * store keeps the same on every replica, with the data.
 *
 * Of a producer the last GFS_APPEND_WINDOW sequences are kept. One that is older than those can not
 * be told from a new one: TOO_LATE. A producer never has more than that many unanswered, so only a
 * message that was on its way for very long meets it. Full: the chunk must be sealed.
 */
#ifndef CHUNKSERVER_WINDOW_H
#define CHUNKSERVER_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

struct window;

struct window_entry {
    uint64_t sequence; /* 0: none */
    uint32_t offset_bytes;
    uint32_t length_bytes;
    void *leader; /* the append under way; NULL: it is on every replica */
};

/* entries_max: of all producers together. NULL when memory is out. */
struct window *window_new(size_t entries_max);
void window_free(struct window *window);
/* GFS_OK: known, *ret_entry valid until the next call; NO_DATA: not known, it may be added;
 * TOO_LATE. */
enum gfs_err window_find(const struct window *window, uint64_t producer, uint64_t sequence,
                         struct window_entry **ret_entry) GFS_MUST_CHECK;
/* BUSY: full. NO_MEMORY. One that is too old is dropped: OK. */
enum gfs_err window_add(struct window *window, uint64_t producer,
                        const struct window_entry *entry) GFS_MUST_CHECK;
void window_remove(struct window *window, uint64_t producer, uint64_t sequence);
size_t window_count(const struct window *window);

#endif
