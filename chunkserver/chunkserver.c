/* The server's parts put together: start, dispatch, stop. See the header. */
#include "chunkserver/chunkserver.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chunkserver/advertise.h"
#include "chunkserver/chain.h"
#include "control.pb-c.h"
#include "log.h"
#include "rpc.pb-c.h"

#define CS_UNSETTLED_EXTRA_MS 1000u
#define CS_UNSETTLED_KEPT_MS  4000u
#define CS_TICK_MS            100u
#define CS_DRAIN_POLL_MS      10u
#define CS_WINDOW_MAX         256u
#define CS_HOLD_MAX           256u
#define CS_SESSION_IDLE_MS    10000u
#define CS_PUSH_ENTRIES       65536u
#define CS_PUSH_EVICT_MS      10000u
#define CS_QUEUE_MARGIN       (8u << 20)
#define CS_CONN_BYTES         (16u << 20)
#define CS_REASON_BYTES       256u

/* ---- replies ---- */

void cs_reply(struct chunkserver *cs, struct rpc_request *take_request,
              const ProtobufCMessage *reply, const struct rpc_payload *payload)
{
    rpc_reply(take_request, reply, payload);
    atomic_fetch_sub(&cs->in_service, 1);
}

void cs_reply_empty(struct chunkserver *cs, struct rpc_request *take_request)
{
    Gfs__EmptyReply reply = GFS__EMPTY_REPLY__INIT;

    cs_reply(cs, take_request, &reply.base, NULL);
}

void cs_reply_error(struct chunkserver *cs, struct rpc_request *take_request, enum gfs_err err,
                    const char *detail)
{
    rpc_reply_error(take_request, err, err == GFS_ERR_BUSY ? CS_RETRY_HINT_MS : 0, detail);
    atomic_fetch_sub(&cs->in_service, 1);
}

uint32_t cs_time_left_ms(const struct rpc_request *request)
{
    return chain_timeout_ms(loop_now_ms(), request->deadline_ms);
}

/* ---- changes ---- */

struct changed_task {
    struct loop_task task;
    struct chunkserver *cs;
    uint64_t handle;
};

static void changed_run(struct loop_task *task)
{
    struct changed_task *changed = (struct changed_task *)task;

    delta_mark(&changed->cs->delta, changed->handle);
    free(changed);
}

void cs_chunk_changed(struct chunkserver *cs, uint64_t handle)
{
    struct changed_task *changed;

    if (loop_is_current(cs->control.loop)) {
        delta_mark(&cs->delta, handle);
        return;
    }
    changed = malloc(sizeof *changed);
    if (!changed)
        return; /* the rolling report will tell */
    changed->task.fn = changed_run;
    changed->cs = cs;
    changed->handle = handle;
    loop_post(cs->control.loop, &changed->task);
}

/* ---- dispatch ---- */

static void control_dispatch(struct chunkserver *cs, struct rpc_request *request)
{
    if (cs->closed) {
        cs_reply_error(cs, request, GFS_ERR_STOPPING, NULL);
        return;
    }
    switch (request->type) {
    case GFS_MSG_WRITE:
        cs_write(cs, request);
        break;
    case GFS_MSG_APPEND:
        cs_append(cs, request);
        break;
    case GFS_MSG_APPLY:
        cs_apply(cs, request);
        break;
    case GFS_MSG_COPY_CHUNK:
        cs_copy_chunk(cs, request);
        break;
    case GFS_MSG_SYNC_CHUNK:
        cs_sync_chunk(cs, request);
        break;
    case GFS_MSG_SCRUB:
        cs_scrub_request(cs, request);
        break;
    case GFS_MSG_SETTLE:
        cs_settle(cs, request);
        break;
    case GFS_MSG_SET_VERSION:
        cs_set_version(cs, request);
        break;
    case GFS_MSG_GRANT_LEASE:
        cs_grant_lease(cs, request);
        break;
    case GFS_MSG_DELETE_CHUNKS:
        cs_delete_chunks(cs, request);
        break;
    default:
        cs_reply_error(cs, request, GFS_ERR_PROTO, "not a chunkserver's message");
        break;
    }
}

