/* Carries out what the lease machines ask for, and begins the life of fresh chunks. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "master/placement.h"
#include "master/service_op.h"

/* ---- calls to chunkservers ----------------------------------------------------------------- */

/* One SET_VERSION, SYNC_CHUNK or GRANT_LEASE on its way. The answer comes on the connection's loop
 * and is carried to ours. */
struct lease_call {
    struct service *service;
    enum gfs_msg type;
    uint64_t handle;
    uint32_t version;
    uint16_t slot;
    struct lease_answer answer;
    struct loop_task task;
};

static void call_outcome(struct service *service, const struct lease_call *call)
{
    switch (call->type) {
    case GFS_MSG_SET_VERSION:
        lease_raised(service->leases, call->handle, call->version, call->slot, &call->answer);
        break;
    case GFS_MSG_SYNC_CHUNK:
        lease_synced(service->leases, call->handle, call->version, call->slot, call->answer.err);
        break;
    default:
        lease_acked(service->leases, call->handle, call->version, call->answer.err, loop_now_ms());
    }
}

static void call_arrived(struct loop_task *task)
{
    struct lease_call *call =
        (struct lease_call *)((char *)task - offsetof(struct lease_call, task));
    if (call->answer.err != GFS_OK) {
        log_event(LOG_WARN, "lease_step_failed", "step=%s handle=%016llx version=%u err=%s",
                  call->type == GFS_MSG_SET_VERSION  ? "set_version"
                  : call->type == GFS_MSG_SYNC_CHUNK ? "sync"
                                                     : "grant",
                  (unsigned long long)call->handle, call->version, gfs_err_name(call->answer.err));
    }
    call_outcome(call->service, call);
    service_run_effects(call->service);
    free(call);
}

static void call_done(void *arg, const struct rpc_answer *answer)
{
    struct lease_call *call = arg;
    call->answer.err = answer->err;
    if (answer->err == GFS_OK && call->type == GFS_MSG_SET_VERSION) {
        const Gfs__SetVersionReply *reply = (const Gfs__SetVersionReply *)answer->msg;
        call->answer.length_bytes = reply->length;
        call->answer.serial = reply->serial;
        call->answer.corrupt = reply->corrupt;
    }
    call->task.fn = call_arrived;
    loop_post(call->service->parts.loop, &call->task);
}

static void call_server(struct service *service, const struct lease_effect *effect,
                        enum gfs_msg type, const ProtobufCMessage *msg)
{
    const struct registry_server *server = registry_get(&service->registry, effect->slot);
    struct lease_call made = {
        .service = service,
        .type = type,
        .handle = effect->grant.handle,
        .version = effect->grant.version,
        .slot = effect->slot,
        .answer.err = GFS_ERR_CONN,
    };
    struct lease_call *call = server != NULL && server->up ? malloc(sizeof(*call)) : NULL;
    if (call == NULL) {
        call_outcome(service, &made);
        return;
    }
    *call = made;
    struct rpc_call_args args = {
        .type = type,
        .msg = msg,
        .timeout_ms =
            (uint32_t)(type == GFS_MSG_SYNC_CHUNK ? service->parts.options->sync_timeout_ms
                                                  : service->parts.options->set_version_timeout_ms),
        .done = call_done,
        .arg = call,
    };
    rpc_call(server->link, &args);
}

static void do_sync(struct service *service, const struct lease_effect *effect)
{
    Gfs__SyncChunkRequest msg = GFS__SYNC_CHUNK_REQUEST__INIT;
    struct registry_server *source = registry_get(&service->registry, effect->source);
    msg.handle = effect->grant.handle;
    msg.version = effect->grant.version;
    msg.source = source->addr;
    log_event(LOG_INFO, "replica_sync", "handle=%016llx version=%u source=%s",
              (unsigned long long)msg.handle, msg.version, source->addr);
    call_server(service, effect, GFS_MSG_SYNC_CHUNK, &msg.base);
}

