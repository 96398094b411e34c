/*
 * sim_boot: nodes, and the start and end of their processes. What the two main.c do, less options
 * from a command line, signals and threads.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "config.h"
#include "daemon.h"
#include "kv.h"
#include "master/epoch.h"
#include "master/image.h"
#include "master/service.h"
#include "sim_disk.h"
#include "sim_int.h"

#define BOOT_ARGS_MAX     32u
#define BOOT_ARG_BYTES    48u
#define BOOT_NET_MAX      2u
#define BOOT_AGAIN_MIN_US (100 * SIM_MS)
#define BOOT_AGAIN_MAX_US (2 * SIM_S)
#define BOOT_TRIES_MAX    50u

/* What the process has made. */
struct sim_boot {
    struct sim_node *node;
    /* master */
    struct master_options master_options;
    struct kv *kv;
    struct loop *loop;
    struct namespace *ns;
    struct opwindow *window;
    struct journal_backend backend;
    struct journal *journal;
    struct service *service;
    struct rpc_server *server;
    /* chunkserver */
    struct cs_options cs_options;
    struct daemon_dir dir;
    struct chunkserver *cs;
};

/* A command line, in the making. */
struct boot_args {
    const struct config_program *program;
    int count;
    char *argv[BOOT_ARGS_MAX];
    char text[BOOT_ARGS_MAX][BOOT_ARG_BYTES];
};

/* The same for every start of a node in one run: drawn once. */
static struct {
    struct boot_args master, server;
    uint32_t lease_ms, margin_ms;
    uint64_t data_db_max_bytes; /* less than the option allows: databases are to come and go */
    uint32_t failures;
} boot;

static const struct config_option MASTER_OPTIONS[] = {
#define OPT(name, type, default_text, min, max, unit, help)                               \
    {#name, CONFIG_##type, offsetof(struct master_options, name), default_text, min, max, \
     unit,  help},
#include "master/master_options.tbl"
#undef OPT
};

static const struct config_program MASTER_PROGRAM = {
    .name = "gfs-master",
    .summary = "",
    .examples = "",
    .options = MASTER_OPTIONS,
    .option_count = sizeof(MASTER_OPTIONS) / sizeof(MASTER_OPTIONS[0]),
};

/* ---- options --------------------------------------------------------------------------------- */

static void args_name(struct boot_args *args)
{
    char *text = args->text[args->count];

    snprintf(text, BOOT_ARG_BYTES, "%s", args->program->name);
    args->argv[args->count++] = text;
}

static void args_add(struct boot_args *args, const char *name, const char *value)
{
    char *text = args->text[args->count];

    assert(args->count < (int)BOOT_ARGS_MAX - 1);
    snprintf(text, BOOT_ARG_BYTES, "--%s=%s", name, value);
    for (char *at = text; *at && *at != '='; at++)
        *at = *at == '_' ? '-' : *at;
    args->argv[args->count++] = text;
}

/* Options that a program does not have are left out. */
static void args_number(struct boot_args *args, const char *name, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    for (size_t i = 0; i < args->program->option_count; i++)
        if (strcmp(args->program->options[i].name, name) == 0)
            args_add(args, name, text);
}

static uint64_t draw(uint64_t from, uint64_t to)
{
    return sim_between(SIM_STREAM_PLAN, from, to);
}

static void draw_master_options(void)
{
    struct boot_args *args = &boot.master;

    args->program = &MASTER_PROGRAM;
    args_name(args);
    args_add(args, "data", "/m0");
    args_add(args, "listen", sim_master()->addr);
    args_number(args, "net_threads", draw(0, BOOT_NET_MAX));
    args_number(args, "goal", sim->server_count < 3 ? sim->server_count : 3);
    args_number(args, "chunk_size", 1u << 20);
    args_number(args, "lease_ms", boot.lease_ms);
    args_number(args, "lease_margin_ms", boot.margin_ms);
    args_number(args, "heartbeat_ms", draw(200, 800));
    args_number(args, "dead_missed", draw(3, 6));
    args_number(args, "set_version_timeout_ms", draw(400, 1500));
    args_number(args, "startup_wait_ms", draw(500, 3000));
    args_number(args, "collect_delay_s", draw(1, 8));
    args_number(args, "collect_quarantine_s", draw(1, 8));
    args_number(args, "anonymous_ttl_s", draw(60, 200));
}