static void control_task(struct loop_task *task)
{
    struct rpc_request *request =
        (struct rpc_request *)((char *)task - offsetof(struct rpc_request, task));

    control_dispatch(request->arg, request);
}

static bool is_new_work(enum gfs_msg type)
{
    return type == GFS_MSG_PUSH || type == GFS_MSG_WRITE || type == GFS_MSG_APPEND ||
           type == GFS_MSG_READ;
}

static void on_request(void *arg, struct rpc_request *take_request)
{
    struct cs_net *net = arg;
    struct chunkserver *cs = net->cs;

    atomic_fetch_add(&cs->in_service, 1);
    if (atomic_load(&cs->stopping) && is_new_work(take_request->type)) {
        cs_reply_error(cs, take_request, GFS_ERR_STOPPING, NULL);
    } else if (take_request->type == GFS_MSG_PUSH) {
        cs_push(net, take_request);
    } else if (take_request->type == GFS_MSG_READ) {
        cs_read(cs, take_request);
    } else if (take_request->type == GFS_MSG_DIGEST) {
        cs_digest(cs, take_request);
    } else if (loop_is_current(cs->control.loop)) {
        control_dispatch(cs, take_request);
    } else {
        take_request->arg = cs;
        take_request->task.fn = control_task;
        loop_post(cs->control.loop, &take_request->task);
    }
}

/* The server's connections are spread over the net loops: find ours. */
static void on_server_request(void *arg, struct rpc_request *take_request)
{
    struct chunkserver *cs = arg;
    struct loop *loop = rpc_conn_loop(take_request->conn);

    if (loop == cs->control.loop) {
        on_request(&cs->control, take_request);
        return;
    }
    for (size_t i = 0; i < cs->net_count; i++) {
        if (cs->nets[i].loop == loop) {
            on_request(&cs->nets[i], take_request);
            return;
        }
    }
    abort();
}

static void on_control_close(void *arg, struct rpc_conn *conn)
{
    struct cs_net *net = arg;

    if (strcmp(rpc_conn_peer_addr(conn), net->cs->master_addr) == 0)
        cs_master_conn_closed(net->cs);
}

/* ---- tick and end ---- */

static void watch_store(struct chunkserver *cs)
{
    struct cs_master *master = &cs->master;
    struct store_stat stat;

    store_stat(cs->store, &stat);
    atomic_store(&cs->read_only, stat.read_only || stat.failed);
    if (stat.failed && !master->was_failed)
        log_event(LOG_ERROR, "store_failed",
                  "dir=\"%s\" hint=\"the disk refused a write; reads go "
                  "on\"",
                  cs->dir->path);
    else if (stat.read_only != master->was_read_only)
        log_event(LOG_WARN, stat.read_only ? "read_only" : "writable",
                  "free_bytes=%llu free_min=%llu", (unsigned long long)stat.free_bytes,
                  (unsigned long long)cs->options->free_min);
    master->was_failed = stat.failed;
    master->was_read_only = stat.read_only;
}

static void stop_now(struct chunkserver *cs)
{
    void (*stopped)(void *arg) = cs->stopped;

    cs->stopped = NULL;
    cs->closed = true;
    if (stopped)
        stopped(cs->stopped_arg);
}

