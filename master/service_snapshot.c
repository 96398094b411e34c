/*
 * SNAPSHOT: no lease is out below the source, then one change of the namespace makes the copy.
 *
 *   request --> HELD --> settle every chunk that may have a lease --> look again --> ns_snapshot
 *                 ^                                                     |  some came in meanwhile
 *                 +-----------------------------------------------------+
 *
 * While a source is held, nobody gets a lease or a fresh chunk below it, and no truncation cuts one
 * there (service_snapshot_holds). Names, commits and lengths may change: what is there at the
 * moment of ns_snapshot is in the snapshot. What is renamed or published into the source meanwhile
 * is found by looking again.
 *
 * Invariant: when ns_snapshot is done, no server accepts a mutation of what is shared by it, at the
 * version that the chunk has. A lease may be out that the lease table does not show as live:
 * granted by the master before its start, by a server that went away since, or followed by a round
 * that failed. Chunks of which that may be so are settled too, and so are those of which a replica
 * may have what nobody acknowledged; those shared already have neither.
 * What can fail: a chunk without enough replicas (NO_REPLICA), time (BUSY); nothing has changed
 * then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "log.h"
#include "master/service_op.h"

#define SNAPSHOTS_MAX         16u
#define SNAPSHOT_SETTLES_MAX  64u   /* at once */
#define SNAPSHOT_BUSY_MAX     256u  /* chunks found busy before the next pause */
#define SNAPSHOT_STARTING_MAX 4096u /* chunks to settle soon after the start */
#define SNAPSHOT_LOOKS_MAX    16u
#define SNAPSHOT_PAUSE_MS     50u
#define SNAPSHOT_SLACK_MS     5000u /* longer than a lease lasts */
#define SNAPSHOT_TOO_LARGE    "a snapshot is of at most 100000 files with 262144 chunks"
#define SNAPSHOT_LOOP         "a snapshot cannot lie inside of what it is made of"

struct settled_chunk {
    uint64_t handle;
    uint32_t version;
    UT_hash_handle hh;
};

struct service_snapshot {
    struct service *service;
    struct op *op; /* NULL: answered; it lives until its settles have ended */
    uint64_t root;
    uint64_t *todo; /* handles to settle; those before todo_next are begun or done */
    size_t todo_count, todo_cap, todo_next;
    bool no_memory;
    struct settled_chunk *settled;
    uint32_t settling;
    uint32_t looks;
    bool running, again;
    uint64_t until_ms;
    struct loop_timer timer;
    struct service_snapshot *prev, *next;
};

/* A settle round's waiter: an op without a request. */
struct settle {
    struct op op;
    struct service_snapshot *snapshot;
    uint64_t handle;
};

static void run(struct service_snapshot *snapshot);

bool service_snapshot_holds(const struct service *service, const struct inode *inode)
{
    const struct service_snapshot *snapshot;
    DL_FOREACH (service->snapshots, snapshot) {
        if (ns_is_below(service->parts.ns, inode, snapshot->root)) {
            return true;
        }
    }
    return false;
}

void service_snapshot_server_down(struct service *service, uint16_t slot)
{
    service->down_ms[slot] = loop_now_ms() + 1;
}

/* ---- the end ------------------------------------------------------------------------------- */

static void release(struct service_snapshot *take_snapshot)
{
    struct settled_chunk *chunk, *tmp;
    HASH_ITER (hh, take_snapshot->settled, chunk, tmp) {
        HASH_DEL(take_snapshot->settled, chunk);
        free(chunk);
    }
    loop_timer_release(&take_snapshot->timer);
    free(take_snapshot->todo);
    free(take_snapshot);
}

/* Nothing is held any more; its op has been, or is about to be, answered by the caller. */
static struct op *let_go(struct service_snapshot *snapshot)
{
    struct op *op = snapshot->op;
    snapshot->op = NULL;
    DL_DELETE(snapshot->service->snapshots, snapshot);
    loop_timer_disarm(&snapshot->timer);
    return op;
}

static void fail(struct service_snapshot *snapshot, enum gfs_err err, const char *detail)
{
    if (snapshot->op != NULL) {
        op_fail(let_go(snapshot), err, 0, detail);
    }
}

static void fail_chunk(struct service_snapshot *snapshot, enum gfs_err err, uint64_t handle)
{
    char detail[96];
    snprintf(detail, sizeof(detail), "chunk %016llx cannot be settled", (unsigned long long)handle);
    fail(snapshot, err, detail);
}

