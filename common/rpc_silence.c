/*
 * rpc_silence: is the chunkserver that owes us a reply alive? Floor 4. One that was killed ends its
 * connections; one that is frozen, or was cut off the network, only says nothing, as does one whose
 * disk is slow. But event loops never block, so one that lives answers a ping at once:
 *
 *      last life          a third of silence_ms             silence_ms
 *   ------+----------------------+----------------------------+------> time
 *         |   nothing comes      | ping: it has the rest      | nothing came: the connection ends,
 *                                                               all its calls in CONN
 *
 * Life is: bytes that came in; bytes that a slow network took off our socket. A peer that has
 * stopped reading, for it has all the requests that it may have, does not see the ping: it says so
 * by itself, with replies to nothing.
 *
 * What we did not read because we stood still ourselves is no silence: the ping is sent when we
 * look, and what waits in our socket counts.
 */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "rpc.pb-c.h"
#include "rpc_conn.h"

#define RPC_SILENCE_TELL_MS     200u  /* between two words of one that does not read */
#define RPC_SILENCE_QUEUE_BYTES 4096u /* less is no transfer that needs time */

static int rpc_silence_ask(int fd, unsigned long request)
{
    int bytes = 0;

    return ioctl(fd, request, &bytes) == 0 ? bytes : 0;
}

void rpc_silence_heard(struct rpc_conn *conn, uint64_t now_ms)
{
    conn->life_ms = now_ms;
    conn->asked_ms = 0;
}

static bool rpc_silence_may_be(const struct rpc_conn *conn)
{
    return conn->owner->limits.silence_ms && conn->state == RPC_CONN_OPEN && !conn->is_paused &&
           conn->peer_role == GFS_ROLE_CHUNKSERVER && conn->calls && conn->calls->count;
}

/* Data is on its way, slowly: the peer cannot have answered it yet. */
static bool rpc_silence_is_sending(struct rpc_conn *conn)
{
    uint64_t queued_bytes = (uint64_t)rpc_silence_ask(conn->fd, SIOCOUTQ);
    uint64_t before_bytes = conn->taken_bytes;

    conn->taken_bytes = conn->sent_bytes - queued_bytes;
    return queued_bytes >= RPC_SILENCE_QUEUE_BYTES && conn->taken_bytes != before_bytes;
}

enum gfs_err rpc_silence_check(struct rpc_conn *conn, uint64_t now_ms)
{
    static const Gfs__Ping ping = GFS__PING__INIT;
    uint32_t silence_ms = conn->owner->limits.silence_ms;

    if (!rpc_silence_may_be(conn) || rpc_silence_is_sending(conn)) {
        rpc_silence_heard(conn, now_ms);
        return GFS_OK;
    }
    if (!conn->asked_ms) {
        if (now_ms < conn->life_ms + silence_ms / 3)
            return GFS_OK;
        conn->asked_ms = now_ms;
        if (!conn->out.first)
            rpc_call(conn, &(struct rpc_call_args){.type = GFS_MSG_PING,
                                                   .msg = &ping.base,
                                                   .timeout_ms = silence_ms});
        return GFS_OK;
    }
    if (now_ms < conn->asked_ms + silence_ms - silence_ms / 3 ||
        rpc_silence_ask(conn->fd, SIOCINQ) > 0)
        return GFS_OK;
    conn->was_silent = true;
    rpc_conn_fail(conn, GFS_ERR_CONN, "%s does not answer, not even a ping", conn->peer_addr);
    return GFS_ERR_CONN;
}

void rpc_silence_tell(struct rpc_conn *conn, uint64_t now_ms)
{
    static const Gfs__Pong pong = GFS__PONG__INIT;

    if (!conn->is_paused || conn->state != RPC_CONN_OPEN || conn->out.first ||
        now_ms < conn->told_ms + RPC_SILENCE_TELL_MS)
        return;
    conn->told_ms = now_ms;
    enum gfs_err err = rpc_conn_send_control(conn, GFS_MSG_PING, FRAME_FLAG_REPLY, &pong.base);
    (void)err; /* the next one may have the memory */
}
