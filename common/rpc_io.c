/*
 * rpc_io: the socket of a connection. Floor 4. Every event does its own part and then ends in a
 * turn: inbox drained, output sent, input resumed if a limit no longer holds it, events and timer
 * set.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_conn.h"

#define RPC_IO_IOV_MAX         256
#define RPC_IO_BUDGET_BYTES    (4u << 20) /* each way a turn: others on the loop want theirs */
#define RPC_IO_HELLO_MAX_BYTES 4096u
#define RPC_IO_USER_TIMEOUT_MS 20000

void rpc_io_name(int fd, bool of_peer, char ret_addr[ADDR_TEXT_MAX_BYTES])
{
    struct sockaddr_storage storage;
    socklen_t len = sizeof(storage);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&storage;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&storage;
    char text[INET6_ADDRSTRLEN] = "";
    int rc = of_peer ? getpeername(fd, (struct sockaddr *)&storage, &len)
                     : getsockname(fd, (struct sockaddr *)&storage, &len);

    if (rc < 0) {
        strcpy(ret_addr, "?");
    } else if (storage.ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text));
        snprintf(ret_addr, ADDR_TEXT_MAX_BYTES, "[%s]:%d", text, ntohs(v6->sin6_port));
    } else {
        inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text));
        snprintf(ret_addr, ADDR_TEXT_MAX_BYTES, "%s:%d", text, ntohs(v4->sin_port));
    }
}

static bool rpc_io_has_socket(const struct rpc_conn *conn)
{
    return conn->state == RPC_CONN_HELLO || conn->state == RPC_CONN_OPEN ||
           conn->state == RPC_CONN_ENDING;
}

/* ---- output ---------------------------------------------------------------------------------- */

static enum gfs_err rpc_io_flush(struct rpc_conn *conn, uint64_t now_ms)
{
    struct iovec iov[RPC_IO_IOV_MAX];
    struct msghdr msg = {.msg_iov = iov};
    size_t budget = RPC_IO_BUDGET_BYTES, want;
    ssize_t put;
    int count;

    while (budget > 0 && (count = rpc_out_iov(&conn->out, iov, RPC_IO_IOV_MAX, conn)) > 0) {
        want = 0;
        for (int i = 0; i < count; i++)
            want += iov[i].iov_len;
        msg.msg_iovlen = (size_t)count;
        put = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
            conn->is_blocked = true;
            if (!conn->stalled_since_ms)
                conn->stalled_since_ms = now_ms;
            return GFS_OK;
        }
        if (put < 0) {
            rpc_conn_fail(conn, GFS_ERR_CONN, "%s: %s", conn->peer_addr, strerror(errno));
            return GFS_ERR_CONN;
        }
        conn->active_ms = now_ms;
        conn->stalled_since_ms = 0;
        conn->sent_bytes += (uint64_t)put;
        rpc_out_sent(&conn->out, (size_t)put, conn);
        if ((size_t)put < want) {
            conn->is_blocked = true;
            conn->stalled_since_ms = now_ms;
            break;
        }
        budget -= (size_t)put < budget ? (size_t)put : budget;
    }
    if (!conn->out.first)
        conn->stalled_since_ms = 0;
    if (!conn->out.first && conn->state == RPC_CONN_ENDING)
        shutdown(conn->fd, SHUT_WR);
    return GFS_OK;
}

/* ---- input ----------------------------------------------------------------------------------- */

static enum gfs_err rpc_io_on_frame_head(struct rpc_conn *conn)
{
    enum gfs_err err;

    if (conn->state == RPC_CONN_HELLO) {
        err = rpc_hello_on_head(conn);
        if (!err && conn->state == RPC_CONN_OPEN) {
            conn->in.message_max_bytes = GFS_MESSAGE_MAX_BYTES;
            conn->in.payload_max_bytes = GFS_PAYLOAD_MAX_BYTES;
        }
        return err;
    }
    if (conn->in.head.version != GFS_PROTO_VERSION)
        return GFS_ERR_PROTO;
    return conn->in.head.flags & FRAME_FLAG_REPLY ? rpc_call_on_head(conn)
                                                  : rpc_serve_on_head(conn);
}

