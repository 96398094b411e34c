/*
 * scrub_run: the scrub at work. Control thread; each step is a small job of the storage pool, so
 * that nobody waits behind it for long. Also: telling the master of chunks that were found bad.
 */
#include <stddef.h>
#include <stdlib.h>

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"
#include "chunkserver/scrub.h"
#include "log.h"

#define SCRUB_ASKED_RATE   (256u << 20)
#define SCRUB_BUSY_MS      100u /* the storage pool is full of what people wait for */
#define SCRUB_IDLE_MS      1000u
#define SCRUB_SKIPS_MAX    256u /* in one step */
#define SCRUB_MARKS_MAX    1024u
#define SCRUB_MARK_WAIT_MS 5000u

/* A chunk found bad whose mark the store is still making durable. */
struct scrub_mark {
    uint64_t handle;
    uint64_t until_ms;
};

struct cs_scrub {
    struct storepool_job job; /* first */
    struct loop_task task;
    struct loop_timer timer;
    struct chunkserver *cs;
    struct scrub core;
    struct scrub_mark marks[SCRUB_MARKS_MAX];
    size_t mark_count;

    /* The job under way. */
    bool busy;
    bool asked;
    uint64_t handle;
    uint32_t block;
    struct store_digest digest;
    enum gfs_err err;
};

static uint64_t now_us(void)
{
    return loop_now_ms() * 1000;
}

static void scrub_arm(struct cs_scrub *scrub, uint64_t delay_ms)
{
    if (!scrub->busy && !scrub->cs->closed)
        loop_timer_arm(&scrub->timer, delay_ms);
}

static void scrub_go_on(struct cs_scrub *scrub)
{
    uint64_t delay_us = scrub_delay_us(&scrub->core, now_us());

    if (delay_us != SCRUB_NEVER)
        scrub_arm(scrub, delay_us / 1000 < SCRUB_IDLE_MS ? delay_us / 1000 : SCRUB_IDLE_MS);
}

/* ---- what was found ---- */

static void found_bad(struct cs_scrub *scrub, uint64_t handle, uint32_t block)
{
    log_event(LOG_WARN, "scrub_bad", "handle=%016llx block=%u", (unsigned long long)handle, block);
    cs_chunk_bad(scrub->cs, handle);
}

static void checked(struct loop_task *task)
{
    struct cs_scrub *scrub = (struct cs_scrub *)((char *)task - offsetof(struct cs_scrub, task));
    uint64_t at_us = now_us();
    uint64_t start = (uint64_t)scrub->block << GFS_BLOCK_SHIFT;
    uint64_t end = start + ((uint64_t)scrub->digest.count << GFS_BLOCK_SHIFT);
    uint64_t length = scrub->digest.chunk.length_bytes;
    uint64_t bytes = (end < length ? end : length) - (start < length ? start : length);

    scrub->busy = false;
    free(scrub->digest.crcs);
    scrub->digest.crcs = NULL;
    if (scrub->err == GFS_ERR_CORRUPT)
        found_bad(scrub, scrub->handle, scrub->digest.bad_block);
    /* A step of the slow pass is done again when another one was asked for meanwhile. */
    if (scrub->asked == scrub->core.is_asked) {
        if (scrub->err == GFS_OK)
            scrub_checked(&scrub->core, scrub->handle, scrub->digest.count, bytes, end >= length,
                          at_us);
        else if (scrub->err == GFS_ERR_CORRUPT)
            scrub_found_bad(&scrub->core, scrub->handle, at_us);
        else
            scrub_skip(&scrub->core, scrub->handle);
    }
    scrub_go_on(scrub);
}

/* Storage thread. */
static void check(struct storepool_job *job)
{
    struct cs_scrub *scrub = (struct cs_scrub *)job;

    scrub->digest = (struct store_digest){0};
    scrub->err = store_digest(scrub->cs->store, scrub->handle, 0, scrub->block, SCRUB_STEP_BLOCKS,
                              true, &scrub->digest);
    scrub->task.fn = checked;
    loop_post(scrub->cs->control.loop, &scrub->task);
}

/* ---- what is next ---- */

static void check_submit(struct cs_scrub *scrub, uint64_t handle, uint32_t block)
{
    scrub->asked = scrub->core.is_asked;
    scrub->handle = handle;
    scrub->block = block;
    scrub->job.fn = check;
    scrub->job.key = handle;
    if (storepool_submit(scrub->cs->pool, &scrub->job) == GFS_OK)
        scrub->busy = true;
    else
        scrub_arm(scrub, SCRUB_BUSY_MS);
}

/* True: a job was begun, or there is a reason to wait. */
static bool scrub_step(struct cs_scrub *scrub)
{
    struct chunkserver *cs = scrub->cs;
    struct store_chunk chunk;
    uint64_t handle;
    uint32_t block;

    scrub_at(&scrub->core, &handle, &block);
    if (store_list(cs->store, handle, &chunk, 1) == 0) {
        struct store_stat stat;

        store_stat(cs->store, &stat);
        scrub_end(&scrub->core, stat.chunk_count, now_us());
        scrub_go_on(scrub);
        return true;
    }
    if (chunk.corrupt && scrub->core.is_asked) {
        scrub_found_bad(&scrub->core, chunk.handle, now_us());
    } else if (chunk.corrupt || (!scrub->core.is_asked &&
                                 mutation_is_leased(cs->mutations, chunk.handle, loop_now_ms()))) {
        scrub_skip(&scrub->core, chunk.handle);
    } else {
        check_submit(scrub, chunk.handle, chunk.handle == handle ? block : 0);
        return true;
    }
    return false;
}

