/* sim_rpc: connections, servers and clients. See sim_rpc.h. */
#include "sim_rpc.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

#define RPC_HELLO_US       (5 * SIM_S) /* to connect, and to say hello */
#define RPC_RESEND_US      (700 * SIM_MS)
#define RPC_BACKOFF_MIN_MS 50u
#define RPC_BACKOFF_MAX_MS 2000u
#define RPC_LOOPS_MAX      17u
#define RPC_PORT_FIRST     32768u

struct rpc_server {
    struct sim_owner owner; /* first */
    struct rpc_server *next, **at;
    struct loop *loops[RPC_LOOPS_MAX];
    size_t loop_count;
    size_t turn;
    char addr[ADDR_TEXT_MAX_BYTES];
};

struct sim_peer {
    struct sim_peer *next;
    char addr[ADDR_TEXT_MAX_BYTES];
    struct rpc_conn *conn;
    uint32_t backoff_ms; /* 0: the last try did not fail */
    uint64_t retry_at_us;
};

struct rpc_client {
    struct sim_owner owner; /* first */
    struct loop *loop;
    struct sim_peer *peers;
};

static struct rpc_server *servers;
static uint32_t port_count;

/* ---- connections ----------------------------------------------------------------------------- */

static void on_step(struct sim_event *event);

static void on_closing(struct sim_event *event)
{
    struct rpc_conn *conn = (struct rpc_conn *)((char *)event - offsetof(struct rpc_conn, closing));
    struct loop *was = sim_loop_enter(conn->loop);

    sim_conn_shut(conn);
    sim_loop_enter(was);
}

static struct rpc_conn *conn_new(struct sim_owner *owner, struct loop *loop, const char *peer_addr)
{
    struct rpc_conn *conn = calloc(1, sizeof(*conn));

    assert(conn);
    conn->refs = 1;
    conn->owner = owner;
    conn->loop = loop;
    conn->out_last = &conn->out_first;
    conn->step = (struct sim_event){.fn = on_step, .what = "connection"};
    conn->closing = (struct sim_event){.fn = on_closing, .what = "close"};
    conn->flush = (struct sim_event){.fn = sim_call_on_flush, .what = "flush"};
    snprintf(conn->peer_addr, sizeof(conn->peer_addr), "%s", peer_addr);
    conn->next = owner->conns;
    if (conn->next)
        conn->next->at = &conn->next;
    conn->at = &owner->conns;
    owner->conns = conn;
    return conn;
}

struct rpc_conn *rpc_conn_ref(struct rpc_conn *conn)
{
    conn->refs++;
    return conn;
}

void rpc_conn_unref(struct rpc_conn *conn)
{
    assert(conn->refs > 0);
    if (--conn->refs == 0) {
        assert(conn->state == SIM_CONN_CLOSED);
        free(conn);
    }
}

void sim_conn_fail(struct rpc_conn *conn, enum gfs_err err, const char *fmt, ...)
{
    va_list args;

    if (conn->fail_err)
        return; /* the first reason is the reason */
    conn->fail_err = err;
    va_start(args, fmt);
    vsnprintf(conn->fail_detail, sizeof(conn->fail_detail), fmt, args);
    va_end(args);
}

static void leave_peer(struct rpc_conn *conn)
{
    struct sim_peer *peer = conn->peer;

    if (!peer)
        return;
    conn->peer = NULL;
    if (peer->conn != conn)
        return;
    peer->conn = NULL;
    if (conn->was_open)
        return;
    peer->backoff_ms = peer->backoff_ms ? 2 * peer->backoff_ms : RPC_BACKOFF_MIN_MS;
    if (peer->backoff_ms > RPC_BACKOFF_MAX_MS)
        peer->backoff_ms = RPC_BACKOFF_MAX_MS;
    peer->retry_at_us = sim->now_us + peer->backoff_ms * SIM_MS;
}

