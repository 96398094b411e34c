/* rpc_serve: requests coming in and the replies to them. Floor 4. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rpc.pb-c.h"
#include "rpc_conn.h"

#define RPC_SERVE_ARENA_MIN_BYTES 512
#define RPC_SERVE_ARENA_MAX_BYTES 8192

static struct rpc_served *rpc_serve_of(struct rpc_request *request)
{
    return (struct rpc_served *)((char *)request - offsetof(struct rpc_served, request));
}

static struct rpc_served *rpc_serve_of_out(struct rpc_out *out)
{
    return (struct rpc_served *)((char *)out - offsetof(struct rpc_served, out));
}

bool rpc_serve_is_full(const struct rpc_conn *conn)
{
    const struct rpc_limits *limits = &conn->owner->limits;

    if (atomic_load_explicit(&conn->owner->total_bytes, memory_order_relaxed) >=
        limits->total_bytes)
        return true;
    if (conn->requests == 0 && conn->reply_bytes == 0)
        return false; /* a connection may always have one served */
    return conn->requests >= limits->requests_max || conn->reply_bytes >= limits->reply_bytes ||
           conn->request_bytes + conn->in.head.payload_bytes > limits->request_bytes;
}

static struct rpc_served *rpc_serve_new(struct rpc_conn *conn, const struct rpc_type *type)
{
    const struct frame_header *head = &conn->in.head;
    size_t memory_bytes = RPC_SERVE_ARENA_MIN_BYTES + 3 * (size_t)head->message_bytes;
    uint32_t timeout_ms = head->timeout_ms ? head->timeout_ms : RPC_TIMEOUT_DEFAULT_MS;
    struct rpc_served *served;

    if (memory_bytes > RPC_SERVE_ARENA_MAX_BYTES)
        memory_bytes = RPC_SERVE_ARENA_MAX_BYTES;
    if (timeout_ms > RPC_TIMEOUT_MAX_MS)
        timeout_ms = RPC_TIMEOUT_MAX_MS;
    served = malloc(sizeof(*served) + memory_bytes);
    if (!served)
        return NULL;
    memset(&served->request, 0, sizeof(served->request));
    memset(&served->out, 0, offsetof(struct rpc_out, inline_pieces));
    served->type = type;
    served->memory_bytes = sizeof(*served) + memory_bytes;
    served->id = head->id;
    served->refuse = GFS_OK;
    served->request.type = type->type;
    served->request.deadline_ms = loop_now_ms() + timeout_ms;
    served->request.conn = rpc_conn_ref(conn);
    served->request.peer_role = conn->peer_role;
    memcpy(served->request.peer_id, conn->peer_id, GFS_UUID_BYTES);
    msg_arena_init(&served->arena, served->memory, memory_bytes,
                   msg_arena_limit(head->message_bytes));
    return served;
}

/* Frees all that is left; the reply's payload is released. */
void rpc_serve_free(struct rpc_served *served)
{
    struct rpc_conn *conn;

    if (!served)
        return;
    conn = served->request.conn;
    rpc_out_release(&served->out);
    msg_arena_release(&served->arena);
    buf_unref(served->request.payload);
    free(served);
    rpc_conn_unref(conn);
}

void rpc_serve_drop(struct rpc_out *out)
{
    rpc_serve_free(rpc_serve_of_out(out));
}

/* A request counts for all connections only from when it is complete: a peer that announces much
 * and sends little takes nothing from others. */
static void rpc_serve_charge(struct rpc_conn *conn, uint64_t bytes)
{
    conn->total_bytes += bytes;
    atomic_fetch_add_explicit(&conn->owner->total_bytes, bytes, memory_order_relaxed);
}

static void rpc_serve_discharge(struct rpc_conn *conn, uint64_t bytes)
{
    assert(conn->total_bytes >= bytes);
    conn->total_bytes -= bytes;
    atomic_fetch_sub_explicit(&conn->owner->total_bytes, bytes, memory_order_relaxed);
}

void rpc_serve_abort(struct rpc_conn *conn)
{
    rpc_serve_free(conn->in_served);
    conn->in_served = NULL;
    rpc_serve_discharge(conn, conn->total_bytes);
}

static void rpc_serve_dispatch(struct rpc_conn *conn, struct rpc_served *served)
{
    static const Gfs__Pong pong = GFS__PONG__INIT;

    rpc_serve_charge(conn, served->charged_bytes);
    if (served->refuse)
        rpc_reply_error(&served->request, served->refuse, 0, NULL);
    else if (served->request.type == GFS_MSG_PING)
        rpc_reply(&served->request, &pong.base, NULL);
    else if (loop_now_ms() > served->request.deadline_ms)
        rpc_reply_error(&served->request, GFS_ERR_TIMEOUT, 0, "the request came too late");
    else
        conn->owner->events.on_request(conn->owner->events.arg, &served->request);
}

/* The one place where a peer's right to send a request is checked. */
static enum gfs_err rpc_serve_check(struct rpc_conn *conn, const struct rpc_type **ret_type)
{
    const struct rpc_type *type = rpc_table_find(conn->in.head.type);

    if (!type || type->type == GFS_MSG_HELLO) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "%s sent a request of unknown type %u", conn->peer_addr,
                      conn->in.head.type);
        return GFS_ERR_PROTO;
    }
    if (!rpc_table_allows(type, conn->peer_role) ||
        (!conn->owner->events.on_request && type->type != GFS_MSG_PING)) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "%s may not send %s", conn->peer_addr, type->name);
        return GFS_ERR_PERM;
    }
    *ret_type = type;
    return GFS_OK;
}

