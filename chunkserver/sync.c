/*
 * sync: makes our replica of a chunk like another one's (decision 11). Control thread, with jobs on
 * storage threads.
 *
 *   SYNC_CHUNK -> DIGEST of the source, with its window   (rpc)
 *              -> our own digest                          (storage thread)
 *              -> for each run of blocks that differ: READ from the source, REPAIR   (rpc, store)
 *              -> window entries: REPAIR without data     (store): the source's, and as unknown
 *                 those that only we have
 *              -> ADOPT: serial, length, whole again      (store) -> answer
 *
 * Nobody writes meanwhile: the version was raised and is not granted, and a lease would make us
 * refuse. Dying or failing anywhere leaves a replica that has some of the source's blocks and its
 * old serial: it is not made a member, and the next round compares again. What we take over may
 * vanish with the source, so nothing of the chunk is shown until the version, or a later one, is
 * granted.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"
#include "chunkserver/digest.h"
#include "control.pb-c.h"
#include "crc.h"

#define SYNC_MAX        16u /* at once */
#define SYNC_RUN_BLOCKS 16u /* fetched with one READ */
#define SYNC_CALL_MS    20000u

struct sync {
    struct storepool_job job; /* first */
    struct loop_task task;
    struct store_mutation mutation;
    struct chunkserver *cs;
    struct rpc_request *request;
    enum gfs_err err; /* of the job or the mutation */

    uint64_t serial; /* the source's */
    uint32_t length_bytes;
    uint32_t *crcs;
    uint32_t count; /* blocks */
    struct store_digest ours;
    struct store_append *window; /* to be taken over */
    size_t window_count;
    size_t window_next;

    uint32_t block; /* the next to compare */
    uint32_t run_blocks;
    uint32_t fetched;
    struct buf *data;
    struct store_piece pieces[SYNC_RUN_BLOCKS];
};

static void sync_step(struct sync *sync);

static const Gfs__SyncChunkRequest *request_of(const struct sync *sync)
{
    return (const Gfs__SyncChunkRequest *)sync->request->msg;
}

static void sync_end(struct sync *take_sync, enum gfs_err err)
{
    struct chunkserver *cs = take_sync->cs;

    cs->sync_count--;
    if (err == GFS_OK) {
        Gfs__SyncChunkReply reply = GFS__SYNC_CHUNK_REPLY__INIT;

        reply.length = take_sync->length_bytes;
        reply.serial = take_sync->serial;
        reply.blocks_fetched = take_sync->fetched;
        cs_chunk_changed(cs, request_of(take_sync)->handle);
        cs_reply(cs, take_sync->request, &reply.base, NULL);
    } else {
        cs_reply_error(cs, take_sync->request, err, NULL);
    }
    buf_unref(take_sync->data);
    free(take_sync->window);
    free(take_sync->crcs);
    free(take_sync->ours.crcs);
    free(take_sync);
}

static uint32_t block_bytes(uint32_t chunk_length_bytes, uint32_t block)
{
    uint64_t start = (uint64_t)block << GFS_BLOCK_SHIFT;
    uint64_t left = chunk_length_bytes > start ? chunk_length_bytes - start : 0;

    return left < GFS_BLOCK_SIZE_BYTES ? (uint32_t)left : GFS_BLOCK_SIZE_BYTES;
}

/* Never asked of a block behind the source's end. A bad block of ours has the CRC ~0, and so have
 * some good ones: they are fetched for nothing. */
static bool block_differs(const struct sync *sync, uint32_t block)
{
    if (block >= sync->ours.count || sync->ours.crcs[block] == UINT32_MAX)
        return true;
    return sync->crcs[block] != sync->ours.crcs[block] ||
           block_bytes(sync->length_bytes, block) !=
               block_bytes(sync->ours.chunk.length_bytes, block);
}

/* ---- what the store does ---- */

