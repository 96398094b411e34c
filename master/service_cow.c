/*
 * Copy on write: before a shared chunk is written, its file gets one of its own.
 *
 *   begin --> SETTLING --> COPYING --------------> WRITING --durable--> op->copied: the lease
 *      \        when needed  |  COPY_CHUNK to all     the replacement, to the journal
 *       \-------------------^    up-to-date replicas
 *
 * Invariants:
 * - The source does not change while it is copied: it is shared, so no lease on it is told to
 *   anybody; the replicas that answered hold the same serial, and the version is the same after the
 *   copying as before it.
 * - The copy takes all that the source's version has. When a replica is away or does not answer,
 * the source is settled first, so that one which comes back with more is stale, for the snapshot
 * too.
 * - A handle is used for one try. Copies under the handle of a try that failed are unknown to the
 *   master, and collected.
 * What can fail: too few replicas (NO_REPLICA), a round under way (BUSY); nothing has changed then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "log.h"
#include "master/service_op.h"

#define COWS_MAX      4096u
#define COW_OPS_MAX   256u /* that wait for one of them */
#define COW_TRIES_MAX 3u

struct cow_key {
    uint64_t inode;
    uint64_t index;
};

struct cow_replica {
    uint16_t slot;
    enum gfs_err err;
    uint32_t length_bytes;
    uint64_t serial;
};

struct service_cow {
    struct op settling; /* no request: waits for a settle round */
    struct service *service;
    struct cow_key key;
    uint64_t handle; /* the shared chunk */
    uint32_t version;
    uint64_t to_handle;
    bool must_settle; /* a try showed that the replicas differ, or do not answer */
    bool settled;
    uint8_t tries;
    uint8_t count;
    uint8_t pending; /* calls */
    struct cow_replica replicas[GFS_GOAL_MAX];
    struct journal_wait wait;
    struct op *ops;
    uint32_t op_count;
    UT_hash_handle hh;
};

struct cow_call {
    struct service_cow *cow;
    struct cow_replica *replica;
    struct cow_replica answer;
    struct loop_task task;
};

static void cow_try(struct service_cow *cow);

/* ---- the end ------------------------------------------------------------------------------- */

static void answer_ops(struct service_cow *cow, enum gfs_err err)
{
    struct op *ops = cow->ops;
    cow->ops = NULL;
    while (ops != NULL) {
        struct op *op = ops;
        ops = op->cow_next;
        op->cow_next = NULL;
        if (err != GFS_OK) {
            snprintf(op->detail, sizeof(op->detail),
                     "chunk %016llx is shared with a snapshot and cannot be copied now",
                     (unsigned long long)cow->handle);
        }
        op->copied(op, err);
    }
}

static void end_cow(struct service_cow *take_cow, enum gfs_err err)
{
    HASH_DEL(take_cow->service->cows, take_cow);
    answer_ops(take_cow, err);
    free(take_cow);
}

/* ---- the replacement ----------------------------------------------------------------------- */

static void replaced(struct journal_wait *wait, enum gfs_err err)
{
    struct service_cow *cow =
        (struct service_cow *)((char *)wait - offsetof(struct service_cow, wait));
    end_cow(cow, err);
}

static struct inode *find_file(const struct service_cow *cow)
{
    struct inode *inode;
    enum gfs_err err = ns_inode(cow->service->parts.ns, cow->key.inode, &inode);
    return err == GFS_OK ? inode : NULL;
}

/* The shared chunk, as long as it is the file's. */
static struct chunk *find_chunk(const struct service_cow *cow, const struct inode *inode)
{
    struct chunk *chunk =
        inode != NULL ? ns_chunk_at(cow->service->parts.ns, inode, (uint32_t)cow->key.index) : NULL;
    return chunk != NULL && chunk->references > 1 ? chunk : NULL;
}

static void replace(struct service_cow *cow, struct inode *inode)
{
    struct service *service = cow->service;
    struct chunk *chunk;
    enum gfs_err err =
        journal_full(service->parts.journal)
            ? GFS_ERR_BUSY
            : ns_chunk_replace(service->parts.ns, inode, (uint32_t)cow->key.index, cow->to_handle,
                               service_wall_ms(), &service->changes, &chunk);
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        end_cow(cow, err);
        return;
    }
    service->max_handle = chunk->handle > service->max_handle ? chunk->handle : service->max_handle;
    for (uint8_t i = 0; i < cow->count; i++) {
        if (cow->replicas[i].err == GFS_OK) {
            /* Without memory for it the location is learned from a report. */
            enum gfs_err added = chunk_add_location(ns_chunkmap(service->parts.ns), chunk,
                                                    cow->replicas[i].slot, CHUNK_LOCATION_OK);
            (void)added;
        }
    }
    log_event(LOG_DEBUG, "chunk_copied", "handle=%016llx to=%016llx replicas=%u",
              (unsigned long long)cow->handle, (unsigned long long)cow->to_handle, cow->count);
    cow->wait.done = replaced;
    journal_append(service->parts.journal, &service->changes, &cow->wait);
}