/* On its loop; the last thing that happens to it. */
void sim_conn_shut(struct rpc_conn *conn)
{
    if (conn->state == SIM_CONN_CLOSED)
        return;
    sim_conn_fail(conn, GFS_ERR_CONN, "%s: the connection was closed", conn->peer_addr);
    conn->state = SIM_CONN_CLOSED;
    leave_peer(conn);
    sim_cancel(&conn->step);
    sim_cancel(&conn->closing);
    sim_cancel(&conn->flush);
    if (conn->pipe)
        sim_pipe_close(conn->pipe, sim_pipe_side(conn->pipe, conn), false);
    sim_call_conn_ends(conn);
    if (conn->was_open && conn->owner->events.on_close)
        conn->owner->events.on_close(conn->owner->events.arg, conn);
    *conn->at = conn->next;
    if (conn->next)
        conn->next->at = conn->at;
    rpc_conn_unref(conn);
}

void rpc_conn_close(struct rpc_conn *conn)
{
    if (conn->state != SIM_CONN_CLOSED && !sim_is_scheduled(&conn->closing))
        sim_schedule(&conn->closing, conn->owner->node, sim_below(SIM_STREAM_NET, 50));
}

void sim_rpc_lost(struct rpc_conn *conn, const char *why)
{
    struct loop *was = sim_loop_enter(conn->loop);

    sim_trace("lost %s: %s", conn->peer_addr, why);
    sim_conn_fail(conn, GFS_ERR_CONN, "%s: %s", conn->peer_addr, why);
    sim_conn_shut(conn);
    sim_loop_enter(was);
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
    conn->user = user;
}

void *rpc_conn_user(const struct rpc_conn *conn)
{
    return conn->user;
}

/* ---- hello ----------------------------------------------------------------------------------- */

static void send_hello(struct rpc_conn *conn, enum sim_frame_kind kind, enum gfs_err refusal)
{
    struct sim_frame *frame = sim_frame_new(kind, GFS_MSG_HELLO, 0);

    frame->identity = conn->owner->identity;
    frame->refusal = refusal;
    sim_pipe_send(conn->pipe, sim_pipe_side(conn->pipe, conn), frame);
}

static void conn_open(struct rpc_conn *conn)
{
    conn->state = SIM_CONN_OPEN;
    conn->was_open = true;
    sim_cancel(&conn->step);
    if (conn->peer && conn->peer->conn == conn)
        conn->peer->backoff_ms = 0;
    sim_call_flush_soon(conn);
}

static bool is_other_cluster(const struct rpc_identity *ours, const struct rpc_identity *theirs)
{
    return !uuid_is_zero(ours->cluster_id) && !uuid_is_zero(theirs->cluster_id) &&
           memcmp(ours->cluster_id, theirs->cluster_id, GFS_UUID_BYTES) != 0;
}

static void on_hello(struct rpc_conn *conn, const struct sim_frame *frame)
{
    conn->with = frame->identity;
    if (is_other_cluster(&conn->owner->identity, &frame->identity)) {
        send_hello(conn, SIM_FRAME_REFUSAL, GFS_ERR_OTHER_CLUSTER);
        sim_conn_fail(conn, GFS_ERR_OTHER_CLUSTER, "refused");
        sim_conn_shut(conn);
        return;
    }
    send_hello(conn, SIM_FRAME_HELLO_OK, GFS_OK);
    conn_open(conn);
}

static void on_hello_answer(struct rpc_conn *conn, const struct sim_frame *frame)
{
    enum gfs_err err = frame->kind == SIM_FRAME_REFUSAL ? frame->refusal : GFS_OK;

    if (!err && is_other_cluster(&conn->owner->identity, &frame->identity))
        err = GFS_ERR_OTHER_CLUSTER;
    if (err) {
        sim_conn_fail(conn, err, "%s: %s", conn->peer_addr, gfs_err_text(err));
        sim_conn_shut(conn);
        return;
    }
    conn->with = frame->identity;
    conn_open(conn);
}

void sim_rpc_deliver(struct rpc_conn *conn, struct sim_frame *frame)
{
    switch (frame->kind) {
    case SIM_FRAME_HELLO:
        on_hello(conn, frame);
        break;
    case SIM_FRAME_HELLO_OK:
    case SIM_FRAME_REFUSAL:
        on_hello_answer(conn, frame);
        break;
    case SIM_FRAME_REQUEST:
        sim_call_on_request(conn, frame);
        break;
    case SIM_FRAME_REPLY:
    case SIM_FRAME_ERROR:
        sim_call_on_answer(conn, frame);
        break;
    case SIM_FRAME_END:
        break;
    }
}

/* ---- connecting ------------------------------------------------------------------------------ */

