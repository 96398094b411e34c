/*
 * store_index: the index LevelDB: where the bytes of each block are, the chunks, the databases'
 * counters and the watermark. Never synced but behind the watermark; store_recover makes good what
 * a crash takes from it. docs/disk-format.md. Floor 6.
 *
 * A block is a list of extents, ordered and not overlapping; each names the record that holds its
 * bytes. What no extent covers is zeros. Invariant: no extent lies at or behind the chunk's length,
 * so a write behind it needs no look at the index.
 */
#ifndef CHUNKSERVER_STORE_INDEX_H
#define CHUNKSERVER_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "kv.h"
#include "store_log.h"
#include "store_record.h"
#include "store_table.h"

struct store_extent {
    uint64_t seq;
    uint32_t start_bytes; /* in the block */
    uint32_t length_bytes;
};

/* More extents than a block can have bytes never occur; far fewer do, see store_commit. */
#define STORE_EXTENTS_MAX 4096

struct store_index;

/* CORRUPT: it has to be rebuilt. With fresh, what is there is removed first. */
enum gfs_err store_index_open(const char *path, bool fresh,
                              struct store_index **ret_index) GFS_MUST_CHECK;
void store_index_close(struct store_index *index);

struct store_index_marks {
    uint64_t watermark_seq; /* complete up to this one, durably */
    uint64_t applied_seq;   /* the newest applied, as far as it survived */
    uint64_t settled_seq;   /* what is up to it was no news when the server stopped */
};
enum gfs_err store_index_marks(struct store_index *index,
                               struct store_index_marks *ret_marks) GFS_MUST_CHECK;
/* Flushes the index into synced tables, then moves the watermark to seq, synced. */
enum gfs_err store_index_advance(struct store_index *index, uint64_t seq) GFS_MUST_CHECK;
/* Fills the table from the index. */
enum gfs_err store_index_load(struct store_index *index, struct store_table *table) GFS_MUST_CHECK;
/* Sets the counters of a database from the index, if they are there. */
enum gfs_err store_index_load_db(struct store_index *index, struct store_db *db) GFS_MUST_CHECK;
enum gfs_err store_index_forget_db(struct store_index *index, uint64_t first_seq) GFS_MUST_CHECK;

/* Steps over the blocks of a chunk, or of all; an iterator sees one moment. */
struct store_block_iter {
    struct kv_iter *iter;
};
enum gfs_err store_block_iter_start(struct store_index *index,
                                    struct store_block_iter *iter) GFS_MUST_CHECK;
void store_block_iter_seek(struct store_block_iter *iter, uint64_t handle, uint32_t block);
/* The block at the iterator, which then moves on; NOT_FOUND at the end. extents has room for
 * STORE_EXTENTS_MAX. */
enum gfs_err store_block_iter_next(struct store_block_iter *iter, uint64_t *ret_handle,
                                   uint32_t *ret_block, struct store_extent *ret_extents,
                                   size_t *ret_count) GFS_MUST_CHECK;
void store_block_iter_release(struct store_block_iter *iter);
/* Extents of one block; none is a count of 0. */
enum gfs_err store_index_block(struct store_index *index, uint64_t handle, uint32_t block,
                               struct store_extent *ret_extents, size_t *ret_count) GFS_MUST_CHECK;

/* Puts [start, start + length) of record seq over what is there. Pure. Returns the new count, 0
 * when it would pass STORE_EXTENTS_MAX. */
size_t store_extents_overlay(struct store_extent *extents, size_t count, struct store_extent add);
/* Removes what lies in [from, block end) and comes from records before `before_seq`. Pure. */
size_t store_extents_cut(struct store_extent *extents, size_t count, uint32_t from_bytes,
                         uint64_t before_seq);

void store_index_put_block(struct kv_batch *batch, uint64_t handle, uint32_t block,
                           const struct store_extent *extents, size_t count);
void store_index_put_chunk(struct kv_batch *batch, const struct store_entry *entry);
void store_index_delete_chunk(struct kv_batch *batch, uint64_t handle);
void store_index_put_db(struct kv_batch *batch, const struct store_db *db);
void store_index_put_settled(struct kv_batch *batch, uint64_t seq);

/* Append windows: one key an append. */
struct store_index_append {
    uint64_t handle;
    uint64_t producer;
    uint64_t sequence;
    uint32_t offset_bytes;
    uint32_t length_bytes;
};
void store_index_put_append(struct kv_batch *batch, const struct store_index_append *append);
void store_index_delete_append(struct kv_batch *batch, const struct store_index_append *append);
bool store_index_has_append(struct store_index *index, const struct store_index_append *append);
/* Those of a chunk, in order, by a moment of the index; each(arg, append). */
enum gfs_err store_index_each_append(struct store_index *index, uint64_t handle,
                                     enum gfs_err (*each)(void *arg,
                                                          const struct store_index_append *append),
                                     void *arg) GFS_MUST_CHECK;
void store_index_put_applied(struct kv_batch *batch, uint64_t seq);
enum gfs_err store_index_write(struct store_index *index, struct kv_batch *batch) GFS_MUST_CHECK;

#endif
