/* rpc_in: see the drawing in the header. */
#include "rpc_in.h"

#include <assert.h>
#include <string.h>

#include "gfs_limits.h"

#define RPC_IN_STAGING_BYTES 65536u
#define RPC_IN_LARGE_BYTES   16384u /* payloads from here on are kept out of staging */
#define RPC_IN_SMALL_STAGE   4096u  /* read-ahead between large payloads */

void rpc_in_init(struct rpc_in *in)
{
    memset(in, 0, sizeof(*in));
    in->message_max_bytes = GFS_MESSAGE_MAX_BYTES;
    in->payload_max_bytes = GFS_PAYLOAD_MAX_BYTES;
}

void rpc_in_release(struct rpc_in *in)
{
    buf_unref(in->staging);
    in->staging = NULL;
    in->begin = in->end = 0;
}

static size_t rpc_in_staged(const struct rpc_in *in)
{
    return in->end - in->begin;
}

/* Makes staging hold need_bytes from `begin` on. */
static enum gfs_err rpc_in_make_room(struct rpc_in *in, size_t need_bytes)
{
    size_t staged = rpc_in_staged(in);
    struct buf *larger;

    if (in->staging && need_bytes <= in->staging->cap_bytes) {
        if (staged > RPC_IN_SMALL_STAGE && need_bytes <= in->staging->cap_bytes - in->begin)
            return GFS_OK;
        if (in->begin == 0)
            return GFS_OK;
        memmove(in->staging->data, in->staging->data + in->begin, staged);
    } else {
        larger = buf_new(need_bytes > RPC_IN_STAGING_BYTES ? need_bytes : RPC_IN_STAGING_BYTES);
        if (!larger)
            return GFS_ERR_NO_MEMORY;
        if (staged)
            memcpy(larger->data, in->staging->data + in->begin, staged);
        buf_unref(in->staging);
        in->staging = larger;
    }
    in->begin = 0;
    in->end = staged;
    return GFS_OK;
}

enum gfs_err rpc_in_room(struct rpc_in *in, struct iovec ret_room[RPC_IN_ROOM_MAX], int *ret_count)
{
    size_t need = FRAME_HEADER_BYTES, room;
    enum gfs_err err;
    int count = 0;

    assert(!in->has_head);
    if (rpc_in_staged(in) == 0)
        in->begin = in->end = 0;
    if (!in->in_payload && rpc_in_staged(in) >= FRAME_HEADER_BYTES)
        need = FRAME_HEADER_BYTES + in->head.message_bytes;
    err = rpc_in_make_room(in, need);
    if (err)
        return err;
    room = in->staging->cap_bytes - in->end;
    if (in->in_payload && in->payload) {
        ret_room[count++] =
            (struct iovec){.iov_base = in->payload, .iov_len = in->payload_left_bytes};
    }
    if (in->payload_is_large && !(in->in_payload && !in->payload)) {
        size_t little = need > rpc_in_staged(in) + RPC_IN_SMALL_STAGE ? need - rpc_in_staged(in)
                                                                      : RPC_IN_SMALL_STAGE;
        room = room < little ? room : little;
    }
    ret_room[count++] = (struct iovec){.iov_base = in->staging->data + in->end, .iov_len = room};
    *ret_count = count;
    return GFS_OK;
}

/* Moves what is staged of the payload to its place. */
static void rpc_in_unstage_payload(struct rpc_in *in)
{
    size_t bytes = rpc_in_staged(in);

    if (bytes > in->payload_left_bytes)
        bytes = in->payload_left_bytes;
    if (in->payload && bytes) {
        memcpy(in->payload, in->staging->data + in->begin, bytes);
        in->payload += bytes;
    }
    in->begin += bytes;
    in->payload_left_bytes -= bytes;
}

void rpc_in_filled(struct rpc_in *in, size_t bytes)
{
    if (in->in_payload && in->payload) {
        size_t direct = bytes < in->payload_left_bytes ? bytes : in->payload_left_bytes;

        in->payload += direct;
        in->payload_left_bytes -= direct;
        bytes -= direct;
    }
    in->end += bytes;
    assert(in->end <= in->staging->cap_bytes);
    if (in->in_payload && !in->payload)
        rpc_in_unstage_payload(in);
}

enum gfs_err rpc_in_next(struct rpc_in *in, enum rpc_in_event *ret_event)
{
    enum gfs_err err;

    *ret_event = RPC_IN_MORE;
    if (in->has_head) {
        *ret_event = RPC_IN_HEAD;
        return GFS_OK;
    }
    if (in->in_payload) {
        if (in->payload_left_bytes == 0) {
            in->in_payload = false;
            *ret_event = RPC_IN_PAYLOAD;
        }
        return GFS_OK;
    }
    if (rpc_in_staged(in) < FRAME_HEADER_BYTES)
        return GFS_OK;
    err = frame_decode(in->staging->data + in->begin, &in->head);
    if (err)
        return err;
    if (in->head.message_bytes > in->message_max_bytes ||
        in->head.payload_bytes > in->payload_max_bytes)
        return GFS_ERR_PROTO;
    if (rpc_in_staged(in) < FRAME_HEADER_BYTES + in->head.message_bytes)
        return GFS_OK;
    err = frame_check(in->staging->data + in->begin, &in->head);
    if (err)
        return err;
    in->has_head = true;
    *ret_event = RPC_IN_HEAD;
    return GFS_OK;
}

const uint8_t *rpc_in_message(const struct rpc_in *in)
{
    assert(in->has_head);
    return in->staging->data + in->begin + FRAME_HEADER_BYTES;
}

void rpc_in_accept(struct rpc_in *in, void *payload)
{
    assert(in->has_head);
    in->has_head = false;
    in->frames++;
    in->begin += FRAME_HEADER_BYTES + in->head.message_bytes;
    in->payload_is_large = in->head.payload_bytes >= RPC_IN_LARGE_BYTES;
    if (in->head.payload_bytes == 0)
        return;
    in->in_payload = true;
    in->payload = payload;
    in->payload_left_bytes = in->head.payload_bytes;
    rpc_in_unstage_payload(in);
}

bool rpc_in_is_partial(const struct rpc_in *in)
{
    return in->in_payload || rpc_in_staged(in) > 0;
}

void rpc_in_trim(struct rpc_in *in)
{
    if (rpc_in_staged(in) == 0)
        rpc_in_release(in);
}
