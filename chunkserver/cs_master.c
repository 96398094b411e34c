/*
 * cs_master: how this server stands with its master. Control thread.
 *
 *   [away] --REGISTER ok--> [registered]: full report part after part, heartbeats with the changes
 *      ^                         |         since the last one, then the report again, slowly
 *      +--- connection lost, unknown to the master, three heartbeats unanswered
 *
 * The master calls us on the connection we opened, so a new connection means registering again.
 * While it is away reads go on, and writes under leases that have not run out.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "control.pb-c.h"
#include "log.h"

#define CS_MASTER_CALL_MS      5000u
#define CS_MASTER_REPORT_MS    30000u
#define CS_MASTER_RETRY_MIN_MS 100u
#define CS_MASTER_RETRY_MAX_MS 2000u
#define CS_MASTER_MISSES_MAX   3u

/* A call under way: the registration it belongs to. */
struct master_call {
    struct chunkserver *cs;
    uint32_t generation;
};

static uint32_t retry_ms(const struct cs_master *master)
{
    uint32_t shift = master->failures < 6 ? master->failures : 6;
    uint32_t delay_ms = CS_MASTER_RETRY_MIN_MS << shift;

    return delay_ms < CS_MASTER_RETRY_MAX_MS ? delay_ms : CS_MASTER_RETRY_MAX_MS;
}

static void master_call(struct chunkserver *cs, enum gfs_msg type, const ProtobufCMessage *msg,
                        uint32_t timeout_ms, rpc_done_fn *done)
{
    struct rpc_call_args args = {.type = type, .msg = msg};
    struct master_call *call = malloc(sizeof *call);

    if (!call)
        abort(); /* some bytes, and nothing to be done without them */
    call->cs = cs;
    call->generation = cs->master.generation;
    args.timeout_ms = timeout_ms;
    args.done = done;
    args.arg = call;
    rpc_client_call(cs->control.client, cs->master_addr, &args);
}

static void space(struct chunkserver *cs, uint64_t *ret_capacity, uint64_t *ret_used,
                  uint64_t *ret_chunks)
{
    struct store_stat stat;

    store_stat(cs->store, &stat);
    /* What this server could hold: other files of the file system are not its own. */
    *ret_capacity = stat.used_bytes + stat.free_bytes;
    *ret_used = stat.used_bytes;
    *ret_chunks = stat.chunk_count;
}

static void master_lost(struct chunkserver *cs, const char *why)
{
    struct cs_master *master = &cs->master;

    if (!master->registered || cs->closed)
        return;
    master->registered = false;
    master->generation++;
    master->failures = 0;
    log_event(LOG_WARN, "master_lost", "master=%s reason=\"%s\"", cs->master_addr, why);
    if (!master->calling)
        loop_timer_arm(&master->timer, retry_ms(master));
}

void cs_master_conn_closed(struct chunkserver *cs)
{
    master_lost(cs, "connection closed");
}

/* ---- report ---- */

static void report_kick(struct chunkserver *cs);

static void report_done(void *arg, const struct rpc_answer *answer)
{
    struct master_call *call = arg;
    struct chunkserver *cs = call->cs;
    struct cs_master *master = &cs->master;
    bool old = call->generation != master->generation;

    free(call);
    master->reporting = false;
    if (old || answer->err == GFS_ERR_UNKNOWN_SERVER) {
        if (!old)
            master_lost(cs, "the master does not know this server");
        return;
    }
    if (answer->err != GFS_OK) {
        master->report_next_ms = loop_now_ms() + CS_MASTER_RETRY_MAX_MS;
        return;
    }
    if (master->report_last == UINT64_MAX) {
        master->report_from = 0;
        if (master->report_full)
            log_event(LOG_INFO, "reported", "master=%s", cs->master_addr);
        master->report_full = false;
    } else {
        master->report_from = master->report_last + 1;
    }
    master->report_next_ms = loop_now_ms();
    if (!master->report_full)
        master->report_next_ms += cs->options->report_interval_ms;
    report_kick(cs);
}

static void state_fill(const struct chunkserver *cs, Gfs__ChunkState *ret_state,
                       const struct store_chunk *chunk)
{
    gfs__chunk_state__init(ret_state);
    ret_state->handle = chunk->handle;
    ret_state->version = chunk->version;
    ret_state->length = chunk->length_bytes;
    ret_state->corrupt = chunk->corrupt;
    ret_state->unsettled = mutation_is_stuck(cs->mutations, chunk->handle, loop_now_ms());
}

