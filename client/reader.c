#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "chunk.pb-c.h"
#include "failure.h"
#include "retry.h"

#define READER_LOCATIONS_PAGE  64
#define READER_UNSETTLED_TRIES 5u    /* half a second or so */
#define READER_LOCATION_MS     1000u /* so long the master is believed */

enum gfs_err reader_init(struct reader *reader, struct gfs *fs, const char *path, uint64_t inode,
                         uint32_t chunk_size_bytes, uint64_t size_bytes)
{
    memset(reader, 0, sizeof(*reader));
    reader->fs = fs;
    reader->path = path;
    reader->inode = inode;
    reader->chunk_size_bytes = chunk_size_bytes;
    reader->size_bytes = size_bytes;
    return pthread_mutex_init(&reader->lock, NULL) == 0 ? GFS_OK : GFS_ERR_NO_MEMORY;
}

void reader_release(struct reader *reader)
{
    location_cache_release(&reader->cache);
    pthread_mutex_destroy(&reader->lock);
}

void read_group_init(struct read_group *group)
{
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->changed, NULL);
}

void read_group_release(struct read_group *group)
{
    pthread_cond_destroy(&group->changed);
    pthread_mutex_destroy(&group->lock);
}

uint64_t reader_size(struct reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    uint64_t size_bytes = reader->size_bytes;
    pthread_mutex_unlock(&reader->lock);
    return size_bytes;
}

void reader_forget(struct reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    location_cache_release(&reader->cache);
    pthread_mutex_unlock(&reader->lock);
}

/* ---- locations ----------------------------------------------------------------------------- */

struct locations_reply {
    struct gfs *fs;
    struct gfs_attr attr;
    size_t count;
    struct location *locations[READER_LOCATIONS_PAGE];
};

static enum gfs_err location_take(struct locations_reply *out, const Gfs__ChunkInfo *chunk)
{
    size_t count = chunk->handle != 0 ? chunk->n_replicas : 0;
    if (count > GFS_GOAL_MAX)
        count = GFS_GOAL_MAX;
    struct location *location = location_new((uint32_t)count);
    if (location == NULL)
        return GFS_ERR_NO_MEMORY;
    location->index = chunk->index;
    location->version = chunk->version;
    location->handle = chunk->handle;
    location->length_bytes = chunk->length;
    location->file_size_bytes = out->attr.size_bytes;
    location->told_ms = loop_now_ms();
    for (size_t i = 0; i < count; i++) {
        const Gfs__Replica *from = chunk->replicas[i];
        struct location_replica *to = &location->replicas[i];
        if (from->server.len == GFS_UUID_BYTES)
            memcpy(to->server, from->server.data, GFS_UUID_BYTES);
        snprintf(to->addr, sizeof(to->addr), "%s", from->addr);
        to->near = fs_is_near(out->fs, to->addr);
    }
    out->locations[out->count++] = location;
    return GFS_OK;
}

static void locations_drop(struct locations_reply *out)
{
    for (size_t i = 0; i < out->count; i++)
        location_unref(out->locations[i]);
    out->count = 0;
}

static enum gfs_err locations_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ChunksReply *reply = (const Gfs__ChunksReply *)msg;
    struct locations_reply *out = arg;
    locations_drop(out);
    enum gfs_err err = attr_take(reply->attr, &out->attr);
    if (err == GFS_OK && out->attr.type != GFS_TYPE_FILE)
        err = GFS_ERR_PROTO;
    for (size_t i = 0; i < reply->n_chunks && out->count < READER_LOCATIONS_PAGE; i++)
        if (err == GFS_OK)
            err = location_take(out, reply->chunks[i]);
    return err;
}

/* Asks for `limit` chunks from `first` on and keeps what comes. */
static enum gfs_err locations_fetch(struct reader *reader, uint32_t first, uint32_t limit,
                                    struct gfs_attr *ret_attr)
{
    Gfs__ChunksRequest msg = GFS__CHUNKS_REQUEST__INIT;
    msg.inode = reader->inode;
    msg.first = first;
    msg.limit = limit;
    struct locations_reply reply = {.fs = reader->fs};
    struct call call = {.type = GFS_MSG_CHUNKS,
                        .msg = &msg.base,
                        .take = locations_take,
                        .arg = &reply,
                        .what = "read",
                        .path = reader->path};
    enum gfs_err err = call_master(reader->fs, &call);
    if (err != GFS_OK) {
        locations_drop(&reply);
        return err;
    }
    pthread_mutex_lock(&reader->lock);
    for (size_t i = 0; i < reply.count; i++)
        location_cache_put(&reader->cache, reply.locations[i]);
    reader->size_bytes = reply.attr.size_bytes;
    pthread_mutex_unlock(&reader->lock);
    if (ret_attr != NULL)
        *ret_attr = reply.attr;
    return GFS_OK;
}

