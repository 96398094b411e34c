/* rpc_conn: a connection's life, its inbox, and what other threads may ask of it. */
#include "rpc_conn.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void rpc_conn_on_task(struct loop_task *task)
{
    struct rpc_conn *conn = (struct rpc_conn *)((char *)task - offsetof(struct rpc_conn, task));

    pthread_mutex_lock(&conn->lock);
    conn->is_posted = false;
    pthread_mutex_unlock(&conn->lock);
    if (conn->state == RPC_CONN_NEW)
        rpc_io_start(conn);
    rpc_io_turn(conn);
    rpc_conn_unref(conn); /* the task's */
}

struct rpc_conn *rpc_conn_new(struct rpc_owner *owner, struct loop *loop, const char *peer_addr)
{
    struct rpc_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    if (pthread_mutex_init(&conn->lock, NULL)) {
        free(conn);
        return NULL;
    }
    conn->loop = loop;
    conn->owner = owner;
    atomic_init(&conn->refs, 1); /* the loop's */
    conn->fd = -1;
    conn->task.fn = rpc_conn_on_task;
    conn->next_id = RPC_NO_CALL_ID + 1;
    conn->hello_ms = owner->limits.hello_timeout_ms;
    conn->fail_err = GFS_ERR_CONN;
    snprintf(conn->peer_addr, sizeof(conn->peer_addr), "%s", peer_addr);
    rpc_in_init(&conn->in);
    return conn;
}

/* lock held */
static void rpc_conn_post(struct rpc_conn *conn)
{
    if (conn->is_posted)
        return;
    conn->is_posted = true;
    rpc_conn_ref(conn);
    loop_post(conn->loop, &conn->task);
}

void rpc_conn_launch(struct rpc_conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    rpc_conn_post(conn);
    pthread_mutex_unlock(&conn->lock);
}

bool rpc_conn_push(struct rpc_conn *conn, struct rpc_out *take_out)
{
    bool closed;

    take_out->next = NULL;
    pthread_mutex_lock(&conn->lock);
    closed = conn->closed;
    if (!closed) {
        if (conn->inbox_last)
            conn->inbox_last->next = take_out;
        else
            conn->inbox_first = take_out;
        conn->inbox_last = take_out;
        if (!(loop_is_current(conn->loop) && conn->in_turn))
            rpc_conn_post(conn);
    }
    pthread_mutex_unlock(&conn->lock);
    return !closed;
}

static void rpc_conn_on_control_gone(struct rpc_out *out, void *arg)
{
    free(out);
}

enum gfs_err rpc_conn_send_control(struct rpc_conn *conn, enum gfs_msg type, uint16_t flags,
                                   const ProtobufCMessage *msg)
{
    struct frame_header header = {.version = GFS_PROTO_VERSION,
                                  .type = (uint16_t)type,
                                  .id = RPC_NO_CALL_ID,
                                  .flags = flags};
    struct rpc_out *out = malloc(sizeof(*out));
    enum gfs_err err;

    if (!out)
        return GFS_ERR_NO_MEMORY;
    err = rpc_out_build(out, RPC_OUT_CONTROL, &header, msg, NULL);
    if (err) {
        free(out);
        return err;
    }
    out->on_gone = rpc_conn_on_control_gone;
    rpc_out_seal(out);
    rpc_out_push(&conn->out, out);
    return GFS_OK;
}

void rpc_conn_close(struct rpc_conn *conn)
{
    pthread_mutex_lock(&conn->lock);
    if (!conn->closed && !conn->wants_close) {
        conn->wants_close = true;
        rpc_conn_post(conn);
    }
    pthread_mutex_unlock(&conn->lock);
}

struct rpc_conn *rpc_conn_ref(struct rpc_conn *conn)
{
    int refs = atomic_fetch_add_explicit(&conn->refs, 1, memory_order_relaxed);

    assert(refs > 0);
    return conn;
}

void rpc_conn_unref(struct rpc_conn *conn)
{
    int refs;

    if (!conn)
        return;
    refs = atomic_fetch_sub_explicit(&conn->refs, 1, memory_order_acq_rel);
    assert(refs > 0);
    if (refs > 1)
        return;
    assert(!conn->inbox_first && !conn->out.first && !conn->held.first);
    pthread_mutex_destroy(&conn->lock);
    free(conn->calls);
    free(conn);
}

void rpc_conn_fail(struct rpc_conn *conn, enum gfs_err err, const char *fmt, ...)
{
    va_list args;

    if (conn->fail_detail[0])
        return; /* the first reason is the one that counts */
    conn->fail_err = err;
    va_start(args, fmt);
    vsnprintf(conn->fail_detail, sizeof(conn->fail_detail), fmt, args);
    va_end(args);
}

struct loop *rpc_conn_loop(struct rpc_conn *conn)
{
    return conn->loop;
}

const char *rpc_conn_peer_addr(const struct rpc_conn *conn)
{
    return conn->peer_addr;
}

const char *rpc_conn_local_addr(const struct rpc_conn *conn)
{
    return conn->local_addr;
}

void rpc_conn_set_user(struct rpc_conn *conn, void *user)
{
    assert(loop_is_current(conn->loop));
    conn->user = user;
}

void *rpc_conn_user(const struct rpc_conn *conn)
{
    return conn->user;
}
