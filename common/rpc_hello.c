/*
 * rpc_hello: the first frame each way. Floor 4. The opener says who it is; the other side checks
 * version and cluster and answers with its own, or with an error that says why not and then the
 * end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "rpc.pb-c.h"
#include "rpc_conn.h"

static ProtobufCBinaryData rpc_hello_uuid(uint8_t uuid[GFS_UUID_BYTES])
{
    return (ProtobufCBinaryData){.len = uuid_is_zero(uuid) ? 0 : GFS_UUID_BYTES, .data = uuid};
}

/* Absent ones become zeros. */
static bool rpc_hello_get_uuid(const ProtobufCBinaryData *data, uint8_t ret_uuid[GFS_UUID_BYTES])
{
    if (data->len != 0 && data->len != GFS_UUID_BYTES)
        return false;
    memset(ret_uuid, 0, GFS_UUID_BYTES);
    if (data->len)
        memcpy(ret_uuid, data->data, GFS_UUID_BYTES);
    return true;
}

enum gfs_err rpc_hello_send(struct rpc_conn *conn)
{
    struct rpc_identity identity;
    Gfs__Hello hello = GFS__HELLO__INIT;

    rpc_owner_get_identity(conn->owner, &identity);
    hello.version_min = GFS_PROTO_VERSION;
    hello.version_max = GFS_PROTO_VERSION;
    hello.cluster_id = rpc_hello_uuid(identity.cluster_id);
    hello.role = identity.role;
    hello.peer_id = rpc_hello_uuid(identity.peer_id);
    return rpc_conn_send_control(conn, GFS_MSG_HELLO, 0, &hello.base);
}

/* The connection stays until the peer has read why. */
static enum gfs_err rpc_hello_refuse(struct rpc_conn *conn, enum gfs_err err, const char *detail)
{
    Gfs__ErrorReply reply = GFS__ERROR_REPLY__INIT;

    reply.code = err;
    reply.detail = (char *)detail;
    conn->state = RPC_CONN_ENDING;
    rpc_conn_fail(conn, err, "%s", detail);
    return rpc_conn_send_control(conn, GFS_MSG_HELLO, FRAME_FLAG_REPLY | FRAME_FLAG_ERROR,
                                 &reply.base);
}

/* The text of a refusal, when the clusters differ. */
static bool rpc_hello_is_other_cluster(const struct rpc_identity *ours,
                                       const uint8_t theirs[GFS_UUID_BYTES], char *ret_detail,
                                       size_t detail_bytes)
{
    char our_text[37], their_text[37];

    if (uuid_is_zero(ours->cluster_id) || uuid_is_zero(theirs) ||
        memcmp(ours->cluster_id, theirs, GFS_UUID_BYTES) == 0)
        return false;
    uuid_format(ours->cluster_id, our_text);
    uuid_format(theirs, their_text);
    snprintf(ret_detail, detail_bytes, "this is cluster %s, the peer belongs to cluster %s",
             our_text, their_text);
    return true;
}

static void rpc_hello_open(struct rpc_conn *conn)
{
    conn->state = RPC_CONN_OPEN;
    conn->was_open = true;
    if (conn->owner->on_open)
        conn->owner->on_open(conn->owner, conn);
    rpc_call_on_open(conn);
}

static enum gfs_err rpc_hello_answer(struct rpc_conn *conn, const Gfs__Hello *hello)
{
    struct rpc_identity identity;
    char detail[RPC_FAIL_DETAIL_BYTES];
    Gfs__HelloOk ok = GFS__HELLO_OK__INIT;
    enum gfs_err err;