/* Handles the frames that have come in. */
static enum gfs_err rpc_io_input(struct rpc_conn *conn)
{
    enum rpc_in_event event;
    enum gfs_err err;

    while (conn->state != RPC_CONN_ENDING && !conn->is_paused) {
        err = rpc_in_next(&conn->in, &event);
        if (!err && event == RPC_IN_MORE)
            return GFS_OK;
        if (!err && event == RPC_IN_HEAD)
            err = rpc_io_on_frame_head(conn);
        else if (!err && conn->in_served)
            rpc_serve_on_payload(conn);
        else if (!err)
            rpc_call_on_payload(conn);
        if (err) {
            rpc_conn_fail(conn, GFS_ERR_CONN, "%s broke the protocol", conn->peer_addr);
            return err;
        }
    }
    return GFS_OK;
}

static enum gfs_err rpc_io_received(struct rpc_conn *conn, ssize_t got)
{
    if (got > 0)
        return GFS_OK;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return GFS_OK;
    rpc_conn_fail(conn, GFS_ERR_CONN, "%s: %s", conn->peer_addr,
                  got == 0 ? "the peer closed the connection" : strerror(errno));
    return GFS_ERR_CONN;
}

/* The peer was refused: its bytes are thrown away until it ends, so that it gets to read why. */
static enum gfs_err rpc_io_discard(struct rpc_conn *conn)
{
    char waste[4096];

    return rpc_io_received(conn, recv(conn->fd, waste, sizeof(waste), MSG_DONTWAIT));
}

static enum gfs_err rpc_io_receive(struct rpc_conn *conn)
{
    struct iovec room[RPC_IN_ROOM_MAX];
    size_t want, total = 0;
    enum gfs_err err;
    ssize_t got;
    int count;

    do {
        if (conn->state == RPC_CONN_ENDING)
            return rpc_io_discard(conn);
        err = rpc_in_room(&conn->in, room, &count);
        if (err)
            return err;
        want = 0;
        for (int i = 0; i < count; i++)
            want += room[i].iov_len;
        got = readv(conn->fd, room, count);
        err = rpc_io_received(conn, got);
        if (err || got < 0)
            return err;
        total += (size_t)got;
        rpc_silence_heard(conn, loop_now_ms());
        rpc_in_filled(&conn->in, (size_t)got);
        err = rpc_io_input(conn);
        if (err)
            return err;
    } while ((size_t)got == want && !conn->is_paused && total < RPC_IO_BUDGET_BYTES);
    return GFS_OK;
}

/* ---- turns ----------------------------------------------------------------------------------- */

static bool rpc_io_drain_inbox(struct rpc_conn *conn)
{
    struct rpc_out *out;

    pthread_mutex_lock(&conn->lock);
    out = conn->inbox_first;
    conn->inbox_first = conn->inbox_last = NULL;
    pthread_mutex_unlock(&conn->lock);
    if (!out)
        return false;
    while (out) {
        struct rpc_out *next = out->next;

        if (out->kind == RPC_OUT_CALL)
            rpc_call_on_pushed(conn, out);
        else
            rpc_serve_on_pushed(conn, out);
        out = next;
    }
    return true;
}

static void rpc_io_set_event(struct event *event, bool want, bool *is_added)
{
    if (!event || want == *is_added)
        return;
    if (want)
        event_add(event, NULL);
    else
        event_del(event);
    *is_added = want;
}

static uint64_t rpc_io_sooner(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms && a_ms < b_ms ? a_ms : b_ms;
}

