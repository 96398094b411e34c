/*
 * write: the shell of the mutation core, on the control thread. Pushed data is pinned from the
 * order until the write is durable here and everywhere, and goes to the store in place. Small data
 * comes with the order itself and takes the same way through the push buffer.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/write_op.h"
#include "crc.h"

void write_unpin(struct write_op *write, bool written)
{
    if (write->data && written)
        pushbuf_done(write->cs->pushbuf, write->data);
    else if (write->data)
        pushbuf_unpin(write->cs->pushbuf, write->data, loop_now_ms());
    write->data = NULL;
}

void write_free(struct write_op *take_write)
{
    free(take_write->pieces);
    free(take_write);
}

void write_refuse(struct write_op *take_write, enum gfs_err err, const char *detail)
{
    write_unpin(take_write, false);
    cs_reply_error(take_write->cs, take_write->request, err, detail);
    write_free(take_write);
}

void write_have(struct chunkserver *cs, uint64_t handle, struct mutation_have *ret_have)
{
    struct store_chunk chunk;

    memset(ret_have, 0, sizeof *ret_have);
    if (store_chunk_get(cs->store, handle, &chunk) != GFS_OK)
        return;
    ret_have->exists = true;
    ret_have->version = chunk.version;
    ret_have->length_bytes = chunk.length_bytes;
    ret_have->serial = chunk.serial;
}

/* Committer thread. */
static void write_local_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct write_op *write = mutation->arg;

    write->local_err = err;
    loop_post(write->cs->control.loop, &write->local_task);
}

static void write_local_task(struct loop_task *task)
{
    struct write_op *write =
        (struct write_op *)((char *)task - offsetof(struct write_op, local_task));
    struct chunkserver *cs = write->cs;

    if (write->local_err == GFS_OK) {
        write->length_bytes = write->local.result.length_bytes;
        if (write->op.create)
            cs_chunk_changed(cs, write->op.handle);
    }
    mutation_local_done(cs->mutations, &write->op, write->local_err, loop_now_ms());
    cs_mutations_drain(cs);
}

static void write_local(struct chunkserver *cs, struct write_op *write)
{
    struct store_mutation *local = &write->local;
    enum gfs_err err = GFS_OK;

    local->op = write->op.seal ? STORE_OP_SEAL : STORE_OP_WRITE;
    local->handle = write->op.handle;
    local->version = write->op.version;
    local->serial = write->op.serial;
    local->create = write->op.create;
    local->offset_bytes = write->op.offset_bytes;
    local->length_bytes = write->op.length_bytes;
    local->producer = write->op.seal ? 0 : write->op.producer;
    local->sequence = write->op.seal ? 0 : write->op.sequence;
    local->once = !write->append;
    if (write->op.primary && write->append && !write->op.seal)
        err = write_cut(write);
    if (write->op.seal) {
        local->length_bytes = write->op.offset_bytes + write->op.length_bytes;
    } else if (write->pieces) {
        local->pieces = write->pieces;
        local->piece_count = write->piece_count;
    } else {
        local->pieces = pushbuf_data_pieces(write->data, &local->piece_count);
    }
    local->done = write_local_done;
    local->arg = write;
    write->local_task.fn = write_local_task;
    cs_unsettled_note(cs);
    if (err == GFS_OK)
        err = store_submit(cs->store, local);
    mutation_submitted(cs->mutations, &write->op, err);
}

static void write_acked(void *arg, const struct rpc_answer *answer)
{
    struct write_send *sent = arg;
    struct chunkserver *cs = sent->write->cs;

    mutation_ack(cs->mutations, &sent->write->op, sent->index, answer->err, loop_now_ms());
    cs_mutations_drain(cs);
}

static void payload_release(void *arg)
{
    buf_unref(arg);
}