static void timer_fired(struct loop_timer *timer)
{
    struct cs_scrub *scrub = (struct cs_scrub *)((char *)timer - offsetof(struct cs_scrub, timer));

    if (scrub->busy || scrub->cs->closed)
        return;
    if (atomic_load(&scrub->cs->stopping)) {
        scrub_arm(scrub, SCRUB_IDLE_MS);
        return;
    }
    if (scrub_delay_us(&scrub->core, now_us()) > 0) {
        scrub_go_on(scrub);
        return;
    }
    for (uint32_t i = 0; i < SCRUB_SKIPS_MAX; i++)
        if (scrub_step(scrub))
            return;
    scrub_arm(scrub, 1);
}

/* ---- SCRUB ---- */

void cs_scrub_request(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__ScrubRequest *msg = (const Gfs__ScrubRequest *)take_request->msg;
    Gfs__ScrubReply reply = GFS__SCRUB_REPLY__INIT;
    struct cs_scrub *scrub = cs->scrub;
    const struct scrub_pass *pass;

    if (msg->start) {
        struct store_stat stat;

        store_stat(cs->store, &stat);
        scrub_ask(&scrub->core, stat.chunk_count, now_us());
        scrub_arm(scrub, 0);
    }
    pass = scrub_told(&scrub->core);
    reply.running = scrub->core.is_asked;
    reply.chunks = pass->chunks;
    reply.chunks_done = pass->chunks_done;
    reply.bytes_done = pass->bytes_done;
    reply.bad_chunks = pass->bad_chunks;
    reply.passes = scrub->core.passes;
    reply.n_bad_handles = scrub->core.bad_count;
    reply.bad_handles = scrub->core.bad;
    cs_reply(cs, take_request, &reply.base, NULL);
}

/* ---- bad chunks ---- */

struct bad_task {
    struct loop_task task;
    struct chunkserver *cs;
    uint64_t handle;
};

/*
 * The store marks a bad chunk with its next commit. The master is told when that is so, since what
 * it is told is the chunk's state then; or after a while, whatever it is.
 */
static void mark_add(struct chunkserver *cs, uint64_t handle)
{
    struct cs_scrub *scrub = cs->scrub;

    for (size_t i = 0; i < scrub->mark_count; i++)
        if (scrub->marks[i].handle == handle)
            return;
    if (scrub->mark_count == SCRUB_MARKS_MAX) {
        cs_chunk_changed(cs, handle);
        return;
    }
    scrub->marks[scrub->mark_count++] =
        (struct scrub_mark){handle, loop_now_ms() + SCRUB_MARK_WAIT_MS};
}

static void bad_run(struct loop_task *task)
{
    struct bad_task *bad = (struct bad_task *)task;

    mark_add(bad->cs, bad->handle);
    free(bad);
}

void cs_chunk_bad(struct chunkserver *cs, uint64_t handle)
{
    struct bad_task *bad;

    if (loop_is_current(cs->control.loop)) {
        mark_add(cs, handle);
        return;
    }
    bad = malloc(sizeof *bad);
    if (!bad)
        return; /* the rolling report will tell */
    bad->task.fn = bad_run;
    bad->cs = cs;
    bad->handle = handle;
    loop_post(cs->control.loop, &bad->task);
}

void cs_scrub_tick(struct chunkserver *cs)
{
    struct cs_scrub *scrub = cs->scrub;
    uint64_t now_ms = loop_now_ms();
    size_t kept = 0;

    for (size_t i = 0; i < scrub->mark_count; i++) {
        struct store_chunk chunk;

        if (store_chunk_get(cs->store, scrub->marks[i].handle, &chunk) == GFS_OK &&
            !chunk.corrupt && now_ms < scrub->marks[i].until_ms)
            scrub->marks[kept++] = scrub->marks[i];
        else
            cs_chunk_changed(cs, scrub->marks[i].handle);
    }
    scrub->mark_count = kept;
}

/* ---- life ---- */

enum gfs_err cs_scrub_init(struct chunkserver *cs)
{
    const struct scrub_options options = {
        .rate_bytes_s = cs->options->scrub_rate,
        .asked_rate_bytes_s = SCRUB_ASKED_RATE,
        .pause_us = cs->options->scrub_pause_s * 1000000,
    };

    cs->scrub = calloc(1, sizeof *cs->scrub);
    if (!cs->scrub)
        return GFS_ERR_NO_MEMORY;
    cs->scrub->cs = cs;
    scrub_init(&cs->scrub->core, &options);
    return loop_timer_init(&cs->scrub->timer, cs->control.loop, timer_fired);
}

void cs_scrub_go(struct chunkserver *cs)
{
    scrub_go_on(cs->scrub);
}

void cs_scrub_release(struct chunkserver *cs)
{
    if (cs->scrub)
        loop_timer_release(&cs->scrub->timer);
}

void cs_scrub_drop(struct chunkserver *cs)
{
    free(cs->scrub);
    cs->scrub = NULL;
}
