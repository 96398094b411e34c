/* gfs-master: options, data directory, threads, signals; the rest is in service.h. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "daemon.h"
#include "kv.h"
#include "log.h"
#include "master/epoch.h"
#include "master/image.h"
#include "master/service.h"

#define NET_THREADS_MAX 16
#define DRAIN_MAX_MS    3000u
#define DRAIN_STEP_MS   10u
#define ROLE            "master"

static const struct config_option OPTIONS[] = {
#define OPT(name, type, default_text, min, max, unit, help)                               \
    {#name, CONFIG_##type, offsetof(struct master_options, name), default_text, min, max, \
     unit,  help},
#include "master/master_options.tbl"
#undef OPT
};

static const struct config_program PROGRAM = {
    .name = "gfs-master",
    .summary = "Holds the namespace of a cluster, places its chunks and grants leases on them.",
    .examples = "gfs-master --data /var/lib/gfs/master --listen 0.0.0.0:7400\n",
    .options = OPTIONS,
    .option_count = sizeof(OPTIONS) / sizeof(OPTIONS[0]),
};

/* The program's root: what main has made so far. Released in the opposite order. */
struct master {
    struct master_options options;
    struct daemon_dir dir;
    struct kv *kv;
    struct loop *loop;
    struct loop *net[NET_THREADS_MAX];
    size_t net_count;
    struct namespace *ns;
    struct opwindow *window;
    struct journal_backend backend;
    struct journal *journal;
    struct service *service;
    struct rpc_server *server;
    struct loop_timer drain;
    uint64_t drain_until_ms;
    bool draining;
    bool failed;
};

static bool complain(const char *what, enum gfs_err err, const char *detail)
{
    log_event(LOG_ERROR, "start_failed", "what=\"%s\" err=%s detail=\"%s\"", what,
              gfs_err_name(err), detail != NULL ? detail : gfs_err_text(err));
    return false;
}

static bool set_log_level(const char *text)
{
    bool known = log_set_level_name(text);
    if (!known) {
        fprintf(stderr, "gfs-master: --log-level: %s is not debug, info, warn or error\n", text);
    }
    return known;
}

/* ---- the data directory -------------------------------------------------------------------- */

static bool open_dir(struct master *master)
{
    char detail[256] = "";
    enum gfs_err err = daemon_dir_open(&master->dir, master->options.data, ROLE, detail);
    if (err != GFS_OK) {
        return complain(master->options.data, err, detail);
    }
    /* Stamped without a cluster until the database has one: see load. */
    if (!master->dir.has_stamp) {
        err = daemon_dir_stamp(&master->dir, ROLE);
        if (err != GFS_OK) {
            return complain("stamp", err, NULL);
        }
    }
    char path[sizeof(master->dir.path) + 16];
    snprintf(path, sizeof(path), "%s/meta", master->options.data);
    struct kv_options kv_options = {
        .create = uuid_is_zero(master->dir.cluster_id),
        .paranoid = true,
        .verify = true,
        .write_buffer_bytes = 32u << 20,
    };
    struct kv_text text = {""};
    err = kv_open(path, &kv_options, &master->kv, &text);
    return err == GFS_OK ? true : complain(path, err, text.text);
}

/* Makes changes durable before anything is served. */
static enum gfs_err commit_now(struct master *master, struct changes *take_changes,
                               enum gfs_err err)
{
    if (err == GFS_OK && !changes_empty(take_changes)) {
        const struct changes *list[1] = {take_changes};
        err = master->backend.commit(master->backend.arg, list, 1);
    }
    changes_release(take_changes);
    return err;
}

/* Makes the root of a new cluster. */
static enum gfs_err format(struct master *master, uint8_t ret_cluster_id[GFS_UUID_BYTES],
                           int64_t now_ms)
{
    struct changes changes;
    changes_init(&changes);
    uuid_make(ret_cluster_id);
    enum gfs_err err = ns_format(master->ns, ret_cluster_id, now_ms, &changes);
    return commit_now(master, &changes, err);
}

/* Takes ids that no earlier run of the master can have given out. */
static enum gfs_err start_ids(struct master *master)
{
    struct changes changes;
    changes_init(&changes);
    enum gfs_err err = ns_start(master->ns, &changes);
    return commit_now(master, &changes, err);
}

