/*
 * append: records to the end of a chunk, and telling the master of the lengths. Control thread.
 *
 *   APPEND -> mutation core -> all replicas have it -> [ waiting ] -> APPENDED -> answer
 *                                                         ^  one call is under way; the next one
 *                                                         |  takes all that has come meanwhile
 *
 * An append is answered when the master has made the chunk's length durable (decision 12): so is a
 * retry that finds its first try, and CHUNK_FULL, since the client then asks for the next chunk.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "chunkserver/write_op.h"
#include "control.pb-c.h"

#define APPEND_CHUNKS_MAX 1024u /* of one APPENDED */
#define APPEND_RETRY_MS   50u
#define APPEND_MASTER_MS  5000u
#define APPEND_TOLD_MAX   65536u

/* What the master knows of the chunks we lead, and where they belong. */
struct append_lease {
    uint64_t handle;
    uint32_t version;
    uint32_t index;
    uint64_t inode;
    uint32_t told_bytes;
    UT_hash_handle hh;
};

struct append_call {
    struct chunkserver *cs;
    size_t count;
    struct {
        uint64_t handle;
        uint32_t version;
        uint32_t length_bytes;
    } chunks[APPEND_CHUNKS_MAX];
};

static struct append_lease *lease_find(struct cs_append *append, uint64_t handle)
{
    struct append_lease *lease;

    HASH_FIND(hh, append->leases, &handle, sizeof handle, lease);
    return lease;
}

enum gfs_err cs_append_granted(struct chunkserver *cs, uint64_t handle, uint32_t version,
                               uint64_t inode, uint32_t index)
{
    struct cs_append *append = &cs->append;
    struct append_lease *lease = lease_find(append, handle);

    if (!lease && HASH_COUNT(append->leases) >= APPEND_TOLD_MAX) {
        lease = append->leases; /* the oldest; it is told again if it is still in use */
        HASH_DEL(append->leases, lease);
        free(lease);
        lease = NULL;
    }
    if (!lease) {
        lease = calloc(1, sizeof *lease);
        if (!lease)
            return GFS_ERR_NO_MEMORY;
        lease->handle = handle;
        HASH_ADD(hh, append->leases, handle, sizeof lease->handle, lease);
    }
    if (lease->version != version)
        lease->told_bytes = 0;
    lease->version = version;
    lease->inode = inode;
    lease->index = index;
    return GFS_OK;
}

static void answer(struct chunkserver *cs, struct write_op *write, enum gfs_err err)
{
    if (err != GFS_OK) {
        cs_reply_error(cs, write->request, err, NULL);
    } else if (write->op.full) {
        cs_reply_error(cs, write->request, GFS_ERR_CHUNK_FULL, NULL);
    } else {
        Gfs__AppendReply reply = GFS__APPEND_REPLY__INIT;

        reply.offset = write->op.offset_bytes;
        reply.serial = write->op.serial;
        reply.length = write->told_bytes;
        reply.repeated_try = write->op.repeated;
        cs_reply(cs, write->request, &reply.base, NULL);
    }
    mutation_op_release(&write->op);
    write_free(write);
}

/* Answers what the master knows by now, and what it will not hear of. */
static void answer_ready(struct chunkserver *cs)
{
    struct write_op *write, *next;
    uint64_t now_ms = loop_now_ms();

    DL_FOREACH_SAFE (cs->append.waiting, write, next) {
        const struct append_lease *lease = lease_find(&cs->append, write->op.handle);
        enum gfs_err err = GFS_ERR_NO_LEASE;

        if (lease && lease->version == write->op.version && lease->told_bytes >= write->told_bytes)
            err = GFS_OK;
        else if (lease && lease->version == write->op.version &&
                 now_ms < write->request->deadline_ms)
            continue;
        DL_DELETE(cs->append.waiting, write);
        answer(cs, write, err);
    }
}

static void call_send(struct chunkserver *cs);

static void call_done(void *arg, const struct rpc_answer *rpc_answer)
{
    struct append_call *call = arg;
    struct chunkserver *cs = call->cs;
    const Gfs__AppendedReply *reply = (const Gfs__AppendedReply *)rpc_answer->msg;

    cs->append.calling = false;
    for (size_t i = 0; rpc_answer->err == GFS_OK && i < call->count; i++) {
        struct append_lease *lease = lease_find(&cs->append, call->chunks[i].handle);
        enum gfs_err err =
            i < reply->n_errors ? gfs_err_from_wire(reply->errors[i]) : GFS_ERR_PROTO;

        if (!lease || lease->version != call->chunks[i].version)
            continue;
        if (err == GFS_OK) {
            if (lease->told_bytes < call->chunks[i].length_bytes)
                lease->told_bytes = call->chunks[i].length_bytes;
        } else if (gfs_err_class(err) != GFS_ERR_CLASS_RETRY) {
            /* The lease is not ours any more, or the file is gone. */
            mutation_break(cs->mutations, lease->handle, lease->version, GFS_ERR_NO_LEASE);
            HASH_DEL(cs->append.leases, lease);
            free(lease);
        }
    }
    free(call);
    answer_ready(cs);
    cs_mutations_drain(cs);
    if (cs->append.waiting && !cs->append.calling)
        loop_timer_arm(&cs->append.timer, rpc_answer->err == GFS_OK ? 0 : APPEND_RETRY_MS);
}

