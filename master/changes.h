/*
 * changes: the key puts and deletes of one atomic operation, in order. Floor 5, pure.
 *
 * One byte buffer, so that a change costs one allocation and could be a log entry as it is:
 *   u8 kind (0 delete, 1 put) · u16 key bytes · u32 value bytes · key · value     (little-endian)
 * An operation reserves what it will need before it touches any state: puts after a reserve cannot
 * fail, so state in memory and its changes never part.
 */
#ifndef MASTER_CHANGES_H
#define MASTER_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define CHANGES_MAX_BYTES  (1u << 30) /* a recursive operation over more is refused: TOO_LARGE */
#define CHANGES_HEAD_BYTES 7u

struct changes {
    uint8_t *data;
    size_t len_bytes;
    size_t cap_bytes;
    size_t held_bytes; /* on top of every reserve, for what comes last */
    uint32_t count;
};

struct change {
    bool put; /* else delete */
    const uint8_t *key;
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
};

void changes_init(struct changes *changes);
void changes_release(struct changes *changes);
void changes_clear(struct changes *changes); /* empties, keeps the memory */
static inline bool changes_empty(const struct changes *changes)
{
    return changes->count == 0;
}
/* Makes room for `more` bytes (keys, values and CHANGES_HEAD_BYTES each). NO_MEMORY, TOO_LARGE. */
enum gfs_err changes_reserve(struct changes *changes, size_t more_bytes) GFS_MUST_CHECK;
/* Holds room that later reserves cannot take, until changes_unhold just before its put. */
enum gfs_err changes_hold(struct changes *changes, size_t bytes) GFS_MUST_CHECK;
void changes_unhold(struct changes *changes, size_t bytes);
/* Room must have been reserved. changes_put returns where the value's bytes go. */
uint8_t *changes_put(struct changes *changes, const void *key, size_t key_bytes,
                     size_t value_bytes);
void changes_delete(struct changes *changes, const void *key, size_t key_bytes);
/* Iterates: *at starts at 0. false at the end. */
bool changes_next(const struct changes *changes, size_t *at, struct change *ret_change);

#endif
