/*
 * write: the shell of the mutation core, on the control thread. Pushed data is pinned from the
 * order until the write is durable here and everywhere, and goes to the store in place. Small data
 * comes with the order itself and takes the same way through the push buffer.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"

struct write_send {
    struct write_op *write;
    uint32_t index;
};

struct write_op {
    struct mutation_op op; /* first: the core gives back pointers to it */
    struct chunkserver *cs;
    struct rpc_request *request;
    struct pushbuf_data *data;
    uint8_t data_id[PUSHBUF_ID_BYTES];

    struct store_mutation local;
    enum gfs_err local_err;
    struct loop_task local_task;
    uint32_t length_bytes; /* of the chunk, after the local write */
    struct write_send sends[MUTATION_SECONDARIES_MAX];
};

/* Before the answer: its receiver may push the next data at once and must find the room. */
static void write_unpin(struct write_op *write, bool written)
{
    if (write->data && written)
        pushbuf_done(write->cs->pushbuf, write->data);
    else if (write->data)
        pushbuf_unpin(write->cs->pushbuf, write->data, loop_now_ms());
    write->data = NULL;
}

static void write_refuse(struct write_op *write, enum gfs_err err, const char *detail)
{
    write_unpin(write, false);
    cs_reply_error(write->cs, write->request, err, detail);
    free(write);
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
    enum gfs_err err;

    local->op = STORE_OP_WRITE;
    local->handle = write->op.handle;
    local->version = write->op.version;
    local->serial = write->op.serial;
    local->create = write->op.create;
    local->offset_bytes = write->op.offset_bytes;
    local->length_bytes = write->op.length_bytes;
    local->pieces = pushbuf_data_pieces(write->data, &local->piece_count);
    local->done = write_local_done;
    local->arg = write;
    write->local_task.fn = write_local_task;
    err = store_submit(cs->store, local);
    mutation_submitted(cs->mutations, &write->op, err);
}

static void write_acked(void *arg, const struct rpc_answer *answer)
{
    struct write_send *sent = arg;
    struct chunkserver *cs = sent->write->cs;

    mutation_ack(cs->mutations, &sent->write->op, sent->index, answer->err);
    cs_mutations_drain(cs);
}

static void payload_release(void *arg)
{
    buf_unref(arg);
}

static void write_send(struct chunkserver *cs, struct write_op *write)
{
    const struct mutation_group *group = write->op.group;
    const Gfs__WriteRequest *order = (const Gfs__WriteRequest *)write->request->msg;
    struct buf *payload = write->request->payload;
    Gfs__ApplyRequest msg = GFS__APPLY_REQUEST__INIT;
    uint32_t timeout_ms = cs_time_left_ms(write->request);

    if (timeout_ms > cs->options->apply_timeout_ms)
        timeout_ms = (uint32_t)cs->options->apply_timeout_ms;
    msg.first_block_bytes = order->first_block_bytes;
    msg.crcs = order->crcs;
    msg.n_crcs = order->n_crcs;
    msg.handle = write->op.handle;
    msg.version = write->op.version;
    msg.serial = write->op.serial;
    msg.offset = write->op.offset_bytes;
    msg.length = write->op.length_bytes;
    msg.data_id.data = write->data_id;
    msg.data_id.len = sizeof write->data_id;
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
    free(write);
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
}

static struct write_op *write_make(struct chunkserver *cs, struct rpc_request *take_request)
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

/* What an order says of its data. */
struct write_data {
    ProtobufCBinaryData id;
    uint32_t first_block_bytes; /* the rest: data that came along */
    const uint32_t *crcs;
    size_t crc_count;
    size_t hops_left;
};

/* Data that came with the order is put where pushed data would be. */
static enum gfs_err write_keep_payload(struct write_op *write, const struct write_data *data)
{
    struct pushbuf_part part = {
        .total_bytes = write->op.length_bytes,
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

/* Finds the data and checks that it is what the order says. */
static enum gfs_err write_pin(struct write_op *write, const struct write_data *data)
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
    if (pushbuf_data_bytes(write->data) != write->op.length_bytes ||
        !pushbuf_data_fits(write->data, write->op.offset_bytes))
        return GFS_ERR_INVAL;
    return GFS_OK;
}

void cs_write(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__WriteRequest *msg = (const Gfs__WriteRequest *)take_request->msg;
    struct write_op *write = write_make(cs, take_request);
    const struct write_data data = {.id = msg->data_id,
                                    .first_block_bytes = msg->first_block_bytes,
                                    .crcs = msg->crcs,
                                    .crc_count = msg->n_crcs,
                                    .hops_left = msg->n_secondaries};
    enum gfs_err err;

    if (!write)
        return;
    write->op.handle = msg->handle;
    write->op.version = msg->version;
    write->op.offset_bytes = msg->offset;
    write->op.length_bytes = msg->length;
    err = write_pin(write, &data);
    if (err == GFS_OK)
        err = mutation_write(cs->mutations, &write->op, msg->secondaries, msg->n_secondaries,
                             loop_now_ms());
    if (err != GFS_OK) {
        write_refuse(write, err, NULL);
        return;
    }
    cs_mutations_drain(cs);
}

void cs_apply(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__ApplyRequest *msg = (const Gfs__ApplyRequest *)take_request->msg;
    struct write_op *write = write_make(cs, take_request);
    const struct write_data data = {.id = msg->data_id,
                                    .first_block_bytes = msg->first_block_bytes,
                                    .crcs = msg->crcs,
                                    .crc_count = msg->n_crcs};
    struct mutation_have have = {0};
    struct store_chunk chunk;
    enum gfs_err err;

    if (!write)
        return;
    write->op.handle = msg->handle;
    write->op.version = msg->version;
    write->op.serial = msg->serial;
    write->op.offset_bytes = msg->offset;
    write->op.length_bytes = msg->length;
    if (store_chunk_get(cs->store, msg->handle, &chunk) == GFS_OK) {
        have.exists = true;
        have.version = chunk.version;
        have.serial = chunk.serial;
    }
    err = write_pin(write, &data);
    if (err == GFS_OK)
        err = mutation_apply(cs->mutations, &write->op, &have, loop_now_ms());
    if (err != GFS_OK)
        write_refuse(write, err, NULL);
    cs_mutations_drain(cs);
}