/* The order in words. What came inline goes along. */
static void order_fill(const struct write_op *write, Gfs__ApplyRequest *msg)
{
    const struct mutation_op *op = &write->op;

    msg->handle = op->handle;
    msg->version = op->version;
    msg->serial = op->serial;
    msg->offset = op->offset_bytes;
    msg->length = op->length_bytes;
    msg->settled = op->settled_serial;
    msg->seal = op->seal;
    if (op->seal)
        return;
    msg->producer = op->producer;
    msg->sequence = op->sequence;
    msg->append = write->append;
    msg->data_id.data = (uint8_t *)write->data_id;
    msg->data_id.len = sizeof write->data_id;
    if (!write->request->payload)
        return;
    if (write->request->type == GFS_MSG_APPEND) {
        const Gfs__AppendRequest *order = (const Gfs__AppendRequest *)write->request->msg;

        msg->first_block_bytes = order->first_block_bytes;
        msg->crcs = order->crcs;
        msg->n_crcs = order->n_crcs;
    } else {
        const Gfs__WriteRequest *order = (const Gfs__WriteRequest *)write->request->msg;

        msg->first_block_bytes = order->first_block_bytes;
        msg->crcs = order->crcs;
        msg->n_crcs = order->n_crcs;
    }
}

static void write_send(struct chunkserver *cs, struct write_op *write)
{
    const struct mutation_group *group = write->op.group;
    struct buf *payload = write->op.seal ? NULL : write->request->payload;
    Gfs__ApplyRequest msg = GFS__APPLY_REQUEST__INIT;
    uint32_t timeout_ms = cs_time_left_ms(write->request);

    if (timeout_ms > cs->options->apply_timeout_ms)
        timeout_ms = (uint32_t)cs->options->apply_timeout_ms;
    order_fill(write, &msg);
    for (uint32_t i = 0; i < group->count; i++) {
        struct rpc_call_args args = {.type = GFS_MSG_APPLY, .msg = &msg.base};
        struct rpc_piece piece;
        struct rpc_payload with = {.pieces = &piece, .piece_count = 1, .release = payload_release};

        if (payload) {
            piece = (struct rpc_piece){payload->data, payload->len_bytes};
            with.arg = buf_ref(payload);
            args.payload = &with;
        }
        write->sends[i].write = write;
        write->sends[i].index = i;
        args.timeout_ms = timeout_ms;
        args.done = write_acked;
        args.arg = &write->sends[i];
        rpc_client_call(cs->control.client, group->addrs[i], &args);
    }
}

/* "ADDR,ADDR: NAME" */
static void failed_detail(const struct mutation_op *op, char *ret_detail, size_t detail_bytes)
{
    size_t len = 0;

    ret_detail[0] = 0;
    for (uint32_t i = 0; i < op->group->count; i++) {
        if ((op->failed & 1u << i) == 0 || len >= detail_bytes)
            continue;
        len += (size_t)snprintf(ret_detail + len, detail_bytes - len, "%s%s", len ? "," : "",
                                op->group->addrs[i]);
    }
    if (len < detail_bytes)
        snprintf(ret_detail + len, detail_bytes - len, ": %s", gfs_err_name(op->failed_err));
}

static void write_finish(struct chunkserver *cs, struct write_op *write)
{
    struct mutation_op *op = &write->op;
    enum gfs_err err = op->err;

    write_unpin(write, err == GFS_OK);
    if (err == GFS_OK && op->primary && write->request->type == GFS_MSG_APPEND) {
        append_finish(cs, write);
        return;
    }
    if (err == GFS_OK && op->primary) {
        Gfs__WriteReply reply = GFS__WRITE_REPLY__INIT;

        reply.serial = op->serial;
        reply.length = write->length_bytes;
        cs_reply(cs, write->request, &reply.base, NULL);
    } else if (err == GFS_OK) {
        cs_reply_empty(cs, write->request);
    } else if (err == GFS_ERR_REPLICA_FAILED) {
        char detail[RPC_DETAIL_MAX_BYTES];

        failed_detail(op, detail, sizeof detail);
        cs_reply_error(cs, write->request, err, detail);
    } else {
        cs_reply_error(cs, write->request, err, NULL);
    }
    mutation_op_release(op);
    write_free(write);
}

void cs_mutations_drain(struct chunkserver *cs)
{
    struct mutation_op *op;
    enum mutation_effect effect;

    while ((effect = mutation_next(cs->mutations, &op)) != MUTATION_NONE) {
        struct write_op *write = (struct write_op *)op;

        if (effect == MUTATION_LOCAL)
            write_local(cs, write);
        else if (effect == MUTATION_SEND)
            write_send(cs, write);
        else
            write_finish(cs, write);
    }
    cs_settled(cs);
}

struct write_op *write_make(struct chunkserver *cs, struct rpc_request *take_request)
{
    struct write_op *write = NULL;

