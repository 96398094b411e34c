/* Stages: judges mutations and tasks against the chunks as the batch so far leaves them, and
 * writes their records. On the committer. */
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "store_impl.h"

/* Extents in a block at which writers have to wait for it to be merged. */
#define STORE_EXTENTS_BUSY 1024

static enum gfs_err stage_record(struct store *store, struct store_record *record, const void *data)
{
    store_log_stage(&store->log, record, data);
    store->records[store->record_count++] = *record;
    return store_delta_state(&store->delta, record);
}

/* A record that leaves the chunk as it is; the caller changes what it is about. */
static struct store_record record_of(const struct store_delta_chunk *chunk,
                                     enum store_record_kind kind)
{
    return (struct store_record){
        .kind = kind,
        .flags = chunk->entry.flags & STORE_ENTRY_CORRUPT ? STORE_RECORD_CORRUPT : 0,
        .handle = chunk->handle,
        .serial = chunk->entry.serial,
        .prev_seq = chunk->entry.state_seq,
        .family = chunk->entry.family,
        .version = chunk->entry.version,
        .chunk_length = chunk->entry.length_bytes,
        .data_crc = 0,
    };
}

/* Is there room for one more fragment in each block? */
static enum gfs_err room_check(struct store *store, const struct store_mutation *mutation,
                               bool *ret_room)
{
    uint32_t at = mutation->offset_bytes;
    bool room = true;
    for (size_t i = 0; i < mutation->piece_count && room; i++) {
        const struct store_piece *piece = &mutation->pieces[i];
        const struct store_extent *extents;
        size_t count = 0;
        if (piece->length_bytes != GFS_BLOCK_SIZE_BYTES) {
            enum gfs_err err = store_delta_block(&store->delta, mutation->handle,
                                                 at >> GFS_BLOCK_SHIFT, &extents, &count);
            if (err != GFS_OK)
                return err;
        }
        room = count < STORE_EXTENTS_BUSY;
        if (!room)
            store_crowd_add(store, mutation->handle, at >> GFS_BLOCK_SHIFT);
        at += piece->length_bytes;
    }
    *ret_room = room;
    return GFS_OK;
}

static enum gfs_err stage_write(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, mutation->handle, &chunk);
    if (err != GFS_OK)
        return err;
    if (!chunk->exists && !mutation->create)
        item->err = GFS_ERR_NO_CHUNK;
    else if (chunk->exists && chunk->entry.version != mutation->version)
        item->err = GFS_ERR_STALE_VERSION;
    else if (chunk->entry.flags & STORE_ENTRY_CORRUPT)
        item->err = GFS_ERR_CORRUPT;
    if (item->err != GFS_OK)
        return GFS_OK;
    bool room;
    err = room_check(store, mutation, &room);
    if (err != GFS_OK)
        return err;
    if (!room) {
        item->err = GFS_ERR_BUSY;
        return GFS_OK;
    }
    uint32_t at = mutation->offset_bytes;
    uint32_t end = at + mutation->length_bytes;
    uint32_t length = chunk->entry.length_bytes > end ? chunk->entry.length_bytes : end;
    for (size_t i = 0; i < mutation->piece_count; i++) {
        const struct store_piece *piece = &mutation->pieces[i];
        struct store_record record = record_of(chunk, STORE_RECORD_WRITE);
        record.version = mutation->version;
        record.serial = mutation->serial;
        record.chunk_length = length;
        record.offset_bytes = at;
        record.length_bytes = piece->length_bytes;
        record.data_crc = piece->crc;
        /* Of an append the first record, whose offset it has; else the last one, which tells where
         * the write ends. */
        if (i == (mutation->once ? mutation->piece_count - 1 : 0)) {
            record.source = mutation->producer;
            record.sequence = mutation->sequence;
            if (mutation->once)
                record.flags |= STORE_RECORD_ONCE;
        }
        err = stage_record(store, &record, piece->data);
        if (err != GFS_OK)
            return err;
        at += piece->length_bytes;
    }
    store_chunk_from_entry(&chunk->entry, &mutation->result);
    return GFS_OK;
}

