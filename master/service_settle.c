/*
 * Chunks whose replicas have to be reconciled though nobody asks to write them: a server does not
 * know how its last mutations ended, or holds a bad block. A round raises the version, makes the
 * replicas alike (a corrupt one from a good one) and grants, so that the primary tells the others
 * that all is settled.
 *
 * Rounds are paced. One that fails is asked for again by the server's next report.
 */
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "log.h"
#include "master/service_op.h"

#define SETTLE_MAX      100000u
#define SETTLE_AT_ONCE  64u   /* begun in one tick */
#define SETTLE_AGAIN_MS 2000u /* between two rounds of one chunk */
/* A server that has just gone away often comes back; a round without it makes its replicas stale.
 */
#define SETTLE_PATIENCE_MS     5000u
#define SETTLE_PATIENCE_MAX_MS 60000u /* when one after the other comes back */

struct service_settle {
    uint64_t handle;
    uint64_t due_ms;
    uint64_t since_ms; /* of the first want */
    bool wanted;       /* false: a round was begun; kept to hold back the next one */
    UT_hash_handle hh;
};

void service_settle_want(struct service *service, uint64_t handle)
{
    struct service_settle *settle;
    HASH_FIND(hh, service->settles, &handle, sizeof(handle), settle);
    if (settle == NULL) {
        settle = service->settle_count < SETTLE_MAX ? calloc(1, sizeof(*settle)) : NULL;
        if (settle == NULL) {
            return; /* it is reported again */
        }
        settle->handle = handle;
        HASH_ADD(hh, service->settles, handle, sizeof(settle->handle), settle);
        service->settle_count++;
    }
    if (!settle->wanted) {
        settle->since_ms = loop_now_ms();
    }
    settle->wanted = true;
}

bool service_settle_is_wanted(const struct service *service, uint64_t handle)
{
    const struct service_settle *settle;
    HASH_FIND(hh, service->settles, &handle, sizeof(handle), settle);
    return settle != NULL && settle->wanted;
}

static void forget(struct service *service, struct service_settle *take_settle)
{
    HASH_DEL(service->settles, take_settle);
    service->settle_count--;
    free(take_settle);
}

/* Good replicas and, behind them, corrupt ones that can be made good. */
static void fill_chunk(const struct service *service, const struct chunk *chunk,
                       struct lease_chunk *ret_chunk)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    service_lease_chunk(service, chunk, NULL, 0, ret_chunk);
    for (uint32_t i = 0; i < chunk->location_count && ret_chunk->count < GFS_GOAL_MAX; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        if (location.state == CHUNK_LOCATION_CORRUPT &&
            registry_is_up(&service->registry, location.server)) {
            ret_chunk->bad |= (uint16_t)(1u << ret_chunk->count);
            ret_chunk->replicas[ret_chunk->count++] = location.server;
        }
    }
}

/* A good replica's server is down, or may not have told this master of its replica yet. */
static bool misses_somebody(const struct service *service, const struct chunk *chunk)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    if (loop_now_ms() - service->started_ms < 2 * SETTLE_PATIENCE_MS &&
        chunk_count_locations(map, chunk, CHUNK_LOCATION_OK) < chunk->goal) {
        return true;
    }
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        if (location.state == CHUNK_LOCATION_OK &&
            !registry_is_up(&service->registry, location.server)) {
            return true;
        }
    }
    return false;
}

/* Where one has just come back the next one may be on its way. */
static bool is_early(const struct service *service, const struct service_settle *settle)
{
    uint64_t now_ms = loop_now_ms();
    uint64_t from_ms =
        settle->since_ms > service->came_back_ms ? settle->since_ms : service->came_back_ms;
    return now_ms < from_ms + SETTLE_PATIENCE_MS &&
           now_ms < settle->since_ms + SETTLE_PATIENCE_MAX_MS;
}

/* True: the round has begun, or there is no reason for one. */
static bool settle_chunk(struct service *service, const struct service_settle *settle)
{
    uint64_t handle = settle->handle;
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), handle);
    struct lease_chunk state;
    if (chunk == NULL || chunk_released(chunk)) {
        return true;
    }
    if (lease_is_moving(service->leases, handle)) {
        return false;
    }
    if (misses_somebody(service, chunk) && is_early(service, settle)) {
        return false;
    }
    fill_chunk(service, chunk, &state);
    if (state.count == 0 || state.bad == (1u << state.count) - 1u ||
        service_awaits_replicas(service, &state, chunk->goal)) {
        return false;
    }
    enum gfs_err err = lease_ask(service->leases, &state, chunk->version, NULL, loop_now_ms());
    if (err != GFS_OK) {
        return false;
    }
    log_event(LOG_INFO, "chunk_settle", "handle=%016llx version=%u bad=%x",
              (unsigned long long)handle, chunk->version, state.bad);
    service_run_effects(service);
    return true;
}

void service_settle_tick(struct service *service)
{
    struct service_settle *settle, *next;
    uint64_t now_ms = loop_now_ms();
    uint32_t begun = 0;
    HASH_ITER (hh, service->settles, settle, next) {
        if (now_ms < settle->due_ms || begun >= SETTLE_AT_ONCE) {
            continue;
        }
        if (!settle->wanted) {
            forget(service, settle);
        } else if (settle_chunk(service, settle)) {
            settle->wanted = false;
            settle->due_ms = now_ms + SETTLE_AGAIN_MS;
            begun++;
        } else {
            settle->due_ms = now_ms + SETTLE_AGAIN_MS / 4;
        }
    }
}

void service_settle_free(struct service *service)
{
    struct service_settle *settle, *next;
    HASH_ITER (hh, service->settles, settle, next) {
        forget(service, settle);
    }
}