static void do_set_version(struct service *service, const struct lease_effect *effect)
{
    Gfs__SetVersionRequest msg = GFS__SET_VERSION_REQUEST__INIT;
    msg.handle = effect->grant.handle;
    msg.from_version = effect->from_version;
    msg.version = effect->grant.version;
    msg.truncate = effect->cut;
    msg.length = effect->cut ? effect->length_bytes : 0;
    msg.create = effect->create;
    call_server(service, effect, GFS_MSG_SET_VERSION, &msg.base);
}

static void do_grant(struct service *service, const struct lease_effect *effect)
{
    Gfs__GrantLeaseRequest msg = GFS__GRANT_LEASE_REQUEST__INIT;
    char *addrs[GFS_GOAL_MAX];
    ProtobufCBinaryData ids[GFS_GOAL_MAX];
    const struct lease_grant *grant = &effect->grant;
    for (uint8_t i = 1; i < grant->count; i++) {
        struct registry_server *server = registry_get(&service->registry, grant->members[i]);
        addrs[i - 1] = server->addr;
        ids[i - 1] = (ProtobufCBinaryData){.len = GFS_UUID_BYTES, .data = server->uuid};
    }
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), effect->grant.handle);
    if (chunk == NULL || chunk_released(chunk)) {
        lease_drop(service->leases, grant->handle, GFS_ERR_STALE_HANDLE);
        return;
    }
    msg.handle = grant->handle;
    msg.version = grant->version;
    msg.fresh = effect->fresh;
    msg.lease_ms = (uint32_t)service->parts.options->lease_ms;
    msg.margin_ms = service_margin_ms(service);
    msg.chunk_size = chunk_size_bytes(chunk);
    msg.secondaries = addrs;
    msg.n_secondaries = grant->count - 1u;
    msg.secondary_ids = ids;
    msg.n_secondary_ids = grant->count - 1u;
    call_server(service, effect, GFS_MSG_GRANT_LEASE, &msg.base);
}

/* ---- the version to the journal ------------------------------------------------------------ */

struct version_wait {
    struct service *service;
    uint64_t handle;
    uint32_t version;
    struct journal_wait wait;
};

static void version_durable(struct journal_wait *wait, enum gfs_err err)
{
    struct version_wait *version =
        (struct version_wait *)((char *)wait - offsetof(struct version_wait, wait));
    if (err == GFS_OK) {
        lease_durable(version->service->leases, version->handle, version->version, loop_now_ms());
        service_run_effects(version->service);
    }
    free(version);
}

static bool is_member(const struct lease_grant *grant, uint16_t slot)
{
    for (uint8_t i = 0; i < grant->count; i++) {
        if (grant->members[i] == slot) {
            return true;
        }
    }
    return false;
}

/* The members hold the chunk at its new version; whoever else was up to date no longer is. */
static enum gfs_err set_locations(struct chunkmap *map, struct chunk *chunk,
                                  const struct lease_grant *grant)
{
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        if (!is_member(grant, location.server) && location.state == CHUNK_LOCATION_OK) {
            enum gfs_err err =
                chunk_add_location(map, chunk, location.server, CHUNK_LOCATION_STALE);
            if (err != GFS_OK) {
                return err;
            }
        }
    }
    for (uint8_t i = 0; i < grant->count; i++) {
        enum gfs_err err = chunk_add_location(map, chunk, grant->members[i], CHUNK_LOCATION_OK);
        if (err != GFS_OK) {
            return err;
        }
    }
    return GFS_OK;
}

static enum gfs_err journal_version(struct service *service, const struct lease_grant *grant)
{
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    struct chunk *chunk = chunkmap_find(map, grant->handle);
    if (chunk == NULL || chunk_released(chunk)) {
        return GFS_ERR_STALE_HANDLE;
    }
    struct version_wait *version = malloc(sizeof(*version));
    if (version == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    enum gfs_err err =
        ns_chunk_set_version(service->parts.ns, chunk, grant->version, &service->changes);
    if (err != GFS_OK) {
        free(version);
        return err;
    }
    *version = (struct version_wait){
        .service = service,
        .handle = grant->handle,
        .version = grant->version,
        .wait.done = version_durable,
    };
    err = set_locations(map, chunk, grant);
    journal_append(service->parts.journal, &service->changes, &version->wait);
    return err;
}

/* ---- effects ------------------------------------------------------------------------------- */

static void do_place(struct service *service, const struct lease_effect *effect)
{
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), effect->grant.handle);
    if (chunk == NULL || chunk_released(chunk)) {
        lease_drop(service->leases, effect->grant.handle, GFS_ERR_STALE_HANDLE);
        return;
    }
    struct placement_want want = {
        .goal = chunk->goal < GFS_GOAL_MAX ? chunk->goal : GFS_GOAL_MAX,
        .exclude = &effect->slot,
        .exclude_count = 1,
    };
    registry_doubt(&service->registry, effect->slot);
    uint16_t slots[GFS_GOAL_MAX];
    size_t count = placement_choose(&service->registry, &want, &service->random_state, slots);
    lease_placed(service->leases, effect->grant.handle, slots, (uint8_t)count);
}

