/*
 * rpc_client: outgoing connections by address. Floor 4. A peer is remembered with the connection to
 * it, if there is one, and with the pause before the next try.
 *
 * The owner's lock covers finding a connection and pushing a call to it, and the connection leaves
 * its peer under the same lock before it closes: so no call is given to one that is on its way out.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "rpc_conn.h"

#define RPC_CLIENT_BACKOFF_MIN_MS 50
#define RPC_CLIENT_BACKOFF_MAX_MS 2000

struct rpc_peer {
    UT_hash_handle hh;
    char addr[ADDR_TEXT_MAX_BYTES];
    struct rpc_conn *conn; /* not referenced: it leaves before it closes */
    uint32_t backoff_ms;   /* 0: the last try did not fail */
    uint64_t retry_at_ms;
    bool was_silent; /* and has not said hello since */
};

struct rpc_client {
    struct rpc_owner owner; /* first: the owner's callbacks get its address */
    struct loop *loop;      /* constant */

    /* under owner.lock */
    struct rpc_peer *peers;
};

static struct rpc_peer *rpc_client_find(struct rpc_client *client, const char *addr)
{
    struct rpc_peer *peer;

    HASH_FIND_STR(client->peers, addr, peer);
    return peer;
}

/* Makes room among the peers by forgetting one that is not connected. */
static bool rpc_client_make_room(struct rpc_client *client)
{
    struct rpc_peer *peer, *next;

    if (HASH_COUNT(client->peers) < client->owner.limits.conn_max)
        return true;
    HASH_ITER (hh, client->peers, peer, next) {
        if (!peer->conn) {
            HASH_DEL(client->peers, peer);
            free(peer);
            return true;
        }
    }
    return false;
}

/* The connection to addr, made if there is none. */
static enum gfs_err rpc_client_get(struct rpc_client *client, const char *addr,
                                   struct rpc_conn **ret_conn)
{
    struct rpc_peer *peer = rpc_client_find(client, addr);

    if (client->owner.is_stopping)
        return GFS_ERR_CONN;
    if (strlen(addr) >= ADDR_TEXT_MAX_BYTES)
        return GFS_ERR_INVAL;
    if (!peer) {
        if (!rpc_client_make_room(client))
            return GFS_ERR_BUSY;
        peer = calloc(1, sizeof(*peer));
        if (!peer)
            return GFS_ERR_NO_MEMORY;
        strcpy(peer->addr, addr);
        HASH_ADD_STR(client->peers, addr, peer);
    }
    if (!peer->conn) {
        peer->conn = rpc_conn_new(&client->owner, client->loop, addr);
        if (!peer->conn)
            return GFS_ERR_NO_MEMORY;
        peer->conn->is_outgoing = true;
        peer->conn->start_at_ms = peer->backoff_ms ? peer->retry_at_ms : 0;
        if (peer->was_silent)
            peer->conn->hello_ms = client->owner.limits.silence_ms;
        rpc_owner_add(&client->owner, peer->conn);
        rpc_conn_launch(peer->conn);
    }
    *ret_conn = peer->conn;
    return GFS_OK;
}

void rpc_client_call(struct rpc_client *client, const char *addr, const struct rpc_call_args *args)
{
    struct rpc_call *call = rpc_call_new(args);
    struct rpc_conn *conn;
    enum gfs_err err;

    pthread_mutex_lock(&client->owner.lock);
    err = call->fail_err ? call->fail_err : rpc_client_get(client, addr, &conn);
    if (!err && !rpc_conn_push(conn, &call->out))
        err = GFS_ERR_CONN;
    pthread_mutex_unlock(&client->owner.lock);
    if (err)
        rpc_call_fail_later(call, client->loop, err);
}

static void rpc_client_on_open(struct rpc_owner *owner, struct rpc_conn *conn)
{
    struct rpc_client *client = (struct rpc_client *)owner;
    struct rpc_peer *peer;

    pthread_mutex_lock(&owner->lock);
    peer = rpc_client_find(client, conn->peer_addr);
    if (peer && peer->conn == conn) {
        peer->backoff_ms = 0;
        peer->was_silent = false;
    }
    pthread_mutex_unlock(&owner->lock);
}

