/*
 * rpc_conn: one connection, inside the rpc layer. Floor 4; only rpc_*.c include this.
 *
 *   any thread: rpc_reply, rpc_call --> inbox (under lock) --one task--> loop thread
 *
 *                       loop thread, one "turn" for each event:
 *   readable --> rpc_in --> hello | requests --> on_request      inbox --> out queue --> sendmsg
 *                                 | replies  --> done
 *   A turn ends with the inbox drained and the out queue sent as far as the socket takes it, so
 *   the replies to a batch of requests leave in one system call.
 *
 * States: NEW -> (WAITING -> CONNECTING, outgoing) -> HELLO -> OPEN -> CLOSED
 *                                                     HELLO -> ENDING -> CLOSED  (refused)
 * Invariants:
 *  - The loop owns one reference until CLOSED; every request, queued task and user holds another.
 *  - Only rpc_conn_shut makes it CLOSED, and only at the end of a turn: callbacks run before that
 *    never see the connection go away under them.
 *  - `closed` is set under the lock in the same step that empties the inbox: what is pushed later
 *    is refused, and touches neither loop nor owner, which may be gone.
 */
#ifndef COMMON_RPC_CONN_H
#define COMMON_RPC_CONN_H

#include <pthread.h>
#include <stdatomic.h>

#include "addr.h"
#include "msg_arena.h"
#include "rpc.h"
#include "rpc_calls.h"
#include "rpc_in.h"
#include "rpc_out.h"

#define RPC_TIMEOUT_DEFAULT_MS 30000u
#define RPC_TIMEOUT_MAX_MS     600000u
#define RPC_FAIL_DETAIL_BYTES  256
#define RPC_NO_CALL_ID         0u /* of frames that belong to no call */

struct event;

/* What server and client have in common: the set of their connections. */
struct rpc_owner {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rpc_identity identity; /* lock */
    struct rpc_conn *conns;       /* lock; list of those not yet CLOSED */
    size_t conn_count;            /* lock */
    bool is_stopping;             /* lock */
    _Atomic uint64_t total_bytes; /* any loop; of complete requests being served */
    struct rpc_limits limits;     /* constant */
    struct rpc_events events;     /* constant */
    /* Each may be NULL. Loop thread, before pending calls fail, when a connection is about to be
     * CLOSED. */
    void (*on_shut)(struct rpc_owner *owner, struct rpc_conn *conn);
    void (*on_open)(struct rpc_owner *owner, struct rpc_conn *conn);
    /* Whether an idle connection may go: no call is on its way to it. */
    bool (*on_idle)(struct rpc_owner *owner, struct rpc_conn *conn);
};

enum rpc_conn_state {
    RPC_CONN_NEW,
    RPC_CONN_WAITING,    /* outgoing: for the pause after a failure */
    RPC_CONN_CONNECTING, /* outgoing */
    RPC_CONN_HELLO,      /* hello or its answer has not come */
    RPC_CONN_OPEN,
    RPC_CONN_ENDING, /* refused: the reason is being sent, then we wait for the peer's end */
    RPC_CONN_CLOSED,
};

/* A request being served, around the public part. */
struct rpc_served {
    struct rpc_request request;
    struct rpc_out out; /* the reply */
    const struct rpc_type *type;
    uint64_t id;
    size_t memory_bytes;    /* of this struct */
    uint64_t charged_bytes; /* against limits.request_bytes */
    enum gfs_err refuse;    /* answer with this instead of dispatching */
    struct msg_arena arena;
    _Alignas(16) uint8_t memory[]; /* the arena's first */
};

struct rpc_conn {
    /* constant */
    struct loop *loop;
    struct rpc_owner *owner;
    bool is_outgoing;
    uint64_t start_at_ms; /* outgoing: not before */
    uint32_t hello_ms;    /* for connecting, and for hello */
    char peer_addr[ADDR_TEXT_MAX_BYTES];

    /* any thread */
    atomic_int refs;

    /* any thread, under lock */
    pthread_mutex_t lock;
    struct rpc_out *inbox_first, *inbox_last;
    bool is_posted; /* task */
    bool wants_close;
    bool closed;
    struct loop_task task;

    /* under the owner's lock */
    struct rpc_conn *owner_next, *owner_prev;

    /* loop thread */
    int fd;
    enum rpc_conn_state state;
    bool was_open; /* passed hello */
    bool in_turn;
    bool is_paused;              /* reading, by a limit */
    bool is_blocked;             /* the socket takes no more: wait for it */
    bool is_reading, is_writing; /* events added */
    struct event *read_event, *write_event;
    struct loop_timer timer;
    uint64_t timer_at_ms; /* 0: not armed */
    void *user;
    char local_addr[ADDR_TEXT_MAX_BYTES];
    enum gfs_err fail_err; /* what pending calls end with */
    char fail_detail[RPC_FAIL_DETAIL_BYTES];

    /* loop thread: peer, from its hello */
    enum gfs_role peer_role;
    uint8_t peer_id[GFS_UUID_BYTES];
    uint8_t peer_cluster[GFS_UUID_BYTES];

    /* loop thread: input */
    struct rpc_in in;
    struct rpc_served *in_served; /* request whose payload is being received */
    struct rpc_call *in_call;     /* call whose reply's payload is being received */
    struct rpc_answer in_answer;  /* to that call, so far */
    struct msg_arena in_arena;    /* of its message */
    uint64_t frame_since_ms;      /* 0: no frame is half received */
    uint64_t frame_seen;          /* in.frames at that time */

