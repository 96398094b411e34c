/*
 * Chunk reports: what chunkservers say they hold, against what the master thinks.
 *
 * A report of a range also says what is not there. Finding that means to look at every handle of
 * the range that the master knows, so it is done in slices between other work; the reply to the
 * report waits for it, which paces the server.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "log.h"
#include "master/report.h"
#include "master/service_op.h"

#define SWEEP_SLICE 5000u
#define SWEEPS_MAX  256u
#define UNKNOWN_MAX 10000u /* told in one reply */

struct service_sweep {
    struct rpc_request *request;
    uint16_t slot;
    bool by_walk; /* over all chunks: there are fewer of them than handles in the range */
    uint32_t walk_at;
    uint64_t at;
    uint64_t last;
    bool ends_pass; /* the range reaches the end of all handles */
    struct service_sweep *prev, *next;
};

/* ---- one replica --------------------------------------------------------------------------- */

static void set_location(struct service *service, struct chunk *chunk, uint16_t slot,
                         enum chunk_location_state state)
{
    /* Full or out of memory: it is not handed out, and reported again. */
    enum gfs_err err = chunk_add_location(ns_chunkmap(service->parts.ns), chunk, slot, state);
    (void)err;
}

static void believe(struct service *service, struct chunk *chunk, uint16_t slot, uint32_t version)
{
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    if (lease_is_moving(service->leases, chunk->handle) || journal_full(service->parts.journal)) {
        return; /* it is reported again */
    }
    enum gfs_err err = ns_chunk_set_version(service->parts.ns, chunk, version, &service->changes);
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        return;
    }
    journal_append(service->parts.journal, &service->changes, NULL);
    log_event(LOG_WARN, "later_version_believed", "handle=%016llx version=%u",
              (unsigned long long)chunk->handle, version);
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        if (location.state == CHUNK_LOCATION_OK) {
            set_location(service, chunk, location.server, CHUNK_LOCATION_STALE);
        }
    }
    set_location(service, chunk, slot, CHUNK_LOCATION_OK);
}

static void delete_replica(struct service *service, struct chunk *chunk, uint16_t slot)
{
    /* When the server's list is full it is reported again. */
    enum gfs_err err = collect_add(service->collect, slot, chunk->handle);
    if (err == GFS_OK) {
        (void)chunk_remove_location(ns_chunkmap(service->parts.ns), chunk, slot);
    }
}

/* A stale replica is of no use once there are as many good ones as there should be. */
static void judge_stale(struct service *service, struct chunk *chunk, uint16_t slot)
{
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    uint32_t good = 0;
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        good += location.server != slot && location.state == CHUNK_LOCATION_OK &&
                registry_is_up(&service->registry, location.server);
    }
    if (good >= chunk->goal && !lease_is_live(service->leases, chunk->handle)) {
        delete_replica(service, chunk, slot);
    } else {
        set_location(service, chunk, slot, CHUNK_LOCATION_STALE);
    }
}

static enum report_verdict apply(struct service *service, uint16_t slot,
                                 const Gfs__ChunkState *state)
{
    struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), state->handle);
    struct report_chunk known = {.known = chunk != NULL};
    if (chunk != NULL) {
        known.released = chunk_released(chunk);
        known.version = chunk->version;
        known.length_bytes = known.released ? 0 : chunk->length_bytes;
        known.leased = lease_is_live(service->leases, chunk->handle);
    }
    struct report_replica replica = {
        .version = state->version,
        .length_bytes = state->length,
        .corrupt = state->corrupt,
    };
    enum report_verdict verdict = report_judge(&known, &replica, service->parts.epoch);
    switch (verdict) {
    case REPORT_OK:
        set_location(service, chunk, slot, CHUNK_LOCATION_OK);
        break;
    case REPORT_STALE:
        judge_stale(service, chunk, slot);
        break;
    case REPORT_CORRUPT:
        set_location(service, chunk, slot, CHUNK_LOCATION_CORRUPT);
        break;
    case REPORT_BELIEVE:
        believe(service, chunk, slot, state->version);
        break;
    case REPORT_RELEASED:
        set_location(service, chunk, slot, CHUNK_LOCATION_OK);
        break;
    case REPORT_UNKNOWN:
        collect_unknown(service->collect, slot, state->handle, loop_now_ms());
        break;
    case REPORT_EARLY:
        break;
    }
    return verdict;
}

/* A replica that is not sure of its bytes, or has bad ones, makes a round necessary. */
static void apply_and_settle(struct service *service, uint16_t slot, const Gfs__ChunkState *state)
{
    enum report_verdict verdict = apply(service, slot, state);
    if (verdict == REPORT_CORRUPT || (verdict == REPORT_OK && state->unsettled)) {
        service_settle_want(service, state->handle);
    }
}

void service_apply_report(struct service *service, uint16_t slot, const Gfs__ChunkState *state)
{
    apply_and_settle(service, slot, state);
}

/* ---- a range of them ----------------------------------------------------------------------- */

static int compare_handle(const void *key, const void *element)
{
    uint64_t handle = *(const uint64_t *)key;
    const Gfs__ChunkState *state = *(Gfs__ChunkState *const *)element;
    return handle < state->handle ? -1 : handle > state->handle;
}