/* When the timer must look next; 0: never. */
static uint64_t rpc_io_next_ms(const struct rpc_conn *conn, uint64_t now_ms)
{
    uint32_t frame_ms = conn->owner->limits.frame_timeout_ms;
    uint64_t next_ms = 0;

    if (conn->state != RPC_CONN_OPEN)
        next_ms = conn->state == RPC_CONN_WAITING ? conn->start_at_ms : conn->state_until_ms;
    else if (conn->is_outgoing)
        next_ms = conn->active_ms + conn->owner->limits.idle_timeout_ms;
    if (conn->frame_since_ms)
        next_ms = rpc_io_sooner(next_ms, conn->frame_since_ms + frame_ms);
    if (conn->stalled_since_ms)
        next_ms = rpc_io_sooner(next_ms, conn->stalled_since_ms + frame_ms);
    if ((conn->calls && conn->calls->count) || conn->is_paused)
        next_ms = rpc_io_sooner(next_ms, now_ms + RPC_CALLS_TICK_MS);
    return next_ms;
}

static void rpc_io_set_timer(struct rpc_conn *conn, uint64_t now_ms)
{
    uint64_t next_ms;

    if (!rpc_in_is_partial(&conn->in) || conn->is_paused) {
        conn->frame_since_ms = 0;
    } else if (!conn->frame_since_ms || conn->frame_seen != conn->in.frames) {
        conn->frame_since_ms = now_ms;
        conn->frame_seen = conn->in.frames;
    }
    next_ms = rpc_io_next_ms(conn, now_ms);
    if (!next_ms || (conn->timer_at_ms && conn->timer_at_ms <= next_ms))
        return; /* one that comes too soon looks again */
    conn->timer_at_ms = next_ms;
    loop_timer_arm(&conn->timer, next_ms > now_ms ? next_ms - now_ms : 0);
}

static enum gfs_err rpc_io_work(struct rpc_conn *conn)
{
    uint64_t now_ms = loop_now_ms();
    enum gfs_err err;

    for (bool is_first = true;; is_first = false) {
        bool drained = rpc_io_drain_inbox(conn);

        if ((drained || is_first) && rpc_io_has_socket(conn) && !conn->is_blocked) {
            err = rpc_io_flush(conn, now_ms);
            if (err)
                return err;
        }
        if (drained) /* what was sent was released, and that may have filled the inbox */
            continue;
        if (!conn->is_paused || rpc_serve_is_full(conn))
            break;
        conn->is_paused = false;
        err = rpc_io_input(conn);
        if (err)
            return err;
    }
    rpc_in_trim(&conn->in);
    rpc_io_set_event(conn->read_event, rpc_io_has_socket(conn) && !conn->is_paused,
                     &conn->is_reading);
    rpc_io_set_event(conn->write_event, conn->state == RPC_CONN_CONNECTING || conn->out.first,
                     &conn->is_writing);
    rpc_io_set_timer(conn, now_ms);
    return GFS_OK;
}

/* Nothing of the connection moves after this; see the invariants in rpc_conn.h. */
static void rpc_io_shut(struct rpc_conn *conn)
{
    struct rpc_owner *owner = conn->owner;

    struct rpc_out *out;

    rpc_conn_fail(conn, GFS_ERR_CONN, "%s: the connection was closed", conn->peer_addr);
    conn->state = RPC_CONN_CLOSED;
    if (owner->on_shut)
        owner->on_shut(owner, conn);
    pthread_mutex_lock(&conn->lock);
    conn->closed = true;
    out = conn->inbox_first;
    conn->inbox_first = conn->inbox_last = NULL;
    pthread_mutex_unlock(&conn->lock);
    if (conn->read_event)
        event_free(conn->read_event);
    if (conn->write_event)
        event_free(conn->write_event);
    conn->read_event = conn->write_event = NULL;
    loop_timer_release(&conn->timer);
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    rpc_serve_abort(conn);
    rpc_call_abort_input(conn);
    rpc_in_release(&conn->in);
    rpc_out_drop(&conn->out, conn);
    rpc_out_drop(&conn->held, conn);
    while (out) {
        struct rpc_out *next = out->next;

        if (out->kind == RPC_OUT_CALL)
            rpc_call_fail(conn, (struct rpc_call *)((char *)out - offsetof(struct rpc_call, out)));
        else
            rpc_serve_drop(out);
        out = next;
    }
    rpc_call_fail_all(conn);
    if (conn->was_open && owner->events.on_close)
        owner->events.on_close(owner->events.arg, conn);
    pthread_mutex_lock(&owner->lock);
    rpc_owner_remove(owner, conn);
    pthread_mutex_unlock(&owner->lock);
    rpc_conn_unref(conn); /* the loop's */
}