enum gfs_err reader_stat(struct reader *reader, struct gfs_attr *ret_attr)
{
    return locations_fetch(reader, 0, 1, ret_attr);
}

enum gfs_err reader_refresh(struct reader *reader, uint64_t offset)
{
    reader_forget(reader);
    return locations_fetch(reader, (uint32_t)(offset / reader->chunk_size_bytes),
                           READER_LOCATIONS_PAGE, NULL);
}

enum gfs_err reader_size_for(struct reader *reader, uint64_t end, uint64_t *ret_size_bytes)
{
    uint64_t size_bytes = reader_size(reader);
    if (end > size_bytes) {
        enum gfs_err err =
            locations_fetch(reader, (uint32_t)(size_bytes / reader->chunk_size_bytes), 1, NULL);
        if (err != GFS_OK)
            return err;
        size_bytes = reader_size(reader);
    }
    *ret_size_bytes = size_bytes;
    return GFS_OK;
}

static struct location *location_known(struct reader *reader, const struct read_piece *piece)
{
    pthread_mutex_lock(&reader->lock);
    struct location *location = location_cache_get(&reader->cache, piece->chunk_index);
    if (location != NULL && (read_plan_outdated(piece, location, reader->size_bytes) ||
                             loop_now_ms() - location->told_ms > READER_LOCATION_MS)) {
        location_cache_drop(&reader->cache, location);
        location_unref(location);
        location = NULL;
    }
    pthread_mutex_unlock(&reader->lock);
    return location;
}

/* The slot's location, from the cache or the master. A chunk the master does not list is a hole. */
static enum gfs_err slot_locate(struct read_slot *slot)
{
    struct reader *reader = slot->reader;
    struct location *location = location_known(reader, &slot->piece);
    if (location == NULL) {
        enum gfs_err err =
            locations_fetch(reader, slot->piece.chunk_index, READER_LOCATIONS_PAGE, NULL);
        if (err != GFS_OK)
            return err;
        location = location_known(reader, &slot->piece);
    }
    if (location == NULL) {
        location = location_new(0);
        if (location == NULL)
            return failure_set(GFS_ERR_NO_MEMORY, "read %s: out of memory", reader->path);
        location->index = slot->piece.chunk_index;
        pthread_mutex_lock(&reader->lock);
        location->file_size_bytes = reader->size_bytes;
        location->told_ms = loop_now_ms();
        location_cache_put(&reader->cache, location_ref(location));
        pthread_mutex_unlock(&reader->lock);
    }
    location_unref(slot->location);
    slot->location = location;
    slot->tries = (struct read_tries){0};
    slot->real_bytes = read_plan_real_bytes(&slot->piece, location);
    return GFS_OK;
}

/* ---- requests ------------------------------------------------------------------------------ */

static void slot_done(void *arg, const struct rpc_answer *answer)
{
    struct read_slot *slot = arg;
    pthread_mutex_lock(&slot->group->lock);
    slot->err = answer->err;
    slot->crc_count = 0;
    if (answer->err == GFS_OK) {
        const Gfs__ReadReply *reply = (const Gfs__ReadReply *)answer->msg;
        if (answer->payload_bytes != slot->real_bytes || reply->n_crcs > BLOCK_CRC_MAX) {
            slot->err = GFS_ERR_SHORT;
            snprintf(slot->detail, sizeof(slot->detail), "%zu bytes came, not %u",
                     answer->payload_bytes, slot->real_bytes);
        } else {
            slot->version = reply->version;
            slot->crc_count = reply->n_crcs;
            memcpy(slot->crcs, reply->crcs, reply->n_crcs * sizeof(slot->crcs[0]));
        }
    } else {
        snprintf(slot->detail, sizeof(slot->detail), "%s", answer->detail);
    }
    slot->done = true;
    pthread_cond_signal(&slot->group->changed);
    pthread_mutex_unlock(&slot->group->lock);
}