static void tick(struct loop_timer *timer)
{
    struct chunkserver *cs =
        (struct chunkserver *)((char *)timer - offsetof(struct chunkserver, tick));
    uint64_t now_ms = loop_now_ms();
    bool draining = cs->drain_until_ms > 0;
    uint64_t handle;

    if (cs->closed)
        return;
    mutation_tick(cs->mutations, now_ms);
    pushbuf_expire(cs->pushbuf, now_ms);
    store_hold_settled(cs->store, mutation_stuck(cs->mutations, now_ms, &handle, 1) > 0);
    cs_mutations_drain(cs);
    cs_scrub_tick(cs);
    watch_store(cs);
    if (draining && (atomic_load(&cs->in_service) == 0 || now_ms >= cs->drain_until_ms)) {
        stop_now(cs);
        return;
    }
    loop_timer_arm(timer, draining ? CS_DRAIN_POLL_MS : CS_TICK_MS);
}

struct control_job {
    struct loop_task task;
    struct chunkserver *cs;
};

static void drain_run(struct loop_task *task)
{
    struct chunkserver *cs = ((struct control_job *)task)->cs;

    free(task);
    if (cs->drain_until_ms)
        return;
    log_event(LOG_INFO, "stopping", "in_service=%u", atomic_load(&cs->in_service));
    cs->drain_until_ms = loop_now_ms() + cs->options->drain_ms + 1;
    /* Not at once: the last answers are on their way out of the sockets. */
    loop_timer_arm(&cs->tick, CS_DRAIN_POLL_MS);
}

void chunkserver_drain(struct chunkserver *cs)
{
    struct control_job *drain = malloc(sizeof *drain);

    atomic_store(&cs->stopping, true);
    if (!drain)
        abort();
    drain->task.fn = drain_run;
    drain->cs = cs;
    loop_post(cs->control.loop, &drain->task);
}

void cs_give_up(struct chunkserver *cs)
{
    atomic_store(&cs->stopping, true);
    atomic_store(&cs->exit_code, 1);
    stop_now(cs);
}

int chunkserver_exit_code(const struct chunkserver *cs)
{
    return atomic_load(&cs->exit_code);
}

/* ---- construction ---- */

static enum gfs_err open_store(struct chunkserver *cs, char *ret_detail)
{
    const struct cs_options *options = cs->options;
    struct store_options store_options = {
        /* What the push buffer let in, the queue takes: a write in turn is never refused. */
        .queue_max_bytes = options->push_buffer_bytes + CS_QUEUE_MARGIN,
        .data_db_max_bytes = options->data_db_max_bytes,
        .write_buffer_bytes = options->write_buffer,
        .free_min_bytes = options->free_min,
        .replay_max_bytes = options->replay_max,
        /* Longer than it takes to see that a mutation does not settle by itself. */
        .unsettled_ms = options->apply_timeout_ms + CS_UNSETTLED_EXTRA_MS + CS_UNSETTLED_KEPT_MS,
        .sync = !options->debug_no_sync,
    };
    char path[sizeof cs->dir->path + 8];
    enum gfs_err err;

    snprintf(path, sizeof path, "%s/store", cs->dir->path);
    err = store_open(path, &store_options, &cs->store);
    if (err != GFS_OK)
        snprintf(ret_detail, CS_REASON_BYTES, "cannot open the store in %.180s: %s", path,
                 gfs_err_text(err));
    return err;
}

static enum gfs_err make_cores(struct chunkserver *cs)
{
    const struct cs_options *options = cs->options;
    struct pushbuf_limits push_limits = {
        .bytes_max = options->push_buffer_bytes,
        .entries_max = CS_PUSH_ENTRIES,
        .evict_ms = CS_PUSH_EVICT_MS,
        .expire_ms = options->push_ttl_s * 1000,
    };
    struct mutation_limits limits = {
        .chunks_max = CS_SESSIONS_MAX,
        .window_max = CS_WINDOW_MAX,
        .hold_max = CS_HOLD_MAX,
        .gap_ms = (uint32_t)options->gap_timeout_ms,
        .idle_ms = CS_SESSION_IDLE_MS,
        .unsettled_ms = (uint32_t)options->apply_timeout_ms + CS_UNSETTLED_EXTRA_MS,
    };