/* Sends the next part when its time has come. */
static void report_kick(struct chunkserver *cs)
{
    struct cs_master *master = &cs->master;
    Gfs__ChunkReportRequest msg = GFS__CHUNK_REPORT_REQUEST__INIT;
    struct store_chunk *chunks;
    Gfs__ChunkState *states;
    Gfs__ChunkState **pointers;

    if (cs->closed || !master->registered || master->reporting ||
        loop_now_ms() < master->report_next_ms)
        return;
    chunks = calloc(CS_REPORT_CHUNKS_MAX, sizeof *chunks);
    states = calloc(CS_REPORT_CHUNKS_MAX, sizeof *states);
    pointers = calloc(CS_REPORT_CHUNKS_MAX, sizeof(Gfs__ChunkState *));
    if (chunks && states && pointers) {
        size_t count = store_list(cs->store, master->report_from, chunks, CS_REPORT_CHUNKS_MAX);

        for (size_t i = 0; i < count; i++) {
            state_fill(cs, &states[i], &chunks[i]);
            pointers[i] = &states[i];
        }
        master->report_last = count == CS_REPORT_CHUNKS_MAX ? chunks[count - 1].handle : UINT64_MAX;
        msg.first = master->report_from;
        msg.last = master->report_last;
        msg.n_chunks = count;
        msg.chunks = pointers;
        master->reporting = true;
        master_call(cs, GFS_MSG_CHUNK_REPORT, &msg.base, CS_MASTER_REPORT_MS, report_done);
    }
    free(pointers);
    free(states);
    free(chunks);
}

static void report_begin(struct chunkserver *cs)
{
    struct cs_master *master = &cs->master;

    delta_clear(&cs->delta);
    master->report_full = true;
    master->report_from = 0;
    master->report_next_ms = 0;
    if (master->reporting) /* the answer under way is of an older report */
        master->generation++;
    report_kick(cs);
}

/* ---- registration ---- */

static void registered(struct chunkserver *cs)
{
    struct cs_master *master = &cs->master;

    master->registered = true;
    master->generation++;
    master->failures = 0;
    master->used_since_ms = loop_now_ms();
    log_event(LOG_INFO, "registered", "master=%s addr=%s", cs->master_addr, cs->advertise);
    report_begin(cs);
    loop_timer_arm(&master->timer, master->heartbeat_ms);
}

struct stamp_job {
    struct storepool_job job;
    struct loop_task task;
    struct chunkserver *cs;
    enum gfs_err err;
};

static void stamp_done(struct loop_task *task)
{
    struct stamp_job *stamp = (struct stamp_job *)((char *)task - offsetof(struct stamp_job, task));
    struct chunkserver *cs = stamp->cs;
    enum gfs_err err = stamp->err;

    free(stamp);
    cs->master.stamping = false;
    if (err != GFS_OK) {
        log_event(LOG_ERROR, "stamp_failed", "error=%s dir=\"%s\"", gfs_err_name(err),
                  cs->dir->path);
        cs_give_up(cs);
        return;
    }
    registered(cs);
}

/* Storage thread. */
static void stamp_run(struct storepool_job *job)
{
    struct stamp_job *stamp = (struct stamp_job *)job;

    stamp->err = daemon_dir_stamp(stamp->cs->dir, "chunkserver");
    loop_post(stamp->cs->control.loop, &stamp->task);
}

static void cluster_set(struct chunkserver *cs, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    rpc_server_set_cluster(cs->server, cluster_id);
    rpc_client_set_cluster(cs->control.client, cluster_id);
    for (size_t i = 0; i < cs->net_count; i++)
        rpc_client_set_cluster(cs->nets[i].client, cluster_id);
}

/* The first master this directory meets gives it its cluster, for ever. */
static void cluster_join(struct chunkserver *cs, const uint8_t cluster_id[GFS_UUID_BYTES])
{
    struct stamp_job *stamp = calloc(1, sizeof *stamp);
    char text[37];

    memcpy(cs->dir->cluster_id, cluster_id, GFS_UUID_BYTES);
    cluster_set(cs, cluster_id);
    uuid_format(cluster_id, text);
    log_event(LOG_INFO, "cluster_joined", "cluster=%s", text);
    if (stamp) {
        stamp->cs = cs;
        stamp->job.fn = stamp_run;
        stamp->task.fn = stamp_done;
        cs->master.stamping = true;
        if (storepool_submit(cs->pool, &stamp->job) == GFS_OK)
            return;
        cs->master.stamping = false;
        free(stamp);
    }
    memset(cs->dir->cluster_id, 0, GFS_UUID_BYTES);
    loop_timer_arm(&cs->master.timer, CS_MASTER_RETRY_MAX_MS);
}

