/*
 * store_table: the chunks of a store in memory, ordered by handle, 48 bytes each. Pure; the caller
 * locks. Floor 5.
 *
 *      leaves, ordered   [ *, *, *, ... ]        binary search, then again in the leaf
 *                          |  |
 *        up to 256 entries in a leaf, ordered; a full one is split. Handles mostly grow, so the
 *        last leaf is left full when one is added behind it.
 */
#ifndef CHUNKSERVER_STORE_TABLE_H
#define CHUNKSERVER_STORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

enum {
    STORE_ENTRY_CORRUPT = 1,
    STORE_ENTRY_REPLAYED = 2, /* during recovery only: a record of it was met */
    STORE_ENTRY_APPENDED = 4, /* it has an append window */
};

struct store_entry {
    uint64_t handle;
    uint64_t serial;
    uint64_t state_seq; /* of its newest record */
    uint64_t family;
    uint32_t version;
    uint32_t length_bytes;
    uint32_t flags;
    uint32_t reserved;
};

struct store_leaf;
struct store_table {
    struct store_leaf **leaves;
    size_t leaf_count;
    size_t leaf_cap;
    size_t count;
    size_t copy_count; /* entries whose family is another handle */
};

void store_table_init(struct store_table *table);
void store_table_release(struct store_table *table);
/* NULL when there is none. Valid until the next put or remove. */
struct store_entry *store_table_find(const struct store_table *table, uint64_t handle);
/* The first with a handle >= from, NULL at the end. */
struct store_entry *store_table_at_least(const struct store_table *table, uint64_t from);
/* Adds or replaces. */
enum gfs_err store_table_put(struct store_table *table,
                             const struct store_entry *entry) GFS_MUST_CHECK;
void store_table_remove(struct store_table *table, uint64_t handle);

#endif
