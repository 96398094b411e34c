/*
 * rpc: framed requests and replies over TCP, both ways on one connection. Floor 4. DESIGN §4.
 *
 *   frame  = magic u32 | version u16 | type u16 | request id u64 | flags u16 | reserved u16
 *          | message bytes u32 | payload bytes u32 | timeout ms u32 | reserved u32
 *          | CRC-32C u32 of header+message | message | payload
 *                                                            (little-endian, 40 bytes of header)
 *   flags  = REPLY, ERROR
 *
 * Either side of a connection may send requests. Many are in flight; replies come in any order.
 * The first frame is HELLO; before dispatch one place checks the peer's role against gfs_msg.tbl,
 * decodes the message, and drops what is past its deadline. A frame that breaks the rules (magic,
 * sizes, CRC, role, an unknown type) ends the connection.
 *
 * Every connection has limits: requests being served, bytes of their payloads, bytes of replies not
 * yet sent. At a limit the connection is not read until it falls: back-pressure, not growth.
 *
 * Threads: a connection lives on one loop; its callbacks run there. rpc_reply, rpc_reply_error,
 * rpc_call, rpc_conn_ref/unref may be called from any thread.
 */
#ifndef COMMON_RPC_H
#define COMMON_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "gfs_err.h"
#include "gfs_limits.h"
#include "gfs_msg.h"
#include "loop.h"

struct rpc_conn;
struct rpc_server;
struct rpc_client;

#define RPC_DETAIL_MAX_BYTES 512

/* Who we are, told to every peer. cluster_id all zeros: not known (any cluster is accepted). */
struct rpc_identity {
    enum gfs_role role;
    uint8_t cluster_id[GFS_UUID_BYTES];
    uint8_t peer_id[GFS_UUID_BYTES];
};

/* Outgoing payload: pieces that stay valid until release(arg) is called, exactly once, on any
 * thread, when they are sent or will never be. pieces itself is copied by the call. */
struct rpc_piece {
    const void *data;
    size_t len_bytes;
};
struct rpc_payload {
    const struct rpc_piece *pieces;
    size_t piece_count;
    void (*release)(void *arg); /* NULL: nothing to release */
    void *arg;
};

/* An incoming request. The dispatcher owns it until rpc_reply or rpc_reply_error takes it, which
 * must happen exactly once. */
struct rpc_request {
    enum gfs_msg type;
    const ProtobufCMessage *msg; /* decoded, of the table's type; valid until the reply */
    struct buf *payload;         /* NULL when empty; buf_ref to keep it past the reply */
    uint64_t deadline_ms;        /* on loop_now_ms's clock */
    struct rpc_conn *conn;       /* referenced until the reply */
    enum gfs_role peer_role;
    uint8_t peer_id[GFS_UUID_BYTES];

    struct loop_task task;    /* the dispatcher's, to hand the request to another loop */
    void *arg;                /* the dispatcher's */
    struct rpc_request *next; /* the dispatcher's, for queues */
};

/* reply: of the table's type. payload may be NULL. Both are consumed before the call returns,
 * payload bytes excepted (see rpc_payload). */
void rpc_reply(struct rpc_request *take_request, const ProtobufCMessage *reply,
               const struct rpc_payload *payload);
/* detail may be NULL; for people, cut at RPC_DETAIL_MAX_BYTES. */
void rpc_reply_error(struct rpc_request *take_request, enum gfs_err err, uint32_t retry_after_ms,
                     const char *detail);

/* An answer to one of our calls; valid during the callback only (buf_ref the payload to keep it).
 */
struct rpc_answer {
    enum gfs_err err;        /* GFS_OK, the peer's error, or CONN / TIMEOUT / PROTO of our own */
    uint32_t retry_after_ms; /* hint with an error */
    const char *detail;      /* never NULL */
    const ProtobufCMessage *msg; /* on GFS_OK */
    struct buf *payload;         /* NULL when empty, or when it went to `dest` */
    size_t payload_bytes;
};
typedef void rpc_done_fn(void *arg, const struct rpc_answer *answer);

/* What to send and how. Zero it first. */
struct rpc_call_args {
    enum gfs_msg type;
    const ProtobufCMessage *msg;
    const struct rpc_payload *payload; /* NULL: none. Released also when the call fails */
    uint32_t timeout_ms;               /* sent along; 0: 30000 */
    void *dest;                        /* reply payload is received straight into it, if it fits */
    size_t dest_bytes;                 /* a longer reply payload is an error PROTO */
    rpc_done_fn *done;                 /* called exactly once, on the connection's loop, never from
                                          within the call itself */
    void *arg;
};
/* `dest` is not touched after done. A call timed out locally whose reply is just being received
 * into dest first ends the connection. */