static struct sim_node *find_node(const char *addr)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        if (strcmp(sim->nodes[i].addr, addr) == 0)
            return &sim->nodes[i];
    return NULL;
}

static struct rpc_server *find_server(const char *addr)
{
    struct rpc_server *server = servers;

    while (server && strcmp(server->addr, addr) != 0)
        server = server->next;
    return server;
}

static void step_in(struct rpc_conn *conn, uint64_t delay_us)
{
    sim_cancel(&conn->step);
    sim_schedule(&conn->step, conn->owner->node, delay_us);
}

static void accept_conn(struct rpc_server *server, struct rpc_conn *from)
{
    struct loop *loop = server->loops[server->turn++ % server->loop_count];
    struct rpc_conn *conn = conn_new(&server->owner, loop, from->local_addr);

    snprintf(conn->local_addr, sizeof(conn->local_addr), "%s", server->addr);
    conn->state = SIM_CONN_HELLO;
    conn->pipe = from->pipe = sim_pipe_new(from->owner->node, from, server->owner.node, conn);
    step_in(conn, RPC_HELLO_US);
}

/* The packet is on its way; what comes of it shows a round trip later. */
static void try_connect(struct rpc_conn *conn)
{
    struct sim_node *from = conn->owner->node, *to = find_node(conn->peer_addr);
    struct rpc_server *server = find_server(conn->peer_addr);
    uint64_t round_us;

    if (!to || !sim_net_reaches(from, to) || !sim_net_reaches(to, from)) {
        if (sim->now_us >= conn->state_until_us) {
            sim_conn_fail(conn, GFS_ERR_CONN, "%s did not answer in time", conn->peer_addr);
            sim_conn_shut(conn);
            return;
        }
        step_in(conn, RPC_RESEND_US / 2 + sim_below(SIM_STREAM_NET, RPC_RESEND_US));
        return;
    }
    round_us = sim_net_delay_us(from, to) + sim_net_delay_us(to, from);
    if (!server) {
        sim_conn_fail(conn, GFS_ERR_CONN, "cannot connect to %s: Connection refused",
                      conn->peer_addr);
        sim_schedule(&conn->closing, from, round_us);
        return;
    }
    snprintf(conn->local_addr, sizeof(conn->local_addr), "%s:%u", from->ip,
             RPC_PORT_FIRST + port_count++ % 28000u);
    accept_conn(server, conn);
    conn->state = SIM_CONN_HELLO;
    send_hello(conn, SIM_FRAME_HELLO, GFS_OK);
    step_in(conn, RPC_HELLO_US);
}

static void on_step(struct sim_event *event)
{
    struct rpc_conn *conn = (struct rpc_conn *)((char *)event - offsetof(struct rpc_conn, step));
    struct loop *was = sim_loop_enter(conn->loop);

    if (conn->state == SIM_CONN_WAITING) {
        if (!conn->state_until_us)
            conn->state_until_us = sim->now_us + RPC_HELLO_US;
        try_connect(conn);
    } else if (conn->state == SIM_CONN_HELLO) {
        sim_conn_fail(conn, GFS_ERR_CONN, "%s did not say hello in time", conn->peer_addr);
        sim_conn_shut(conn);
    }
    sim_loop_enter(was);
}

/* ---- servers --------------------------------------------------------------------------------- */

static void owner_init(struct sim_owner *owner, const struct rpc_identity *identity,
                       const struct rpc_limits *limits, const struct rpc_events *events)
{
    assert(sim->current);
    owner->node = sim->current;
    owner->identity = *identity;
    if (limits)
        owner->limits = *limits;
    if (events)
        owner->events = *events;
}

enum gfs_err rpc_server_new(const char *listen, struct loop *const *loops, size_t loop_count,
                            const struct rpc_identity *identity, const struct rpc_limits *limits,
                            const struct rpc_events *events, struct rpc_server **ret_server)
{
    struct rpc_server *server;

    assert(loop_count > 0 && loop_count <= RPC_LOOPS_MAX);
    if (find_server(listen))
        return GFS_ERR_CONN;
    server = calloc(1, sizeof(*server));
    assert(server);
    owner_init(&server->owner, identity, limits, events);
    memcpy(server->loops, loops, loop_count * sizeof(loops[0]));
    server->loop_count = loop_count;
    snprintf(server->addr, sizeof(server->addr), "%s", listen);
    server->next = servers;
    if (server->next)
        server->next->at = &server->next;
    server->at = &servers;
    servers = server;
    *ret_server = server;
    return GFS_OK;
}