    rpc_owner_get_identity(conn->owner, &identity);
    if (hello->version_min > GFS_PROTO_VERSION || hello->version_max < GFS_PROTO_VERSION) {
        snprintf(detail, sizeof(detail), "protocol versions %u to %u offered, this server has %u",
                 hello->version_min, hello->version_max, GFS_PROTO_VERSION);
        return rpc_hello_refuse(conn, GFS_ERR_VERSION, detail);
    }
    if (hello->role < GFS_ROLE_CLIENT || hello->role > GFS_ROLE_MASTER ||
        !rpc_hello_get_uuid(&hello->cluster_id, conn->peer_cluster) ||
        !rpc_hello_get_uuid(&hello->peer_id, conn->peer_id))
        return GFS_ERR_PROTO;
    if (rpc_hello_is_other_cluster(&identity, conn->peer_cluster, detail, sizeof(detail)))
        return rpc_hello_refuse(conn, GFS_ERR_OTHER_CLUSTER, detail);
    conn->peer_role = (enum gfs_role)hello->role;
    ok.version = GFS_PROTO_VERSION;
    ok.cluster_id = rpc_hello_uuid(identity.cluster_id);
    ok.role = identity.role;
    ok.peer_id = rpc_hello_uuid(identity.peer_id);
    err = rpc_conn_send_control(conn, GFS_MSG_HELLO, FRAME_FLAG_REPLY, &ok.base);
    if (!err)
        rpc_hello_open(conn);
    return err;
}

static enum gfs_err rpc_hello_check_ok(struct rpc_conn *conn, const Gfs__HelloOk *ok)
{
    struct rpc_identity identity;
    char detail[RPC_FAIL_DETAIL_BYTES];

    rpc_owner_get_identity(conn->owner, &identity);
    if (ok->version != GFS_PROTO_VERSION || ok->role < GFS_ROLE_CLIENT ||
        ok->role > GFS_ROLE_MASTER || !rpc_hello_get_uuid(&ok->cluster_id, conn->peer_cluster) ||
        !rpc_hello_get_uuid(&ok->peer_id, conn->peer_id))
        return GFS_ERR_PROTO;
    if (rpc_hello_is_other_cluster(&identity, conn->peer_cluster, detail, sizeof(detail))) {
        rpc_conn_fail(conn, GFS_ERR_OTHER_CLUSTER, "%s: %s", conn->peer_addr, detail);
        return GFS_ERR_OTHER_CLUSTER;
    }
    conn->peer_role = (enum gfs_role)ok->role;
    rpc_hello_open(conn);
    return GFS_OK;
}

static enum gfs_err rpc_hello_on_refusal(struct rpc_conn *conn, const Gfs__ErrorReply *reply)
{
    enum gfs_err err = gfs_err_from_wire(reply->code);

    if (err == GFS_OK)
        err = GFS_ERR_PROTO;
    rpc_conn_fail(conn, err, "%s refused us: %s: %.150s", conn->peer_addr, gfs_err_text(err),
                  reply->detail);
    return err;
}

enum gfs_err rpc_hello_on_head(struct rpc_conn *conn)
{
    const struct frame_header *head = &conn->in.head;
    const ProtobufCMessageDescriptor *type = &gfs__hello__descriptor;
    ProtobufCMessage *msg;
    enum gfs_err err;

    if (head->type != GFS_MSG_HELLO || head->payload_bytes ||
        conn->is_outgoing != !!(head->flags & FRAME_FLAG_REPLY))
        return GFS_ERR_PROTO;
    if (conn->is_outgoing)
        type = head->flags & FRAME_FLAG_ERROR ? &gfs__error_reply__descriptor
                                              : &gfs__hello_ok__descriptor;
    msg = protobuf_c_message_unpack(type, NULL, head->message_bytes, rpc_in_message(&conn->in));
    if (!msg)
        return GFS_ERR_PROTO;
    rpc_in_accept(&conn->in, NULL);
    if (!conn->is_outgoing)
        err = rpc_hello_answer(conn, (const Gfs__Hello *)msg);
    else if (head->flags & FRAME_FLAG_ERROR)
        err = rpc_hello_on_refusal(conn, (const Gfs__ErrorReply *)msg);
    else
        err = rpc_hello_check_ok(conn, (const Gfs__HelloOk *)msg);
    protobuf_c_message_free_unpacked(msg, NULL);
    return err;
}
