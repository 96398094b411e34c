/* rpc_owner: the connections of a server or client, and the wait for their end. Floor 4. */
#include <string.h>
#include <time.h>

#include "rpc_conn.h"

#define RPC_OWNER_WAIT_MS 5

static void rpc_owner_set_limits(struct rpc_limits *limits, const struct rpc_limits *given)
{
    static const struct rpc_limits zero;

    *limits = given ? *given : zero;
    if (!limits->conn_max)
        limits->conn_max = 4096;
    if (!limits->requests_max)
        limits->requests_max = 1024;
    if (!limits->request_bytes)
        limits->request_bytes = 32u << 20;
    if (!limits->reply_bytes)
        limits->reply_bytes = 32u << 20;
    if (!limits->hello_timeout_ms)
        limits->hello_timeout_ms = 5000;
    if (!limits->frame_timeout_ms)
        limits->frame_timeout_ms = 60000;
    if (!limits->idle_timeout_ms)
        limits->idle_timeout_ms = 300000;
    if (!limits->total_bytes)
        limits->total_bytes = 256u << 20;
}

enum gfs_err rpc_owner_init(struct rpc_owner *owner, const struct rpc_identity *identity,
                            const struct rpc_limits *limits, const struct rpc_events *events)
{
    pthread_condattr_t attr;

    owner->identity = *identity;
    rpc_owner_set_limits(&owner->limits, limits);
    if (events)
        owner->events = *events;
    if (pthread_mutex_init(&owner->lock, NULL))
        return GFS_ERR_NO_MEMORY;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&owner->changed, &attr);
    pthread_condattr_destroy(&attr);
    return GFS_OK;
}

void rpc_owner_release(struct rpc_owner *owner)
{
    pthread_cond_destroy(&owner->changed);
    pthread_mutex_destroy(&owner->lock);
}

void rpc_owner_get_identity(struct rpc_owner *owner, struct rpc_identity *ret_identity)
{
    pthread_mutex_lock(&owner->lock);
    *ret_identity = owner->identity;
    pthread_mutex_unlock(&owner->lock);
}

void rpc_owner_set_cluster(struct rpc_owner *owner, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    pthread_mutex_lock(&owner->lock);
    memcpy(owner->identity.cluster_id, cluster_id, GFS_UUID_BYTES);
    pthread_mutex_unlock(&owner->lock);
}

void rpc_owner_add(struct rpc_owner *owner, struct rpc_conn *conn)
{
    conn->owner_prev = NULL;
    conn->owner_next = owner->conns;
    if (owner->conns)
        owner->conns->owner_prev = conn;
    owner->conns = conn;
    owner->conn_count++;
}

void rpc_owner_remove(struct rpc_owner *owner, struct rpc_conn *conn)
{
    if (conn->owner_prev)
        conn->owner_prev->owner_next = conn->owner_next;
    else
        owner->conns = conn->owner_next;
    if (conn->owner_next)
        conn->owner_next->owner_prev = conn->owner_prev;
    owner->conn_count--;
    pthread_cond_broadcast(&owner->changed);
}

void rpc_owner_close_all(struct rpc_owner *owner)
{
    for (struct rpc_conn *conn = owner->conns; conn; conn = conn->owner_next)
        rpc_conn_close(conn);
}

void rpc_owner_wait(struct rpc_owner *owner, struct loop *const *loops, size_t loop_count,
                    const bool *flag)
{
    struct timespec until;

    while (owner->conn_count > 0 || (flag && *flag)) {
        pthread_mutex_unlock(&owner->lock);
        for (size_t i = 0; i < loop_count; i++)
            loop_turn(loops[i]);
        pthread_mutex_lock(&owner->lock);
        if (owner->conn_count == 0 && !(flag && *flag))
            break;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += RPC_OWNER_WAIT_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&owner->changed, &owner->lock, &until);
    }
}
