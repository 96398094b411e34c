#include "store_delta.h"

#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"

/* A block with this many extents is merged into one record; a full one sooner, for readers. */
#define STORE_CROWDED_EXTENTS      256
#define STORE_CROWDED_EXTENTS_FULL 128

struct store_delta_key {
    uint64_t handle;
    uint64_t block;
};

struct store_delta_block {
    struct store_delta_key key;
    struct store_extent *extents;
    size_t count;
    size_t cap;
    bool dirty;
    UT_hash_handle hh;
};

enum gfs_err store_delta_init(struct store_delta *delta, struct store_index *index,
                              const struct store_table *table, const struct store_set *set)
{
    *delta = (struct store_delta){.index = index, .table = table, .set = set};
    delta->batch = kv_batch_new();
    return delta->batch != NULL ? GFS_OK : GFS_ERR_NO_MEMORY;
}

void store_delta_clear(struct store_delta *delta, const struct store_set *set)
{
    struct store_delta_chunk *chunk;
    struct store_delta_chunk *chunk_next;
    HASH_ITER (hh, delta->chunks, chunk, chunk_next) {
        HASH_DEL(delta->chunks, chunk);
        free(chunk);
    }
    struct store_delta_block *block;
    struct store_delta_block *block_next;
    HASH_ITER (hh, delta->blocks, block, block_next) {
        HASH_DEL(delta->blocks, block);
        free(block->extents);
        free(block);
    }
    store_delta_window_clear(delta);
    kv_batch_clear(delta->batch);
    delta->set = set;
}

void store_delta_release(struct store_delta *delta)
{
    if (delta->batch == NULL)
        return;
    store_delta_clear(delta, NULL);
    kv_batch_free(delta->batch);
    delta->batch = NULL;
}

enum gfs_err store_delta_chunk(struct store_delta *delta, uint64_t handle,
                               struct store_delta_chunk **ret_chunk)
{
    struct store_delta_chunk *chunk;
    HASH_FIND(hh, delta->chunks, &handle, sizeof(handle), chunk);
    if (chunk == NULL) {
        chunk = calloc(1, sizeof(*chunk));
        if (chunk == NULL)
            return GFS_ERR_NO_MEMORY;
        chunk->handle = handle;
        const struct store_entry *entry = store_table_find(delta->table, handle);
        chunk->exists = entry != NULL;
        if (entry != NULL)
            chunk->entry = *entry;
        else
            chunk->entry = (struct store_entry){.handle = handle, .family = handle};
        chunk->index_bytes = delta->replay ? UINT32_MAX : chunk->entry.length_bytes;
        HASH_ADD(hh, delta->chunks, handle, sizeof(handle), chunk);
    }
    *ret_chunk = chunk;
    return GFS_OK;
}

/* A copy knows the appends of its source. */
static enum gfs_err store_delta_copy_flags(struct store_delta *delta,
                                           struct store_delta_chunk *chunk,
                                           const struct store_record *record)
{
    struct store_delta_chunk *source;
    if (record->kind != STORE_RECORD_COPY)
        return GFS_OK;
    enum gfs_err err = store_delta_chunk(delta, record->source, &source);
    if (err == GFS_OK)
        chunk->entry.flags |= source->entry.flags & STORE_ENTRY_APPENDED;
    return err;
}

