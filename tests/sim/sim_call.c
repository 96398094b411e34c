/* sim_call: requests, replies and their messages through real pack and unpack. See sim_rpc.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "msg_arena.h"
#include "rpc.pb-c.h"
#include "sim_rpc.h"

#define CALL_TIMEOUT_MS     30000u
#define CALL_TIMEOUT_MAX_MS 600000u
#define CALL_TICK_US        (50 * SIM_MS)
#define CALL_FLUSH_MAX_US   40u

struct served {
    struct rpc_request request; /* first */
    const struct rpc_type *type;
    uint64_t id;
    struct sim_node *node;
    uint32_t incarnation;
    struct msg_arena arena;
};

/* By node: of the process that runs there now. */
static uint64_t calls_pending[SIM_NODES_MAX], served_pending[SIM_NODES_MAX];

void sim_call_node_ended(struct sim_node *node)
{
    calls_pending[node->index] = 0;
    served_pending[node->index] = 0;
}

void sim_rpc_count(uint64_t *ret_calls, uint64_t *ret_served)
{
    *ret_calls = *ret_served = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        *ret_calls += calls_pending[i];
        *ret_served += served_pending[i];
    }
}

/* ---- going out ------------------------------------------------------------------------------- */

static void out_free(struct sim_out *out)
{
    void (*release)(void *arg) = out->release;
    void *arg = out->release_arg;

    if (out->frame)
        sim_frame_free(out->frame);
    free(out->pieces);
    free(out);
    if (release)
        release(arg);
}

/* TOO_LARGE: nothing was taken. */
static enum gfs_err out_new(enum sim_frame_kind kind, const struct rpc_type *type, uint64_t id,
                            const ProtobufCMessage *msg, const struct rpc_payload *payload,
                            struct sim_out **ret_out)
{
    size_t message_bytes = protobuf_c_message_get_packed_size(msg), payload_bytes = 0;
    struct sim_out *out;

    for (size_t i = 0; payload && i < payload->piece_count; i++)
        payload_bytes += payload->pieces[i].len_bytes;
    if (message_bytes > GFS_MESSAGE_MAX_BYTES || payload_bytes > GFS_PAYLOAD_MAX_BYTES)
        return GFS_ERR_TOO_LARGE;
    out = calloc(1, sizeof(*out));
    assert(out);
    out->frame = sim_frame_new(kind, type->type, id);
    out->frame->message = malloc(message_bytes + 1);
    out->frame->message_bytes = protobuf_c_message_pack(msg, out->frame->message);
    out->frame->payload_bytes = payload_bytes;
    if (payload) {
        out->piece_count = payload->piece_count;
        out->pieces = calloc(payload->piece_count + 1, sizeof(*out->pieces));
        if (payload->piece_count > 0)
            memcpy(out->pieces, payload->pieces, payload->piece_count * sizeof(*out->pieces));
        out->release = payload->release;
        out->release_arg = payload->arg;
    }
    *ret_out = out;
    return GFS_OK;
}

void sim_call_flush_soon(struct rpc_conn *conn)
{
    if (conn->state == SIM_CONN_OPEN && conn->out_first && !sim_is_scheduled(&conn->flush))
        sim_schedule(&conn->flush, conn->owner->node, sim_below(SIM_STREAM_NET, CALL_FLUSH_MAX_US));
}

static void out_push(struct rpc_conn *conn, struct sim_out *out)
{
    *conn->out_last = out;
    conn->out_last = &out->next;
    sim_call_flush_soon(conn);
}

static struct sim_out *out_pop(struct rpc_conn *conn)
{
    struct sim_out *out = conn->out_first;

    conn->out_first = out->next;
    if (!conn->out_first)
        conn->out_last = &conn->out_first;
    return out;
}