static const char *detail_of(enum gfs_err err)
{
    return err == GFS_ERR_TOO_LARGE ? SNAPSHOT_TOO_LARGE
           : err == GFS_ERR_LOOP    ? SNAPSHOT_LOOP
                                    : NULL;
}

/* Has the operation's first try been done? It may end while this one, a retry, is under way. */
static bool was_done(const struct op *op)
{
    const Gfs__SnapshotRequest *msg = (const void *)op->request->msg;
    struct opwindow_result result;
    return opwindow_find(op->service->parts.window, msg->op_id.data, msg->op_id.len,
                         GFS_MSG_SNAPSHOT, &result);
}

static void answer_done(struct op *op)
{
    op_answer_empty(op);
    op_finish(op);
}

/* Nothing below the source can be written: makes the copy. */
static void finish(struct service_snapshot *snapshot)
{
    struct service *service = snapshot->service;
    struct op *op = let_go(snapshot);
    const Gfs__SnapshotRequest *msg = (const void *)op->request->msg;
    struct opwindow_result result = {.kind = GFS_MSG_SNAPSHOT};
    if (was_done(op)) {
        answer_done(op);
        return;
    }
    enum gfs_err err = opwindow_reserve(&service->changes);
    if (err == GFS_OK) {
        err = ns_snapshot(service->parts.ns, msg->from.data, msg->from.len, msg->to.data,
                          msg->to.len, service_wall_ms(), &service->changes);
    }
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, detail_of(err));
        return;
    }
    opwindow_record(service->parts.window, msg->op_id.data, msg->op_id.len, &result,
                    &service->changes);
    log_event(LOG_INFO, "snapshot", "from=\"%.*s\" to=\"%.*s\" settled=%u changes_bytes=%zu",
              (int)msg->from.len, (const char *)msg->from.data, (int)msg->to.len,
              (const char *)msg->to.data, HASH_COUNT(snapshot->settled),
              service->changes.len_bytes);
    op_answer_empty(op);
    op_commit(op);
}

/* ---- what to settle ------------------------------------------------------------------------ */

/* Leases of the master before may still be out. */
static bool is_young(const struct service *service)
{
    return loop_now_ms() - service->started_ms < service->parts.options->lease_ms;
}

static bool was_lately_down(const struct service *service, uint16_t slot)
{
    uint64_t down_ms = service->down_ms[slot];
    return down_ms != 0 && loop_now_ms() + 1 - down_ms < service->parts.options->lease_ms;
}

static bool may_have_lease(const struct service *service, const struct chunk *chunk)
{
    if (chunk->truncating || is_young(service) || lease_is_known(service->leases, chunk->handle)) {
        return true;
    }
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        if (was_lately_down(service, chunk_location(map, chunk, i).server)) {
            return true;
        }
    }
    return false;
}

/* Some replica may have more than the others, of a write that nobody acknowledged: one that says
 * so, or one that is not here to say. It must not become part of the snapshot later. */
static bool may_be_in_doubt(const struct service *service, const struct chunk *chunk)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    uint32_t here = 0;
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        here += location.state == CHUNK_LOCATION_OK &&
                registry_is_up(&service->registry, location.server);
    }
    return here < chunk->goal || service_settle_is_wanted(service, chunk->handle);
}

static bool wants_settling(const struct service_snapshot *snapshot, const struct chunk *chunk)
{
    const struct settled_chunk *settled;
    HASH_FIND(hh, snapshot->settled, &chunk->handle, sizeof(chunk->handle), settled);
    return chunk->references <= 1 && (settled == NULL || settled->version != chunk->version) &&
           (may_have_lease(snapshot->service, chunk) || may_be_in_doubt(snapshot->service, chunk));
}

static void add_todo(struct service_snapshot *snapshot, uint64_t handle)
{
    if (snapshot->todo_count == snapshot->todo_cap) {
        size_t cap = snapshot->todo_cap == 0 ? 64 : 2 * snapshot->todo_cap;
        uint64_t *todo = realloc(snapshot->todo, cap * sizeof(*todo));
        if (todo == NULL) {
            snapshot->no_memory = true;
            return;
        }
        snapshot->todo = todo;
        snapshot->todo_cap = cap;
    }
    snapshot->todo[snapshot->todo_count++] = handle;
}

