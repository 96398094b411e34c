/* work: the workers, their lives, and what they have in common. See work.h. */
#include "tests/sim/work.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"

#define WORK_OPS_EACH       14u
#define WORK_PAUSE_MAX_US   (400 * SIM_MS)
#define WORK_CONNECT_US     (300 * SIM_MS)
#define WORK_GRACE_US       (90 * SIM_S) /* after the faults: then every error is one too many */
#define WORK_PER_CLIENT_MAX 6u

static struct work the_work;
static uint64_t healed_us;

const struct work_region work_regions[WORK_REGIONS] = {
    {0, 4096},
    {4096, 4096},
    {65000, 1104}, /* over the end of a block */
    {131072, 65536},
    {200000, 100000},
    {400000, 304},
    {524288 - 4096, 8192},
    {1048576 - 5000, 5000}, /* the chunk's last bytes */
    {1048576, 8192},
    {1048576 + 70000, 131072},
    {1048576 + 300000, 2048},
    {1048576 + 900000, 40000},
};

uint64_t work_draw(uint64_t below)
{
    return sim_below(SIM_STREAM_WORK, below);
}

uint64_t work_value(void)
{
    return ++sim->work->values;
}

struct gfs_create_options work_create_options(void)
{
    return (struct gfs_create_options){.goal = sim->work->goal, .chunk_size_bytes = 1u << 20};
}

/* ---- operations ------------------------------------------------------------------------------ */

uint32_t work_call(struct worker *worker, const struct history_op *op)
{
    struct history_op *pending = &worker->pending[worker->pending_count];

    assert(worker->pending_count < WORK_PENDING_MAX);
    *pending = *op;
    pending->proc = worker->proc;
    pending->call_us = sim->now_us;
    pending->return_us = HISTORY_OPEN;
    return worker->pending_count++;
}

struct history_op *work_pending(struct worker *worker, uint32_t place)
{
    assert(place < worker->pending_count);
    return &worker->pending[place];
}

void work_end(struct worker *worker, bool done)
{
    for (uint32_t i = 0; i < worker->pending_count; i++) {
        if (!done && worker->pending[i].kind == HISTORY_READ)
            continue; /* it has seen nothing */
        if (done)
            worker->pending[i].return_us = sim->now_us;
        history_add(&sim->work->history, &worker->pending[i]);
        sim_mix(worker->pending[i].value);
    }
    worker->pending_count = 0;
    if (done)
        sim->work->done++;
    else
        sim->work->failed++;
}

void work_drop(struct worker *worker)
{
    worker->pending_count = 0;
}

static bool is_of_now(enum gfs_err err)
{
    switch (err) {
    case GFS_ERR_BUSY:
    case GFS_ERR_TIMEOUT:
    case GFS_ERR_CONN:
    case GFS_ERR_NO_SERVERS:
    case GFS_ERR_STARTING:
    case GFS_ERR_STOPPING:
    case GFS_ERR_NO_REPLICA:
    case GFS_ERR_NO_SPACE:
    case GFS_ERR_IO:
    case GFS_ERR_NO_CHUNK:
    case GFS_ERR_STALE_VERSION:
    case GFS_ERR_NO_LEASE:
    case GFS_ERR_NO_DATA:
    case GFS_ERR_READ_ONLY:
    case GFS_ERR_REPLICA_FAILED:
    case GFS_ERR_UNSETTLED:
    case GFS_ERR_UNKNOWN_SERVER:
        return true;
    default:
        return false;
    }
}

void work_judge(const struct worker *worker, enum gfs_err err, const char *what, const char *path)
{
    /* While the only server within reach is the damaged one. */
    bool damaged = (err == GFS_ERR_CORRUPT || err == GFS_ERR_SHORT) && !sim->healed &&
                   sim_disk_damages(sim_server(0)->disk) > 0;

    if (err == GFS_OK)
        return;
    sim_trace("%s %s: %s (%s)", what, path, gfs_err_name(err), gfs_last_error());
    if (sim->healed && !healed_us)
        healed_us = sim->now_us;
    if (!damaged && !is_of_now(err))
        sim_fail("%s of %s says %s: %s", what, path, gfs_err_name(err), gfs_last_error());
    /* Lost replicas are not made anew: what only one server has left cannot be settled. */
    if (err == GFS_ERR_NO_REPLICA && sim_disk_damages(sim_server(0)->disk) > 0)
        return;
    if (healed_us && sim->now_us > healed_us + WORK_GRACE_US)
        sim_fail("%s of %s still says %s: %s, long after the last fault", what, path,
                 gfs_err_name(err), gfs_last_error());
}

void work_seen(uint32_t log, const struct work_record *record)
{
    struct work *work = sim->work;

    work->sights = realloc(work->sights, (work->sight_count + 1) * sizeof(*work->sights));
    assert(work->sights);
    work->sights[work->sight_count++] = (struct work_sight){log, *record};
}