/* One entry a chunk, with the greatest length that waits. */
static void call_add(struct append_call *call, const struct write_op *write)
{
    for (size_t i = 0; i < call->count; i++) {
        if (call->chunks[i].handle != write->op.handle)
            continue;
        if (call->chunks[i].length_bytes < write->told_bytes)
            call->chunks[i].length_bytes = write->told_bytes;
        return;
    }
    if (call->count == APPEND_CHUNKS_MAX)
        return;
    call->chunks[call->count].handle = write->op.handle;
    call->chunks[call->count].version = write->op.version;
    call->chunks[call->count++].length_bytes = write->told_bytes;
}

static void call_fill(struct chunkserver *cs, struct append_call *call,
                      Gfs__AppendedChunk *ret_chunks, Gfs__AppendedChunk **ret_pointers)
{
    for (size_t i = 0; i < call->count; i++) {
        const struct append_lease *lease = lease_find(&cs->append, call->chunks[i].handle);

        gfs__appended_chunk__init(&ret_chunks[i]);
        ret_chunks[i].inode = lease->inode;
        ret_chunks[i].index = lease->index;
        ret_chunks[i].handle = call->chunks[i].handle;
        ret_chunks[i].version = call->chunks[i].version;
        ret_chunks[i].length = call->chunks[i].length_bytes;
        ret_pointers[i] = &ret_chunks[i];
    }
}

static void call_send(struct chunkserver *cs)
{
    Gfs__AppendedRequest msg = GFS__APPENDED_REQUEST__INIT;
    struct append_call *call = calloc(1, sizeof *call);
    Gfs__AppendedChunk *chunks = calloc(APPEND_CHUNKS_MAX, sizeof *chunks);
    Gfs__AppendedChunk **pointers = calloc(APPEND_CHUNKS_MAX, sizeof(Gfs__AppendedChunk *));
    struct write_op *write;

    if (!call || !chunks || !pointers) {
        free(call);
        loop_timer_arm(&cs->append.timer, APPEND_RETRY_MS);
        goto out;
    }
    call->cs = cs;
    DL_FOREACH (cs->append.waiting, write)
        call_add(call, write);
    call_fill(cs, call, chunks, pointers);
    msg.n_chunks = call->count;
    msg.chunks = pointers;
    cs->append.calling = true;
    rpc_client_call(cs->control.client, cs->master_addr,
                    &(struct rpc_call_args){.type = GFS_MSG_APPENDED,
                                            .msg = &msg.base,
                                            .timeout_ms = APPEND_MASTER_MS,
                                            .done = call_done,
                                            .arg = call});
out:
    free(chunks);
    free(pointers);
}

static void timer_fired(struct loop_timer *timer)
{
    struct cs_append *append =
        (struct cs_append *)((char *)timer - offsetof(struct cs_append, timer));
    struct chunkserver *cs =
        (struct chunkserver *)((char *)append - offsetof(struct chunkserver, append));

    answer_ready(cs);
    if (cs->append.waiting && !cs->append.calling && !cs->closed)
        call_send(cs);
}

void append_finish(struct chunkserver *cs, struct write_op *take_write)
{
    const struct mutation_op *op = &take_write->op;

    take_write->told_bytes = op->full ? op->offset_bytes + (op->seal ? op->length_bytes : 0)
                                      : op->offset_bytes + op->length_bytes;
    DL_APPEND(cs->append.waiting, take_write);
    answer_ready(cs);
    if (cs->append.waiting && !cs->append.calling)
        call_send(cs);
}

enum gfs_err cs_append_init(struct chunkserver *cs)
{
    return loop_timer_init(&cs->append.timer, cs->control.loop, timer_fired);
}

void cs_append_release(struct chunkserver *cs)
{
    loop_timer_release(&cs->append.timer);
}

void cs_append_drop(struct chunkserver *cs)
{
    struct append_lease *lease, *next_lease;
    struct write_op *write, *next;

    DL_FOREACH_SAFE (cs->append.waiting, write, next) {
        DL_DELETE(cs->append.waiting, write);
        answer(cs, write, GFS_ERR_STOPPING);
    }
    HASH_ITER (hh, cs->append.leases, lease, next_lease) {
        HASH_DEL(cs->append.leases, lease);
        free(lease);
    }
}

void cs_append(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__AppendRequest *msg = (const Gfs__AppendRequest *)take_request->msg;
    struct write_op *write = write_make(cs, take_request);
    const struct write_data data = {.id = msg->data_id,
                                    .length_bytes = msg->length,
                                    .first_block_bytes = msg->first_block_bytes,
                                    .crcs = msg->crcs,
                                    .crc_count = msg->n_crcs,
                                    .hops_left = msg->n_secondaries};
    enum gfs_err err;

    if (!write)
        return;
    write->op.handle = msg->handle;
    write->op.version = msg->version;
    write->op.length_bytes = msg->length;
    write->op.producer = msg->producer;
    write->op.sequence = msg->sequence;
    write->append = true;
    err = lease_find(&cs->append, msg->handle) ? write_find(write, &data) : GFS_ERR_NO_LEASE;
    if (err == GFS_OK)
        err = mutation_append(cs->mutations, &write->op, msg->secondaries, msg->n_secondaries,
                              loop_now_ms());
    if (err != GFS_OK) {
        write_refuse(write, err, NULL);
        return;
    }
    cs_mutations_drain(cs);
}