static void mutation_end(struct loop_task *task)
{
    struct sync *sync = (struct sync *)((char *)task - offsetof(struct sync, task));

    buf_unref(sync->data);
    sync->data = NULL;
    if (sync->err != GFS_OK)
        sync_end(sync, sync->err);
    else if (sync->mutation.op == STORE_OP_ADOPT)
        sync_end(sync, GFS_OK);
    else
        sync_step(sync);
}

/* Committer thread. */
static void mutation_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct sync *sync = mutation->arg;

    sync->err = err;
    sync->task.fn = mutation_end;
    loop_post(sync->cs->control.loop, &sync->task);
}

static void sync_submit(struct sync *sync, enum store_op op)
{
    struct store_mutation *mutation = &sync->mutation;
    enum gfs_err err;

    mutation->op = op;
    mutation->handle = request_of(sync)->handle;
    mutation->version = request_of(sync)->version;
    mutation->done = mutation_done;
    mutation->arg = sync;
    err = store_submit(sync->cs->store, mutation);
    if (err != GFS_OK)
        sync_end(sync, err);
}

/* ---- blocks ---- */

/* The source's bytes must be those that it gave the CRCs of. */
static enum gfs_err run_take(struct sync *sync, const struct rpc_answer *answer)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < sync->run_blocks; i++) {
        uint32_t len = block_bytes(sync->length_bytes, sync->block + i);

        if (!answer->payload || answer->payload_bytes < at + len)
            return GFS_ERR_SHORT;
        sync->pieces[i].data = answer->payload->data + at;
        sync->pieces[i].length_bytes = len;
        sync->pieces[i].crc = crc32c(0, sync->pieces[i].data, len);
        if (sync->pieces[i].crc != sync->crcs[sync->block + i])
            return GFS_ERR_CORRUPT;
        at += len;
    }
    sync->data = buf_ref(answer->payload);
    return GFS_OK;
}

static void run_read(void *arg, const struct rpc_answer *answer)
{
    struct sync *sync = arg;
    enum gfs_err err = answer->err == GFS_OK ? run_take(sync, answer) : answer->err;

    if (err != GFS_OK) {
        sync_end(sync, err);
        return;
    }
    memset(&sync->mutation, 0, sizeof sync->mutation);
    sync->mutation.offset_bytes = sync->block << GFS_BLOCK_SHIFT;
    sync->mutation.pieces = sync->pieces;
    sync->mutation.piece_count = sync->run_blocks;
    for (uint32_t i = 0; i < sync->run_blocks; i++)
        sync->mutation.length_bytes += sync->pieces[i].length_bytes;
    sync->fetched += sync->run_blocks;
    sync->block += sync->run_blocks;
    sync_submit(sync, STORE_OP_REPAIR);
}

static void run_fetch(struct sync *sync)
{
    Gfs__ReadRequest msg = GFS__READ_REQUEST__INIT;

    sync->run_blocks = 0;
    msg.handle = request_of(sync)->handle;
    msg.version = request_of(sync)->version;
    msg.offset = sync->block << GFS_BLOCK_SHIFT;
    while (sync->run_blocks < SYNC_RUN_BLOCKS && sync->block + sync->run_blocks < sync->count &&
           block_differs(sync, sync->block + sync->run_blocks)) {
        msg.length += block_bytes(sync->length_bytes, sync->block + sync->run_blocks);
        sync->run_blocks++;
    }
    rpc_client_call(sync->cs->control.client, request_of(sync)->source,
                    &(struct rpc_call_args){.type = GFS_MSG_READ,
                                            .msg = &msg.base,
                                            .timeout_ms = SYNC_CALL_MS,
                                            .done = run_read,
                                            .arg = sync});
}

static void window_next(struct sync *sync)
{
    size_t count = sync->window_count - sync->window_next;

    if (count > STORE_WINDOW_MAX)
        count = STORE_WINDOW_MAX;
    memset(&sync->mutation, 0, sizeof sync->mutation);
    sync->mutation.window = sync->window + sync->window_next;
    sync->mutation.window_count = count;
    sync->window_next += count;
    sync_submit(sync, STORE_OP_REPAIR);
}