void service_run_effects(struct service *service)
{
    struct lease_effect effect;
    while (lease_next_effect(service->leases, &effect)) {
        enum gfs_err err;
        struct op *op;
        switch (effect.kind) {
        case LEASE_EFFECT_SET_VERSION:
            do_set_version(service, &effect);
            break;
        case LEASE_EFFECT_SYNC:
            do_sync(service, &effect);
            break;
        case LEASE_EFFECT_GRANT:
            do_grant(service, &effect);
            break;
        case LEASE_EFFECT_JOURNAL:
            err = journal_version(service, &effect.grant);
            if (err != GFS_OK) {
                lease_drop(service->leases, effect.grant.handle, err);
            }
            break;
        case LEASE_EFFECT_PLACE:
            do_place(service, &effect);
            break;
        case LEASE_EFFECT_ANSWER:
            op = (struct op *)((char *)effect.waiter - offsetof(struct op, waiter));
            op->leased(op, effect.err, &effect.grant);
            break;
        }
    }
}

static bool is_listed(const uint16_t *slots, size_t count, uint16_t slot)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i] == slot) {
            return true;
        }
    }
    return false;
}

void service_lease_chunk(const struct service *service, const struct chunk *chunk,
                         const uint16_t *exclude, size_t exclude_count,
                         struct lease_chunk *ret_chunk)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    memset(ret_chunk, 0, sizeof(*ret_chunk));
    ret_chunk->handle = chunk->handle;
    ret_chunk->version = chunk->version;
    ret_chunk->length_bytes = chunk->length_bytes;
    ret_chunk->cut = chunk->truncating;
    ret_chunk->goal = chunk->goal < GFS_GOAL_MAX ? (uint8_t)chunk->goal : GFS_GOAL_MAX;
    for (uint32_t i = 0; i < chunk->location_count && ret_chunk->count < GFS_GOAL_MAX; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        if (location.state == CHUNK_LOCATION_OK &&
            registry_is_up(&service->registry, location.server) &&
            !is_listed(exclude, exclude_count, location.server)) {
            ret_chunk->replicas[ret_chunk->count++] = location.server;
        }
    }
}

uint32_t service_margin_ms(const struct service *service)
{
    uint64_t lease_ms = service->parts.options->lease_ms;
    uint64_t margin_ms = service->parts.options->lease_margin_ms;
    return (uint32_t)(margin_ms < lease_ms / 2 ? margin_ms : lease_ms / 2);
}

/* ---- fresh chunks -------------------------------------------------------------------------- */

struct fresh {
    struct service *service;
    uint64_t handle;
    uint8_t count;
    uint16_t members[GFS_GOAL_MAX];
    struct journal_wait wait;
};