struct gfs_file *work_open(struct worker *worker, const char *path, int flags)
{
    struct gfs_create_options create = work_create_options();
    struct gfs_file *file;
    enum gfs_err err = gfs_open(worker->fs, path, flags, &create, &file);

    if (err == GFS_OK)
        return file;
    work_judge(worker, err, "open", path);
    return NULL;
}

/* ---- lives ----------------------------------------------------------------------------------- */

static void run_one(struct worker *worker)
{
    static void (*const runs[WORK_KINDS])(struct worker * worker) = {
        [WORK_REGION] = work_region_run, [WORK_APPEND] = work_append_run,
        [WORK_NAME] = work_name_run,     [WORK_OWN] = work_own_run,
        [WORK_COPY] = work_copy_run,
    };

    runs[worker->kind](worker);
}

/* Whoever comes first makes it. */
static void make_shared(struct worker *worker)
{
    for (;;) {
        enum gfs_err err = gfs_mkdir(worker->fs, WORK_SHARED, 0, false);

        if (err == GFS_OK || err == GFS_ERR_EXISTS)
            return;
        work_judge(worker, err, "mkdir", WORK_SHARED);
        sim_sleep_us(WORK_CONNECT_US);
    }
}

static void worker_main(void *arg)
{
    struct worker *worker = arg;
    struct gfs_options options = {.timeout_ms = WORK_TIMEOUT_MS,
                                  .fresh_reads = true,
                                  .server_timeout_ms = 1000,
                                  .rack = worker->node->rack};

    while (gfs_connect(sim_master()->addr, &options, &worker->fs) != GFS_OK)
        sim_sleep_us(WORK_CONNECT_US);
    make_shared(worker);
    run_one(worker);
    work_drop(worker);
    gfs_disconnect(worker->fs);
    worker->fs = NULL;
    worker->over = true;
}

static void worker_live(struct worker *worker)
{
    worker->proc = ++sim->work->procs;
    worker->lives++;
    sim_spawn(worker->node, "worker", worker_main, worker);
}

void work_client_back(struct sim_node *node)
{
    struct work *work = sim->work;

    for (uint32_t i = 0; work && i < work->worker_count; i++) {
        struct worker *worker = &work->workers[i];

        if (worker->node != node || worker->over)
            continue;
        work_end(worker, false);
        worker_live(worker);
    }
}

/* Some seeds have one kind of work, most have all. */
static enum work_kind draw_kind(bool one, enum work_kind kind)
{
    static const enum work_kind often[] = {WORK_REGION, WORK_REGION, WORK_REGION, WORK_APPEND,
                                           WORK_APPEND, WORK_NAME,   WORK_OWN,    WORK_OWN,
                                           WORK_COPY,   WORK_COPY};

    return one && work_draw(4) > 0 ? kind : often[work_draw(sizeof(often) / sizeof(often[0]))];
}

void work_begin(void)
{
    struct work *work = &the_work;
    bool one = work_draw(3) == 0;
    enum work_kind kind = (enum work_kind)work_draw(WORK_KINDS);
    uint32_t ops = sim->options.ops ? sim->options.ops : WORK_OPS_EACH + (uint32_t)work_draw(20);

    memset(work, 0, sizeof(*work));
    healed_us = 0;
    history_init(&work->history);
    sim->work = work;
    work->goal = sim->server_count < 3 ? sim->server_count : 3;
    work->file_count = 1 + (uint32_t)work_draw(2);
    work->log_count = 1 + (uint32_t)work_draw(2);
    for (uint32_t i = 0; i < work->file_count; i++)
        snprintf(work->files[i].path, WORK_PATH_BYTES, WORK_SHARED "/regions%u", i);
    for (uint32_t i = 0; i < work->log_count; i++)
        snprintf(work->logs[i].path, WORK_PATH_BYTES, WORK_SHARED "/log%u", i);
    for (uint32_t i = 0; i < sim->client_count; i++) {
        uint32_t count = 2 + (uint32_t)work_draw(WORK_PER_CLIENT_MAX - 1);

        for (uint32_t j = 0; j < count; j++) {
            struct worker *worker = &work->workers[work->worker_count];

            *worker = (struct worker){.kind = draw_kind(one, kind),
                                      .node = sim_client(i),
                                      .index = work->worker_count++,
                                      .left = ops};
            worker_live(worker);
        }
    }
}

bool work_is_over(void)
{
    struct work *work = sim->work;

    for (uint32_t i = 0; i < work->worker_count; i++)
        if (!work->workers[i].over)
            return false;
    if (!work->final_begun && sim_client(0)->up) {
        work->final_begun = true;
        sim_spawn(sim_client(0), "final", work_final_run, NULL);
    }
    return work->final_over;
}