static bool are_alike(const struct service_cow *cow)
{
    const struct cow_replica *first = NULL;
    for (uint8_t i = 0; i < cow->count; i++) {
        const struct cow_replica *replica = &cow->replicas[i];
        if (replica->err != GFS_OK) {
            continue;
        }
        first = first == NULL ? replica : first;
        if (replica->serial != first->serial || replica->length_bytes != first->length_bytes) {
            return false;
        }
    }
    return true;
}

static void copies_ended(struct service_cow *cow)
{
    struct service *service = cow->service;
    struct inode *inode = find_file(cow);
    const struct chunk *chunk = find_chunk(cow, inode);
    uint8_t good = 0;
    for (uint8_t i = 0; i < cow->count; i++) {
        struct cow_replica *replica = &cow->replicas[i];
        if (replica->err == GFS_OK && chunk != NULL &&
            replica->length_bytes < chunk->length_bytes) {
            replica->err = GFS_ERR_SHORT;
        }
        good += replica->err == GFS_OK;
    }
    if (chunk == NULL || chunk->handle != cow->handle || cow->ops == NULL) {
        end_cow(cow, GFS_OK); /* it is another chunk by now, or its own */
        return;
    }
    if (chunk->version != cow->version || !are_alike(cow) || (good < cow->count && !cow->settled)) {
        cow->settled = false;
        cow->must_settle = true;
        cow_try(cow);
        return;
    }
    uint64_t least = service->parts.options->min_replicas;
    least = least < chunk->goal ? least : chunk->goal;
    if (good == 0 || good < least) {
        end_cow(cow, GFS_ERR_NO_REPLICA);
        return;
    }
    replace(cow, inode);
}

/* ---- copying ------------------------------------------------------------------------------- */

static void copy_ended(struct service_cow *cow)
{
    if (--cow->pending == 0) {
        copies_ended(cow);
    }
}

static void copy_arrived(struct loop_task *task)
{
    struct cow_call *call = (struct cow_call *)((char *)task - offsetof(struct cow_call, task));
    if (call->answer.err != GFS_OK) {
        log_event(LOG_WARN, "chunk_copy_failed", "handle=%016llx slot=%u err=%s",
                  (unsigned long long)call->cow->handle, call->answer.slot,
                  gfs_err_name(call->answer.err));
    }
    *call->replica = call->answer;
    copy_ended(call->cow);
    free(call);
}

static void copy_done(void *arg, const struct rpc_answer *answer)
{
    struct cow_call *call = arg;
    call->answer.err = answer->err;
    if (answer->err == GFS_OK) {
        const Gfs__CopyChunkReply *reply = (const void *)answer->msg;
        call->answer.length_bytes = reply->length;
        call->answer.serial = reply->serial;
    }
    call->task.fn = copy_arrived;
    loop_post(call->cow->service->parts.loop, &call->task);
}

static void copy_on(struct service_cow *cow, struct cow_replica *replica)
{
    struct service *service = cow->service;
    const struct registry_server *server = registry_get(&service->registry, replica->slot);
    struct cow_call *call = server != NULL && server->up ? calloc(1, sizeof(*call)) : NULL;
    if (call == NULL) {
        replica->err = GFS_ERR_CONN;
        return;
    }
    call->cow = cow;
    call->replica = replica;
    call->answer.slot = replica->slot;
    Gfs__CopyChunkRequest msg = GFS__COPY_CHUNK_REQUEST__INIT;
    msg.handle = cow->handle;
    msg.version = cow->version;
    msg.to_handle = cow->to_handle;
    msg.to_version = LEASE_VERSION_FIRST;
    struct rpc_call_args args = {
        .type = GFS_MSG_COPY_CHUNK,
        .msg = &msg.base,
        .timeout_ms = (uint32_t)service->parts.options->set_version_timeout_ms,
        .done = copy_done,
        .arg = call,
    };
    cow->pending++;
    rpc_call(server->link, &args);
}