enum gfs_err service_fresh_prepare(struct service *service, struct inode *inode, uint32_t index,
                                   const uint16_t *exclude, size_t exclude_count,
                                   struct fresh **ret_fresh)
{
    struct inode_attr attr;
    ns_attr(service->parts.ns, inode, &attr);
    struct placement_want want = {
        .goal = attr.goal < GFS_GOAL_MAX ? attr.goal : GFS_GOAL_MAX,
        .exclude = exclude,
        .exclude_count = exclude_count,
    };
    struct fresh *fresh = calloc(1, sizeof(*fresh));
    if (fresh == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    enum gfs_err err = GFS_ERR_NO_SERVERS;
    fresh->service = service;
    fresh->count = (uint8_t)placement_choose(&service->registry, &want, &service->random_state,
                                             fresh->members);
    uint32_t needed = (uint32_t)service->parts.options->min_replicas;
    if (needed > attr.goal) {
        needed = attr.goal;
    }
    if (fresh->count < needed || (fresh->count < attr.goal && service_is_starting(service) &&
                                  fresh->count < service->registry.count)) {
        goto out;
    }
    struct chunk *chunk;
    err = ns_chunk_at(service->parts.ns, inode, index) == NULL
              ? ns_chunk_create(service->parts.ns, inode, index, &service->changes, &chunk)
              : ns_chunk_renew(service->parts.ns, inode, index, service_wall_ms(),
                               &service->changes, &chunk);
    if (err != GFS_OK) {
        goto out;
    }
    fresh->handle = chunk->handle;
    service->max_handle = chunk->handle > service->max_handle ? chunk->handle : service->max_handle;
    for (uint8_t i = 0; i < fresh->count; i++) {
        /* Without memory for it the location is learned from a report. */
        enum gfs_err added = chunk_add_location(ns_chunkmap(service->parts.ns), chunk,
                                                fresh->members[i], CHUNK_LOCATION_OK);
        (void)added;
        placement_note(&service->registry, fresh->members[i]);
    }
    *ret_fresh = fresh;
    fresh = NULL;
out:
    free(fresh);
    return err;
}

static void fresh_durable(struct journal_wait *wait, enum gfs_err err)
{
    struct fresh *fresh = (struct fresh *)((char *)wait - offsetof(struct fresh, wait));
    struct service *service = fresh->service;
    if (err == GFS_OK) {
        lease_durable(service->leases, fresh->handle, LEASE_VERSION_FIRST, loop_now_ms());
        service_run_effects(service);
    }
    free(fresh);
}

void service_fresh_begin(struct service *service, struct fresh *take_fresh, struct op *op)
{
    enum gfs_err err = lease_fresh(service->leases, take_fresh->handle, take_fresh->members,
                                   take_fresh->count, op != NULL ? &op->waiter : NULL);
    take_fresh->wait.done = fresh_durable;
    journal_append(service->parts.journal, &service->changes, &take_fresh->wait);
    if (err != GFS_OK && op != NULL) {
        op->leased(op, err, NULL);
    }
    service_run_effects(service);
}

Gfs__Lease *op_make_lease(struct op *op, const struct lease_grant *grant)
{
    Gfs__Lease *lease = op_alloc(op, 1, sizeof(*lease));
    Gfs__Replica **list = op_alloc(op, grant->count, sizeof(*list));
    Gfs__Replica *replicas = op_alloc(op, grant->count, sizeof(*replicas));
    if (lease == NULL || list == NULL || replicas == NULL) {
        return NULL;
    }
    gfs__lease__init(lease);
    lease->handle = grant->handle;
    lease->version = grant->version;
    lease->index = op->index;
    lease->remaining_ms = grant->remaining_ms;
    for (uint8_t i = 0; i < grant->count; i++) {
        struct registry_server *server = registry_get(&op->service->registry, grant->members[i]);
        gfs__replica__init(&replicas[i]);
        /* Copied: the reply may wait for the journal while the server registers again. */
        replicas[i].server = op_copy(op, server->uuid, GFS_UUID_BYTES);
        replicas[i].addr = (char *)op_copy(op, server->addr, strlen(server->addr) + 1).data;
        replicas[i].rack = (char *)op_copy(op, server->rack, strlen(server->rack) + 1).data;
        list[i] = &replicas[i];
    }
    lease->replicas = list;
    lease->n_replicas = grant->count;
    return op->err == GFS_OK ? lease : NULL;
}

bool service_is_starting(const struct service *service)
{
    uint64_t age_ms = loop_now_ms() - service->started_ms;
    return age_ms < service->parts.options->startup_wait_ms;
}

bool service_awaits_replicas(const struct service *service, const struct lease_chunk *chunk,
                             uint32_t goal)
{
    return chunk->count < goal && service_is_starting(service) &&
           !lease_is_live(service->leases, chunk->handle);
}