void rpc_call(struct rpc_conn *conn, const struct rpc_call_args *args);

struct rpc_conn *rpc_conn_ref(struct rpc_conn *conn);
void rpc_conn_unref(struct rpc_conn *conn);
void rpc_conn_close(struct rpc_conn *conn); /* any thread: soon; pending calls end in CONN */
struct loop *rpc_conn_loop(struct rpc_conn *conn);
/* "host:port" of the peer, and our own address on this connection. */
const char *rpc_conn_peer_addr(const struct rpc_conn *conn);
const char *rpc_conn_local_addr(const struct rpc_conn *conn);
/* The dispatcher's pointer for this connection; loop thread. */
void rpc_conn_set_user(struct rpc_conn *conn, void *user);
void *rpc_conn_user(const struct rpc_conn *conn);

/* Events that both servers and clients deliver, on the connection's loop. */
struct rpc_events {
    void (*on_request)(void *arg, struct rpc_request *take_request);
    /* After the last callback of a connection that had passed hello. NULL: not wanted. */
    void (*on_close)(void *arg, struct rpc_conn *conn);
    void *arg;
};

struct rpc_limits {            /* 0: default */
    uint32_t conn_max;         /* connections of a server, default 4096 */
    uint32_t requests_max;     /* being served per connection, default 1024 */
    uint64_t request_bytes;    /* payload bytes of requests being served per connection, 32 MiB */
    uint64_t reply_bytes;      /* unsent per connection, 32 MiB */
    uint32_t hello_timeout_ms; /* a connection that has not said hello is ended, 5000 */
    uint32_t frame_timeout_ms; /* a frame begun must end, 60000 */
    uint32_t idle_timeout_ms;  /* a client's connection that is not used is closed, 300000 */
    uint64_t total_bytes;      /* of requests being served by all connections, 256 MiB */
    /* A chunkserver that owes replies and for so long says nothing, not even to a ping, is taken
     * for dead: its calls end in CONN. 0: it is waited for, each call for its own time. */
    uint32_t silence_ms;
};

/* Listens on "ADDR:PORT" (port 0: any) with the loops given, connections spread over them. The
 * loops must be running, or run later; they outlive the server. identity is copied. */
enum gfs_err rpc_server_new(const char *listen, struct loop *const *loops, size_t loop_count,
                            const struct rpc_identity *identity, const struct rpc_limits *limits,
                            const struct rpc_events *events,
                            struct rpc_server **ret_server) GFS_MUST_CHECK;
const char *rpc_server_addr(const struct rpc_server *server); /* with the real port */
/* A chunkserver learns its cluster when it registers. Any thread. */
void rpc_server_set_cluster(struct rpc_server *server, const uint8_t cluster_id[GFS_UUID_BYTES]);
/* Stops accepting and ends every connection; returns when none is left. Not from a loop of it. */
void rpc_server_free(struct rpc_server *server);

/* Outgoing connections by address, one per (client, address), made on first use, made again after
 * a failure (with a pause of 50 ms doubling to 2 s while failing), closed when idle for 5 min. */
enum gfs_err rpc_client_new(struct loop *loop, const struct rpc_identity *identity,
                            const struct rpc_limits *limits, const struct rpc_events *events,
                            struct rpc_client **ret_client) GFS_MUST_CHECK;
/* addr: numeric "ip:port" (names are resolved before, off the loop: addr_resolve). Any thread.
 * args as in rpc_call. A call waits for the connection within its timeout; when connecting fails
 * it ends in CONN at once. */
void rpc_client_call(struct rpc_client *client, const char *addr, const struct rpc_call_args *args);
void rpc_client_set_cluster(struct rpc_client *client, const uint8_t cluster_id[GFS_UUID_BYTES]);
/* cluster id the peer at addr told in its hello-ok; false: not connected. Loop thread. */
bool rpc_client_peer_cluster(struct rpc_client *client, const char *addr,
                             uint8_t ret_cluster_id[GFS_UUID_BYTES]);
/* Drops the connection to addr: pending calls end in CONN. Any thread. */
void rpc_client_drop(struct rpc_client *client, const char *addr);
/* Ends every call with CONN. Not from its loop. */
void rpc_client_free(struct rpc_client *client);

#endif