enum gfs_err store_delta_state(struct store_delta *delta, const struct store_record *record)
{
    if (record->kind == STORE_RECORD_HEAD || (record->flags & STORE_RECORD_CARRIED))
        return GFS_OK;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(delta, record->handle, &chunk);
    if (err != GFS_OK)
        return err;
    uint32_t sticky = chunk->entry.flags;
    if (record->kind == STORE_RECORD_DELETE)
        sticky &= STORE_ENTRY_REPLAYED;
    chunk->entry = (struct store_entry){
        .handle = record->handle,
        .family = record->handle,
        .flags = sticky,
    };
    chunk->exists = record->kind != STORE_RECORD_DELETE;
    if (!chunk->exists)
        return GFS_OK;
    chunk->entry.serial = record->serial;
    chunk->entry.state_seq = record->seq;
    chunk->entry.family = record->family;
    chunk->entry.version = record->version;
    chunk->entry.length_bytes = record->chunk_length;
    if (record->flags & STORE_RECORD_CORRUPT)
        chunk->entry.flags |= STORE_ENTRY_CORRUPT;
    if (record->flags & STORE_RECORD_WHOLE)
        chunk->entry.flags &= ~(uint32_t)STORE_ENTRY_CORRUPT;
    if (store_record_is_append(record) && !(record->flags & STORE_RECORD_ONCE))
        chunk->entry.flags |= STORE_ENTRY_APPENDED;
    return store_delta_copy_flags(delta, chunk, record);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void live_add(struct store_delta *delta, const struct store_extent *extents, size_t count,
                     int sign)
{
    for (size_t i = 0; i < count; i++) {
        struct store_db *db = store_set_find(delta->set, extents[i].seq);
        if (db == NULL)
            continue;
        uint64_t change = extents[i].length_bytes;
        __atomic_add_fetch(&db->live_bytes, sign > 0 ? change : 0 - change, __ATOMIC_RELAXED);
        db->touched = true;
    }
}

static enum gfs_err block_reserve(struct store_delta_block *block, size_t cap)
{
    if (block->cap >= cap)
        return GFS_OK;
    struct store_extent *grown = realloc(block->extents, cap * sizeof(*grown));
    if (grown == NULL)
        return GFS_ERR_NO_MEMORY;
    block->extents = grown;
    block->cap = cap;
    return GFS_OK;
}

static enum gfs_err block_load(struct store_delta *delta, struct store_delta_block *block)
{
    const struct store_delta_chunk *chunk;
    uint64_t handle = block->key.handle;
    HASH_FIND(hh, delta->chunks, &handle, sizeof(handle), chunk);
    if (chunk != NULL && block->key.block << GFS_BLOCK_SHIFT >= chunk->index_bytes)
        return GFS_OK;
    struct store_extent extents[STORE_EXTENTS_MAX];
    size_t count;
    enum gfs_err err =
        store_index_block(delta->index, handle, (uint32_t)block->key.block, extents, &count);
    if (err == GFS_OK)
        err = block_reserve(block, count);
    if (err != GFS_OK)
        return err;
    if (count > 0)
        memcpy(block->extents, extents, count * sizeof(*extents));
    block->count = count;
    return GFS_OK;
}

static enum gfs_err block_get(struct store_delta *delta, uint64_t handle, uint32_t number,
                              struct store_delta_block **ret_block)
{
    struct store_delta_key key = {.handle = handle, .block = number};
    struct store_delta_block *block;
    HASH_FIND(hh, delta->blocks, &key, sizeof(key), block);
    if (block == NULL) {
        block = calloc(1, sizeof(*block));
        if (block == NULL)
            return GFS_ERR_NO_MEMORY;
        block->key = key;
        enum gfs_err err = block_load(delta, block);
        if (err != GFS_OK) {
            free(block->extents);
            free(block);
            return err;
        }
        HASH_ADD(hh, delta->blocks, key, sizeof(key), block);
    }
    *ret_block = block;
    return GFS_OK;
}

enum gfs_err store_delta_block(struct store_delta *delta, uint64_t handle, uint32_t block,
                               const struct store_extent **ret_extents, size_t *ret_count)
{
    struct store_delta_block *found;
    enum gfs_err err = block_get(delta, handle, block, &found);
    if (err != GFS_OK)
        return err;
    *ret_extents = found->extents;
    *ret_count = found->count;
    return GFS_OK;
}

static enum gfs_err apply_write(struct store_delta *delta, const struct store_record *record)
{
    if (record->length_bytes == 0)
        return GFS_OK;
    struct store_delta_block *block;
    enum gfs_err err =
        block_get(delta, record->handle, record->offset_bytes >> GFS_BLOCK_SHIFT, &block);
    if (err == GFS_OK)
        err = block_reserve(block, block->count + 2);
    if (err != GFS_OK)
        return err;
    struct store_extent add = {
        .seq = record->seq,
        .start_bytes = record->offset_bytes % GFS_BLOCK_SIZE_BYTES,
        .length_bytes = record->length_bytes,
    };
    live_add(delta, block->extents, block->count, -1);
    size_t count = store_extents_overlay(block->extents, block->count, add);
    if (count == 0) {
        live_add(delta, block->extents, block->count, 1);
        return GFS_ERR_BUSY;
    }
    block->count = count;
    block->dirty = true;
    live_add(delta, block->extents, block->count, 1);
    return GFS_OK;
}

/* Brings every block of a chunk from `from` on into the delta. */
static enum gfs_err blocks_load(struct store_delta *delta, uint64_t handle, uint32_t from)
{
    struct store_block_iter iter;
    enum gfs_err err = store_block_iter_start(delta->index, &iter);
    if (err != GFS_OK)
        return err;
    struct store_extent extents[STORE_EXTENTS_MAX];
    store_block_iter_seek(&iter, handle, from);
    for (;;) {
        uint64_t at_handle;
        uint32_t at_block;
        size_t count;
        err = store_block_iter_next(&iter, &at_handle, &at_block, extents, &count);
        if (err != GFS_OK || at_handle != handle)
            break;
        struct store_delta_block *block;
        err = block_get(delta, handle, at_block, &block);
        if (err != GFS_OK)
            break;
    }
    store_block_iter_release(&iter);
    return err == GFS_ERR_NOT_FOUND ? GFS_OK : err;
}

/* Bytes at and behind `from_bytes`, of records before `before_seq`, become zeros. */
static enum gfs_err apply_cut(struct store_delta *delta, uint64_t handle, uint32_t from_bytes,
                              uint64_t before_seq)
{
    enum gfs_err err = blocks_load(delta, handle, from_bytes >> GFS_BLOCK_SHIFT);
    if (err != GFS_OK)
        return err;
    struct store_delta_block *block;
    struct store_delta_block *next;
    HASH_ITER (hh, delta->blocks, block, next) {
        uint64_t start = block->key.block << GFS_BLOCK_SHIFT;
        if (block->key.handle != handle || start + GFS_BLOCK_SIZE_BYTES <= from_bytes)
            continue;
        uint32_t from = from_bytes > start ? from_bytes - (uint32_t)start : 0;
        live_add(delta, block->extents, block->count, -1);
        block->count = store_extents_cut(block->extents, block->count, from, before_seq);
        block->dirty = true;
        live_add(delta, block->extents, block->count, 1);
    }
    return GFS_OK;
}

static enum gfs_err apply_copy(struct store_delta *delta, const struct store_record *record)
{
    enum gfs_err err = blocks_load(delta, record->source, 0);
    struct store_delta_block *block;
    struct store_delta_block *next;
    HASH_ITER (hh, delta->blocks, block, next) {
        if (err != GFS_OK)
            return err;
        if (block->key.handle != record->source || block->count == 0)
            continue;
        struct store_delta_block *copy;
        err = block_get(delta, record->handle, (uint32_t)block->key.block, &copy);
        if (err == GFS_OK)
            err = block_reserve(copy, block->count);
        if (err != GFS_OK)
            return err;
        live_add(delta, copy->extents, copy->count, -1);
        memcpy(copy->extents, block->extents, block->count * sizeof(*block->extents));
        copy->count = block->count;
        copy->dirty = true;
        live_add(delta, copy->extents, copy->count, 1);
    }
    return err;
}

static int block_order(const void *a, const void *b)
{
    uint64_t left = (*(struct store_delta_block *const *)a)->key.block;
    uint64_t right = (*(struct store_delta_block *const *)b)->key.block;
    return left < right ? -1 : left > right;
}

enum gfs_err store_delta_map(struct store_delta *delta, uint64_t handle, struct store_map *map)
{
    enum gfs_err err = blocks_load(delta, handle, 0);
    struct store_delta_block **blocks = calloc(HASH_COUNT(delta->blocks) + 1, sizeof(*blocks));
    struct store_delta_block *block, *next;
    size_t count = 0;
    if (err == GFS_OK && blocks == NULL)
        err = GFS_ERR_NO_MEMORY;
    if (err != GFS_OK)
        goto out;
    HASH_ITER (hh, delta->blocks, block, next)
        if (block->key.handle == handle && block->count > 0)
            blocks[count++] = block;
    qsort(blocks, count, sizeof(*blocks), block_order);
    for (size_t i = 0; i < count && err == GFS_OK; i++)
        err = store_map_add(map, (uint32_t)blocks[i]->key.block, blocks[i]->extents,
                            blocks[i]->count);
out:
    free(blocks);
    return err;
}

/* Replay: the blocks as the record has them, whatever the index says of the source by now. */
static enum gfs_err apply_map(struct store_delta *delta, const struct store_record *record)
{
    struct store_map_reader reader;
    struct store_extent extents[STORE_EXTENTS_MAX];
    uint32_t number;
    size_t count;
    enum gfs_err err;
    store_map_read(&reader, record->map, record->length_bytes);
    while ((err = store_map_next(&reader, &number, extents, &count)) == GFS_OK) {
        struct store_delta_block *block;
        err = block_get(delta, record->handle, number, &block);
        if (err == GFS_OK)
            err = block_reserve(block, count);
        if (err != GFS_OK)
            return err;
        live_add(delta, block->extents, block->count, -1);
        memcpy(block->extents, extents, count * sizeof(*extents));
        block->count = count;
        block->dirty = true;
        live_add(delta, block->extents, block->count, 1);
    }
    return err == GFS_ERR_NOT_FOUND ? GFS_OK : err;
}

enum gfs_err store_delta_blocks(struct store_delta *delta, const struct store_record *record)
{
    enum gfs_err err;
    if (record->flags & STORE_RECORD_CARRIED)
        return GFS_OK;
    err = store_delta_window(delta, record);
    if (err != GFS_OK)
        return err;
    switch (record->kind) {
    case STORE_RECORD_HEAD:
    case STORE_RECORD_STATE:
    case STORE_RECORD_APPEND:
        return GFS_OK;
    case STORE_RECORD_WRITE:
        return apply_write(delta, record);
    case STORE_RECORD_TRUNCATE:
        return apply_cut(delta, record->handle, record->chunk_length, record->seq);
    case STORE_RECORD_DELETE:
        return apply_cut(delta, record->handle, 0, record->seq);
    case STORE_RECORD_COPY:
        return record->map != NULL ? apply_map(delta, record) : apply_copy(delta, record);
    }
    return GFS_ERR_CORRUPT;
}

/* ---- out ------------------------------------------------------------------------------------- */

void store_delta_find_crowded(const struct store_delta *delta, store_delta_crowded crowded,
                              void *arg)
{
    struct store_delta_block *block;
    struct store_delta_block *next;
    HASH_ITER (hh, delta->blocks, block, next) {
        if (block->count < STORE_CROWDED_EXTENTS_FULL)
            continue;
        const struct store_extent *last = &block->extents[block->count - 1];
        bool full = last->start_bytes + last->length_bytes == GFS_BLOCK_SIZE_BYTES;
        if (full || block->count >= STORE_CROWDED_EXTENTS)
            crowded(arg, block->key.handle, (uint32_t)block->key.block);
    }
}

enum gfs_err store_delta_write(struct store_delta *delta, uint64_t applied_seq)
{
    struct store_delta_block *block;
    struct store_delta_block *block_next;
    HASH_ITER (hh, delta->blocks, block, block_next) {
        if (block->dirty)
            store_index_put_block(delta->batch, block->key.handle, (uint32_t)block->key.block,
                                  block->extents, block->count);
    }
    struct store_delta_chunk *chunk;
    struct store_delta_chunk *chunk_next;
    HASH_ITER (hh, delta->chunks, chunk, chunk_next) {
        if (chunk->exists)
            store_index_put_chunk(delta->batch, &chunk->entry);
        else
            store_index_delete_chunk(delta->batch, chunk->handle);
    }
    store_delta_window_write(delta);
    for (size_t i = 0; i < delta->set->count; i++) {
        struct store_db *db = delta->set->dbs[i];
        if (db->touched)
            store_index_put_db(delta->batch, db);
        db->touched = false;
    }
    store_index_put_applied(delta->batch, applied_seq);
    return store_index_write(delta->index, delta->batch);
}

enum gfs_err store_delta_publish(struct store_delta *delta, struct store_table *table)
{
    struct store_delta_chunk *chunk;
    struct store_delta_chunk *next;
    HASH_ITER (hh, delta->chunks, chunk, next) {
        if (!chunk->exists) {
            store_table_remove(table, chunk->handle);
            continue;
        }
        enum gfs_err err = store_table_put(table, &chunk->entry);
        if (err != GFS_OK)
            return err;
    }
    return GFS_OK;
}