    if (loop_now_ms() >= take_request->deadline_ms) {
        cs_reply_error(cs, take_request, GFS_ERR_TIMEOUT, NULL);
        return NULL;
    }
    write = calloc(1, sizeof *write);
    if (!write) {
        cs_reply_error(cs, take_request, GFS_ERR_NO_MEMORY, NULL);
        return NULL;
    }
    write->cs = cs;
    write->request = take_request;
    return write;
}

/* Data that came with the order is put where pushed data would be. */
static enum gfs_err write_keep_payload(struct write_op *write, const struct write_data *data)
{
    struct pushbuf_part part = {
        .total_bytes = data->length_bytes,
        .first_block_bytes = data->first_block_bytes,
        .hops_left = (uint32_t)data->hops_left,
        .crcs = data->crcs,
        .crc_count = data->crc_count,
        .buf = write->request->payload,
    };

    if (part.buf->len_bytes > GFS_WRITE_INLINE_MAX_BYTES || data->hops_left >= GFS_GOAL_MAX)
        return GFS_ERR_INVAL;
    if (atomic_load(&write->cs->read_only))
        return GFS_ERR_READ_ONLY;
    memcpy(part.id, write->data_id, sizeof part.id);
    return pushbuf_add(write->cs->pushbuf, &part, loop_now_ms());
}

enum gfs_err write_find(struct write_op *write, const struct write_data *data)
{
    enum gfs_err err = GFS_OK;

    if (data->id.len != sizeof write->data_id)
        return GFS_ERR_INVAL;
    memcpy(write->data_id, data->id.data, sizeof write->data_id);
    if (write->request->payload)
        err = write_keep_payload(write, data);
    if (err != GFS_OK)
        return err;
    err = pushbuf_pin(write->cs->pushbuf, write->data_id, loop_now_ms(), &write->data);
    if (err != GFS_OK)
        return err;
    return pushbuf_data_bytes(write->data) == data->length_bytes ? GFS_OK : GFS_ERR_INVAL;
}

/* The bytes were checked when they came: a CRC of a part of them is as good as the whole's. */
enum gfs_err write_cut(struct write_op *write)
{
    size_t from_count, count = 0;
    const struct store_piece *from = pushbuf_data_pieces(write->data, &from_count);
    uint32_t at = write->op.offset_bytes;
    struct store_piece *pieces;

    if (pushbuf_data_fits(write->data, at))
        return GFS_OK;
    pieces = calloc(2 * from_count + 1, sizeof *pieces);
    if (!pieces)
        return GFS_ERR_NO_MEMORY;
    for (size_t i = 0; i < from_count; i++) {
        const uint8_t *data = from[i].data;
        uint32_t left = from[i].length_bytes;

        while (left > 0) {
            uint32_t room = GFS_BLOCK_SIZE_BYTES - at % GFS_BLOCK_SIZE_BYTES;
            uint32_t len = left < room ? left : room;

            pieces[count++] = (struct store_piece){data, len, crc32c(0, data, len)};
            data += len;
            left -= len;
            at += len;
        }
    }
    write->pieces = pieces;
    write->piece_count = count;
    return GFS_OK;
}

/* A write's data was cut by the client, who knows the offset. */
static enum gfs_err write_check_cut(const struct write_op *write)
{
    return pushbuf_data_fits(write->data, write->op.offset_bytes) ? GFS_OK : GFS_ERR_INVAL;
}

static void write_go(struct chunkserver *cs, struct write_op *write)
{
    const Gfs__WriteRequest *msg = (const Gfs__WriteRequest *)write->request->msg;
    const struct write_data data = {.id = msg->data_id,
                                    .length_bytes = msg->length,
                                    .first_block_bytes = msg->first_block_bytes,
                                    .crcs = msg->crcs,
                                    .crc_count = msg->n_crcs,
                                    .hops_left = msg->n_secondaries};
    enum gfs_err err = GFS_ERR_INVAL;

    if (msg->length <= GFS_MUTATION_MAX_BYTES)
        err = write_find(write, &data);
    if (err == GFS_OK)
        err = write_check_cut(write);
    if (err == GFS_OK)
        err = mutation_write(cs->mutations, &write->op, msg->secondaries, msg->n_secondaries,
                             loop_now_ms());
    if (err != GFS_OK) {
        write_refuse(write, err, NULL);
        return;
    }
    cs_mutations_drain(cs);
}