    delta_init(&cs->delta, CS_DELTA_MAX);
    cs->pushbuf = pushbuf_new(&push_limits);
    cs->mutations = mutation_new(&limits);
    cs->delay = debug_delay_new();
    if (!cs->pushbuf || !cs->mutations || !cs->delay)
        return GFS_ERR_NO_MEMORY;
    return storepool_new(options->store_threads, options->store_queue, &cs->pool);
}

static void identity_of(const struct chunkserver *cs, struct rpc_identity *ret_identity)
{
    ret_identity->role = GFS_ROLE_CHUNKSERVER;
    memcpy(ret_identity->cluster_id, cs->dir->cluster_id, GFS_UUID_BYTES);
    memcpy(ret_identity->peer_id, cs->dir->server_id, GFS_UUID_BYTES);
}

static enum gfs_err net_init(struct chunkserver *cs, struct cs_net *net, const char *name,
                             bool control)
{
    struct rpc_identity identity;
    struct rpc_limits limits = {.request_bytes = CS_CONN_BYTES,
                                .reply_bytes = CS_CONN_BYTES,
                                .silence_ms = (uint32_t)cs->options->peer_silence_ms};
    struct rpc_events events = {.on_request = on_request,
                                .on_close = control ? on_control_close : NULL,
                                .arg = net};
    enum gfs_err err;

    net->cs = cs;
    err = loop_new(name, &net->loop);
    if (err != GFS_OK)
        return err;
    identity_of(cs, &identity);
    return rpc_client_new(net->loop, &identity, &limits, &events, &net->client);
}

static enum gfs_err make_nets(struct chunkserver *cs)
{
    enum gfs_err err = net_init(cs, &cs->control, "gfs-control", true);

    cs->nets = calloc(cs->options->net_threads + 1, sizeof *cs->nets);
    if (!cs->nets)
        return GFS_ERR_NO_MEMORY;
    for (size_t i = 0; err == GFS_OK && i < cs->options->net_threads; i++) {
        cs->net_count = i + 1;
        err = net_init(cs, &cs->nets[i], "gfs-net", false);
    }
    return err;
}

static enum gfs_err make_server(struct chunkserver *cs, char *ret_detail)
{
    struct rpc_identity identity;
    struct rpc_limits limits = {.conn_max = (uint32_t)cs->options->conn_max,
                                .request_bytes = CS_CONN_BYTES,
                                .reply_bytes = CS_CONN_BYTES};
    struct rpc_events events = {.on_request = on_server_request, .arg = cs};
    struct loop *loops[64] = {cs->control.loop}; /* without net threads */
    size_t loop_count = cs->net_count > 0 ? cs->net_count : 1;
    enum gfs_err err;

    for (size_t i = 0; i < cs->net_count; i++)
        loops[i] = cs->nets[i].loop;
    identity_of(cs, &identity);
    errno = 0;
    err = rpc_server_new(cs->options->listen, loops, loop_count, &identity, &limits, &events,
                         &cs->server);
    if (err != GFS_OK)
        snprintf(ret_detail, CS_REASON_BYTES, "cannot listen on %.100s: %s", cs->options->listen,
                 errno ? strerror(errno) : gfs_err_text(err));
    return err;
}

static enum gfs_err init_parts(struct chunkserver *cs, char *ret_detail)
{
    enum gfs_err err = make_cores(cs);

    if (err == GFS_OK)
        err = make_nets(cs);
    if (err == GFS_OK)
        err = cs_master_init(cs);
    if (err == GFS_OK)
        err = cs_append_init(cs);
    if (err == GFS_OK)
        err = cs_settle_init(cs);
    if (err == GFS_OK)
        err = cs_scrub_init(cs);
    if (err == GFS_OK)
        err = loop_timer_init(&cs->tick, cs->control.loop, tick);
    if (err != GFS_OK)
        return err;
    err = addr_resolve(cs->options->master, GFS_PORT_MASTER_DEFAULT, cs->master_addr);
    if (err != GFS_OK) {
        snprintf(ret_detail, CS_REASON_BYTES, "master address %.100s: %s", cs->options->master,
                 gfs_err_text(err));
        return err;
    }
    return open_store(cs, ret_detail);
}