static enum gfs_err stage_seal(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, mutation->handle, &chunk);
    if (err != GFS_OK)
        return err;
    if (!chunk->exists && !mutation->create)
        item->err = GFS_ERR_NO_CHUNK;
    else if (chunk->exists && chunk->entry.version != mutation->version)
        item->err = GFS_ERR_STALE_VERSION;
    else if (chunk->entry.flags & STORE_ENTRY_CORRUPT)
        item->err = GFS_ERR_CORRUPT;
    else if (mutation->length_bytes < chunk->entry.length_bytes)
        item->err = GFS_ERR_INVAL;
    if (item->err != GFS_OK)
        return GFS_OK;
    struct store_record record = record_of(chunk, STORE_RECORD_STATE);
    record.version = mutation->version;
    record.serial = mutation->serial;
    record.chunk_length = mutation->length_bytes;
    err = stage_record(store, &record, NULL);
    if (err == GFS_OK)
        store_chunk_from_entry(&chunk->entry, &mutation->result);
    return err;
}

/* ---- repair ---------------------------------------------------------------------------------- */

static enum gfs_err stage_window(struct store *store, const struct store_mutation *mutation,
                                 const struct store_delta_chunk *chunk)
{
    enum gfs_err err = GFS_OK;
    for (size_t i = 0; i < mutation->window_count && err == GFS_OK; i++) {
        struct store_record record = record_of(chunk, STORE_RECORD_APPEND);
        record.source = mutation->window[i].producer;
        record.sequence = mutation->window[i].sequence;
        record.offset_bytes = mutation->window[i].offset_bytes;
        record.data_crc = mutation->window[i].length_bytes;
        err = stage_record(store, &record, NULL);
    }
    return err;
}

static enum gfs_err repair_chunk(struct store *store, struct store_item *item,
                                 struct store_delta_chunk **ret_chunk)
{
    enum gfs_err err = store_delta_chunk(&store->delta, item->mutation->handle, ret_chunk);
    if (err != GFS_OK)
        return err;
    if (!(*ret_chunk)->exists)
        item->err = GFS_ERR_NO_CHUNK;
    else if ((*ret_chunk)->entry.version != item->mutation->version)
        item->err = GFS_ERR_STALE_VERSION;
    return GFS_OK;
}

static enum gfs_err stage_repair(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *chunk;
    enum gfs_err err = repair_chunk(store, item, &chunk);
    if (err != GFS_OK || item->err != GFS_OK)
        return err;
    uint32_t at = mutation->offset_bytes;
    for (size_t i = 0; i < mutation->piece_count; i++) {
        const struct store_piece *piece = &mutation->pieces[i];
        struct store_record record = record_of(chunk, STORE_RECORD_WRITE);
        if (record.chunk_length < at + piece->length_bytes)
            record.chunk_length = at + piece->length_bytes;
        record.offset_bytes = at;
        record.length_bytes = piece->length_bytes;
        record.data_crc = piece->crc;
        err = stage_record(store, &record, piece->data);
        if (err != GFS_OK)
            return err;
        at += piece->length_bytes;
    }
    err = stage_window(store, mutation, chunk);
    if (err == GFS_OK)
        store_chunk_from_entry(&chunk->entry, &mutation->result);
    return err;
}

static enum gfs_err stage_adopt(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *chunk;
    enum gfs_err err = repair_chunk(store, item, &chunk);
    if (err != GFS_OK || item->err != GFS_OK)
        return err;
    struct store_record record = record_of(chunk, STORE_RECORD_TRUNCATE);
    record.flags = STORE_RECORD_WHOLE;
    record.serial = mutation->serial;
    record.chunk_length = mutation->length_bytes;
    err = stage_record(store, &record, NULL);
    if (err == GFS_OK)
        err = stage_window(store, mutation, chunk);
    if (err == GFS_OK)
        store_chunk_from_entry(&chunk->entry, &mutation->result);
    return err;
}

