/* rpc_out: see the header. */
#include "rpc_out.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static enum gfs_err rpc_out_take_payload(struct rpc_out *out, const struct rpc_payload *payload)
{
    size_t bytes = 0;

    if (!payload || payload->piece_count == 0)
        return GFS_OK;
    for (size_t i = 0; i < payload->piece_count; i++) {
        if (payload->pieces[i].len_bytes > GFS_PAYLOAD_MAX_BYTES - bytes)
            return GFS_ERR_TOO_LARGE;
        bytes += payload->pieces[i].len_bytes;
    }
    out->pieces = out->inline_pieces;
    if (payload->piece_count > RPC_OUT_PIECES_INLINE) {
        out->pieces = malloc(payload->piece_count * sizeof(*out->pieces));
        if (!out->pieces)
            return GFS_ERR_NO_MEMORY;
    }
    memcpy(out->pieces, payload->pieces, payload->piece_count * sizeof(*out->pieces));
    out->piece_count = payload->piece_count;
    out->header.payload_bytes = (uint32_t)bytes;
    return GFS_OK;
}

enum gfs_err rpc_out_build(struct rpc_out *out, enum rpc_out_kind kind,
                           const struct frame_header *header, const ProtobufCMessage *msg,
                           const struct rpc_payload *payload)
{
    size_t message_bytes = protobuf_c_message_get_packed_size(msg);
    enum gfs_err err;

    out->kind = kind;
    out->is_cancelled = false;
    out->header = *header;
    out->header.message_bytes = (uint32_t)message_bytes;
    out->header.payload_bytes = 0;
    out->head = NULL;
    out->pieces = NULL;
    out->piece_count = 0;
    out->release = NULL;
    if (message_bytes > GFS_MESSAGE_MAX_BYTES)
        return GFS_ERR_TOO_LARGE;
    err = rpc_out_take_payload(out, payload);
    if (err)
        return err;
    out->head_bytes = FRAME_HEADER_BYTES + message_bytes;
    out->head =
        out->head_bytes <= sizeof(out->inline_head) ? out->inline_head : malloc(out->head_bytes);
    if (!out->head) {
        rpc_out_release(out);
        return GFS_ERR_NO_MEMORY;
    }
    protobuf_c_message_pack(msg, out->head + FRAME_HEADER_BYTES);
    out->bytes = out->head_bytes + out->header.payload_bytes;
    if (payload) {
        out->release = payload->release;
        out->release_arg = payload->arg;
    }
    return GFS_OK;
}

void rpc_out_seal(struct rpc_out *out)
{
    frame_encode(&out->header, out->head);
}

void rpc_out_release(struct rpc_out *out)
{
    void (*release)(void *arg) = out->release;

    if (out->head != out->inline_head)
        free(out->head);
    if (out->pieces != out->inline_pieces)
        free(out->pieces);
    out->head = NULL;
    out->pieces = NULL;
    out->piece_count = 0;
    out->release = NULL;
    if (release)
        release(out->release_arg);
}

void rpc_out_push(struct rpc_out_queue *queue, struct rpc_out *out)
{
    out->next = NULL;
    if (queue->last)
        queue->last->next = out;
    else
        queue->first = out;
    queue->last = out;
    queue->bytes += out->bytes;
}

struct rpc_out *rpc_out_take(struct rpc_out_queue *queue)
{
    struct rpc_out *out = queue->first;

    if (!out)
        return NULL;
    assert(queue->skip_bytes == 0);
    queue->first = out->next;
    if (!queue->first)
        queue->last = NULL;
    queue->bytes -= out->bytes;
    return out;
}

static void rpc_out_pop(struct rpc_out_queue *queue, void *arg)
{
    struct rpc_out *out = queue->first;

    queue->first = out->next;
    if (!queue->first)
        queue->last = NULL;
    queue->bytes -= out->bytes - queue->skip_bytes;
    queue->skip_bytes = 0;
    rpc_out_release(out);
    out->on_gone(out, arg);
}

static int rpc_out_add(struct iovec *iov, int count, const void *data, size_t bytes, size_t *skip)
{
    if (*skip >= bytes) {
        *skip -= bytes;
        return count;
    }
    iov[count].iov_base = (uint8_t *)data + *skip;
    iov[count].iov_len = bytes - *skip;
    *skip = 0;
    return count + 1;
}

int rpc_out_iov(struct rpc_out_queue *queue, struct iovec *iov, int max, void *arg)
{
    size_t skip;
    int count = 0;

    while (queue->first && queue->first->is_cancelled && queue->skip_bytes == 0)
        rpc_out_pop(queue, arg);
    skip = queue->skip_bytes;
    for (const struct rpc_out *out = queue->first; out && count < max; out = out->next) {
        count = rpc_out_add(iov, count, out->head, out->head_bytes, &skip);
        for (size_t i = 0; i < out->piece_count && count < max; i++)
            count = rpc_out_add(iov, count, out->pieces[i].data, out->pieces[i].len_bytes, &skip);
    }
    return count;
}

void rpc_out_sent(struct rpc_out_queue *queue, size_t bytes, void *arg)
{
    while (queue->first && bytes >= queue->first->bytes - queue->skip_bytes) {
        bytes -= queue->first->bytes - queue->skip_bytes;
        rpc_out_pop(queue, arg);
    }
    assert(queue->first || bytes == 0);
    queue->skip_bytes += bytes;
    queue->bytes -= bytes;
}

void rpc_out_drop(struct rpc_out_queue *queue, void *arg)
{
    while (queue->first)
        rpc_out_pop(queue, arg);
}