static void sync_step(struct sync *sync)
{
    if (loop_now_ms() >= sync->request->deadline_ms || sync->cs->closed) {
        sync_end(sync, GFS_ERR_TIMEOUT);
        return;
    }
    if (mutation_is_leased(sync->cs->mutations, request_of(sync)->handle, loop_now_ms())) {
        sync_end(sync, GFS_ERR_STALE_VERSION); /* the master has gone on */
        return;
    }
    while (sync->block < sync->count && !block_differs(sync, sync->block))
        sync->block++;
    if (sync->block < sync->count) {
        run_fetch(sync);
    } else if (sync->window_next < sync->window_count) {
        window_next(sync);
    } else {
        memset(&sync->mutation, 0, sizeof sync->mutation);
        sync->mutation.serial = sync->serial;
        sync->mutation.length_bytes = sync->length_bytes;
        sync_submit(sync, STORE_OP_ADOPT);
    }
}

/* ---- the comparison ---- */

static void compared(struct loop_task *task)
{
    struct sync *sync = (struct sync *)((char *)task - offsetof(struct sync, task));
    struct chunkserver *cs = sync->cs;
    const struct mutation_have have = {.exists = true,
                                       .version = sync->ours.chunk.version,
                                       .length_bytes = sync->ours.chunk.length_bytes,
                                       .serial = sync->ours.chunk.serial};

    if (sync->err == GFS_OK && have.version != request_of(sync)->version)
        sync->err = GFS_ERR_STALE_VERSION;
    if (sync->err == GFS_OK)
        sync->err = mutation_mixed(cs->mutations, request_of(sync)->handle, &have, loop_now_ms());
    cs_unsettled_note(cs);
    if (sync->err != GFS_OK)
        sync_end(sync, sync->err);
    else
        sync_step(sync);
}