static void rpc_client_on_shut(struct rpc_owner *owner, struct rpc_conn *conn)
{
    struct rpc_client *client = (struct rpc_client *)owner;
    struct rpc_peer *peer;

    pthread_mutex_lock(&owner->lock);
    peer = rpc_client_find(client, conn->peer_addr);
    if (peer && peer->conn == conn) {
        peer->conn = NULL;
        peer->was_silent |= conn->was_silent;
        if (!conn->was_open) {
            peer->backoff_ms = peer->backoff_ms ? 2 * peer->backoff_ms : RPC_CLIENT_BACKOFF_MIN_MS;
            if (peer->backoff_ms > RPC_CLIENT_BACKOFF_MAX_MS)
                peer->backoff_ms = RPC_CLIENT_BACKOFF_MAX_MS;
            peer->retry_at_ms = loop_now_ms() + peer->backoff_ms;
        }
    }
    pthread_mutex_unlock(&owner->lock);
}

static bool rpc_client_on_idle(struct rpc_owner *owner, struct rpc_conn *conn)
{
    struct rpc_client *client = (struct rpc_client *)owner;
    struct rpc_peer *peer;
    bool may_go;

    pthread_mutex_lock(&owner->lock);
    pthread_mutex_lock(&conn->lock);
    may_go = !conn->inbox_first;
    pthread_mutex_unlock(&conn->lock);
    peer = rpc_client_find(client, conn->peer_addr);
    if (may_go && peer && peer->conn == conn)
        peer->conn = NULL;
    pthread_mutex_unlock(&owner->lock);
    return may_go;
}

enum gfs_err rpc_client_new(struct loop *loop, const struct rpc_identity *identity,
                            const struct rpc_limits *limits, const struct rpc_events *events,
                            struct rpc_client **ret_client)
{
    struct rpc_client *client = calloc(1, sizeof(*client));
    enum gfs_err err;

    if (!client)
        return GFS_ERR_NO_MEMORY;
    err = rpc_owner_init(&client->owner, identity, limits, events);
    if (err) {
        free(client);
        return err;
    }
    client->loop = loop;
    client->owner.on_open = rpc_client_on_open;
    client->owner.on_shut = rpc_client_on_shut;
    client->owner.on_idle = rpc_client_on_idle;
    *ret_client = client;
    return GFS_OK;
}

void rpc_client_set_cluster(struct rpc_client *client, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    rpc_owner_set_cluster(&client->owner, cluster_id);
}

bool rpc_client_peer_cluster(struct rpc_client *client, const char *addr,
                             uint8_t ret_cluster_id[GFS_UUID_BYTES])
{
    const struct rpc_peer *peer;
    bool known;

    assert(loop_is_current(client->loop));
    pthread_mutex_lock(&client->owner.lock);
    peer = rpc_client_find(client, addr);
    known = peer && peer->conn && peer->conn->state == RPC_CONN_OPEN;
    if (known)
        memcpy(ret_cluster_id, peer->conn->peer_cluster, GFS_UUID_BYTES);
    pthread_mutex_unlock(&client->owner.lock);
    return known;
}

void rpc_client_drop(struct rpc_client *client, const char *addr)
{
    struct rpc_peer *peer;

    pthread_mutex_lock(&client->owner.lock);
    peer = rpc_client_find(client, addr);
    if (peer && peer->conn) {
        rpc_conn_close(peer->conn);
        peer->conn = NULL;
    }
    pthread_mutex_unlock(&client->owner.lock);
}

void rpc_client_free(struct rpc_client *client)
{
    struct rpc_peer *peer, *next;

    if (!client)
        return;
    assert(!loop_is_current(client->loop));
    pthread_mutex_lock(&client->owner.lock);
    client->owner.is_stopping = true;
    rpc_owner_close_all(&client->owner);
    rpc_owner_wait(&client->owner, &client->loop, 1, NULL);
    pthread_mutex_unlock(&client->owner.lock);
    HASH_ITER (hh, client->peers, peer, next) {
        HASH_DEL(client->peers, peer);
        free(peer);
    }
    rpc_owner_release(&client->owner);
    free(client);
}