static void visit(void *arg, struct chunk *chunk)
{
    struct service_snapshot *snapshot = arg;
    if (wants_settling(snapshot, chunk)) {
        add_todo(snapshot, chunk->handle);
    }
}

/* Fills todo anew. False: the snapshot has failed. */
static bool look(struct service_snapshot *snapshot)
{
    struct service *service = snapshot->service;
    const Gfs__SnapshotRequest *msg = (const void *)snapshot->op->request->msg;
    struct inode *from;
    if (was_done(snapshot->op)) {
        answer_done(let_go(snapshot));
        return false;
    }
    enum gfs_err err = ns_snapshot_check(service->parts.ns, msg->from.data, msg->from.len,
                                         msg->to.data, msg->to.len, &from);
    if (err != GFS_OK) {
        fail(snapshot, err, detail_of(err));
        return false;
    }
    if (inode_id(from) != snapshot->root || snapshot->looks++ >= SNAPSHOT_LOOKS_MAX) {
        fail(snapshot, GFS_ERR_BUSY, "it changes too much meanwhile");
        return false;
    }
    snapshot->todo_count = snapshot->todo_next = 0;
    ns_visit_chunks(service->parts.ns, from, visit, snapshot);
    if (snapshot->no_memory) {
        fail(snapshot, GFS_ERR_NO_MEMORY, NULL);
        return false;
    }
    if (is_young(service) && snapshot->todo_count > SNAPSHOT_STARTING_MAX) {
        fail(snapshot, GFS_ERR_STARTING, "leases from before the master's start may be out");
        return false;
    }
    return true;
}

/* ---- settling ------------------------------------------------------------------------------ */

static void note_settled(struct service_snapshot *snapshot, const struct chunk *chunk)
{
    struct settled_chunk *settled;
    HASH_FIND(hh, snapshot->settled, &chunk->handle, sizeof(chunk->handle), settled);
    if (settled == NULL) {
        settled = calloc(1, sizeof(*settled));
        if (settled == NULL) {
            return; /* it is settled once more */
        }
        settled->handle = chunk->handle;
        HASH_ADD(hh, snapshot->settled, handle, sizeof(settled->handle), settled);
    }
    settled->version = chunk->version;
}

/* Nothing of it was ever committed, and nothing can be once it is shared; the copy's file has it
 * cut before it writes there (ns_chunk_claim). */
static bool is_empty(const struct chunk *chunk)
{
    return chunk->length_bytes == 0;
}

static void settle_ended(struct op *op, enum gfs_err err, const struct lease_grant *grant)
{
    struct settle *settle = (struct settle *)((char *)op - offsetof(struct settle, op));
    struct service_snapshot *snapshot = settle->snapshot;
    uint64_t handle = settle->handle;
    free(settle);
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(snapshot->service->parts.ns), handle);
    snapshot->settling--;
    if (chunk != NULL && !chunk_released(chunk)) {
        if (err == GFS_OK || (err == GFS_ERR_NO_REPLICA && is_empty(chunk))) {
            note_settled(snapshot, chunk);
        } else if (err == GFS_ERR_BUSY) {
            add_todo(snapshot, handle);
        } else {
            fail_chunk(snapshot, err, handle);
        }
    }
    run(snapshot);
}

/* BUSY: later. Another error: the snapshot fails. */
static enum gfs_err settle_one(struct service_snapshot *snapshot, uint64_t handle)
{
    struct service *service = snapshot->service;
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), handle);
    if (chunk == NULL || chunk_released(chunk) || !wants_settling(snapshot, chunk)) {
        return GFS_OK;
    }
    struct lease_chunk state;
    service_lease_chunk(service, chunk, NULL, 0, &state);
    if (service_awaits_replicas(service, &state, chunk->goal) ||
        journal_full(service->parts.journal)) {
        return GFS_ERR_BUSY;
    }
    if (state.count == 0 && is_empty(chunk)) {
        note_settled(snapshot, chunk);
        return GFS_OK;
    }
    struct settle *settle = calloc(1, sizeof(*settle));
    if (settle == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    settle->snapshot = snapshot;
    settle->handle = handle;
    settle->op.service = service;
    settle->op.leased = settle_ended;
    enum gfs_err err = lease_settle(service->leases, &state, &settle->op.waiter);
    if (err == GFS_OK) {
        snapshot->settling++;
        return GFS_OK;
    }
    free(settle);
    if (err == GFS_ERR_NO_REPLICA && is_empty(chunk)) {
        note_settled(snapshot, chunk);
        return GFS_OK;
    }
    return err;
}