enum gfs_err chunkserver_new(const struct cs_options *options, struct daemon_dir *dir,
                             struct chunkserver **ret_cs, char *ret_detail)
{
    struct chunkserver *cs = calloc(1, sizeof *cs);
    enum gfs_err err;

    if (!cs)
        return GFS_ERR_NO_MEMORY;
    cs->options = options;
    cs->dir = dir;
    snprintf(ret_detail, CS_REASON_BYTES, "cannot start");
    err = init_parts(cs, ret_detail);
    if (err != GFS_OK) {
        chunkserver_free(cs);
        return err;
    }
    *ret_cs = cs;
    return GFS_OK;
}

static void first_task(struct loop_task *task)
{
    struct chunkserver *cs = ((struct control_job *)task)->cs;

    free(task);
    watch_store(cs);
    cs_settle_doubt(cs);
    loop_timer_arm(&cs->tick, CS_TICK_MS);
    cs_master_go(cs);
    cs_scrub_go(cs);
}

enum gfs_err chunkserver_start(struct chunkserver *cs, void (*stopped)(void *arg), void *arg,
                               char *ret_detail)
{
    struct control_job *first;
    enum gfs_err err;

    cs->stopped = stopped;
    cs->stopped_arg = arg;
    snprintf(ret_detail, CS_REASON_BYTES, "cannot start");
    err = make_server(cs, ret_detail);
    if (err == GFS_OK)
        err = advertise_addr(cs->options->advertise, rpc_server_addr(cs->server), cs->master_addr,
                             cs->advertise);
    for (size_t i = 0; err == GFS_OK && i < cs->net_count; i++)
        err = loop_start(cs->nets[i].loop);
    if (err == GFS_OK)
        err = loop_start(cs->control.loop);
    if (err != GFS_OK)
        return err;
    first = malloc(sizeof *first);
    if (!first)
        return GFS_ERR_NO_MEMORY;
    first->task.fn = first_task;
    first->cs = cs;
    loop_post(cs->control.loop, &first->task);
    return GFS_OK;
}

/* On the control thread, or after its end. */
static void timers_release(struct loop_task *task)
{
    struct chunkserver *cs = ((struct control_job *)task)->cs;

    loop_timer_release(&cs->tick);
    cs_append_release(cs);
    cs_settle_release(cs);
    cs_scrub_release(cs);
    cs_master_release(cs);
}

static void control_free(struct chunkserver *cs)
{
    struct control_job release = {.task.fn = timers_release, .cs = cs};

    if (cs->control.loop)
        loop_post(cs->control.loop, &release.task);
    loop_free(cs->control.loop);
}

/* No new request can come once the server and the clients are gone; what is in the pool and in the
 * store still ends, and posts to loops that live until the end. */
void chunkserver_free(struct chunkserver *cs)
{
    if (!cs)
        return;
    rpc_server_free(cs->server);
    for (size_t i = 0; i < cs->net_count; i++)
        rpc_client_free(cs->nets[i].client);
    rpc_client_free(cs->control.client);
    storepool_free(cs->pool);
    store_close(cs->store);
    control_free(cs);
    for (size_t i = 0; i < cs->net_count; i++)
        loop_free(cs->nets[i].loop);
    free(cs->nets);
    if (cs->mutations) {
        mutation_tick(cs->mutations, UINT64_MAX);
        cs_mutations_drain(cs);
        cs_append_drop(cs);
        cs_settle_drop(cs);
    }
    mutation_free(cs->mutations);
    pushbuf_free(cs->pushbuf);
    delta_release(&cs->delta);
    cs_scrub_drop(cs);
    debug_delay_free(cs->delay);
    free(cs);
}