static void other_cluster(struct chunkserver *cs)
{
    char ours[37];

    uuid_format(cs->dir->cluster_id, ours);
    log_event(LOG_ERROR, "other_cluster",
              "master=%s dir=\"%s\" cluster=%s hint=\"this data directory belongs to another "
              "cluster than the master: give the right --master, or an empty --data\"",
              cs->master_addr, cs->dir->path, ours);
    cs_give_up(cs);
}

static void register_failed(struct chunkserver *cs, const struct rpc_answer *answer)
{
    struct cs_master *master = &cs->master;

    if (cs->closed)
        return;
    if (answer->err == GFS_ERR_OTHER_CLUSTER) {
        other_cluster(cs);
        return;
    }
    if (master->failures++ % 32 == 0)
        log_event(LOG_WARN, "register_failed", "master=%s error=%s detail=\"%s\"", cs->master_addr,
                  gfs_err_name(answer->err), answer->detail);
    loop_timer_arm(&master->timer, retry_ms(master));
}

static void register_done(void *arg, const struct rpc_answer *answer)
{
    struct master_call *call = arg;
    struct chunkserver *cs = call->cs;
    const Gfs__RegisterReply *reply = (const Gfs__RegisterReply *)answer->msg;

    free(call);
    cs->master.calling = false;
    if (answer->err != GFS_OK) {
        register_failed(cs, answer);
        return;
    }
    if (reply->cluster_id.len != GFS_UUID_BYTES || uuid_is_zero(reply->cluster_id.data)) {
        loop_timer_arm(&cs->master.timer, CS_MASTER_RETRY_MAX_MS);
        return;
    }
    cs->master.heartbeat_ms = reply->heartbeat_ms >= 10 ? reply->heartbeat_ms : 1000;
    cs->master.lease_ms = reply->lease_ms;
    if (uuid_is_zero(cs->dir->cluster_id))
        cluster_join(cs, reply->cluster_id.data);
    else if (memcmp(cs->dir->cluster_id, reply->cluster_id.data, GFS_UUID_BYTES) != 0)
        other_cluster(cs);
    else
        registered(cs);
}

static void register_send(struct chunkserver *cs)
{
    Gfs__RegisterRequest msg = GFS__REGISTER_REQUEST__INIT;

    msg.server_id.data = cs->dir->server_id;
    msg.server_id.len = GFS_UUID_BYTES;
    msg.addr = cs->advertise;
    msg.rack = (char *)cs->options->rack;
    msg.version = (char *)GFS_VERSION_TEXT;
    space(cs, &msg.capacity_bytes, &msg.used_bytes, &msg.chunk_count);
    cs->master.calling = true;
    master_call(cs, GFS_MSG_REGISTER, &msg.base, CS_MASTER_CALL_MS, register_done);
}

/* ---- heartbeat ---- */

static void heartbeat_ok(struct chunkserver *cs, const Gfs__HeartbeatReply *reply)
{
    struct cs_master *master = &cs->master;
    uint32_t lease_ms = reply->lease_ms ? reply->lease_ms : master->lease_ms;

    master->failures = 0;
    master->used_since_ms = master->beat_sent_ms;
    for (size_t i = 0; i < reply->n_extended; i++)
        mutation_extend(cs->mutations, reply->extended[i],
                        cs_lease_expiry_ms(master->beat_sent_ms, lease_ms, reply->margin_ms));
}

