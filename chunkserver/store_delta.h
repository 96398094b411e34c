/*
 * store_delta: how records change chunks and blocks, gathered and then written at once. Floor 6.
 *
 *      records of one commit (or of a stretch of replay)
 *          | store_delta_state: the chunk's new state       (before the commit: later mutations of
 *          |                                                 the same batch are judged by it)
 *          | store_delta_blocks: extents, live bytes        (after the commit)
 *          v
 *      delta: touched chunks and blocks  --store_delta_write--> one atomic unsynced batch
 *                                        --store_delta_publish--> the table in memory
 *
 * The same code applies records in service and in recovery.
 */
#ifndef CHUNKSERVER_STORE_DELTA_H
#define CHUNKSERVER_STORE_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "gfs_err.h"
#include "store_index.h"
#include "store_log.h"
#include "store_map.h"
#include "store_record.h"
#include "store_table.h"

struct store_delta_block;
struct store_delta_append;
struct store_delta_chunk {
    uint64_t handle; /* key */
    struct store_entry entry;
    bool exists;
    uint32_t index_bytes; /* nothing of it is in the index at or behind this */
    UT_hash_handle hh;
};

struct store_delta {
    struct store_index *index;
    const struct store_table *table;
    const struct store_set *set;
    struct store_delta_chunk *chunks;   /* hash */
    struct store_delta_block *blocks;   /* hash */
    struct store_delta_append *appends; /* hash; store_window.c */
    struct kv_batch *batch;
    bool replay; /* the index may be ahead of the records: always look */
};

enum gfs_err store_delta_init(struct store_delta *delta, struct store_index *index,
                              const struct store_table *table,
                              const struct store_set *set) GFS_MUST_CHECK;
/* Forgets what was touched: ready for the next commit. */
void store_delta_clear(struct store_delta *delta, const struct store_set *set);
void store_delta_release(struct store_delta *delta);
/* The chunk as the delta has it; made from the table (or as missing) when first touched. */
enum gfs_err store_delta_chunk(struct store_delta *delta, uint64_t handle,
                               struct store_delta_chunk **ret_chunk) GFS_MUST_CHECK;
/* The two halves of applying a record. Carried records have no effect. */
enum gfs_err store_delta_state(struct store_delta *delta,
                               const struct store_record *record) GFS_MUST_CHECK;
enum gfs_err store_delta_blocks(struct store_delta *delta,
                                const struct store_record *record) GFS_MUST_CHECK;
/* store_window.c: the append windows' part of it. */
enum gfs_err store_delta_window(struct store_delta *delta,
                                const struct store_record *record) GFS_MUST_CHECK;
void store_delta_window_write(struct store_delta *delta);
void store_delta_window_clear(struct store_delta *delta);
/* A block as the delta has it. The array is the delta's, valid until the block is changed. */
enum gfs_err store_delta_block(struct store_delta *delta, uint64_t handle, uint32_t block,
                               const struct store_extent **ret_extents,
                               size_t *ret_count) GFS_MUST_CHECK;
/* All blocks of a chunk. BUSY: too many extents. */
enum gfs_err store_delta_map(struct store_delta *delta, uint64_t handle,
                             struct store_map *map) GFS_MUST_CHECK;
/* Called for every touched block with many or needlessly many extents. */
typedef void (*store_delta_crowded)(void *arg, uint64_t handle, uint32_t block);
void store_delta_find_crowded(const struct store_delta *delta, store_delta_crowded crowded,
                              void *arg);
enum gfs_err store_delta_write(struct store_delta *delta, uint64_t applied_seq) GFS_MUST_CHECK;
/* Changes the table the delta was made from. The caller locks. */
enum gfs_err store_delta_publish(struct store_delta *delta,
                                 struct store_table *table) GFS_MUST_CHECK;

#endif