/* The payload is read now, not before: as late as the real one would. */
static void out_send(struct rpc_conn *conn, struct sim_out *out)
{
    struct sim_frame *frame = out->frame;
    uint64_t now_ms = loop_now_ms();
    size_t at = 0;

    if (out->call) {
        out->call->out = NULL;
        frame->timeout_ms =
            out->call->deadline_ms > now_ms ? (uint32_t)(out->call->deadline_ms - now_ms) : 1;
    }
    if (out->is_call && !out->call)
        return; /* it timed out before it left */
    if (frame->payload_bytes)
        frame->payload = malloc(frame->payload_bytes);
    for (size_t i = 0; i < out->piece_count; i++) {
        memcpy(frame->payload + at, out->pieces[i].data, out->pieces[i].len_bytes);
        at += out->pieces[i].len_bytes;
    }
    out->frame = NULL;
    sim_pipe_send(conn->pipe, sim_pipe_side(conn->pipe, conn), frame);
}

void sim_call_on_flush(struct sim_event *event)
{
    struct rpc_conn *conn = (struct rpc_conn *)((char *)event - offsetof(struct rpc_conn, flush));
    struct loop *was = sim_loop_enter(conn->loop);

    rpc_conn_ref(conn);
    while (conn->state == SIM_CONN_OPEN && conn->out_first) {
        struct sim_out *out = out_pop(conn);

        out_send(conn, out);
        out_free(out);
    }
    rpc_conn_unref(conn);
    sim_loop_enter(was);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void call_finish(struct rpc_call *call, const struct rpc_answer *answer)
{
    rpc_done_fn *done = call->done;
    void *arg = call->arg;

    sim_cancel(&call->timer);
    if (call->at) {
        *call->at = call->next;
        if (call->next)
            call->next->at = call->at;
    }
    if (call->out)
        call->out->call = NULL;
    calls_pending[sim_loop_node(call->loop)->index]--;
    free(call);
    if (done)
        done(arg, answer);
}

static void call_end(struct rpc_call *call, enum gfs_err err, const char *detail)
{
    struct rpc_answer answer = {.err = err, .detail = detail};

    call_finish(call, &answer);
}

static void on_call_timer(struct sim_event *event)
{
    struct rpc_call *call = (struct rpc_call *)((char *)event - offsetof(struct rpc_call, timer));
    struct loop *was = sim_loop_enter(call->loop);
    char detail[SIM_DETAIL_BYTES];

    if (call->fail_err) {
        call_end(call, call->fail_err, gfs_err_text(call->fail_err));
    } else {
        snprintf(detail, sizeof(detail), "no answer to %s from %s within %u ms", call->type->name,
                 call->conn->peer_addr, call->timeout_ms);
        sim_trace("%s", detail);
        call_end(call, GFS_ERR_TIMEOUT, detail);
    }
    sim_loop_enter(was);
}

static struct rpc_call *call_new(struct loop *loop, const struct rpc_call_args *args)
{
    struct rpc_call *call = calloc(1, sizeof(*call));

    assert(call);
    call->timer.fn = on_call_timer;
    call->timer.what = "call";
    call->loop = loop;
    call->type = rpc_table_find(args->type);
    assert(call->type && args->msg->descriptor == call->type->request);
    call->timeout_ms = args->timeout_ms ? args->timeout_ms : CALL_TIMEOUT_MS;
    if (call->timeout_ms > CALL_TIMEOUT_MAX_MS)
        call->timeout_ms = CALL_TIMEOUT_MAX_MS;
    call->deadline_ms = loop_now_ms() + call->timeout_ms;
    call->dest = args->dest;
    call->dest_bytes = args->dest_bytes;
    call->done = args->done;
    call->arg = args->arg;
    calls_pending[sim_loop_node(loop)->index]++;
    return call;
}

static void call_refuse(struct rpc_call *call, enum gfs_err err)
{
    call->fail_err = err;
    sim_schedule(&call->timer, sim_loop_node(call->loop), sim_below(SIM_STREAM_NET, 20));
}

static void payload_drop(const struct rpc_payload *payload)
{
    if (payload && payload->release)
        payload->release(payload->arg);
}

void sim_call_refuse(struct loop *loop, const struct rpc_call_args *args, enum gfs_err err)
{
    payload_drop(args->payload);
    call_refuse(call_new(loop, args), err);
}

void sim_call_begin(struct rpc_conn *conn, const struct rpc_call_args *args)
{
    struct rpc_call *call;
    struct sim_out *out;
    enum gfs_err err;

    if (conn->state == SIM_CONN_CLOSED) {
        sim_call_refuse(conn->loop, args, GFS_ERR_CONN);
        return;
    }
    call = call_new(conn->loop, args);
    call->id = ++conn->next_id;
    err = out_new(SIM_FRAME_REQUEST, call->type, call->id, args->msg, args->payload, &out);
    if (err) {
        payload_drop(args->payload);
        call_refuse(call, err);
        return;
    }
    call->conn = conn;
    call->out = out;
    call->next = conn->calls;
    if (call->next)
        call->next->at = &call->next;
    call->at = &conn->calls;
    conn->calls = call;
    out->call = call;
    out->is_call = true;
    sim_schedule(&call->timer, conn->owner->node,
                 sim_global_delay_us(conn->owner->node, call->timeout_ms * SIM_MS) +
                     sim_below(SIM_STREAM_NET, CALL_TICK_US));
    out_push(conn, out);
}

void rpc_call(struct rpc_conn *conn, const struct rpc_call_args *args)
{
    sim_call_begin(conn, args);
}

/* An answer that breaks the protocol would end the real connection; here nobody makes one. */
static void answer_reply(struct rpc_call *call, const struct sim_frame *frame)
{
    struct rpc_answer answer = {.err = GFS_OK, .detail = "", .payload_bytes = frame->payload_bytes};
    ProtobufCMessage *msg =
        protobuf_c_message_unpack(call->type->reply, NULL, frame->message_bytes, frame->message);

    if (!msg)
        sim_fail("a reply to %s cannot be decoded", call->type->name);
    answer.msg = msg;
    if (call->dest && frame->payload_bytes > call->dest_bytes) {
        answer = (struct rpc_answer){.err = GFS_ERR_PROTO,
                                     .detail = "the reply is longer than what was asked for"};
    } else if (call->dest) {
        if (frame->payload_bytes)
            memcpy(call->dest, frame->payload, frame->payload_bytes);
    } else if (frame->payload_bytes) {
        answer.payload = buf_new(frame->payload_bytes);
        assert(answer.payload);
        memcpy(answer.payload->data, frame->payload, frame->payload_bytes);
        answer.payload->len_bytes = frame->payload_bytes;
    }
    call_finish(call, &answer);
    buf_unref(answer.payload);
    protobuf_c_message_free_unpacked(msg, NULL);
}

static void answer_error(struct rpc_call *call, const struct sim_frame *frame)
{
    Gfs__ErrorReply *error = gfs__error_reply__unpack(NULL, frame->message_bytes, frame->message);
    struct rpc_answer answer;

    if (!error)
        sim_fail("an error reply to %s cannot be decoded", call->type->name);
    answer = (struct rpc_answer){.err = gfs_err_from_wire(error->code),
                                 .retry_after_ms = error->retry_after_ms,
                                 .detail = error->detail};
    if (answer.err == GFS_OK)
        answer.err = GFS_ERR_PROTO;
    call_finish(call, &answer);
    gfs__error_reply__free_unpacked(error, NULL);
}

void sim_call_on_answer(struct rpc_conn *conn, struct sim_frame *frame)
{
    struct rpc_call *call = conn->calls;

    while (call && call->id != frame->id)
        call = call->next;
    if (!call)
        return; /* timed out meanwhile */
    if (call->type->type != frame->type)
        sim_fail("%s is answered by %s", call->type->name, rpc_table_find(frame->type)->name);
    if (frame->kind == SIM_FRAME_REPLY)
        answer_reply(call, frame);
    else
        answer_error(call, frame);
}

/* Oldest first, as they were made. */
void sim_call_conn_ends(struct rpc_conn *conn)
{
    while (conn->out_first) {
        struct sim_out *out = out_pop(conn);

        if (out->call)
            out->call->out = NULL;
        out_free(out);
    }
    while (conn->calls) {
        struct rpc_call *last = conn->calls;

        while (last->next)
            last = last->next;
        call_end(last, conn->fail_err, conn->fail_detail);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static void served_free(struct served *served)
{
    struct rpc_conn *conn = served->request.conn;

    if (served->node->incarnation == served->incarnation)
        served_pending[served->node->index]--;
    msg_arena_release(&served->arena);
    buf_unref(served->request.payload);
    free(served);
    rpc_conn_unref(conn);
}

static struct served *served_new(struct rpc_conn *conn, struct sim_frame *frame,
                                 const struct rpc_type *type)
{
    struct served *served = calloc(1, sizeof(*served));

    assert(served);
    served->type = type;
    served->id = frame->id;
    served->node = conn->owner->node;
    served->incarnation = served->node->incarnation;
    served_pending[served->node->index]++;
    served->request.type = type->type;
    served->request.deadline_ms = loop_now_ms() + frame->timeout_ms;
    served->request.conn = rpc_conn_ref(conn);
    served->request.peer_role = conn->with.role;
    memcpy(served->request.peer_id, conn->with.peer_id, GFS_UUID_BYTES);
    msg_arena_init(&served->arena, NULL, 0, msg_arena_limit(frame->message_bytes));
    served->request.msg = protobuf_c_message_unpack(type->request, &served->arena.allocator,
                                                    frame->message_bytes, frame->message);
    if (!served->request.msg)
        sim_fail("%s cannot be decoded", type->name);
    if (frame->payload_bytes) {
        served->request.payload = buf_new(frame->payload_bytes);
        assert(served->request.payload);
        memcpy(served->request.payload->data, frame->payload, frame->payload_bytes);
        served->request.payload->len_bytes = frame->payload_bytes;
    }
    return served;
}

void sim_call_on_request(struct rpc_conn *conn, struct sim_frame *frame)
{
    static const Gfs__Pong pong = GFS__PONG__INIT;
    const struct rpc_type *type = rpc_table_find(frame->type);
    struct served *served;

    if (!type || !rpc_table_allows(type, conn->with.role) ||
        (!conn->owner->events.on_request && type->type != GFS_MSG_PING))
        sim_fail("%s may not send %s to %s", conn->peer_addr, type ? type->name : "?",
                 conn->owner->node->name);
    served = served_new(conn, frame, type);
    if (type->type == GFS_MSG_PING)
        rpc_reply(&served->request, &pong.base, NULL);
    else
        conn->owner->events.on_request(conn->owner->events.arg, &served->request);
}

static void serve_push(struct served *served, struct sim_out *out)
{
    struct rpc_conn *conn = served->request.conn;

    rpc_conn_ref(conn);
    served_free(served);
    if (conn->state == SIM_CONN_OPEN)
        out_push(conn, out);
    else
        out_free(out);
    rpc_conn_unref(conn);
}

void rpc_reply(struct rpc_request *take_request, const ProtobufCMessage *reply,
               const struct rpc_payload *payload)
{
    struct served *served = (struct served *)take_request;
    struct sim_out *out;
    enum gfs_err err;

    assert(reply->descriptor == served->type->reply);
    err = out_new(SIM_FRAME_REPLY, served->type, served->id, reply, payload, &out);
    if (!err) {
        serve_push(served, out);
        return;
    }
    payload_drop(payload);
    rpc_reply_error(take_request, err, 0, NULL);
}

void rpc_reply_error(struct rpc_request *take_request, enum gfs_err err, uint32_t retry_after_ms,
                     const char *detail)
{
    struct served *served = (struct served *)take_request;
    Gfs__ErrorReply reply = GFS__ERROR_REPLY__INIT;
    char text[RPC_DETAIL_MAX_BYTES + 1] = "";
    struct sim_out *out;

    assert(err != GFS_OK);
    if (detail)
        snprintf(text, sizeof(text), "%s", detail);
    reply.code = err;
    reply.retry_after_ms = retry_after_ms;
    reply.detail = text;
    err = out_new(SIM_FRAME_ERROR, served->type, served->id, &reply.base, NULL, &out);
    assert(err == GFS_OK);
    serve_push(served, out);
}