/* Ends an event's work, whose outcome is err. */
static void rpc_io_end_turn(struct rpc_conn *conn, enum gfs_err err)
{
    bool wants_close;

    if (!err)
        err = rpc_io_work(conn);
    pthread_mutex_lock(&conn->lock);
    wants_close = conn->wants_close;
    pthread_mutex_unlock(&conn->lock);
    conn->in_turn = false;
    if (err || wants_close)
        rpc_io_shut(conn);
}

void rpc_io_turn(struct rpc_conn *conn)
{
    if (conn->state == RPC_CONN_CLOSED)
        return;
    conn->in_turn = true;
    rpc_io_end_turn(conn, GFS_OK);
}

static void rpc_io_on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct rpc_conn *conn = arg;

    conn->in_turn = true;
    rpc_io_end_turn(conn, rpc_io_receive(conn));
}

/* ---- beginning ------------------------------------------------------------------------------- */

static void rpc_io_tune(int fd)
{
    int one = 1, idle_s = 10, interval_s = 5, probes = 3, user_ms = RPC_IO_USER_TIMEOUT_MS;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_ms, sizeof(user_ms));
}

static void rpc_io_begin_hello(struct rpc_conn *conn)
{
    conn->state = RPC_CONN_HELLO;
    conn->state_until_ms = loop_now_ms() + conn->hello_ms;
    conn->in.message_max_bytes = RPC_IO_HELLO_MAX_BYTES;
    conn->in.payload_max_bytes = 0;
    rpc_io_name(conn->fd, false, conn->local_addr);
}

static enum gfs_err rpc_io_on_connected(struct rpc_conn *conn)
{
    socklen_t len = sizeof(int);
    int error = 0;

    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    if (error) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "cannot connect to %s: %s", conn->peer_addr,
                      strerror(error));
        return GFS_ERR_CONN;
    }
    rpc_io_begin_hello(conn);
    return rpc_hello_send(conn);
}

static void rpc_io_on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct rpc_conn *conn = arg;

    conn->in_turn = true;
    conn->is_blocked = false;
    rpc_io_end_turn(conn, conn->state == RPC_CONN_CONNECTING ? rpc_io_on_connected(conn) : GFS_OK);
}

static enum gfs_err rpc_io_make_events(struct rpc_conn *conn)
{
    struct event_base *base = loop_base(conn->loop);

    conn->read_event = event_new(base, conn->fd, EV_READ | EV_PERSIST, rpc_io_on_readable, conn);
    conn->write_event = event_new(base, conn->fd, EV_WRITE | EV_PERSIST, rpc_io_on_writable, conn);
    return conn->read_event && conn->write_event ? GFS_OK : GFS_ERR_NO_MEMORY;
}

/* "ip:port", "[ip]:port" */
static bool rpc_io_parse_addr(const char *addr, struct sockaddr_storage *ret_addr,
                              socklen_t *ret_len)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)ret_addr;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_addr;
    const char *colon = strrchr(addr, ':');
    char host[ADDR_TEXT_MAX_BYTES];
    size_t len;
    long port;

    memset(ret_addr, 0, sizeof(*ret_addr));
    if (!colon || colon - addr >= ADDR_TEXT_MAX_BYTES || colon == addr)
        return false;
    port = strtol(colon + 1, NULL, 10);
    if (port <= 0 || port > 65535)
        return false;
    len = (size_t)(colon - addr);
    memcpy(host, addr, len);
    host[len] = '\0';
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        *ret_len = sizeof(*v6);
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    *ret_len = sizeof(*v4);
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1;
}