/* Sends to the next replica; false: none is left to ask. */
static bool slot_send(struct read_slot *slot)
{
    struct reader *reader = slot->reader;
    const struct location *location = slot->location;
    struct suspect_list suspects;
    fs_suspects(reader->fs, &suspects);
    int pick = location->replica_count == 0 ? -1
                                            : read_plan_pick(&slot->tries, location, &suspects,
                                                             fs_random(reader->fs), loop_now_ms());
    if (pick < 0)
        return false;
    slot->replica = pick;
    slot->tries.asked |= 1u << pick;
    slot->done = false;
    Gfs__ReadRequest msg = GFS__READ_REQUEST__INIT;
    msg.handle = location->handle;
    msg.version = location->version;
    msg.offset = slot->piece.chunk_offset;
    msg.length = slot->real_bytes;
    msg.unsettled = slot->unsettled;
    struct rpc_call_args args = {
        .type = GFS_MSG_READ,
        .msg = &msg.base,
        .timeout_ms = reader->fs->opts.server_timeout_ms,
        .dest = slot->dest,
        .dest_bytes = slot->real_bytes,
        .done = slot_done,
        .arg = slot,
    };
    rpc_client_call(reader->fs->rpc, location->replicas[pick].addr, &args);
    return true;
}

/* Zeros what is not stored and asks for the rest. */
static void slot_begin(struct read_slot *slot)
{
    slot->replica = -1;
    slot->start_err = slot_locate(slot);
    slot->done = true;
    slot->err = GFS_OK;
    if (slot->start_err != GFS_OK)
        return;
    memset(slot->dest + slot->real_bytes, 0, slot->piece.length_bytes - slot->real_bytes);
    if (slot->real_bytes > 0 && !slot_send(slot)) {
        slot->err = GFS_ERR_NO_REPLICA;
        snprintf(slot->detail, sizeof(slot->detail), "the master knows of none");
    }
}

void read_slot_start(struct read_slot *slot, struct reader *reader, struct read_group *group,
                     const struct read_piece *piece, uint8_t *dest)
{
    slot->reader = reader;
    slot->group = group;
    slot->piece = *piece;
    slot->dest = dest;
    slot->location = NULL;
    slot->detail[0] = '\0';
    slot->unsettled = false;
    slot_begin(slot);
}

static enum gfs_err slot_wait(struct read_slot *slot)
{
    pthread_mutex_lock(&slot->group->lock);
    while (!slot->done)
        pthread_cond_wait(&slot->group->changed, &slot->group->lock);
    enum gfs_err err = slot->err;
    pthread_mutex_unlock(&slot->group->lock);
    return err;
}

/* Waits for the answer and checks it. */
static enum gfs_err slot_result(struct read_slot *slot)
{
    enum gfs_err err = slot_wait(slot);
    if (err == GFS_OK && slot->real_bytes > 0) {
        err = block_crc_verify(slot->dest, slot->piece.chunk_offset, slot->real_bytes, slot->crcs,
                               slot->crc_count);
        if (err != GFS_OK)
            snprintf(slot->detail, sizeof(slot->detail), "the checksum does not hold");
    }
    return err;
}

/*
 * The chunk went to a higher version than we were told of. It may have become another file's alone,
 * by a copy on write, and have been written since: what was read is the file's only if the chunk
 * still is. While a chunk is at the version that the master told, nobody has written to it but for
 * the file. *ret_moved: it is not, ask again.
 */
static enum gfs_err slot_confirm(struct read_slot *slot, bool *ret_moved)
{
    *ret_moved = false;
    if (slot->real_bytes == 0 || slot->version == slot->location->version)
        return GFS_OK;
    enum gfs_err err = locations_fetch(slot->reader, slot->piece.chunk_index, 1, NULL);
    if (err != GFS_OK)
        return err;
    struct location *location = location_known(slot->reader, &slot->piece);
    *ret_moved = location == NULL || location->handle != slot->location->handle;
    location_unref(location);
    return GFS_OK;
}