static void copy_all(struct service_cow *cow, const struct lease_chunk *state)
{
    struct service *service = cow->service;
    enum gfs_err err = ns_take_handle(service->parts.ns, &service->changes, &cow->to_handle);
    if (err != GFS_OK) {
        end_cow(cow, err);
        return;
    }
    journal_append(service->parts.journal, &service->changes, NULL);
    cow->version = state->version;
    cow->count = state->count;
    cow->pending = 1; /* so that it does not end in between */
    for (uint8_t i = 0; i < state->count; i++) {
        cow->replicas[i] = (struct cow_replica){.slot = state->replicas[i]};
        if (state->bad >> i & 1) {
            cow->replicas[i].err = GFS_ERR_CORRUPT;
        } else {
            copy_on(cow, &cow->replicas[i]);
        }
    }
    copy_ended(cow);
}

/* ---- settling the source ------------------------------------------------------------------- */

static void source_settled(struct op *op, enum gfs_err err, const struct lease_grant *grant)
{
    struct service_cow *cow =
        (struct service_cow *)((char *)op - offsetof(struct service_cow, settling));
    if (err != GFS_OK || cow->ops == NULL) {
        end_cow(cow, err);
        return;
    }
    cow->settled = true;
    cow_try(cow);
}

/* Is there, or may there be, a replica of its version that would not be copied? A chunk of which
 * nothing was committed may not even exist yet. */
static bool wants_settling(const struct service *service, const struct chunk *chunk,
                           const struct lease_chunk *state)
{
    uint32_t known =
        chunk_count_locations(ns_chunkmap(service->parts.ns), chunk, CHUNK_LOCATION_OK);
    return chunk->length_bytes == 0 || chunk->truncating || state->bad != 0 ||
           state->count < known || state->count < chunk->goal;
}

static enum gfs_err settle_source(struct service_cow *cow, const struct lease_chunk *state)
{
    cow->settling.leased = source_settled;
    return lease_settle(cow->service->leases, state, &cow->settling.waiter);
}

static void cow_try(struct service_cow *cow)
{
    struct service *service = cow->service;
    const struct chunk *chunk = find_chunk(cow, find_file(cow));
    if (chunk == NULL) {
        end_cow(cow, GFS_OK);
        return;
    }
    cow->handle = chunk->handle;
    struct lease_chunk state;
    service_lease_chunk(service, chunk, NULL, 0, &state);
    enum gfs_err err = GFS_OK;
    if (service->stopping) {
        err = GFS_ERR_STOPPING;
    } else if (service_awaits_replicas(service, &state, chunk->goal)) {
        err = GFS_ERR_STARTING;
    } else if (state.count == 0) {
        err = GFS_ERR_NO_REPLICA;
    } else if (cow->tries++ >= COW_TRIES_MAX || journal_full(service->parts.journal) ||
               lease_is_moving(service->leases, chunk->handle)) {
        err = GFS_ERR_BUSY;
    } else if (!cow->settled && (cow->must_settle || wants_settling(service, chunk, &state))) {
        err = settle_source(cow, &state);
        if (err == GFS_OK) {
            service_run_effects(service);
            return;
        }
    }
    if (err != GFS_OK) {
        end_cow(cow, err);
        return;
    }
    copy_all(cow, &state);
}

/* ---- the beginning ------------------------------------------------------------------------- */

static struct service_cow *add_cow(struct service *service, const struct cow_key *key)
{
    struct service_cow *cow = HASH_COUNT(service->cows) < COWS_MAX ? calloc(1, sizeof(*cow)) : NULL;
    if (cow != NULL) {
        cow->service = service;
        cow->key = *key;
        HASH_ADD(hh, service->cows, key, sizeof(cow->key), cow);
    }
    return cow;
}

void service_cow_begin(struct op *op, const struct chunk *chunk)
{
    struct service *service = op->service;
    struct cow_key key = {op->inode, op->index};
    struct service_cow *cow;
    HASH_FIND(hh, service->cows, &key, sizeof(key), cow);
    bool joins = cow != NULL;
    if (!joins) {
        cow = add_cow(service, &key);
    }
    if (cow == NULL || cow->op_count >= COW_OPS_MAX) {
        snprintf(op->detail, sizeof(op->detail), "too many shared chunks are being copied");
        op->copied(op, GFS_ERR_BUSY);
        return;
    }
    op->cow_next = NULL;
    LL_APPEND2(cow->ops, op, cow_next);
    cow->op_count++;
    if (!joins) {
        cow->handle = chunk->handle;
        cow_try(cow);
    }
}

void service_cow_stop(struct service *service)
{
    struct service_cow *cow, *tmp;
    HASH_ITER (hh, service->cows, cow, tmp) {
        answer_ops(cow, GFS_ERR_STOPPING); /* it ends by itself with its calls */
    }
}

void service_cow_free(struct service *service)
{
    struct service_cow *cow, *tmp;
    HASH_ITER (hh, service->cows, cow, tmp) {
        HASH_DEL(service->cows, cow);
        free(cow);
    }
}