static void heartbeat_done(void *arg, const struct rpc_answer *answer)
{
    struct master_call *call = arg;
    struct chunkserver *cs = call->cs;
    struct cs_master *master = &cs->master;
    bool old = call->generation != master->generation && !master->registered;

    free(call);
    master->calling = false;
    if (answer->err == GFS_OK && !old) {
        delta_acked(&cs->delta);
        heartbeat_ok(cs, (const Gfs__HeartbeatReply *)answer->msg);
        loop_timer_arm(&master->timer, master->heartbeat_ms);
        return;
    }
    delta_failed(&cs->delta);
    if (answer->err == GFS_ERR_UNKNOWN_SERVER || answer->err == GFS_ERR_CONN) {
        master_lost(cs, gfs_err_name(answer->err));
    } else if (answer->err == GFS_ERR_TIMEOUT && ++master->failures >= CS_MASTER_MISSES_MAX) {
        rpc_client_drop(cs->control.client, cs->master_addr);
        master_lost(cs, "heartbeats not answered");
    }
    loop_timer_arm(&master->timer, master->registered ? master->heartbeat_ms : retry_ms(master));
}

struct heartbeat_lists {
    uint64_t marked[CS_HEARTBEAT_CHANGES_MAX];
    uint64_t gone[CS_HEARTBEAT_CHANGES_MAX];
    uint64_t extend[CS_HEARTBEAT_EXTENDS_MAX];
    Gfs__ChunkState states[CS_HEARTBEAT_CHANGES_MAX];
    Gfs__ChunkState *changed[CS_HEARTBEAT_CHANGES_MAX];
};

static void heartbeat_changes(struct chunkserver *cs, struct heartbeat_lists *lists,
                              Gfs__HeartbeatRequest *msg)
{
    size_t count =
        mutation_stuck(cs->mutations, loop_now_ms(), lists->marked, CS_HEARTBEAT_STUCK_MAX);

    /* Told with every heartbeat until a round has settled them. */
    for (size_t i = 0; i < count; i++)
        delta_mark(&cs->delta, lists->marked[i]);
    count = delta_take(&cs->delta, lists->marked, CS_HEARTBEAT_CHANGES_MAX);

    msg->changed = lists->changed;
    msg->gone = lists->gone;
    for (size_t i = 0; i < count; i++) {
        struct store_chunk chunk;

        if (store_chunk_get(cs->store, lists->marked[i], &chunk) == GFS_OK) {
            state_fill(cs, &lists->states[msg->n_changed], &chunk);
            lists->changed[msg->n_changed] = &lists->states[msg->n_changed];
            msg->n_changed++;
        } else {
            lists->gone[msg->n_gone++] = lists->marked[i];
        }
    }
}

static void heartbeat_send(struct chunkserver *cs)
{
    struct cs_master *master = &cs->master;
    Gfs__HeartbeatRequest msg = GFS__HEARTBEAT_REQUEST__INIT;
    struct heartbeat_lists *lists = malloc(sizeof *lists);
    uint64_t now_ms = loop_now_ms();

    if (!lists) {
        loop_timer_arm(&master->timer, master->heartbeat_ms);
        return;
    }
    if (delta_overflowed(&cs->delta))
        report_begin(cs);
    heartbeat_changes(cs, lists, &msg);
    space(cs, &msg.capacity_bytes, &msg.used_bytes, &msg.chunk_count);
    msg.load = atomic_load(&cs->in_service);
    msg.read_only = atomic_load(&cs->read_only);
    msg.extend = lists->extend;
    msg.n_extend = mutation_leases_used(cs->mutations, master->used_since_ms, now_ms, lists->extend,
                                        CS_HEARTBEAT_EXTENDS_MAX);
    master->beat_sent_ms = now_ms;
    master->calling = true;
    master_call(cs, GFS_MSG_HEARTBEAT, &msg.base, CS_MASTER_CALL_MS, heartbeat_done);
    free(lists);
}

static void master_timer(struct loop_timer *timer)
{
    struct chunkserver *cs =
        (struct chunkserver *)((char *)timer - offsetof(struct chunkserver, master.timer));

    if (cs->closed || cs->master.calling || cs->master.stamping)
        return;
    if (!cs->master.registered) {
        register_send(cs);
        return;
    }
    heartbeat_send(cs);
    report_kick(cs);
}

enum gfs_err cs_master_init(struct chunkserver *cs)
{
    cs->master.heartbeat_ms = 1000;
    return loop_timer_init(&cs->master.timer, cs->control.loop, master_timer);
}

void cs_master_go(struct chunkserver *cs)
{
    if (!uuid_is_zero(cs->dir->cluster_id))
        cluster_set(cs, cs->dir->cluster_id);
    register_send(cs);
}

void cs_master_release(struct chunkserver *cs)
{
    loop_timer_release(&cs->master.timer);
}
