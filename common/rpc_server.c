/*
 * rpc_server: listens on the first loop and spreads what it accepts over all of them. Floor 4.
 * Out of descriptors: the listener rests for a while instead of spinning. At conn_max: a new
 * connection is closed at once, so that its peer knows at once.
 */
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc_conn.h"

#define RPC_SERVER_BACKLOG      1024
#define RPC_SERVER_REST_MS      100
#define RPC_SERVER_ACCEPT_BATCH 64

struct rpc_server {
    struct rpc_owner owner; /* first: the owner's callbacks get its address */

    /* constant */
    struct loop **loops;
    size_t loop_count;
    char addr[ADDR_TEXT_MAX_BYTES];

    /* under owner.lock */
    bool is_listening;

    /* first loop's thread */
    int fd;
    struct event *accept_event;
    struct loop_timer rest_timer;
    size_t next_loop;
    struct loop_task start_task, stop_task;
};

/* ---- accepting ------------------------------------------------------------------------------- */

static void rpc_server_adopt(struct rpc_server *server, int fd)
{
    struct loop *loop = server->loops[server->next_loop++ % server->loop_count];
    char peer_addr[ADDR_TEXT_MAX_BYTES];
    struct rpc_conn *conn = NULL;

    rpc_io_name(fd, true, peer_addr);
    pthread_mutex_lock(&server->owner.lock);
    if (!server->owner.is_stopping && server->owner.conn_count < server->owner.limits.conn_max)
        conn = rpc_conn_new(&server->owner, loop, peer_addr);
    if (conn) {
        conn->fd = fd;
        rpc_owner_add(&server->owner, conn);
        rpc_conn_launch(conn);
    }
    pthread_mutex_unlock(&server->owner.lock);
    if (!conn)
        close(fd);
}

static void rpc_server_on_accept(evutil_socket_t listen_fd, short what, void *arg)
{
    struct rpc_server *server = arg;

    for (int i = 0; i < RPC_SERVER_ACCEPT_BATCH; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            rpc_server_adopt(server, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            event_del(server->accept_event);
            loop_timer_arm(&server->rest_timer, RPC_SERVER_REST_MS);
            return;
        } else if (errno == EAGAIN || (errno != EINTR && errno != ECONNABORTED)) {
            return;
        }
    }
}

static void rpc_server_on_rested(struct loop_timer *timer)
{
    struct rpc_server *server =
        (struct rpc_server *)((char *)timer - offsetof(struct rpc_server, rest_timer));

    event_add(server->accept_event, NULL);
}

static void rpc_server_on_start(struct loop_task *task)
{
    struct rpc_server *server =
        (struct rpc_server *)((char *)task - offsetof(struct rpc_server, start_task));

    event_add(server->accept_event, NULL);
}

static void rpc_server_on_stop(struct loop_task *task)
{
    struct rpc_server *server =
        (struct rpc_server *)((char *)task - offsetof(struct rpc_server, stop_task));

    event_free(server->accept_event);
    server->accept_event = NULL;
    loop_timer_release(&server->rest_timer);
    close(server->fd);
    server->fd = -1;
    pthread_mutex_lock(&server->owner.lock);
    server->is_listening = false;
    pthread_cond_broadcast(&server->owner.changed);
    pthread_mutex_unlock(&server->owner.lock);
}

/* ---- life ------------------------------------------------------------------------------------ */

static enum gfs_err rpc_server_bind(struct rpc_server *server, const char *listen_addr)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *info = NULL;
    char addr[ADDR_TEXT_MAX_BYTES], *port, *host;
    enum gfs_err err;
    int one = 1;

    err = addr_resolve(listen_addr, 0, addr);
    if (err)
        return err;
    port = strrchr(addr, ':');
    *port++ = '\0';
    host = addr;
    if (host[0] == '[') {
        host++;
        host[strlen(host) - 1] = '\0';
    }
    if (getaddrinfo(host, port, &hints, &info))
        return GFS_ERR_INVAL;
    server->fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->fd < 0 || setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        bind(server->fd, info->ai_addr, info->ai_addrlen) < 0 ||
        listen(server->fd, RPC_SERVER_BACKLOG) < 0)
        err = GFS_ERR_CONN;
    else
        rpc_io_name(server->fd, false, server->addr);
    freeaddrinfo(info);
    return err;
}

/* For a server that never ran. */
static void rpc_server_destroy(struct rpc_server *server)
{
    int saved_errno = errno; /* why the bind failed */

    if (server->accept_event)
        event_free(server->accept_event);
    loop_timer_release(&server->rest_timer);
    if (server->fd >= 0)
        close(server->fd);
    rpc_owner_release(&server->owner);
    free(server->loops);
    free(server);
    errno = saved_errno;
}

enum gfs_err rpc_server_new(const char *listen, struct loop *const *loops, size_t loop_count,
                            const struct rpc_identity *identity, const struct rpc_limits *limits,
                            const struct rpc_events *events, struct rpc_server **ret_server)
{
    struct rpc_server *server = calloc(1, sizeof(*server));
    enum gfs_err err;

    assert(loop_count > 0);
    if (!server)
        return GFS_ERR_NO_MEMORY;
    server->fd = -1;
    err = rpc_owner_init(&server->owner, identity, limits, events);
    if (err) {
        free(server);
        return err;
    }
    server->loop_count = loop_count;
    server->loops = malloc(loop_count * sizeof(struct loop *));
    err = server->loops ? rpc_server_bind(server, listen) : GFS_ERR_NO_MEMORY;
    if (!err) {
        memcpy(server->loops, loops, loop_count * sizeof(struct loop *));
        server->accept_event = event_new(loop_base(loops[0]), server->fd, EV_READ | EV_PERSIST,
                                         rpc_server_on_accept, server);
        err = server->accept_event
                  ? loop_timer_init(&server->rest_timer, loops[0], rpc_server_on_rested)
                  : GFS_ERR_NO_MEMORY;
    }
    if (err) {
        rpc_server_destroy(server);
        return err;
    }
    server->is_listening = true;
    server->start_task.fn = rpc_server_on_start;
    server->stop_task.fn = rpc_server_on_stop;
    loop_post(loops[0], &server->start_task);
    *ret_server = server;
    return GFS_OK;
}

const char *rpc_server_addr(const struct rpc_server *server)
{
    return server->addr;
}

void rpc_server_set_cluster(struct rpc_server *server, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    rpc_owner_set_cluster(&server->owner, cluster_id);
}

void rpc_server_free(struct rpc_server *server)
{
    if (!server)
        return;
    for (size_t i = 0; i < server->loop_count; i++)
        assert(!loop_is_current(server->loops[i]));
    pthread_mutex_lock(&server->owner.lock);
    server->owner.is_stopping = true;
    loop_post(server->loops[0], &server->stop_task);
    rpc_owner_close_all(&server->owner);
    rpc_owner_wait(&server->owner, server->loops, server->loop_count, &server->is_listening);
    pthread_mutex_unlock(&server->owner.lock);
    rpc_server_destroy(server);
}