const char *rpc_server_addr(const struct rpc_server *server)
{
    return server->addr;
}

void rpc_server_set_cluster(struct rpc_server *server, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    memcpy(server->owner.identity.cluster_id, cluster_id, GFS_UUID_BYTES);
}

static void owner_close_all(struct sim_owner *owner)
{
    while (owner->conns) {
        struct loop *was = sim_loop_enter(owner->conns->loop);

        sim_conn_shut(owner->conns);
        sim_loop_enter(was);
    }
}

static void server_unlink(struct rpc_server *server)
{
    *server->at = server->next;
    if (server->next)
        server->next->at = server->at;
}

void rpc_server_free(struct rpc_server *server)
{
    if (!server)
        return;
    server_unlink(server);
    owner_close_all(&server->owner);
    free(server);
}

void sim_rpc_node_ended(struct sim_node *node)
{
    for (struct rpc_server *server = servers, *next; server; server = next) {
        next = server->next;
        if (server->owner.node == node)
            server_unlink(server);
    }
    sim_call_node_ended(node);
}

/* ---- clients --------------------------------------------------------------------------------- */

enum gfs_err rpc_client_new(struct loop *loop, const struct rpc_identity *identity,
                            const struct rpc_limits *limits, const struct rpc_events *events,
                            struct rpc_client **ret_client)
{
    struct rpc_client *client = calloc(1, sizeof(*client));

    assert(client);
    owner_init(&client->owner, identity, limits, events);
    client->loop = loop;
    *ret_client = client;
    return GFS_OK;
}

static struct sim_peer *find_peer(struct rpc_client *client, const char *addr)
{
    struct sim_peer *peer = client->peers;

    while (peer && strcmp(peer->addr, addr) != 0)
        peer = peer->next;
    return peer;
}

static struct sim_peer *get_peer(struct rpc_client *client, const char *addr)
{
    struct sim_peer *peer = find_peer(client, addr);

    if (peer)
        return peer;
    peer = calloc(1, sizeof(*peer));
    assert(peer);
    snprintf(peer->addr, sizeof(peer->addr), "%s", addr);
    peer->next = client->peers;
    client->peers = peer;
    return peer;
}

void rpc_client_call(struct rpc_client *client, const char *addr, const struct rpc_call_args *args)
{
    struct sim_peer *peer = get_peer(client, addr);
    uint64_t wait_us = 0;

    if (!peer->conn) {
        struct rpc_conn *conn = conn_new(&client->owner, client->loop, addr);

        conn->is_outgoing = true;
        conn->peer = peer;
        peer->conn = conn;
        if (peer->backoff_ms && peer->retry_at_us > sim->now_us)
            wait_us = peer->retry_at_us - sim->now_us;
        step_in(conn, wait_us + sim_below(SIM_STREAM_NET, 40));
    }
    sim_call_begin(peer->conn, args);
    sim_task_yield();
}

void rpc_client_set_cluster(struct rpc_client *client, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    memcpy(client->owner.identity.cluster_id, cluster_id, GFS_UUID_BYTES);
}

bool rpc_client_peer_cluster(struct rpc_client *client, const char *addr,
                             uint8_t ret_cluster_id[GFS_UUID_BYTES])
{
    struct sim_peer *peer = find_peer(client, addr);

    assert(loop_is_current(client->loop));
    if (!peer || !peer->conn || peer->conn->state != SIM_CONN_OPEN)
        return false;
    memcpy(ret_cluster_id, peer->conn->with.cluster_id, GFS_UUID_BYTES);
    return true;
}

void rpc_client_drop(struct rpc_client *client, const char *addr)
{
    struct sim_peer *peer = find_peer(client, addr);

    if (!peer || !peer->conn)
        return;
    rpc_conn_close(peer->conn);
    peer->conn->peer = NULL;
    peer->conn = NULL;
}

void rpc_client_free(struct rpc_client *client)
{
    if (!client)
        return;
    assert(!loop_is_current(client->loop));
    owner_close_all(&client->owner);
    while (client->peers) {
        struct sim_peer *peer = client->peers;

        client->peers = peer->next;
        free(peer);
    }
    free(client);
}
