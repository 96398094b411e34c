/* rpc_call: calls going out and the answers to them. Floor 4. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc.pb-c.h"
#include "rpc_conn.h"

#define RPC_CALL_ARENA_BYTES 2048
#define RPC_CALL_BUSY_MS     50
/* Unsent calls of a connection may take so many times what unsent replies may. */
#define RPC_CALL_BYTES_FACTOR 4

static struct rpc_call *rpc_call_of(struct rpc_out *out)
{
    return (struct rpc_call *)((char *)out - offsetof(struct rpc_call, out));
}

/* What an unsent call costs. */
static uint64_t rpc_call_cost(const struct rpc_out *out)
{
    return out->bytes + sizeof(struct rpc_call);
}

static void rpc_call_on_gone(struct rpc_out *out, void *arg)
{
    struct rpc_call *call = rpc_call_of(out);
    struct rpc_conn *conn = arg;

    conn->call_bytes -= rpc_call_cost(out);
    call->is_queued = false;
    if (!call->is_waiting)
        free(call);
}

struct rpc_call *rpc_call_new(const struct rpc_call_args *args)
{
    const struct rpc_type *type = rpc_table_find(args->type);
    struct rpc_call *call = malloc(sizeof(*call));
    struct frame_header header = {.version = GFS_PROTO_VERSION, .type = (uint16_t)args->type};

    assert(call); /* done must be called later, so there is no way to refuse */
    assert(type && args->msg->descriptor == type->request);
    call->type = type;
    call->timeout_ms = args->timeout_ms ? args->timeout_ms : RPC_TIMEOUT_DEFAULT_MS;
    if (call->timeout_ms > RPC_TIMEOUT_MAX_MS)
        call->timeout_ms = RPC_TIMEOUT_MAX_MS;
    call->deadline_ms = loop_now_ms() + call->timeout_ms;
    call->dest = args->dest;
    call->dest_bytes = args->dest_bytes;
    call->done = args->done;
    call->arg = args->arg;
    call->is_waiting = true;
    call->is_queued = false;
    call->fail_err = rpc_out_build(&call->out, RPC_OUT_CALL, &header, args->msg, args->payload);
    if (call->fail_err && args->payload && args->payload->release)
        args->payload->release(args->payload->arg);
    call->out.on_gone = rpc_call_on_gone;
    return call;
}

/* The last thing done with a call, unless its frame is still on its way out. */
static void rpc_call_finish(struct rpc_call *call, const struct rpc_answer *answer)
{
    call->is_waiting = false;
    if (call->done)
        call->done(call->arg, answer);
    if (!call->is_queued)
        free(call);
}

static void rpc_call_finish_error(struct rpc_call *call, enum gfs_err err, uint32_t retry_after_ms,
                                  const char *detail)
{
    struct rpc_answer answer = {.err = err, .retry_after_ms = retry_after_ms, .detail = detail};

    rpc_call_finish(call, &answer);
}

static void rpc_call_on_fail_task(struct loop_task *task)
{
    struct rpc_call *call = (struct rpc_call *)((char *)task - offsetof(struct rpc_call, task));

    rpc_call_finish_error(call, call->fail_err, 0, gfs_err_text(call->fail_err));
}

void rpc_call_fail_later(struct rpc_call *take_call, struct loop *loop, enum gfs_err err)
{
    if (!take_call->fail_err) {
        take_call->fail_err = err;
        rpc_out_release(&take_call->out);
    }
    take_call->task.fn = rpc_call_on_fail_task;
    loop_post(loop, &take_call->task);
}

void rpc_call(struct rpc_conn *conn, const struct rpc_call_args *args)
{
    struct rpc_call *call = rpc_call_new(args);

    if (call->fail_err || !rpc_conn_push(conn, &call->out))
        rpc_call_fail_later(call, conn->loop, GFS_ERR_CONN);
}

/* The connection ended; the call is in no queue. */
void rpc_call_fail(struct rpc_conn *conn, struct rpc_call *take_call)
{
    rpc_out_release(&take_call->out);
    rpc_call_finish_error(take_call, conn->fail_err, 0, conn->fail_detail);
}

