/* sim_int: between the machine's own files. See sim.h. */
#ifndef TESTS_SIM_SIM_INT_H
#define TESTS_SIM_SIM_INT_H

#include <pthread.h>
#include <time.h>

#include "loop.h"
#include "rpc.h"
#include "sim.h"

/* What the child that ran a seed tells its parent; in shared memory. */
struct sim_result {
    uint64_t seed;
    uint64_t events;
    uint64_t trace_hash;
    uint64_t virtual_us;
    bool done; /* it came to its end */
    char text[1024];
};

/* ---- sim_world.c ---- */
void sim_world_begin(const struct sim_options *options, struct sim_result *result, bool keep_trace);
/* Runs the next event. False: there is none before until_us. */
bool sim_step(uint64_t until_us);
void sim_drop_events(struct sim_node *node); /* of a process that ended */
uint64_t sim_local_us(const struct sim_node *node);
uint64_t sim_global_delay_us(const struct sim_node *node, uint64_t local_us);
int64_t sim_wall_ms(const struct sim_node *node);
void sim_dump_trace(void);
uint64_t sim_world_age_us(void);
uint64_t sim_real_ms(void);          /* for the line at the end only */
uint64_t sim_mix64(uint64_t *state); /* the next number of a stream */

/* ---- sim_loop.c ---- */
struct loop *sim_loop_current(void);
/* Makes it the current one (NULL: none); returns what was. */
struct loop *sim_loop_enter(struct loop *loop);
struct sim_node *sim_loop_node(const struct loop *loop);

/* ---- sim_task.c ---- */
void sim_task_drop_all(struct sim_node *node);
void sim_task_dump(void);
/* Where a thread that holds nothing may be preempted: now and then it is. */
void sim_task_yield(void);

/* ---- sim_net.c: pipes between two ends ---- */

enum sim_frame_kind {
    SIM_FRAME_HELLO,
    SIM_FRAME_HELLO_OK,
    SIM_FRAME_REFUSAL,
    SIM_FRAME_REQUEST,
    SIM_FRAME_REPLY,
    SIM_FRAME_ERROR,
    SIM_FRAME_END, /* the other end closed, or knows nothing of the connection */
};

/* What is under way: bytes, nothing shared with any node. */
struct sim_frame {
    struct sim_frame *next;
    enum sim_frame_kind kind;
    enum gfs_msg type;
    uint64_t id;
    uint64_t due_us;
    uint32_t timeout_ms;
    enum gfs_err refusal;
    struct rpc_identity identity; /* HELLO, HELLO_OK */
    uint8_t *message;
    size_t message_bytes;
    uint8_t *payload;
    size_t payload_bytes;
};

struct sim_pipe;

/* One direction. */
struct sim_flow {
    struct sim_frame *first, *last;
    struct sim_event deliver;
    struct sim_event give_up; /* the sender has had no answer from the other's machine for long */
    struct sim_pipe *pipe;
    uint64_t last_due_us;
    int side; /* of the sender */
};

struct sim_pipe {
    struct sim_pipe *next;
    struct sim_node *nodes[2];
    struct rpc_conn *ends[2]; /* NULL: closed */
    struct sim_flow flows[2]; /* [side of the sender] */
};

struct sim_pipe *sim_pipe_new(struct sim_node *from, struct rpc_conn *from_end, struct sim_node *to,
                              struct rpc_conn *to_end);
int sim_pipe_side(const struct sim_pipe *pipe, const struct rpc_conn *end);
void sim_pipe_send(struct sim_pipe *pipe, int side, struct sim_frame *take_frame);
/* The end closes: what it has sent is still delivered. silent: the other is not told. */
void sim_pipe_close(struct sim_pipe *pipe, int side, bool silent);
struct sim_frame *sim_frame_new(enum sim_frame_kind kind, enum gfs_msg type, uint64_t id);
void sim_frame_free(struct sim_frame *frame);
/* Whether a packet gets there and its answer back, and how long one way takes. */
bool sim_net_reaches(const struct sim_node *from, const struct sim_node *to);
uint64_t sim_net_delay_us(const struct sim_node *from, const struct sim_node *to);
/* Links or machines came back: what was held up is sent again. */
void sim_net_kick(void);
void sim_net_node_ended(struct sim_node *node, bool power);
/* Breaks one connection between up nodes in mid-flight; false: there is none. */
bool sim_net_break_one(void);
/* Chances per mille that a request, or an answer, takes its connection with it. */
void sim_net_set_loss(uint32_t request_per_mille, uint32_t reply_per_mille);

/* ---- sim_rpc.c ---- */
/* A frame has come to this end; the loop is entered. */
void sim_rpc_deliver(struct rpc_conn *conn, struct sim_frame *frame);
/* The connection is gone as seen from this end. */
void sim_rpc_lost(struct rpc_conn *conn, const char *why);
void sim_rpc_node_ended(struct sim_node *node);
void sim_rpc_count(uint64_t *ret_calls, uint64_t *ret_served);

/* ---- sim_dump.c ---- */
/* "handle=7 version=3": short. */
void sim_dump_message(const ProtobufCMessage *msg, char *ret_text, size_t text_bytes);
const ProtobufCMessageDescriptor *sim_dump_error_type(void);

/* ---- sim_boot.c ---- */
void sim_boot_init(void); /* draws the cluster */

/* ---- sim_fault.c ---- */
void sim_fault_init(void);
void sim_fault_begin(void);
void sim_fault_heal(void);
uint64_t sim_fault_end_us(void);

#endif