static void draw_server_options(void)
{
    struct boot_args *args = &boot.server;

    args->program = &cs_options_program;
    args_name(args);
    args_add(args, "data", "/data");
    args_add(args, "master", sim_master()->addr);
    args_number(args, "net_threads", draw(0, BOOT_NET_MAX));
    args_number(args, "store_threads", draw(1, 4));
    args_number(args, "apply_timeout_ms", draw(400, 3000));
    args_number(args, "gap_timeout_ms", draw(100, 1000));
    args_number(args, "report_interval_ms", draw(300, 3000));
    args_number(args, "push_ttl_s", draw(2, 15));
    args_number(args, "free_min", 1u << 20);
    args_number(args, "replay_max", 1u << draw(16, 22));
    boot.data_db_max_bytes = 1u << draw(19, 23);
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static void draw_clock(struct sim_node *node, uint64_t base_us)
{
    /* Two clocks drift apart by twice that: together at most the margin in one lease. */
    int64_t most_ppm = (int64_t)boot.margin_ms * 1000000 / boot.lease_ms / 2 * 8 / 10;

    node->clock_base_us = base_us;
    node->clock_since_us = sim->now_us;
    node->drift_ppm = 0;
    if (!sim->options.no_faults && sim_chance(SIM_STREAM_PLAN, 700))
        node->drift_ppm = (int64_t)draw(0, (uint64_t)(2 * most_ppm)) - most_ppm;
    node->wall_offset_ms = (int64_t)draw(0, 10000) - 5000;
}

static void node_init(enum sim_role role, uint8_t number)
{
    struct sim_node *node = &sim->nodes[sim->node_count];
    uint8_t racks = (uint8_t)(sim->options.racks ? sim->options.racks : 3);

    node->role = role;
    node->index = sim->node_count++;
    snprintf(node->name, sizeof(node->name), "%c%u", "msc"[role], number);
    snprintf(node->ip, sizeof(node->ip), "10.0.%u.%u", role, number + 1);
    snprintf(node->addr, sizeof(node->addr), "10.0.%u.%u:%u", role, number + 1, 7400 + role);
    snprintf(node->rack, sizeof(node->rack), "r%u", number % racks);
    node->machine_up = true;
    node->random_state = sim_random(SIM_STREAM_PLAN);
    draw_clock(node, draw(SIM_S, 100000 * SIM_S));
}

void sim_boot_init(void)
{
    uint32_t servers = sim->options.servers, clients = sim->options.clients;

    memset(&boot, 0, sizeof(boot));
    boot.lease_ms = (uint32_t)draw(1500, 6000);
    boot.margin_ms = (uint32_t)draw(boot.lease_ms / 10, boot.lease_ms / 3);
    sim->server_count = servers ? servers : sim_chance(SIM_STREAM_PLAN, 700) ? 4 : 3 + draw(0, 2);
    sim->client_count = clients ? clients : 1 + (uint32_t)draw(0, 2);
    assert(sim->server_count <= SIM_SERVERS_MAX && sim->client_count <= SIM_CLIENTS_MAX);
    node_init(SIM_MASTER, 0);
    for (uint8_t i = 0; i < sim->server_count; i++)
        node_init(SIM_SERVER, i);
    for (uint8_t i = 0; i < sim->client_count; i++)
        node_init(SIM_CLIENT, i);
    for (uint32_t i = 0; i < 1 + sim->server_count; i++)
        sim->nodes[i].disk = sim_disk_new(&sim->nodes[i]);
    draw_master_options();
    draw_server_options();
}

struct sim_node *sim_master(void)
{
    return &sim->nodes[0];
}

struct sim_node *sim_server(uint32_t i)
{
    assert(i < sim->server_count);
    return &sim->nodes[1 + i];
}

struct sim_node *sim_client(uint32_t i)
{
    assert(i < sim->client_count);
    return &sim->nodes[1 + sim->server_count + i];
}

struct service *sim_service_of(const struct sim_node *node)
{
    return node->boot ? node->boot->service : NULL;
}

struct namespace *sim_namespace_of(const struct sim_node *node)
{
    return node->boot && node->boot->service ? node->boot->ns : NULL;
}

struct journal *sim_journal_of(const struct sim_node *node)
{
    return node->boot ? node->boot->journal : NULL;
}

struct kv *sim_kv_of(const struct sim_node *node)
{
    return node->boot ? node->boot->kv : NULL;
}

struct chunkserver *sim_chunkserver_of(const struct sim_node *node)
{
    return node->boot ? node->boot->cs : NULL;
}

/* ---- ends of processes ----------------------------------------------------------------------- */

static void boot_again(void *arg)
{
    sim_boot(arg);
}

static void exit_now(void *arg)
{
    struct sim_node *node = arg;

    if (!node->up)
        return;
    sim_crash(node, false);
    sim_after(NULL, draw(BOOT_AGAIN_MIN_US, BOOT_AGAIN_MAX_US), "again", boot_again, node);
}

/* The process gives up: its supervisor starts it again. */
static void process_exits(struct sim_node *node, const char *why)
{
    sim_trace("exit: %s", why);
    if (sim->healed && ++boot.failures > BOOT_TRIES_MAX)
        sim_fail("%s does not stay up: %s", node->name, why);
    sim_after(NULL, 0, "exit", exit_now, node);
}

void sim_crash(struct sim_node *node, bool power)
{
    assert(node->up && sim->current != node);
    sim_trace("%s %s", power ? "power cut of" : "kill of", node->name);
    sim_mix(node->index * 2u + power);
    node->up = false;
    node->crashes++;
    node->machine_up = !power;
    node->paused_until_us = 0;
    sim_net_node_ended(node, power);
    sim_rpc_node_ended(node);
    sim_task_drop_all(node);
    sim_drop_events(node);
    node->incarnation++;
    node->boot = NULL;
    if (node->disk)
        sim_disk_crash(node->disk, power);
}

/* ---- the master ------------------------------------------------------------------------------ */

static uint64_t random_u64(void)
{
    return sim_mix64(&sim->current->random_state);
}

static enum gfs_err commit_now(struct sim_boot *self, struct changes *take_changes,
                               enum gfs_err err)
{
    if (err == GFS_OK && !changes_empty(take_changes)) {
        const struct changes *list[1] = {take_changes};

        err = self->backend.commit(self->backend.arg, list, 1);
    }
    changes_release(take_changes);
    return err;
}

static enum gfs_err format_or_start(struct sim_boot *self, bool is_new)
{
    struct changes changes;
    enum gfs_err err;

    changes_init(&changes);
    if (is_new) {
        uuid_make(self->node->cluster_id);
        err = ns_format(self->ns, self->node->cluster_id, sim_wall_ms(self->node), &changes);
    } else {
        err = ns_start(self->ns, &changes);
    }
    return commit_now(self, &changes, err);
}

static enum gfs_err load(struct sim_boot *self)
{
    struct ns_options ns_options = {
        .seed = random_u64(),
        .goal_default = (uint32_t)self->master_options.goal,
        .chunk_size_bytes = (uint32_t)self->master_options.chunk_size,
    };
    struct kv_options kv_options = {.create = true, .paranoid = true, .verify = true};
    char detail[IMAGE_DETAIL_BYTES] = "";
    enum gfs_err err = kv_open("/m0/meta", &kv_options, &self->kv, NULL);

    if (err == GFS_OK)
        err = ns_new(&ns_options, &self->ns);
    if (err == GFS_OK)
        err = opwindow_new(random_u64(), &self->window);
    if (err != GFS_OK)
        return err;
    self->backend = journal_backend_kv(self->kv);
    err = image_load(self->kv, self->ns, self->window, sim_wall_ms(self->node), detail, NULL);
    if (err == GFS_OK)
        err = format_or_start(self, false);
    else if (err == GFS_ERR_NOT_FOUND && !self->node->epoch)
        err = format_or_start(self, true);
    if (err == GFS_ERR_NOT_FOUND || err == GFS_ERR_CORRUPT)
        sim_fail("the master finds its database damaged: %s %s", gfs_err_name(err), detail);
    if (err == GFS_OK)
        ns_cluster_id(self->ns, self->node->cluster_id);
    return err;
}

static void on_journal_failed(void *arg)
{
    struct sim_boot *self = arg;

    service_stop(self->service);
    process_exits(self->node, "journal");
}

static uint32_t highest_epoch(struct namespace *ns)
{
    uint32_t highest = 0, at = 0;
    const struct chunk *chunk;

    while ((chunk = chunkmap_walk(ns_chunkmap(ns), &at)) != NULL)
        if (chunk->version >> LEASE_EPOCH_SHIFT > highest)
            highest = chunk->version >> LEASE_EPOCH_SHIFT;
    return highest;
}

static enum gfs_err start_net(struct sim_boot *self)
{
    struct loop *loops[BOOT_NET_MAX + 1] = {self->loop};
    struct rpc_identity identity = {.role = GFS_ROLE_MASTER};
    struct rpc_limits limits = {.conn_max = (uint32_t)self->master_options.conn_max};
    struct rpc_events events = {.on_request = service_on_request,
                                .on_close = service_on_close,
                                .arg = self->service};
    size_t count = (size_t)self->master_options.net_threads;
    enum gfs_err err = GFS_OK;

    for (size_t i = 0; err == GFS_OK && i < count; i++)
        err = loop_new("net", &loops[i]);
    if (err != GFS_OK)
        return err;
    memcpy(identity.cluster_id, self->node->cluster_id, GFS_UUID_BYTES);
    memcpy(identity.peer_id, self->node->server_id, GFS_UUID_BYTES);
    return rpc_server_new(self->master_options.listen, loops, count ? count : 1, &identity, &limits,
                          &events, &self->server);
}

static enum gfs_err start_service(struct sim_boot *self)
{
    struct service_parts parts = {
        .options = &self->master_options,
        .loop = self->loop,
        .ns = self->ns,
        .window = self->window,
        .data_dir = "/m0",
    };
    enum gfs_err err = epoch_next(parts.data_dir, highest_epoch(self->ns), &parts.epoch);

    if (err == GFS_OK)
        err =
            journal_new(self->loop, &self->backend, NULL, on_journal_failed, self, &self->journal);
    if (err != GFS_OK)
        return err;
    parts.journal = self->journal;
    parts.random_seed = random_u64();
    memcpy(parts.cluster_id, self->node->cluster_id, GFS_UUID_BYTES);
    return service_new(&parts, &self->service);
}

static enum gfs_err boot_master(struct sim_boot *self)
{
    enum gfs_err err = loop_new("meta", &self->loop);

    if (err == GFS_OK)
        err = load(self);
    if (err == GFS_OK)
        err = start_service(self);
    return err == GFS_OK ? start_net(self) : err;
}

/* ---- chunkservers ---------------------------------------------------------------------------- */

static void on_stopped(void *arg)
{
    struct sim_boot *self = arg;

    process_exits(self->node, "chunkserver stopped");
}

static enum gfs_err boot_server(struct sim_boot *self)
{
    char detail[512] = "";
    struct chunkserver *cs;
    enum gfs_err err;

    self->cs_options.listen = self->node->addr;
    self->cs_options.rack = self->node->rack;
    self->cs_options.data_db_max_bytes = boot.data_db_max_bytes;
    self->dir.lock_fd = -1;
    snprintf(self->dir.path, sizeof(self->dir.path), "/%s", self->node->name);
    if (uuid_is_zero(self->node->server_id))
        uuid_make(self->node->server_id);
    memcpy(self->dir.server_id, self->node->server_id, GFS_UUID_BYTES);
    memcpy(self->dir.cluster_id, self->node->cluster_id, GFS_UUID_BYTES);
    self->dir.has_stamp = !uuid_is_zero(self->dir.cluster_id);
    err = chunkserver_new(&self->cs_options, &self->dir, &cs, detail);
    if (err == GFS_OK)
        err = chunkserver_start(cs, on_stopped, self, detail);
    if (err == GFS_OK)
        self->cs = cs;
    else
        sim_trace("chunkserver: %s", detail);
    return err;
}

/* ---- start ----------------------------------------------------------------------------------- */

static void parse(struct boot_args *args, void *ret_options)
{
    if (config_parse(args->program, args->count, args->argv, ret_options) != CONFIG_RUN)
        sim_fail("%s refuses its options", args->program->name);
}

static void main_task(void *arg)
{
    struct sim_boot *self = arg;
    enum gfs_err err = GFS_OK;

    if (self->node->role == SIM_MASTER) {
        parse(&boot.master, &self->master_options);
        err = boot_master(self);
    } else if (self->node->role == SIM_SERVER) {
        parse(&boot.server, &self->cs_options);
        err = boot_server(self);
    } else if (self->node->crashes > 0) {
        work_client_back(self->node);
    }
    if (err != GFS_OK)
        process_exits(self->node, gfs_err_name(err));
    else
        sim_trace("up");
}

void sim_boot(struct sim_node *node)
{
    struct sim_boot *self;

    if (node->up)
        return;
    self = calloc(1, sizeof(*self));
    assert(self);
    sim_trace("start of %s", node->name);
    self->node = node;
    node->boot = self;
    node->up = true;
    if (!node->machine_up) {
        node->machine_up = true;
        draw_clock(node, draw(SIM_S, 60 * SIM_S));
        sim_net_kick();
    }
    sim_spawn(node, "main", main_task, self);
}