static void slot_replica_failed(struct read_slot *slot, enum gfs_err err)
{
    if (slot->replica < 0)
        return;
    struct gfs *fs = slot->reader->fs;
    const struct location_replica *replica = &slot->location->replicas[slot->replica];
    uint32_t suspect_ms = read_plan_suspect_ms(err);
    if (suspect_ms > 0)
        fs_suspect(fs, replica->server, suspect_ms);
    if (read_plan_is_bad_replica(err))
        fs_report_bad(fs, slot->location->handle, slot->location->version, replica->server, err);
    char detail[sizeof(slot->detail)];
    snprintf(detail, sizeof(detail), "%.63s: %s%s%.80s", replica->addr, gfs_err_text(err),
             slot->detail[0] != '\0' ? ": " : "", slot->detail);
    memcpy(slot->detail, detail, sizeof(detail));
}

static enum gfs_err slot_failed(const struct read_slot *slot, enum gfs_err err)
{
    return failure_set(err == GFS_ERR_CORRUPT || err == GFS_ERR_PROTO ? err : GFS_ERR_NO_REPLICA,
                       "chunk %u (handle %016llx) of %s: no replica could be read: %s; see "
                       "`gfsctl stat` and `gfsctl servers`",
                       slot->piece.chunk_index, (unsigned long long)slot->location->handle,
                       slot->reader->path, slot->detail);
}

static enum gfs_err slot_try_all(struct read_slot *slot)
{
    struct gfs *fs = slot->reader->fs;
    struct retry retry;
    retry_init(&retry, loop_now_ms(), fs->opts.timeout_ms);
    for (;;) {
        if (slot->start_err != GFS_OK)
            return slot->start_err;
        bool moved = false;
        enum gfs_err err = slot_result(slot);
        if (err == GFS_OK) {
            err = slot_confirm(slot, &moved);
            if (!moved)
                return err;
            slot_begin(slot);
            continue;
        }
        slot_replica_failed(slot, err);
        if (slot->location->replica_count > 0 && slot_send(slot))
            continue;
        uint32_t wait_ms;
        if (!read_plan_may_heal(err) ||
            !retry_next(&retry, GFS_ERR_NO_REPLICA, 0, fs_random(fs), loop_now_ms(), &wait_ms))
            return slot_failed(slot, err);
        /* Nobody can tell, perhaps since the others are gone: what is there was written by
         * somebody. Who wants linearizable reads goes on waiting. */
        if (err == GFS_ERR_UNSETTLED && !fs->opts.fresh_reads &&
            retry.tries > READER_UNSETTLED_TRIES)
            slot->unsettled = true;
        call_sleep_ms(wait_ms);
        pthread_mutex_lock(&slot->reader->lock);
        location_cache_drop(&slot->reader->cache, slot->location);
        pthread_mutex_unlock(&slot->reader->lock);
        slot_begin(slot);
    }
}

enum gfs_err read_slot_finish(struct read_slot *slot)
{
    enum gfs_err err = slot_try_all(slot);
    location_unref(slot->location);
    slot->location = NULL;
    return err;
}

void read_slot_drop(struct read_slot *slot)
{
    if (slot->start_err == GFS_OK) {
        enum gfs_err err = slot_wait(slot);
        (void)err;
    }
    location_unref(slot->location);
    slot->location = NULL;
}

/* ---- a whole range ------------------------------------------------------------------------- */

enum gfs_err reader_read(struct reader *reader, uint64_t offset, uint8_t *dest, uint64_t len_bytes)
{
    const struct gfs_options *opts = &reader->fs->opts;
    struct read_slot *slots = malloc(opts->read_window * sizeof(*slots));
    if (slots == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "read %s: out of memory", reader->path);
    struct read_group group;
    read_group_init(&group);
    uint64_t end = offset + len_bytes;
    size_t begun = 0;
    size_t ended = 0;
    enum gfs_err err = GFS_OK;
    while (err == GFS_OK && (offset < end || ended < begun)) {
        while (offset < end && begun - ended < opts->read_window) {
            struct read_piece piece =
                read_plan_cut(offset, end, reader->chunk_size_bytes, opts->request_bytes);
            read_slot_start(&slots[begun++ % opts->read_window], reader, &group, &piece, dest);
            offset += piece.length_bytes;
            dest += piece.length_bytes;
        }
        err = read_slot_finish(&slots[ended++ % opts->read_window]);
    }
    while (ended < begun)
        read_slot_drop(&slots[ended++ % opts->read_window]);
    read_group_release(&group);
    free(slots);
    return err;
}