static void rpc_call_send(struct rpc_conn *conn, struct rpc_call *call)
{
    uint64_t now_ms = loop_now_ms();

    call->out.header.timeout_ms =
        call->deadline_ms > now_ms ? (uint32_t)(call->deadline_ms - now_ms) : 1;
    rpc_out_seal(&call->out);
    rpc_out_push(&conn->out, &call->out);
}

void rpc_call_on_pushed(struct rpc_conn *conn, struct rpc_out *out)
{
    struct rpc_call *call = rpc_call_of(out);
    uint64_t bytes_max = RPC_CALL_BYTES_FACTOR * conn->owner->limits.reply_bytes;
    enum gfs_err err = GFS_OK;

    out->header.id = conn->next_id++;
    if (!conn->calls)
        conn->calls = calloc(1, sizeof(*conn->calls));
    if (!conn->calls)
        err = GFS_ERR_NO_MEMORY;
    else if (conn->call_bytes && conn->call_bytes + rpc_call_cost(out) > bytes_max)
        err = GFS_ERR_BUSY;
    else
        err = rpc_calls_add(conn->calls, call, loop_now_ms());
    if (!err && conn->calls->count == 1)
        rpc_silence_heard(conn, loop_now_ms());
    if (err) {
        rpc_out_release(out);
        rpc_call_finish_error(call, err, RPC_CALL_BUSY_MS, "too many calls wait for this peer");
        return;
    }
    call->is_queued = true;
    conn->call_bytes += rpc_call_cost(out);
    if (conn->state == RPC_CONN_OPEN)
        rpc_call_send(conn, call);
    else
        rpc_out_push(&conn->held, out);
}

void rpc_call_on_open(struct rpc_conn *conn)
{
    struct rpc_out *out;

    while ((out = rpc_out_take(&conn->held))) {
        if (!out->is_cancelled) {
            rpc_call_send(conn, rpc_call_of(out));
            continue;
        }
        rpc_out_release(out);
        out->on_gone(out, conn);
    }
}

/* Decodes the reply's message into answer. PROTO: it is none. */
static enum gfs_err rpc_call_decode(struct rpc_conn *conn, const struct rpc_call *call,
                                    struct msg_arena *arena, struct rpc_answer *ret_answer)
{
    const struct frame_header *head = &conn->in.head;
    bool is_error = head->flags & FRAME_FLAG_ERROR;
    const ProtobufCMessageDescriptor *type =
        is_error ? &gfs__error_reply__descriptor : call->type->reply;
    struct rpc_answer answer = {.err = GFS_OK, .detail = ""};

    if (head->type != call->type->type)
        return GFS_ERR_PROTO;
    answer.msg = protobuf_c_message_unpack(type, &arena->allocator, head->message_bytes,
                                           rpc_in_message(&conn->in));
    if (!answer.msg)
        return GFS_ERR_PROTO;
    if (is_error) {
        const Gfs__ErrorReply *error = (const Gfs__ErrorReply *)answer.msg;

        answer.err = gfs_err_from_wire(error->code);
        if (answer.err == GFS_OK)
            answer.err = GFS_ERR_PROTO;
        answer.retry_after_ms = error->retry_after_ms;
        answer.detail = error->detail;
        answer.msg = NULL;
    }
    *ret_answer = answer;
    return GFS_OK;
}

/* Where the payload of a decoded reply goes; NULL: nowhere, and the answer says why. */
static void *rpc_call_place_payload(const struct rpc_call *call, uint32_t payload_bytes,
                                    struct rpc_answer *answer)
{
    if (answer->err)
        return NULL;
    answer->payload_bytes = payload_bytes;
    if (call->dest) {
        if (payload_bytes <= call->dest_bytes)
            return call->dest;
        answer->err = GFS_ERR_PROTO;
        answer->detail = "the reply is longer than what was asked for";
    } else {
        answer->payload = buf_new(payload_bytes);
        if (answer->payload) {
            answer->payload->len_bytes = payload_bytes;
            return answer->payload->data;
        }
        answer->err = GFS_ERR_NO_MEMORY;
        answer->detail = gfs_err_text(GFS_ERR_NO_MEMORY);
    }
    answer->payload_bytes = 0;
    answer->msg = NULL;
    return NULL;
}