static enum gfs_err stage_set_version(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, mutation->handle, &chunk);
    if (err != GFS_OK)
        return err;
    uint32_t now = chunk->entry.version;
    if (!chunk->exists && !mutation->create)
        item->err = GFS_ERR_NO_CHUNK;
    else if (chunk->exists && now != mutation->from_version && now != mutation->version)
        item->err = GFS_ERR_STALE_VERSION;
    if (item->err != GFS_OK)
        return GFS_OK;
    uint32_t length = mutation->truncate ? mutation->length_bytes : chunk->entry.length_bytes;
    /* Nothing to do is done: what made it so is durable before this completes. */
    if (!chunk->exists || now != mutation->version || length != chunk->entry.length_bytes) {
        bool cut = length < chunk->entry.length_bytes;
        struct store_record record =
            record_of(chunk, cut ? STORE_RECORD_TRUNCATE : STORE_RECORD_STATE);
        record.version = mutation->version;
        record.chunk_length = length;
        err = stage_record(store, &record, NULL);
    }
    if (err == GFS_OK)
        store_chunk_from_entry(&chunk->entry, &mutation->result);
    return err;
}

static enum gfs_err stage_delete(struct store *store, struct store_item *item)
{
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, item->mutation->handle, &chunk);
    if (err != GFS_OK)
        return err;
    store_chunk_from_entry(&chunk->entry, &item->mutation->result);
    if (!chunk->exists)
        return GFS_OK;
    struct store_record record = record_of(chunk, STORE_RECORD_DELETE);
    record.chunk_length = 0;
    return stage_record(store, &record, NULL);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static enum gfs_err stage_rewrite(struct store *store, struct store_item *item)
{
    const struct store_task *task = item->task;
    struct store_delta_chunk *chunk;
    const struct store_extent *extents;
    size_t count;
    enum gfs_err err = store_delta_chunk(&store->delta, task->handle, &chunk);
    if (err == GFS_OK)
        err = store_delta_block(&store->delta, task->handle, task->block, &extents, &count);
    if (err != GFS_OK)
        return err;
    bool same = chunk->exists && count > 0 && count == task->extent_count;
    for (size_t i = 0; same && i < count; i++)
        same = extents[i].seq == task->extents[i].seq &&
               extents[i].start_bytes == task->extents[i].start_bytes &&
               extents[i].length_bytes == task->extents[i].length_bytes;
    if (!same) {
        item->err = GFS_ERR_BUSY;
        return GFS_OK;
    }
    struct store_record record = record_of(chunk, STORE_RECORD_WRITE);
    record.flags |= STORE_RECORD_MOVED;
    record.offset_bytes = (task->block << GFS_BLOCK_SHIFT) + task->start_bytes;
    record.length_bytes = task->length_bytes;
    record.data_crc = task->crc;
    return stage_record(store, &record, task->data);
}

static enum gfs_err stage_carry(struct store *store, struct store_item *item)
{
    struct store_record record = item->task->record;
    if (!(record.flags & STORE_RECORD_CARRIED)) {
        record.as_of = record.seq;
        /* It acts only when all is replayed, when the source is as it was. */
        record.flags &= ~(uint32_t)STORE_RECORD_MAPPED;
        if (record.kind == STORE_RECORD_COPY)
            record.length_bytes = record.data_crc = 0;
        record.map = NULL;
        record.flags |= STORE_RECORD_CARRIED;
    }
    return stage_record(store, &record, NULL);
}

static enum gfs_err stage_state(struct store *store, struct store_item *item)
{
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, item->task->handle, &chunk);
    if (err != GFS_OK || !chunk->exists)
        return err;
    struct store_record record = record_of(chunk, STORE_RECORD_STATE);
    if (item->task->corrupt)
        record.flags |= STORE_RECORD_CORRUPT;
    return stage_record(store, &record, NULL);
}

