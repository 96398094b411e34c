/*
 * push: data on its way along the chain. Net threads.
 *
 * A part is checked and kept, then at once sent on to the next server of the chain from the same
 * buffer, while the client's next parts come in. The answer leaves when those behind have answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.pb-c.h"
#include "chunkserver/chain.h"
#include "chunkserver/chunkserver.h"

struct push_forward {
    struct chunkserver *cs;
    struct rpc_request *request;
    char next_addr[ADDR_TEXT_MAX_BYTES];
};

static void push_forwarded(void *arg, const struct rpc_answer *answer)
{
    struct push_forward *forward = arg;

    if (answer->err == GFS_OK) {
        cs_reply_empty(forward->cs, forward->request);
    } else {
        const Gfs__PushRequest *msg = (const Gfs__PushRequest *)forward->request->msg;
        char detail[RPC_DETAIL_MAX_BYTES];
        enum gfs_err err =
            chain_failure(forward->next_addr, answer->err, answer->detail, detail, sizeof detail);

        pushbuf_drop(forward->cs->pushbuf, msg->data_id.data);
        cs_reply_error(forward->cs, forward->request, err, detail);
    }
    free(forward);
}

static void push_release(void *arg)
{
    buf_unref(arg);
}

static void push_forward(struct cs_net *net, struct rpc_request *request,
                         const Gfs__PushRequest *msg)
{
    struct push_forward *forward = calloc(1, sizeof *forward);
    Gfs__PushRequest next = *msg;
    struct rpc_piece piece = {request->payload->data, request->payload->len_bytes};
    struct rpc_payload payload = {.pieces = &piece, .piece_count = 1, .release = push_release};
    struct rpc_call_args args = {.type = GFS_MSG_PUSH, .msg = &next.base, .payload = &payload};

    if (!forward) {
        cs_reply_error(net->cs, request, GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    forward->cs = net->cs;
    forward->request = request;
    strcpy(forward->next_addr, msg->chain[0]);
    next.chain = msg->chain + 1;
    next.n_chain = msg->n_chain - 1;
    payload.arg = buf_ref(request->payload);
    args.timeout_ms = cs_time_left_ms(request);
    args.done = push_forwarded;
    args.arg = forward;
    rpc_client_call(net->client, forward->next_addr, &args);
}

static enum gfs_err push_check(const struct chunkserver *cs, const struct rpc_request *request,
                               const Gfs__PushRequest *msg)
{
    if (atomic_load(&cs->read_only))
        return GFS_ERR_READ_ONLY;
    if (msg->data_id.len != PUSHBUF_ID_BYTES || !request->payload)
        return GFS_ERR_INVAL;
    if (msg->n_chain >= GFS_GOAL_MAX)
        return GFS_ERR_INVAL;
    for (size_t i = 0; i < msg->n_chain; i++)
        if (msg->chain[i][0] == 0 || strlen(msg->chain[i]) >= ADDR_TEXT_MAX_BYTES)
            return GFS_ERR_INVAL;
    return GFS_OK;
}

void cs_push(struct cs_net *net, struct rpc_request *take_request)
{
    struct chunkserver *cs = net->cs;
    const Gfs__PushRequest *msg = (const Gfs__PushRequest *)take_request->msg;
    enum gfs_err err = push_check(cs, take_request, msg);

    if (err == GFS_OK) {
        struct pushbuf_part part = {
            .offset_bytes = msg->offset,
            .total_bytes = msg->total_length,
            .first_block_bytes = msg->first_block_bytes,
            .hops_left = (uint32_t)msg->n_chain,
            .crcs = msg->crcs,
            .crc_count = msg->n_crcs,
            .buf = take_request->payload,
        };

        memcpy(part.id, msg->data_id.data, sizeof part.id);
        err = pushbuf_add(cs->pushbuf, &part, loop_now_ms());
    }
    if (err == GFS_ERR_BUSY) {
        char detail[RPC_DETAIL_MAX_BYTES];

        /* A client that sees it at the end of a chain must know who it was. */
        snprintf(detail, sizeof detail, "%s: push buffer full", cs->advertise);
        cs_reply_error(cs, take_request, err, detail);
    } else if (err != GFS_OK) {
        cs_reply_error(cs, take_request, err, NULL);
    } else if (msg->n_chain > 0) {
        push_forward(net, take_request, msg);
    } else {
        cs_reply_empty(cs, take_request);
    }
}