/* A reply without payload: decoded on the stack, answered at once. */
static enum gfs_err rpc_call_on_short(struct rpc_conn *conn, struct rpc_call *call)
{
    _Alignas(16) uint8_t memory[RPC_CALL_ARENA_BYTES];
    struct msg_arena arena;
    struct rpc_answer answer;
    enum gfs_err err;

    msg_arena_init(&arena, memory, sizeof(memory), msg_arena_limit(conn->in.head.message_bytes));
    err = rpc_call_decode(conn, call, &arena, &answer);
    if (!err) {
        rpc_in_accept(&conn->in, NULL);
        rpc_calls_remove(conn->calls, call);
        rpc_call_finish(call, &answer);
    }
    msg_arena_release(&arena);
    return err;
}

enum gfs_err rpc_call_on_head(struct rpc_conn *conn)
{
    const struct frame_header *head = &conn->in.head;
    struct rpc_call *call = conn->calls ? rpc_calls_find(conn->calls, head->id) : NULL;
    enum gfs_err err;

    if (!call) { /* timed out meanwhile */
        rpc_in_accept(&conn->in, NULL);
        return GFS_OK;
    }
    if (head->payload_bytes == 0)
        return rpc_call_on_short(conn, call);
    msg_arena_init(&conn->in_arena, NULL, 0, msg_arena_limit(head->message_bytes));
    err = rpc_call_decode(conn, call, &conn->in_arena, &conn->in_answer);
    if (err) {
        msg_arena_release(&conn->in_arena);
        return err;
    }
    conn->in_call = call;
    rpc_in_accept(&conn->in, rpc_call_place_payload(call, head->payload_bytes, &conn->in_answer));
    return GFS_OK;
}

void rpc_call_abort_input(struct rpc_conn *conn)
{
    buf_unref(conn->in_answer.payload);
    conn->in_answer.payload = NULL;
    conn->in_call = NULL;
    msg_arena_release(&conn->in_arena);
}

void rpc_call_on_payload(struct rpc_conn *conn)
{
    struct rpc_call *call = conn->in_call;

    if (call) {
        conn->in_call = NULL;
        rpc_calls_remove(conn->calls, call);
        rpc_call_finish(call, &conn->in_answer);
    }
    rpc_call_abort_input(conn);
}

enum gfs_err rpc_call_expire(struct rpc_conn *conn, uint64_t now_ms)
{
    char detail[RPC_FAIL_DETAIL_BYTES];
    struct rpc_call *call;
    bool into_dest;

    while (conn->calls && (call = rpc_calls_expire(conn->calls, now_ms))) {
        into_dest = call == conn->in_call && !conn->in_answer.err && call->dest;
        if (call == conn->in_call)
            conn->in_call = NULL;
        if (call->is_queued)
            call->out.is_cancelled = true;
        snprintf(detail, sizeof(detail), "no answer to %s from %s within %u ms", call->type->name,
                 conn->peer_addr, call->timeout_ms);
        rpc_call_finish_error(call, GFS_ERR_TIMEOUT, 0, detail);
        if (into_dest) { /* not one byte more may go there */
            rpc_conn_fail(conn, GFS_ERR_CONN, "%s was too slow to send a reply", conn->peer_addr);
            return GFS_ERR_TIMEOUT;
        }
    }
    return GFS_OK;
}

void rpc_call_fail_all(struct rpc_conn *conn)
{
    struct rpc_call *call;

    while (conn->calls && (call = rpc_calls_pop(conn->calls)))
        rpc_call_finish_error(call, conn->fail_err, 0, conn->fail_detail);
}