/* As store_window gives them. */
static int window_order(const void *a, const void *b)
{
    const struct store_append *left = a, *right = b;

    if (left->producer != right->producer)
        return left->producer < right->producer ? -1 : 1;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

/*
 * An append or write that only we know of was acknowledged to nobody, and its bytes will be others.
 * (We were ahead: then we are corrupt.) Length 0 says that it is not known.
 */
static enum gfs_err window_unknow(struct sync *sync)
{
    struct store_append *entries;
    struct store_append *grown;
    size_t count, extra = 0;
    enum gfs_err err = store_window(sync->cs->store, request_of(sync)->handle, &entries, &count);

    if (err != GFS_OK)
        return err;
    for (size_t i = 0; i < count; i++) {
        if (sync->window_count > 0 &&
            bsearch(&entries[i], sync->window, sync->window_count, sizeof *entries, window_order))
            continue;
        entries[extra] = entries[i];
        entries[extra].offset_bytes = 0;
        entries[extra++].length_bytes = 0;
    }
    grown = extra ? realloc(entries, (extra + sync->window_count) * sizeof *entries) : NULL;
    if (!grown) {
        free(entries);
        return extra ? GFS_ERR_NO_MEMORY : GFS_OK;
    }
    /* The source's come behind them: what it knows counts. */
    if (sync->window_count > 0)
        memcpy(grown + extra, sync->window, sync->window_count * sizeof *grown);
    free(sync->window);
    sync->window = grown;
    sync->window_count += extra;
    return GFS_OK;
}

/* Storage thread. What cannot be read has the CRC ~0. */
static void compare(struct storepool_job *job)
{
    struct sync *sync = (struct sync *)job;

    sync->err =
        store_digest(sync->cs->store, request_of(sync)->handle, 0, 0, 0, false, &sync->ours);
    if (sync->err == GFS_OK)
        sync->err = window_unknow(sync);
    sync->task.fn = compared;
    loop_post(sync->cs->control.loop, &sync->task);
}

static enum gfs_err window_take(struct sync *sync, const struct buf *payload)
{
    size_t count = payload ? payload->len_bytes / DIGEST_WINDOW_ENTRY_BYTES : 0;

    if (count > GFS_APPEND_ENTRIES_MAX)
        return GFS_ERR_PROTO;
    if (count == 0)
        return GFS_OK;
    sync->window = malloc(count * sizeof *sync->window);
    if (!sync->window)
        return GFS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        digest_window_get(payload->data + i * DIGEST_WINDOW_ENTRY_BYTES, &sync->window[i]);
    sync->window_count = count;
    return GFS_OK;
}

static enum gfs_err source_take(struct sync *sync, const struct rpc_answer *answer)
{
    const Gfs__DigestReply *reply = (const Gfs__DigestReply *)answer->msg;
    uint64_t blocks = ((uint64_t)reply->chunk_length + GFS_BLOCK_SIZE_BYTES - 1) >> GFS_BLOCK_SHIFT;

    if (reply->version != request_of(sync)->version || reply->corrupt)
        return GFS_ERR_STALE_VERSION;
    if (reply->chunk_length > GFS_CHUNK_SIZE_MAX_BYTES || reply->n_crcs != blocks ||
        reply->serial >> 32 > reply->version)
        return GFS_ERR_PROTO;
    sync->crcs = malloc((reply->n_crcs + 1) * sizeof *sync->crcs);
    if (!sync->crcs)
        return GFS_ERR_NO_MEMORY;
    if (reply->n_crcs > 0)
        memcpy(sync->crcs, reply->crcs, reply->n_crcs * sizeof *sync->crcs);
    sync->count = (uint32_t)reply->n_crcs;
    sync->serial = reply->serial;
    sync->length_bytes = reply->chunk_length;
    return window_take(sync, answer->payload);
}

static void source_digest(void *arg, const struct rpc_answer *answer)
{
    struct sync *sync = arg;
    enum gfs_err err = answer->err == GFS_OK ? source_take(sync, answer) : answer->err;

    if (err == GFS_OK) {
        sync->job.fn = compare;
        sync->job.key = request_of(sync)->handle;
        err = storepool_submit(sync->cs->pool, &sync->job);
    }
    if (err != GFS_OK)
        sync_end(sync, err);
}

static enum gfs_err sync_check(struct chunkserver *cs, const Gfs__SyncChunkRequest *msg)
{
    struct store_chunk chunk;

    if (msg->handle == 0 || msg->version == 0 || msg->source[0] == 0 ||
        strlen(msg->source) >= ADDR_TEXT_MAX_BYTES)
        return GFS_ERR_INVAL;
    if (cs->sync_count >= SYNC_MAX)
        return GFS_ERR_BUSY;
    if (store_chunk_get(cs->store, msg->handle, &chunk) != GFS_OK)
        return GFS_ERR_NO_CHUNK;
    if (chunk.version != msg->version ||
        mutation_is_leased(cs->mutations, msg->handle, loop_now_ms()))
        return GFS_ERR_STALE_VERSION;
    return GFS_OK;
}

void cs_sync_chunk(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__SyncChunkRequest *in = (const Gfs__SyncChunkRequest *)take_request->msg;
    Gfs__DigestRequest msg = GFS__DIGEST_REQUEST__INIT;
    enum gfs_err err = sync_check(cs, in);
    struct sync *sync = err == GFS_OK ? calloc(1, sizeof *sync) : NULL;

    if (!sync) {
        cs_reply_error(cs, take_request, err != GFS_OK ? err : GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    sync->cs = cs;
    sync->request = take_request;
    cs->sync_count++;
    msg.handle = in->handle;
    msg.version = in->version;
    msg.verify = true;
    msg.window = true;
    rpc_client_call(cs->control.client, in->source,
                    &(struct rpc_call_args){.type = GFS_MSG_DIGEST,
                                            .msg = &msg.base,
                                            .timeout_ms = SYNC_CALL_MS,
                                            .done = source_digest,
                                            .arg = sync});
}
