/*
 * rpc_out: frames on their way out. Floor 4. Sans-I/O: the caller sends the iovecs it is given and
 * says how many bytes went.
 *
 * An rpc_out lies inside the request or call it belongs to, so a frame costs no allocation beyond
 * that unless it is long. Its bytes: `head` (header and message), then the payload's pieces, which
 * stay the owner's until `release`.
 */
#ifndef COMMON_RPC_OUT_H
#define COMMON_RPC_OUT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frame.h"
#include "gfs_err.h"
#include "rpc.h"

#define RPC_OUT_HEAD_INLINE_BYTES 192
#define RPC_OUT_PIECES_INLINE     2

enum rpc_out_kind {
    RPC_OUT_CONTROL, /* hello and its answer */
    RPC_OUT_CALL,
    RPC_OUT_REPLY,
};

struct rpc_out {
    struct rpc_out *next;
    enum rpc_out_kind kind;
    bool is_cancelled; /* skip it if none of it has been sent */
    struct frame_header header;
    uint8_t *head;
    size_t head_bytes;
    struct rpc_piece *pieces;
    size_t piece_count;
    size_t bytes; /* in all */
    void (*release)(void *arg);
    void *release_arg;
    /* Called once when it left the queue, sent or not. The payload is released already. */
    void (*on_gone)(struct rpc_out *out, void *arg);
    struct rpc_piece inline_pieces[RPC_OUT_PIECES_INLINE];
    uint8_t inline_head[RPC_OUT_HEAD_INLINE_BYTES];
};

struct rpc_out_queue {
    struct rpc_out *first, *last;
    size_t skip_bytes; /* of the first, sent already */
    size_t bytes;      /* not yet sent */
};

/* Packs msg and notes the payload. TOO_LARGE or NO_MEMORY: nothing was taken, the payload is still
 * the caller's to release. The header's CRC is made by rpc_out_seal. */
enum gfs_err rpc_out_build(struct rpc_out *out, enum rpc_out_kind kind,
                           const struct frame_header *header, const ProtobufCMessage *msg,
                           const struct rpc_payload *payload) GFS_MUST_CHECK;
void rpc_out_seal(struct rpc_out *out);
/* Releases the payload and the memory that build took. */
void rpc_out_release(struct rpc_out *out);

void rpc_out_push(struct rpc_out_queue *queue, struct rpc_out *out);
/* Unlinks the first, of which nothing has been sent, as it is; NULL: none. */
struct rpc_out *rpc_out_take(struct rpc_out_queue *queue);
/* Up to max iovecs of what is to be sent next; 0: nothing is. Drops cancelled ones. */
int rpc_out_iov(struct rpc_out_queue *queue, struct iovec *iov, int max, void *arg);
/* bytes of them were sent: what is finished leaves the queue. */
void rpc_out_sent(struct rpc_out_queue *queue, size_t bytes, void *arg);
/* All leave the queue. */
void rpc_out_drop(struct rpc_out_queue *queue, void *arg);

#endif
