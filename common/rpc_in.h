/*
 * rpc_in: turns the byte stream of a connection into frames. Floor 4. Sans-I/O: the caller receives
 * into the places that rpc_in names, and is told what came.
 *
 *   recv --> staging [ header | message | header | mess          small frames: many from one recv
 *        \-> payload's own memory                                 large payloads: no copy
 *
 * rpc_in_room names up to two places: the payload being received, then staging. When a frame's
 * header and message are there and their CRC is right, rpc_in_next says HEAD; the caller looks at
 * `head` and rpc_in_message, and either leaves it there (back-pressure: the next rpc_in_next says
 * HEAD again) or takes it with rpc_in_accept, naming where the payload goes. PAYLOAD follows when
 * that is filled; a frame without payload is complete with its HEAD.
 */
#ifndef COMMON_RPC_IN_H
#define COMMON_RPC_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "buf.h"
#include "frame.h"
#include "gfs_err.h"

#define RPC_IN_ROOM_MAX 2

struct rpc_in {
    struct buf *staging; /* NULL while nothing is staged */
    size_t begin, end;   /* of what is staged and not yet consumed */
    uint32_t message_max_bytes;
    uint32_t payload_max_bytes;

    struct frame_header head; /* valid after HEAD */
    bool has_head;            /* head is checked and not yet accepted */
    bool in_payload;
    bool payload_is_large; /* of the last frame: stage little, so that little is copied */
    uint8_t *payload;      /* where the rest of it goes; NULL: nowhere */
    size_t payload_left_bytes;
    uint64_t frames; /* accepted */
};

enum rpc_in_event {
    RPC_IN_MORE,   /* receive more */
    RPC_IN_HEAD,   /* a header and message are there */
    RPC_IN_PAYLOAD /* the accepted frame's payload is complete */
};

void rpc_in_init(struct rpc_in *in);
void rpc_in_release(struct rpc_in *in);
/* Where to receive; NO_MEMORY. Not while a HEAD waits to be accepted. */
enum gfs_err rpc_in_room(struct rpc_in *in, struct iovec ret_room[RPC_IN_ROOM_MAX],
                         int *ret_count) GFS_MUST_CHECK;
/* So many bytes were received into the places of the last rpc_in_room, in order. */
void rpc_in_filled(struct rpc_in *in, size_t bytes);
/* PROTO: the peer breaks the rules. */
enum gfs_err rpc_in_next(struct rpc_in *in, enum rpc_in_event *ret_event) GFS_MUST_CHECK;
const uint8_t *rpc_in_message(const struct rpc_in *in);
/* payload: head.payload_bytes of memory, or NULL to throw the payload away. */
void rpc_in_accept(struct rpc_in *in, void *payload);
/* A frame has begun and not ended. */
bool rpc_in_is_partial(const struct rpc_in *in);
/* Gives idle memory back. */
void rpc_in_trim(struct rpc_in *in);

#endif