/* Its own serials begin anew with its version: the source's, higher, would make a replica that has
 * none of them look the most advanced. */
static uint64_t copy_serial(const struct store_mutation *mutation)
{
    return (uint64_t)mutation->version << 32;
}

/* The copy is the first of its batch: the source is as the index and this delta have it. */
static enum gfs_err stage_copy_parts(struct store *store, struct store_item *item,
                                     const struct store_delta_chunk *source,
                                     const struct store_delta_chunk *chunk)
{
    struct store_map map = {0};
    enum gfs_err err = store_delta_map(&store->delta, source->handle, &map);
    if (err == GFS_ERR_BUSY) {
        item->err = err;
        err = GFS_OK;
        goto out;
    }
    for (size_t i = 0; err == GFS_OK && i < store_map_parts(&map); i++) {
        struct store_record record = record_of(source, STORE_RECORD_COPY);
        record.flags |= STORE_RECORD_MAPPED;
        record.handle = item->mutation->handle;
        record.prev_seq = i > 0 ? chunk->entry.state_seq : 0;
        record.source = item->mutation->source;
        record.version = item->mutation->version;
        record.serial = copy_serial(item->mutation);
        record.map = store_map_part(&map, i, &record.length_bytes);
        record.data_crc = crc32c(0, record.map, record.length_bytes);
        err = stage_record(store, &record, record.map);
        /* In service the blocks are copied from the source, once. */
        store->records[store->record_count - 1].map = NULL;
    }
out:
    store_map_release(&map);
    return err;
}

static enum gfs_err stage_copy(struct store *store, struct store_item *item)
{
    struct store_mutation *mutation = item->mutation;
    struct store_delta_chunk *source;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(&store->delta, mutation->source, &source);
    if (err == GFS_OK)
        err = store_delta_chunk(&store->delta, mutation->handle, &chunk);
    if (err != GFS_OK)
        return err;
    bool again = chunk->exists && source->exists && chunk->entry.family == source->entry.family &&
                 chunk->entry.version == mutation->version &&
                 chunk->entry.serial == copy_serial(mutation);
    if (!source->exists)
        item->err = GFS_ERR_NO_CHUNK;
    else if (source->entry.flags & STORE_ENTRY_CORRUPT)
        item->err = GFS_ERR_CORRUPT;
    else if (source->entry.version != mutation->from_version)
        item->err = GFS_ERR_STALE_VERSION;
    else if (chunk->exists && !again)
        item->err = GFS_ERR_EXISTS;
    if (item->err != GFS_OK)
        return GFS_OK;
    if (!again) {
        store->copies++;
        err = stage_copy_parts(store, item, source, chunk);
    }
    if (err == GFS_OK && item->err == GFS_OK) {
        store_chunk_from_entry(&chunk->entry, &mutation->result);
        mutation->result.serial = source->entry.serial;
    }
    return err;
}

enum gfs_err store_stage_item(struct store *store, struct store_item *item)
{
    item->err = GFS_OK;
    if (item->mutation != NULL) {
        switch (item->mutation->op) {
        case STORE_OP_WRITE:
            return stage_write(store, item);
        case STORE_OP_SET_VERSION:
            return stage_set_version(store, item);
        case STORE_OP_DELETE:
            return stage_delete(store, item);
        case STORE_OP_SEAL:
            return stage_seal(store, item);
        case STORE_OP_REPAIR:
            return stage_repair(store, item);
        case STORE_OP_ADOPT:
            return stage_adopt(store, item);
        case STORE_OP_COPY:
            return stage_copy(store, item);
        }
        item->err = GFS_ERR_INVAL;
        return GFS_OK;
    }
    switch (item->task->kind) {
    case STORE_TASK_REWRITE:
        return stage_rewrite(store, item);
    case STORE_TASK_CARRY:
        return stage_carry(store, item);
    case STORE_TASK_STATE:
        return stage_state(store, item);
    }
    item->err = GFS_ERR_INVAL;
    return GFS_OK;
}