static uint64_t random_u64(void)
{
    uint8_t uuid[GFS_UUID_BYTES];
    uint64_t value;
    uuid_make(uuid);
    memcpy(&value, uuid + 8, sizeof(value));
    return value ^ ((uint64_t)uuid[0] << 56) ^ ((uint64_t)uuid[1] << 48);
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool load(struct master *master)
{
    struct ns_options ns_options = {
        .seed = random_u64(),
        .goal_default = (uint32_t)master->options.goal,
        .chunk_size_bytes = (uint32_t)master->options.chunk_size,
    };
    enum gfs_err err = ns_new(&ns_options, &master->ns);
    if (err == GFS_OK) {
        err = opwindow_new(random_u64(), &master->window);
    }
    if (err != GFS_OK) {
        return complain("memory", err, NULL);
    }
    master->backend = journal_backend_kv(master->kv);
    char detail[IMAGE_DETAIL_BYTES] = "";
    struct image_stat stat = {0};
    uint8_t cluster_id[GFS_UUID_BYTES];
    uint64_t begun_ms = loop_now_ms();
    err = image_load(master->kv, master->ns, master->window, wall_ms(), detail, &stat);
    if (err == GFS_OK) {
        ns_cluster_id(master->ns, cluster_id);
        err = start_ids(master);
    } else if (err == GFS_ERR_NOT_FOUND && uuid_is_zero(master->dir.cluster_id)) {
        err = format(master, cluster_id, wall_ms());
    }
    if (err != GFS_OK) {
        return complain("metadata", err, detail[0] != '\0' ? detail : NULL);
    }
    log_event(LOG_INFO, "loaded", "keys=%llu inodes=%llu chunks=%llu ms=%llu",
              (unsigned long long)stat.keys, (unsigned long long)stat.inodes,
              (unsigned long long)stat.chunks, (unsigned long long)(loop_now_ms() - begun_ms));
    if (uuid_is_zero(master->dir.cluster_id)) {
        memcpy(master->dir.cluster_id, cluster_id, GFS_UUID_BYTES);
        err = daemon_dir_stamp(&master->dir, ROLE);
        return err == GFS_OK ? true : complain("stamp", err, NULL);
    }
    if (memcmp(master->dir.cluster_id, cluster_id, GFS_UUID_BYTES) != 0) {
        return complain("metadata", GFS_ERR_OTHER_CLUSTER, "it is not of the stamp's cluster");
    }
    return true;
}

/* ---- threads ------------------------------------------------------------------------------- */

static void on_journal_failed(void *arg)
{
    struct master *master = arg;
    log_event(LOG_ERROR, "journal_failed", "action=exit");
    master->failed = true;
    service_stop(master->service);
    loop_stop(master->loop);
}

static uint32_t highest_epoch(struct namespace *ns)
{
    uint32_t highest = 0;
    uint32_t at = 0;
    const struct chunk *chunk;
    while ((chunk = chunkmap_walk(ns_chunkmap(ns), &at)) != NULL) {
        uint32_t epoch = chunk->version >> LEASE_EPOCH_SHIFT;
        highest = epoch > highest ? epoch : highest;
    }
    return highest;
}

static bool start_service(struct master *master)
{
    uint32_t epoch;
    enum gfs_err err = epoch_next(master->options.data, highest_epoch(master->ns), &epoch);
    if (err != GFS_OK) {
        return complain("EPOCH", err, NULL);
    }
    err = journal_new(master->loop, &master->backend, NULL, on_journal_failed, master,
                      &master->journal);
    if (err != GFS_OK) {
        return complain("journal", err, NULL);
    }
    struct service_parts parts = {
        .options = &master->options,
        .loop = master->loop,
        .ns = master->ns,
        .window = master->window,
        .journal = master->journal,
        .random_seed = random_u64(),
        .epoch = epoch,
        .data_dir = master->options.data,
    };
    memcpy(parts.cluster_id, master->dir.cluster_id, GFS_UUID_BYTES);
    err = service_new(&parts, &master->service);
    return err == GFS_OK ? true : complain("service", err, NULL);
}

static bool start_net(struct master *master)
{
    struct loop *loops[NET_THREADS_MAX] = {master->loop};
    for (uint64_t i = 0; i < master->options.net_threads; i++) {
        char name[16];
        snprintf(name, sizeof(name), "net%u", (unsigned)i);
        enum gfs_err err = loop_new(name, &master->net[i]);
        if (err != GFS_OK) {
            return complain("network thread", err, NULL);
        }
        master->net_count++;
        loops[i] = master->net[i];
        err = loop_start(master->net[i]);
        if (err != GFS_OK) {
            return complain("network thread", err, NULL);
        }
    }
    struct rpc_identity identity = {.role = GFS_ROLE_MASTER};
    memcpy(identity.cluster_id, master->dir.cluster_id, GFS_UUID_BYTES);
    memcpy(identity.peer_id, master->dir.server_id, GFS_UUID_BYTES);
    struct rpc_limits limits = {.conn_max = (uint32_t)master->options.conn_max};
    struct rpc_events events = {
        .on_request = service_on_request,
        .on_close = service_on_close,
        .arg = master->service,
    };
    size_t loop_count = master->net_count > 0 ? master->net_count : 1;
    errno = 0;
    enum gfs_err err = rpc_server_new(master->options.listen, loops, loop_count, &identity, &limits,
                                      &events, &master->server);
    if (err == GFS_OK)
        return true;
    char detail[256];
    snprintf(detail, sizeof(detail), "cannot listen on %.100s: %s", master->options.listen,
             errno != 0 ? strerror(errno) : gfs_err_text(err));
    return complain(master->options.listen, err, detail);
}

/* ---- stopping ------------------------------------------------------------------------------ */

static void on_drain(struct loop_timer *timer)
{
    struct master *master = (struct master *)((char *)timer - offsetof(struct master, drain));
    if (service_is_idle(master->service) || loop_now_ms() >= master->drain_until_ms) {
        loop_stop(master->loop);
        return;
    }
    loop_timer_arm(&master->drain, DRAIN_STEP_MS);
}

static void on_signal(int signo, void *arg)
{
    struct master *master = arg;
    if (master->draining) {
        return;
    }
    log_event(LOG_INFO, "stopping", "signal=%d", signo);
    daemon_stopping();
    master->draining = true;
    master->drain_until_ms = loop_now_ms() + DRAIN_MAX_MS;
    service_stop(master->service);
    loop_timer_arm(&master->drain, DRAIN_STEP_MS);
}

static bool start_loop(struct master *master)
{
    signal(SIGPIPE, SIG_IGN);
    daemon_hold_signals();
    enum gfs_err err = loop_new("meta", &master->loop);
    if (err == GFS_OK) {
        err = loop_on_signal(master->loop, SIGTERM, on_signal, master);
    }
    if (err == GFS_OK) {
        err = loop_on_signal(master->loop, SIGINT, on_signal, master);
    }
    if (err == GFS_OK) {
        err = loop_timer_init(&master->drain, master->loop, on_drain);
    }
    return err == GFS_OK ? true : complain("loop", err, NULL);
}

/* The journal answers what waits for it; then connections end; then the metadata loop does what is
 * left in its mailbox, with the service still there; then nothing refers to anything. */
static void release(struct master *master)
{
    if (master->service != NULL) {
        service_stop(master->service);
    }
    journal_free(master->journal);
    if (master->server != NULL) {
        rpc_server_free(master->server);
    }
    loop_timer_release(&master->drain);
    loop_free(master->loop);
    service_free(master->service);
    for (size_t i = 0; i < master->net_count; i++) {
        loop_free(master->net[i]);
    }
    opwindow_free(master->window);
    ns_free(master->ns);
    kv_close(master->kv);
    daemon_dir_release(&master->dir);
}

static bool run(struct master *master)
{
    if (!set_log_level(master->options.log_level) || !start_loop(master) || !open_dir(master) ||
        !load(master) || !start_service(master) || !start_net(master)) {
        return false;
    }
    char text[1024];
    config_describe(&PROGRAM, &master->options, text, sizeof(text));
    log_event(LOG_INFO, "serving", "addr=%s version=" GFS_VERSION_TEXT " %s",
              rpc_server_addr(master->server), text);
    daemon_ready(rpc_server_addr(master->server));
    daemon_let_signals();
    loop_run(master->loop);
    return !master->failed;
}

int main(int argc, char **argv)
{
    struct master master = {.dir.lock_fd = -1};
    switch (config_parse(&PROGRAM, argc, argv, &master.options)) {
    case CONFIG_RUN:
        break;
    case CONFIG_EXIT_OK:
        return 0;
    case CONFIG_EXIT_USAGE:
        return 2;
    }
    /* Metadata grows and shrinks in small pieces: few arenas, no trimming on every free. */
    mallopt(M_ARENA_MAX, 4);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    bool ok = run(&master);
    release(&master);
    config_release(&PROGRAM, &master.options);
    return ok ? 0 : 1;
}