static enum gfs_err rpc_io_connect(struct rpc_conn *conn)
{
    struct sockaddr_storage addr;
    socklen_t addr_len;

    if (!rpc_io_parse_addr(conn->peer_addr, &addr, &addr_len)) {
        rpc_conn_fail(conn, GFS_ERR_INVAL, "%s is not an address", conn->peer_addr);
        return GFS_ERR_INVAL;
    }
    conn->fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "cannot make a socket: %s", strerror(errno));
        return GFS_ERR_CONN;
    }
    rpc_io_tune(conn->fd);
    conn->state = RPC_CONN_CONNECTING;
    conn->state_until_ms = loop_now_ms() + conn->hello_ms;
    if (connect(conn->fd, (struct sockaddr *)&addr, addr_len) < 0 && errno != EINPROGRESS) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "cannot connect to %s: %s", conn->peer_addr,
                      strerror(errno));
        return GFS_ERR_CONN;
    }
    return rpc_io_make_events(conn);
}

/* ---- timer ----------------------------------------------------------------------------------- */

static enum gfs_err rpc_io_expire(struct rpc_conn *conn, uint64_t now_ms)
{
    uint32_t frame_ms = conn->owner->limits.frame_timeout_ms;
    enum gfs_err err = rpc_call_expire(conn, now_ms);

    if (!err)
        err = rpc_silence_check(conn, now_ms);
    if (err)
        return err;
    rpc_silence_tell(conn, now_ms);
    if (conn->state == RPC_CONN_WAITING)
        return now_ms >= conn->start_at_ms ? rpc_io_connect(conn) : GFS_OK;
    if (conn->state != RPC_CONN_OPEN && now_ms >= conn->state_until_ms) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "%s did not %s in time", conn->peer_addr,
                      conn->state == RPC_CONN_CONNECTING ? "answer" : "say hello");
        return GFS_ERR_TIMEOUT;
    }
    if ((conn->frame_since_ms && now_ms >= conn->frame_since_ms + frame_ms) ||
        (conn->stalled_since_ms && now_ms >= conn->stalled_since_ms + frame_ms)) {
        rpc_conn_fail(conn, GFS_ERR_CONN, "%s stopped in the middle of a frame", conn->peer_addr);
        return GFS_ERR_TIMEOUT;
    }
    if (conn->state == RPC_CONN_OPEN && conn->is_outgoing &&
        now_ms >= conn->active_ms + conn->owner->limits.idle_timeout_ms) {
        if (conn->requests == 0 && (!conn->calls || conn->calls->count == 0) &&
            conn->owner->on_idle(conn->owner, conn)) {
            rpc_conn_fail(conn, GFS_ERR_CONN, "%s: idle", conn->peer_addr);
            return GFS_ERR_TIMEOUT;
        }
        conn->active_ms = now_ms;
    }
    return GFS_OK;
}

static void rpc_io_on_timer(struct loop_timer *timer)
{
    struct rpc_conn *conn = (struct rpc_conn *)((char *)timer - offsetof(struct rpc_conn, timer));

    conn->timer_at_ms = 0;
    conn->in_turn = true;
    rpc_io_end_turn(conn, rpc_io_expire(conn, loop_now_ms()));
}

void rpc_io_start(struct rpc_conn *conn)
{
    enum gfs_err err = loop_timer_init(&conn->timer, conn->loop, rpc_io_on_timer);

    conn->in_turn = true;
    conn->active_ms = loop_now_ms();
    if (!err && !conn->is_outgoing) {
        rpc_io_tune(conn->fd);
        rpc_io_begin_hello(conn);
        err = rpc_io_make_events(conn);
    } else if (!err && conn->start_at_ms > conn->active_ms) {
        conn->state = RPC_CONN_WAITING;
    } else if (!err) {
        err = rpc_io_connect(conn);
    }
    if (err) {
        conn->in_turn = false;
        rpc_io_shut(conn);
    }
}