/* What the storage thread found: the first try was done, or it never will be. */
static void retry_known(struct loop_task *task)
{
    struct write_op *write =
        (struct write_op *)((char *)task - offsetof(struct write_op, local_task));
    struct chunkserver *cs = write->cs;
    const Gfs__WriteRequest *msg = (const Gfs__WriteRequest *)write->request->msg;

    if (write->local_err != GFS_OK) {
        write_refuse(write, write->local_err, NULL);
    } else if (!write->known) {
        write_go(cs, write);
    } else if (!mutation_leads(cs->mutations, msg->handle, msg->version, loop_now_ms())) {
        write_refuse(write, GFS_ERR_NO_LEASE, NULL);
    } else {
        Gfs__WriteReply reply = GFS__WRITE_REPLY__INIT;

        cs_reply(cs, write->request, &reply.base, NULL);
        write_free(write);
    }
}

/* Storage thread. */
static void retry_look(struct storepool_job *job)
{
    struct write_op *write = (struct write_op *)((char *)job - offsetof(struct write_op, job));
    const Gfs__WriteRequest *msg = (const Gfs__WriteRequest *)write->request->msg;
    struct store_append *entries = NULL;
    size_t count = 0;

    write->local_err = store_window(write->cs->store, msg->handle, &entries, &count);
    if (write->local_err == GFS_ERR_NO_CHUNK)
        write->local_err = GFS_OK;
    for (size_t i = 0; i < count; i++)
        write->known |= entries[i].producer == msg->producer &&
                        entries[i].sequence == msg->sequence && entries[i].length_bytes > 0;
    free(entries);
    write->local_task.fn = retry_known;
    loop_post(write->cs->control.loop, &write->local_task);
}

void cs_write(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__WriteRequest *msg = (const Gfs__WriteRequest *)take_request->msg;
    struct write_op *write = write_make(cs, take_request);
    enum gfs_err err = GFS_OK;

    if (!write)
        return;
    write->op.handle = msg->handle;
    write->op.version = msg->version;
    write->op.offset_bytes = msg->offset;
    write->op.length_bytes = msg->length;
    write->op.producer = msg->producer;
    write->op.sequence = msg->sequence;
    if (!msg->retry || msg->producer == 0) {
        write_go(cs, write);
        return;
    }
    /* Its first try may be among those under way. */
    if (!mutation_leads(cs->mutations, msg->handle, msg->version, loop_now_ms()))
        err = GFS_ERR_NO_LEASE;
    else if (mutation_is_busy(cs->mutations, msg->handle))
        err = GFS_ERR_BUSY;
    write->job.fn = retry_look;
    write->job.key = msg->handle;
    if (err == GFS_OK)
        err = storepool_submit(cs->pool, &write->job);
    if (err != GFS_OK)
        write_refuse(write, err, NULL);
}

/* A seal brings no data; an append's is cut here, as the primary did. */
static enum gfs_err apply_data(struct write_op *write, const Gfs__ApplyRequest *msg)
{
    const struct write_data data = {.id = msg->data_id,
                                    .length_bytes = msg->length,
                                    .first_block_bytes = msg->first_block_bytes,
                                    .crcs = msg->crcs,
                                    .crc_count = msg->n_crcs};
    enum gfs_err err;

    if (msg->seal)
        return msg->producer || write->request->payload ? GFS_ERR_INVAL : GFS_OK;
    err = write_find(write, &data);
    if (err != GFS_OK)
        return err;
    return msg->append ? write_cut(write) : write_check_cut(write);
}

void cs_apply(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__ApplyRequest *msg = (const Gfs__ApplyRequest *)take_request->msg;
    struct write_op *write = write_make(cs, take_request);
    struct mutation_have have;
    enum gfs_err err;

    if (!write)
        return;
    write->op.handle = msg->handle;
    write->op.version = msg->version;
    write->op.serial = msg->serial;
    write->op.offset_bytes = msg->offset;
    write->op.length_bytes = msg->length;
    write->op.producer = msg->producer;
    write->op.sequence = msg->sequence;
    write->op.seal = msg->seal;
    write->append = msg->append;
    write_have(cs, msg->handle, &have);
    err = apply_data(write, msg);
    if (err == GFS_OK)
        err = mutation_apply(cs->mutations, &write->op, &have, msg->settled, loop_now_ms());
    if (err != GFS_OK)
        write_refuse(write, err, NULL);
    cs_mutations_drain(cs);
}