enum gfs_err rpc_serve_on_head(struct rpc_conn *conn)
{
    const struct frame_header *head = &conn->in.head;
    const struct rpc_type *type;
    struct rpc_served *served;
    uint8_t *dest = NULL;
    enum gfs_err err;

    err = rpc_serve_check(conn, &type);
    if (err)
        return err;
    if (rpc_serve_is_full(conn)) {
        conn->is_paused = true;
        return GFS_OK;
    }
    served = rpc_serve_new(conn, type);
    if (!served)
        return GFS_ERR_NO_MEMORY;
    served->request.msg = protobuf_c_message_unpack(type->request, &served->arena.allocator,
                                                    head->message_bytes, rpc_in_message(&conn->in));
    if (!served->request.msg) {
        rpc_serve_free(served);
        return GFS_ERR_PROTO;
    }
    if (head->payload_bytes) {
        served->request.payload = buf_new(head->payload_bytes);
        if (served->request.payload)
            dest = served->request.payload->data;
        else
            served->refuse = GFS_ERR_NO_MEMORY;
    }
    served->charged_bytes = served->memory_bytes + head->payload_bytes + served->arena.used_bytes;
    conn->request_bytes += served->charged_bytes;
    conn->requests++;
    rpc_in_accept(&conn->in, dest);
    if (head->payload_bytes)
        conn->in_served = served;
    else
        rpc_serve_dispatch(conn, served);
    return GFS_OK;
}

void rpc_serve_on_payload(struct rpc_conn *conn)
{
    struct rpc_served *served = conn->in_served;

    conn->in_served = NULL;
    if (served->request.payload)
        served->request.payload->len_bytes = conn->in.head.payload_bytes;
    rpc_serve_dispatch(conn, served);
}

/* What an unsent reply costs: a short one is mostly the request around it. */
static uint64_t rpc_serve_reply_cost(const struct rpc_served *served)
{
    return served->out.bytes + served->memory_bytes;
}

static void rpc_serve_on_gone(struct rpc_out *out, void *arg)
{
    struct rpc_conn *conn = arg;

    conn->reply_bytes -= rpc_serve_reply_cost(rpc_serve_of_out(out));
    rpc_serve_drop(out);
}

void rpc_serve_on_pushed(struct rpc_conn *conn, struct rpc_out *out)
{
    struct rpc_served *served = rpc_serve_of_out(out);

    assert(conn->requests > 0);
    conn->requests--;
    conn->request_bytes -= served->charged_bytes;
    rpc_serve_discharge(conn, served->charged_bytes);
    conn->reply_bytes += rpc_serve_reply_cost(served);
    rpc_out_push(&conn->out, out);
}

/* Hands the built reply to the connection; what the request held is freed now. */
static void rpc_serve_push(struct rpc_served *served)
{
    msg_arena_release(&served->arena);
    buf_unref(served->request.payload);
    served->request.msg = NULL;
    served->request.payload = NULL;
    served->out.on_gone = rpc_serve_on_gone;
    rpc_out_seal(&served->out);
    if (!rpc_conn_push(served->request.conn, &served->out))
        rpc_serve_free(served);
}

static enum gfs_err rpc_serve_build(struct rpc_served *served, uint16_t flags,
                                    const ProtobufCMessage *msg, const struct rpc_payload *payload)
{
    struct frame_header header = {.version = GFS_PROTO_VERSION,
                                  .type = (uint16_t)served->type->type,
                                  .id = served->id,
                                  .flags = flags};

    return rpc_out_build(&served->out, RPC_OUT_REPLY, &header, msg, payload);
}

void rpc_reply(struct rpc_request *take_request, const ProtobufCMessage *reply,
               const struct rpc_payload *payload)
{
    struct rpc_served *served = rpc_serve_of(take_request);
    enum gfs_err err;

    assert(reply->descriptor == served->type->reply);
    err = rpc_serve_build(served, FRAME_FLAG_REPLY, reply, payload);
    if (!err) {
        rpc_serve_push(served);
        return;
    }
    if (payload && payload->release)
        payload->release(payload->arg);
    rpc_reply_error(take_request, err, 0, NULL);
}

void rpc_reply_error(struct rpc_request *take_request, enum gfs_err err, uint32_t retry_after_ms,
                     const char *detail)
{
    struct rpc_served *served = rpc_serve_of(take_request);
    Gfs__ErrorReply reply = GFS__ERROR_REPLY__INIT;
    char text[RPC_DETAIL_MAX_BYTES + 1];

    assert(err != GFS_OK);
    reply.code = err;
    reply.retry_after_ms = retry_after_ms;
    if (detail) {
        strncpy(text, detail, RPC_DETAIL_MAX_BYTES);
        text[RPC_DETAIL_MAX_BYTES] = '\0';
        reply.detail = text;
    }
    if (rpc_serve_build(served, FRAME_FLAG_REPLY | FRAME_FLAG_ERROR, &reply.base, NULL)) {
        reply.detail = (char *)protobuf_c_empty_string; /* then it needs no memory */
        err = rpc_serve_build(served, FRAME_FLAG_REPLY | FRAME_FLAG_ERROR, &reply.base, NULL);
        assert(err == GFS_OK);
    }
    rpc_serve_push(served);
}