static void settle_some(struct service_snapshot *snapshot)
{
    uint32_t busy = 0;
    for (size_t i = snapshot->todo_next; i < snapshot->todo_count && busy < SNAPSHOT_BUSY_MAX &&
                                         snapshot->settling < SNAPSHOT_SETTLES_MAX;
         i++) {
        uint64_t handle = snapshot->todo[i];
        enum gfs_err err = settle_one(snapshot, handle);
        if (err == GFS_ERR_BUSY) {
            busy++;
        } else if (err != GFS_OK) {
            fail_chunk(snapshot, err, handle);
            return;
        } else {
            snapshot->todo[i] = snapshot->todo[snapshot->todo_next];
            snapshot->todo[snapshot->todo_next++] = handle;
        }
    }
}

/* One step; true: there is another. */
static bool step(struct service_snapshot *snapshot)
{
    settle_some(snapshot);
    service_run_effects(snapshot->service);
    if (snapshot->op == NULL) {
        return false;
    }
    uint64_t now_ms = loop_now_ms();
    if (now_ms >= snapshot->until_ms) {
        fail(snapshot, GFS_ERR_BUSY, "the leases below it did not end in time");
        return false;
    }
    bool done = snapshot->settling == 0 && snapshot->todo_next == snapshot->todo_count;
    if (!done || journal_full(snapshot->service->parts.journal)) {
        loop_timer_arm(&snapshot->timer, SNAPSHOT_PAUSE_MS);
        return false;
    }
    if (!look(snapshot)) {
        return false;
    }
    if (snapshot->todo_count == 0) {
        finish(snapshot);
        return false;
    }
    return true;
}

/* Settles end while others are begun: they only leave a note then. */
static void run(struct service_snapshot *snapshot)
{
    snapshot->again = true;
    if (snapshot->running) {
        return;
    }
    snapshot->running = true;
    while (snapshot->again && snapshot->op != NULL) {
        snapshot->again = false;
        snapshot->again = step(snapshot) || snapshot->again;
    }
    snapshot->running = false;
    if (snapshot->op == NULL && snapshot->settling == 0) {
        release(snapshot);
    }
}

static void on_timer(struct loop_timer *timer)
{
    run((struct service_snapshot *)((char *)timer - offsetof(struct service_snapshot, timer)));
}

/* ---- the request --------------------------------------------------------------------------- */

static struct service_snapshot *add_snapshot(struct service *service, struct op *op, uint64_t root)
{
    size_t count;
    struct service_snapshot *snapshot;
    DL_COUNT(service->snapshots, snapshot, count);
    snapshot = count < SNAPSHOTS_MAX ? calloc(1, sizeof(*snapshot)) : NULL;
    if (snapshot == NULL ||
        loop_timer_init(&snapshot->timer, service->parts.loop, on_timer) != GFS_OK) {
        free(snapshot);
        return NULL;
    }
    snapshot->service = service;
    snapshot->op = op;
    snapshot->root = root;
    snapshot->until_ms = loop_now_ms() + service->parts.options->lease_ms + SNAPSHOT_SLACK_MS;
    DL_APPEND(service->snapshots, snapshot);
    return snapshot;
}

void service_snapshot(struct service *service, struct rpc_request *take_request)
{
    const Gfs__SnapshotRequest *msg = (const void *)take_request->msg;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    if (was_done(op)) {
        answer_done(op);
        return;
    }
    struct inode *from;
    enum gfs_err err = ns_snapshot_check(service->parts.ns, msg->from.data, msg->from.len,
                                         msg->to.data, msg->to.len, &from);
    if (err != GFS_OK) {
        op_fail(op, err, 0, detail_of(err));
        return;
    }
    struct service_snapshot *snapshot = add_snapshot(service, op, inode_id(from));
    if (snapshot == NULL) {
        op_fail(op, GFS_ERR_BUSY, 0, "too many snapshots are being made");
        return;
    }
    run(snapshot);
}

void service_snapshot_stop(struct service *service)
{
    struct service_snapshot *snapshot, *tmp;
    DL_FOREACH_SAFE (service->snapshots, snapshot, tmp) {
        fail(snapshot, GFS_ERR_STOPPING, NULL);
        run(snapshot); /* its settles, if any, end with the lease table */
    }
}