static void end_sweep(struct service *service, struct service_sweep *take_sweep)
{
    DL_DELETE(service->sweeps, take_sweep);
    struct registry_server *server = registry_get(&service->registry, take_sweep->slot);
    if (take_sweep->ends_pass && !server->reported) {
        server->reported = true;
        log_event(LOG_INFO, "chunkserver_reported", "addr=%s", server->addr);
    }
    const Gfs__ChunkReportRequest *msg = (const void *)take_sweep->request->msg;
    Gfs__ChunkReportReply reply = GFS__CHUNK_REPORT_REPLY__INIT;
    uint64_t *unknown = malloc(UNKNOWN_MAX * sizeof(*unknown));
    for (size_t i = 0; unknown != NULL && i < msg->n_chunks; i++) {
        uint64_t handle = msg->chunks[i]->handle;
        if (reply.n_unknown < UNKNOWN_MAX &&
            chunkmap_find(ns_chunkmap(service->parts.ns), handle) == NULL) {
            unknown[reply.n_unknown++] = handle;
        }
    }
    reply.unknown = unknown;
    rpc_reply(take_sweep->request, &reply.base, NULL);
    free(unknown);
    free(take_sweep);
}

/* The next chunk of the range; false: there is none. *ret_chunk may be NULL, or out of the range.
 */
static bool next_chunk(const struct chunkmap *map, struct service_sweep *sweep,
                       struct chunk **ret_chunk)
{
    if (sweep->by_walk) {
        *ret_chunk = chunkmap_walk(map, &sweep->walk_at);
        return *ret_chunk != NULL;
    }
    if (sweep->at > sweep->last) {
        return false;
    }
    *ret_chunk = chunkmap_find(map, sweep->at++);
    return true;
}

static bool report_lists(const Gfs__ChunkReportRequest *msg, uint64_t handle)
{
    return msg->n_chunks > 0 && bsearch(&handle, msg->chunks, msg->n_chunks, sizeof(*msg->chunks),
                                        compare_handle) != NULL;
}

/* One slice. A chunk with a lease out may not have been written yet, or only since the report. */
static bool sweep_slice(struct service *service, struct service_sweep *sweep)
{
    const Gfs__ChunkReportRequest *msg = (const void *)sweep->request->msg;
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (uint32_t i = 0; i < SWEEP_SLICE; i++) {
        struct chunk *chunk;
        enum chunk_location_state state;
        if (!next_chunk(map, sweep, &chunk)) {
            return true;
        }
        if (chunk != NULL && chunk->handle >= msg->first && chunk->handle <= msg->last &&
            chunk_find_location(map, chunk, sweep->slot, &state) &&
            !report_lists(msg, chunk->handle) && !lease_is_live(service->leases, chunk->handle)) {
            (void)chunk_remove_location(map, chunk, sweep->slot);
        }
    }
    return false;
}

static void post_sweep(struct service *service)
{
    if (service->sweeps != NULL && !service->sweep_posted) {
        service->sweep_posted = true;
        loop_post(service->parts.loop, &service->sweep_task);
    }
}

static void run_sweeps(struct loop_task *task)
{
    struct service *service =
        (struct service *)((char *)task - offsetof(struct service, sweep_task));
    service->sweep_posted = false;
    struct service_sweep *sweep = service->sweeps;
    if (sweep == NULL) {
        return;
    }
    if (sweep_slice(service, sweep)) {
        end_sweep(service, sweep);
    } else { /* turns */
        DL_DELETE(service->sweeps, sweep);
        DL_APPEND(service->sweeps, sweep);
    }
    post_sweep(service);
}

void service_sweep_drop(struct service *service, uint16_t slot)
{
    struct service_sweep *sweep, *tmp;
    DL_FOREACH_SAFE (service->sweeps, sweep, tmp) {
        if (sweep->slot == slot) {
            DL_DELETE(service->sweeps, sweep);
            service_refuse(sweep->request, GFS_ERR_UNKNOWN_SERVER, "register first");
            free(sweep);
        }
    }
}

static const char *report_fault(const Gfs__ChunkReportRequest *msg)
{
    if (msg->first > msg->last) {
        return "the range ends before it begins";
    }
    uint64_t least = msg->first;
    for (size_t i = 0; i < msg->n_chunks; i++) {
        uint64_t handle = msg->chunks[i]->handle;
        if (handle < least || handle > msg->last || (i > 0 && handle == least)) {
            return "the chunks are not in order, or outside of the range";
        }
        least = handle;
    }
    return NULL;
}

void service_chunk_report(struct service *service, struct rpc_request *take_request)
{
    const Gfs__ChunkReportRequest *msg = (const void *)take_request->msg;
    const char *fault = report_fault(msg);
    if (fault != NULL) {
        service_refuse(take_request, GFS_ERR_INVAL, fault);
        return;
    }
    const struct registry_server *server = registry_find(&service->registry, take_request->peer_id);
    if (server == NULL || !server->up || server->link != take_request->conn) {
        service_refuse(take_request, GFS_ERR_UNKNOWN_SERVER, "register first");
        return;
    }
    size_t waiting;
    struct service_sweep *sweep;
    DL_COUNT(service->sweeps, sweep, waiting);
    sweep = waiting < SWEEPS_MAX ? calloc(1, sizeof(*sweep)) : NULL;
    if (sweep == NULL) {
        service_refuse(take_request, GFS_ERR_BUSY, "too many reports at once");
        return;
    }
    for (size_t i = 0; i < msg->n_chunks; i++) {
        apply_and_settle(service, server->slot, msg->chunks[i]);
    }
    sweep->request = take_request;
    sweep->slot = server->slot;
    sweep->at = msg->first;
    sweep->last = msg->last < service->max_handle ? msg->last : service->max_handle;
    sweep->by_walk = sweep->last >= sweep->at &&
                     sweep->last - sweep->at > ns_chunkmap(service->parts.ns)->live_count;
    sweep->ends_pass = msg->last == UINT64_MAX;
    DL_APPEND(service->sweeps, sweep);
    service->sweep_task.fn = run_sweeps;
    post_sweep(service);
}
