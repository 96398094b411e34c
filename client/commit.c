/*
 * Telling the master what is durable: COMMIT, and PUBLISH which commits and names in one step.
 *
 * STALE_VERSION means that a chunk got another version since we wrote: a server failed and another
 * client, or we ourselves, leased it again. What was acknowledged under our version is on every
 * replica of it, and a later version is made of such replicas only (see write_window.h). So we ask
 * where the chunk is now, check that it descends from what we wrote, and commit under the version
 * it has. A chunk placed anew does not descend, one truncated meanwhile may lack the bytes: the
 * caller is told.
 */
#include <stdio.h>
#include <string.h>

#include "call.h"
#include "failure.h"
#include "retry.h"
#include "writer.h"

struct relocate_reply {
    uint32_t index;
    struct write_lease there;
};

static enum gfs_err relocate_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ChunksReply *reply = (const Gfs__ChunksReply *)msg;
    struct relocate_reply *out = arg;
    if (reply->n_chunks == 0 || reply->chunks[0]->index != out->index)
        return GFS_ERR_STALE_HANDLE;
    const Gfs__ChunkInfo *chunk = reply->chunks[0];
    if (chunk->n_replicas == 0)
        return GFS_ERR_NO_REPLICA;
    out->there.handle = chunk->handle;
    out->there.version = chunk->version;
    out->there.cuts = chunk->cuts;
    out->there.family = chunk->family;
    return writer_take_replicas(chunk->replicas, chunk->n_replicas, &out->there);
}

static enum gfs_err relocate(struct writer *writer, uint32_t index)
{
    Gfs__ChunksRequest msg = GFS__CHUNKS_REQUEST__INIT;
    msg.inode = writer->inode;
    msg.first = index;
    msg.limit = 1;
    struct relocate_reply reply = {.index = index};
    struct call call = {.type = GFS_MSG_CHUNKS,
                        .msg = &msg.base,
                        .take = relocate_take,
                        .arg = &reply,
                        .what = "commit",
                        .path = writer->path};
    enum gfs_err err = call_master(writer->fs, &call);
    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&writer->lock);
    err = write_window_relocated(&writer->window, index, &reply.there);
    if (err != GFS_OK) {
        writer_note_lost(writer, err);
        err = writer_failed(writer);
    }
    pthread_mutex_unlock(&writer->lock);
    return err;
}

static enum gfs_err commit_once(struct writer *writer, const struct writer_commit_args *args,
                                uint64_t length_bytes, const struct write_commit *list,
                                size_t count)
{
    Gfs__CommitChunk chunks[WRITE_WINDOW_CHUNKS_MAX];
    Gfs__CommitChunk *pointers[WRITE_WINDOW_CHUNKS_MAX];
    for (size_t i = 0; i < count; i++) {
        gfs__commit_chunk__init(&chunks[i]);
        chunks[i].index = list[i].index;
        chunks[i].handle = list[i].handle;
        chunks[i].version = list[i].version;
        chunks[i].length = list[i].length_bytes;
        pointers[i] = &chunks[i];
    }
    Gfs__CommitRequest commit = GFS__COMMIT_REQUEST__INIT;
    commit.inode = writer->inode;
    commit.length = length_bytes;
    commit.n_chunks = count;
    commit.chunks = pointers;
    struct call call = {.type = GFS_MSG_COMMIT,
                        .msg = &commit.base,
                        .what = "commit",
                        .path = writer->path};
    uint8_t id[FS_ID_BYTES];
    Gfs__PublishRequest publish;
    if (args->publish != NULL) {
        /* A new id each time: an answer STALE_VERSION says that the one before did nothing. */
        fs_make_id(writer->fs, id);
        publish = *args->publish;
        publish.commit = &commit;
        publish.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
        call.type = GFS_MSG_PUBLISH;
        call.msg = &publish.base;
        call.what = "publish";
    }
    return call_master(writer->fs, &call);
}

static size_t commit_list(struct writer *writer, struct write_commit *ret_list)
{
    pthread_mutex_lock(&writer->lock);
    size_t count = write_window_commit_list(&writer->window, ret_list, WRITE_WINDOW_CHUNKS_MAX);
    pthread_mutex_unlock(&writer->lock);
    return count;
}

static uint64_t list_end_bytes(const struct writer *writer, const struct write_commit *list,
                               size_t count)
{
    uint64_t end_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = (uint64_t)list[i].index * writer->chunk_size_bytes + list[i].length_bytes;
        end_bytes = end > end_bytes ? end : end_bytes;
    }
    return end_bytes;
}

enum gfs_err writer_commit(struct writer *writer, const struct writer_commit_args *args)
{
    struct retry retry;
    retry_init(&retry, loop_now_ms(), writer->fs->opts.timeout_ms);
    for (;;) {
        struct write_commit list[WRITE_WINDOW_CHUNKS_MAX];
        size_t count = commit_list(writer, list);
        /* A length once committed is not told again: the file may be truncated since. */
        uint64_t length_bytes = args->length_bytes;
        if (args->publish == NULL && length_bytes <= writer->committed_end_bytes)
            length_bytes = list_end_bytes(writer, list, count);
        if (args->publish == NULL && count == 0 && length_bytes <= writer->committed_end_bytes)
            return GFS_OK;
        enum gfs_err err = commit_once(writer, args, length_bytes, list, count);
        if (err == GFS_OK) {
            pthread_mutex_lock(&writer->lock);
            write_window_committed(&writer->window, list, count);
            pthread_mutex_unlock(&writer->lock);
            if (length_bytes > writer->committed_end_bytes)
                writer->committed_end_bytes = length_bytes;
            return GFS_OK;
        }
        uint32_t wait_ms;
        if (err != GFS_ERR_STALE_VERSION ||
            !retry_next(&retry, GFS_ERR_BUSY, 0, fs_random(writer->fs), loop_now_ms(), &wait_ms))
            return err;
        for (size_t i = 0; i < count; i++) {
            err = relocate(writer, list[i].index);
            if (err != GFS_OK)
                return err;
        }
        if (retry.tries > 1)
            call_sleep_ms(wait_ms);
    }
}