    /* loop thread: serving and output */
    uint32_t requests;      /* being served */
    uint64_t request_bytes; /* of them */
    uint64_t total_bytes;   /* our part of the owner's */
    uint64_t reply_bytes;   /* replies not yet sent */
    uint64_t call_bytes;    /* calls not yet sent */
    uint64_t next_id;
    struct rpc_out_queue out;
    struct rpc_out_queue held; /* calls until OPEN */
    struct rpc_calls *calls;   /* NULL until the first */
    uint64_t active_ms;        /* last time anything moved */
    uint64_t stalled_since_ms; /* output waits, nothing leaves; 0: not */
    uint64_t state_until_ms;   /* deadline of the states before OPEN and of ENDING */

    /* loop thread: whether the peer lives, see rpc_silence.c */
    uint64_t life_ms;     /* last sign of it, or when it first owed us something */
    uint64_t asked_ms;    /* when it was pinged; 0: not since */
    uint64_t sent_bytes;  /* given to the socket, in all */
    uint64_t taken_bytes; /* of them, acknowledged by the peer's kernel when last seen */
    uint64_t told_ms;     /* when we last said that we live, though we do not read */
    bool was_silent;      /* the connection ends for that */
};

/* rpc_conn.c: life and inbox. */
struct rpc_conn *rpc_conn_new(struct rpc_owner *owner, struct loop *loop, const char *peer_addr);
void rpc_conn_launch(struct rpc_conn *conn); /* start it on its loop */
/* false: closed, nothing was taken. */
bool rpc_conn_push(struct rpc_conn *conn, struct rpc_out *take_out);
/* A frame that belongs to no call. Loop thread; it leaves at the end of the turn. */
enum gfs_err rpc_conn_send_control(struct rpc_conn *conn, enum gfs_msg type, uint16_t flags,
                                   const ProtobufCMessage *msg) GFS_MUST_CHECK;
void rpc_conn_fail(struct rpc_conn *conn, enum gfs_err err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* rpc_io.c: socket, turns, timer. Loop thread. */
void rpc_io_start(struct rpc_conn *conn);
void rpc_io_turn(struct rpc_conn *conn);
/* "ip:port" of either end of a socket; "?" when there is none. */
void rpc_io_name(int fd, bool of_peer, char ret_addr[ADDR_TEXT_MAX_BYTES]);

/* rpc_hello.c. Errors end the connection. */
enum gfs_err rpc_hello_send(struct rpc_conn *conn) GFS_MUST_CHECK;
enum gfs_err rpc_hello_on_head(struct rpc_conn *conn) GFS_MUST_CHECK;

/* rpc_serve.c: requests coming in. */
bool rpc_serve_is_full(const struct rpc_conn *conn);
enum gfs_err rpc_serve_on_head(struct rpc_conn *conn) GFS_MUST_CHECK;
void rpc_serve_on_payload(struct rpc_conn *conn);
void rpc_serve_free(struct rpc_served *served);
void rpc_serve_abort(struct rpc_conn *conn); /* the connection ends */
void rpc_serve_drop(struct rpc_out *out);    /* a reply that will not be queued */
void rpc_serve_on_pushed(struct rpc_conn *conn, struct rpc_out *out); /* a reply leaves the inbox */

/* rpc_call.c: calls going out. */
struct rpc_call *rpc_call_new(const struct rpc_call_args *args);
/* Ends it on the loop with fail_err if that is set, else with err. */
void rpc_call_fail_later(struct rpc_call *take_call, struct loop *loop, enum gfs_err err);
void rpc_call_on_pushed(struct rpc_conn *conn, struct rpc_out *out); /* a call leaves the inbox */
void rpc_call_on_open(struct rpc_conn *conn);
enum gfs_err rpc_call_on_head(struct rpc_conn *conn) GFS_MUST_CHECK;
void rpc_call_on_payload(struct rpc_conn *conn);
enum gfs_err rpc_call_expire(struct rpc_conn *conn, uint64_t now_ms) GFS_MUST_CHECK;
void rpc_call_abort_input(struct rpc_conn *conn); /* of the reply being received */
void rpc_call_fail_all(struct rpc_conn *conn);
void rpc_call_fail(struct rpc_conn *conn, struct rpc_call *take_call); /* never queued */

/* rpc_silence.c. CONN: the peer is taken for dead. */
enum gfs_err rpc_silence_check(struct rpc_conn *conn, uint64_t now_ms) GFS_MUST_CHECK;
void rpc_silence_heard(struct rpc_conn *conn, uint64_t now_ms);
void rpc_silence_tell(struct rpc_conn *conn, uint64_t now_ms);

/* rpc_owner.c. */
enum gfs_err rpc_owner_init(struct rpc_owner *owner, const struct rpc_identity *identity,
                            const struct rpc_limits *limits,
                            const struct rpc_events *events) GFS_MUST_CHECK;
void rpc_owner_release(struct rpc_owner *owner);
void rpc_owner_get_identity(struct rpc_owner *owner, struct rpc_identity *ret_identity);
void rpc_owner_set_cluster(struct rpc_owner *owner, const uint8_t cluster_id[GFS_UUID_BYTES]);
/* lock held */
void rpc_owner_add(struct rpc_owner *owner, struct rpc_conn *conn);
void rpc_owner_remove(struct rpc_owner *owner, struct rpc_conn *conn);
void rpc_owner_close_all(struct rpc_owner *owner);
/* Waits, lock held, until *flag is false (NULL: not asked) and no connection is left. Runs loops
 * that no thread runs. */
void rpc_owner_wait(struct rpc_owner *owner, struct loop *const *loops, size_t loop_count,
                    const bool *flag);

#endif
