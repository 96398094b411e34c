/*
 * sim_rpc: rpc.h over pipes. Between sim_rpc.c (connections, servers, clients) and sim_call.c
 * (requests and answers).
 *
 *   rpc_call, rpc_reply --> out, packed --flush, on the conn's loop--> frame, copied --> pipe
 *   pipe --> sim_rpc_deliver --> unpacked --> on_request | done
 *
 * As the real one: `release` runs when the bytes are gone; done is called once, later, on the
 * connection's loop; on_close after the last callback.
 */
#ifndef TESTS_SIM_SIM_RPC_H
#define TESTS_SIM_SIM_RPC_H

#include "addr.h"
#include "rpc_table.h"
#include "sim_int.h"

#define SIM_DETAIL_BYTES 256

enum sim_conn_state {
    SIM_CONN_WAITING, /* for its turn to connect, and for the peer to accept */
    SIM_CONN_HELLO,
    SIM_CONN_OPEN,
    SIM_CONN_CLOSED,
};

/* What server and client have in common. */
struct sim_owner {
    struct sim_node *node;
    struct rpc_identity identity;
    struct rpc_events events;
    struct rpc_limits limits;
    struct rpc_conn *conns; /* not closed */
};

/* On its way to the flush. */
struct sim_out {
    struct sim_out *next;
    struct sim_frame *frame; /* with the message, without the payload */
    struct rpc_call *call;   /* NULL: a reply, or a call that timed out meanwhile */
    bool is_call;
    struct rpc_piece *pieces;
    size_t piece_count;
    void (*release)(void *arg);
    void *release_arg;
};

struct rpc_call {
    struct rpc_call *next, **at; /* of the connection */
    struct rpc_conn *conn;
    struct sim_event timer;
    struct loop *loop;
    const struct rpc_type *type;
    struct sim_out *out; /* not flushed yet */
    uint64_t id;
    uint32_t timeout_ms;
    uint64_t deadline_ms;
    void *dest;
    size_t dest_bytes;
    rpc_done_fn *done;
    void *arg;
    enum gfs_err fail_err;
};

struct rpc_conn {
    struct rpc_conn *next, **at; /* of the owner */
    int refs;
    struct loop *loop;
    struct sim_owner *owner;
    struct sim_peer *peer; /* of a client, while it is the peer's connection */
    struct sim_pipe *pipe;
    enum sim_conn_state state;
    bool is_outgoing;
    bool was_open;
    struct sim_event step; /* the next try, or the deadline of what it waits for */
    struct sim_event closing;
    uint64_t state_until_us;
    char peer_addr[ADDR_TEXT_MAX_BYTES];
    char local_addr[ADDR_TEXT_MAX_BYTES];
    struct rpc_identity with; /* the peer, from its hello */
    void *user;
    enum gfs_err fail_err;
    char fail_detail[SIM_DETAIL_BYTES];

    struct rpc_call *calls;
    uint64_t next_id;
    struct sim_out *out_first, **out_last;
    struct sim_event flush;
};

/* sim_rpc.c */
void sim_conn_shut(struct rpc_conn *conn);
void sim_conn_fail(struct rpc_conn *conn, enum gfs_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* sim_call.c */
void sim_call_begin(struct rpc_conn *conn, const struct rpc_call_args *args);
/* Ends it with err, later, on the loop. */
void sim_call_refuse(struct loop *loop, const struct rpc_call_args *args, enum gfs_err err);
void sim_call_flush_soon(struct rpc_conn *conn);
void sim_call_on_flush(struct sim_event *event);
void sim_call_on_request(struct rpc_conn *conn, struct sim_frame *frame);
void sim_call_on_answer(struct rpc_conn *conn, struct sim_frame *frame);
void sim_call_conn_ends(struct rpc_conn *conn);
void sim_call_node_ended(struct sim_node *node);

#endif
