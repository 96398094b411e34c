/* The order of writes to chunks. See the header. */
#include "chunkserver/mutation.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct mutation_chunk {
    uint64_t handle;
    uint32_t version;
    uint32_t chunk_size_bytes;
    uint64_t next_serial;         /* to give (primary) or to take (secondary) */
    uint64_t durable_serial;      /* every one up to it in this version is on our disk */
    enum gfs_err broken;          /* what broke the session, GFS_OK: nothing */
    bool fresh;                   /* the chunk is made by serial 1 */
    struct mutation_group *group; /* lease held: the secondaries. NULL: no lease */
    uint64_t lease_expires_ms;
    uint32_t in_flight; /* taken ops that are not held and not finished */
    uint32_t held_count;
    struct mutation_op *held; /* by serial */
    uint64_t used_ms;
    UT_hash_handle hh;
    struct mutation_chunk *prev, *next; /* in by_use */
};

struct mutation_core {
    struct mutation_limits limits;
    struct mutation_chunk *by_handle;
    struct mutation_chunk *by_use; /* least recently used first */
    struct mutation_op *effects;   /* in order */
};

static uint64_t serial_first(uint32_t version)
{
    return (uint64_t)version << 32 | 1;
}

static uint64_t serial_after(const struct mutation_have *have, uint32_t version)
{
    if (have->exists && have->serial >> 32 == version)
        return have->serial + 1;
    return serial_first(version);
}

struct mutation_core *mutation_new(const struct mutation_limits *limits)
{
    struct mutation_core *core = calloc(1, sizeof *core);

    if (core)
        core->limits = *limits;
    return core;
}

static void group_unref(struct mutation_group *group)
{
    if (group && --group->refs == 0)
        free(group);
}

static void lease_drop(struct mutation_chunk *chunk)
{
    group_unref(chunk->group);
    chunk->group = NULL;
}

static void chunk_free(struct mutation_core *core, struct mutation_chunk *chunk)
{
    assert(chunk->in_flight == 0 && chunk->held_count == 0);
    lease_drop(chunk);
    HASH_DEL(core->by_handle, chunk);
    DL_DELETE(core->by_use, chunk);
    free(chunk);
}

void mutation_free(struct mutation_core *core)
{
    if (!core)
        return;
    assert(!core->effects);
    while (core->by_use)
        chunk_free(core, core->by_use);
    free(core);
}

static struct mutation_chunk *chunk_find(const struct mutation_core *core, uint64_t handle)
{
    struct mutation_chunk *chunk;

    HASH_FIND(hh, core->by_handle, &handle, sizeof handle, chunk);
    return chunk;
}

static void chunk_touch(struct mutation_core *core, struct mutation_chunk *chunk, uint64_t now_ms)
{
    chunk->used_ms = now_ms;
    DL_DELETE(core->by_use, chunk);
    DL_APPEND(core->by_use, chunk);
}

static struct mutation_chunk *chunk_make(struct mutation_core *core, uint64_t handle,
                                         uint64_t now_ms)
{
    struct mutation_chunk *chunk;

    if (HASH_COUNT(core->by_handle) >= core->limits.chunks_max)
        return NULL;
    chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return NULL;
    chunk->handle = handle;
    chunk->used_ms = now_ms;
    HASH_ADD(hh, core->by_handle, handle, sizeof chunk->handle, chunk);
    DL_APPEND(core->by_use, chunk);
    return chunk;
}

static void effect_add(struct mutation_core *core, struct mutation_op *op,
                       enum mutation_effect effect)
{
    assert(op->effect == MUTATION_NONE);
    op->effect = effect;
    DL_APPEND(core->effects, op);
}

/* The op is in flight and all answers are in. */
static void op_finish(struct mutation_core *core, struct mutation_op *op)
{
    assert(!op->local_pending && op->acks_pending == 0);
    op->chunk->in_flight--;
    op->chunk = NULL;
    if (op->err == GFS_OK && op->failed)
        op->err = GFS_ERR_REPLICA_FAILED;
    else if (op->err == GFS_OK && op->fenced)
        op->err = GFS_ERR_STALE_VERSION;
    effect_add(core, op, MUTATION_FINISH);
}

static void held_end(struct mutation_core *core, struct mutation_chunk *chunk, enum gfs_err err)
{
    while (chunk->held) {
        struct mutation_op *op = chunk->held;

        DL_DELETE(chunk->held, op);
        chunk->held_count--;
        op->err = err;
        op->chunk = NULL;
        effect_add(core, op, MUTATION_FINISH);
    }
}

static void session_break(struct mutation_core *core, struct mutation_op *op, enum gfs_err err)
{
    struct mutation_chunk *chunk = op->chunk;

    if (chunk->version != op->version || chunk->broken != GFS_OK)
        return;
    chunk->broken = err;
    held_end(core, chunk, err);
}

static void session_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                          uint32_t version, uint64_t next_serial)
{
    held_end(core, chunk, GFS_ERR_STALE_VERSION);
    lease_drop(chunk);
    chunk->version = version;
    chunk->next_serial = next_serial;
    chunk->durable_serial = next_serial - 1;
    chunk->broken = GFS_OK;
    chunk->fresh = false;
    chunk->chunk_size_bytes = GFS_CHUNK_SIZE_MAX_BYTES;
}

static bool is_fresh(uint32_t version, const struct mutation_have *have)
{
    return !have->exists && version == 1;
}

static struct mutation_group *group_make(const struct mutation_lease *lease)
{
    struct mutation_group *group = calloc(1, sizeof *group);

    if (!group)
        return NULL;
    group->refs = 1;
    group->count = (uint32_t)lease->secondary_count;
    for (size_t i = 0; i < lease->secondary_count; i++)
        strcpy(group->addrs[i], lease->secondaries[i]);
    return group;
}

static enum gfs_err grant_check(const struct mutation_lease *lease,
                                const struct mutation_have *have)
{
    if (lease->secondary_count > MUTATION_SECONDARIES_MAX || lease->version == 0 ||
        lease->chunk_size_bytes == 0 || lease->chunk_size_bytes > GFS_CHUNK_SIZE_MAX_BYTES)
        return GFS_ERR_INVAL;
    for (size_t i = 0; i < lease->secondary_count; i++)
        if (strlen(lease->secondaries[i]) >= MUTATION_ADDR_MAX_BYTES)
            return GFS_ERR_INVAL;
    if (!have->exists)
        return lease->fresh && lease->version == 1 ? GFS_OK : GFS_ERR_NO_CHUNK;
    return have->version == lease->version ? GFS_OK : GFS_ERR_STALE_VERSION;
}

enum gfs_err mutation_grant(struct mutation_core *core, const struct mutation_lease *lease,
                            const struct mutation_have *have, uint64_t now_ms)
{
    struct mutation_chunk *chunk = chunk_find(core, lease->handle);
    struct mutation_group *group;
    enum gfs_err err = grant_check(lease, have);

    if (err != GFS_OK)
        return err;
    if (chunk && chunk->version > lease->version)
        return GFS_ERR_STALE_VERSION;
    group = group_make(lease);
    if (!group)
        return GFS_ERR_NO_MEMORY;
    if (!chunk)
        chunk = chunk_make(core, lease->handle, now_ms);
    if (!chunk) {
        free(group);
        return GFS_ERR_BUSY;
    }
    if (chunk->version != lease->version) {
        session_begin(core, chunk, lease->version, serial_after(have, lease->version));
        chunk->fresh = is_fresh(lease->version, have);
    }
    lease_drop(chunk);
    chunk->group = group;
    chunk->chunk_size_bytes = lease->chunk_size_bytes;
    chunk->lease_expires_ms = lease->expires_ms;
    chunk_touch(core, chunk, now_ms);
    return GFS_OK;
}

void mutation_revoke(struct mutation_core *core, uint64_t handle, uint32_t version)
{
    struct mutation_chunk *chunk = chunk_find(core, handle);

    if (chunk && chunk->version <= version)
        lease_drop(chunk);
}

void mutation_extend(struct mutation_core *core, uint64_t handle, uint64_t expires_ms)
{
    struct mutation_chunk *chunk = chunk_find(core, handle);

    if (chunk && chunk->group && chunk->lease_expires_ms < expires_ms)
        chunk->lease_expires_ms = expires_ms;
}

size_t mutation_leases_used(const struct mutation_core *core, uint64_t since_ms, uint64_t now_ms,
                            uint64_t *ret_handles, size_t max)
{
    const struct mutation_chunk *chunk = core->by_use ? core->by_use->prev : NULL;
    size_t count = 0;

    /* The head's prev is the tail: the most recently used one. */
    while (chunk && count < max && chunk->used_ms >= since_ms) {
        if (chunk->group && chunk->broken == GFS_OK && now_ms < chunk->lease_expires_ms)
            ret_handles[count++] = chunk->handle;
        chunk = chunk == core->by_use ? NULL : chunk->prev;
    }
    return count;
}

void mutation_fence(struct mutation_core *core, uint64_t handle, uint32_t version)
{
    struct mutation_chunk *chunk = chunk_find(core, handle);

    if (chunk && chunk->version < version)
        session_begin(core, chunk, version, serial_first(version));
}

void mutation_forget(struct mutation_core *core, uint64_t handle)
{
    struct mutation_chunk *chunk = chunk_find(core, handle);

    if (!chunk)
        return;
    held_end(core, chunk, GFS_ERR_NO_CHUNK);
    lease_drop(chunk);
    chunk->broken = GFS_ERR_NO_CHUNK;
    if (chunk->in_flight == 0)
        chunk_free(core, chunk);
}

static bool group_is(const struct mutation_group *group, char *const *addrs, size_t count)
{
    if (group->count != count)
        return false;
    for (uint32_t i = 0; i < group->count; i++) {
        bool found = false;

        for (size_t j = 0; j < count; j++)
            found |= strcmp(group->addrs[i], addrs[j]) == 0;
        if (!found)
            return false;
    }
    return true;
}

/* The op has its turn: its serial is the chunk's next. */
static void op_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                     struct mutation_op *op)
{
    assert(op->serial == chunk->next_serial);
    op->chunk = chunk;
    op->create = chunk->fresh && op->serial == serial_first(op->version);
    op->local_pending = true;
    chunk->next_serial++;
    chunk->in_flight++;
    effect_add(core, op, MUTATION_LOCAL);
}

static void op_reset(struct mutation_op *op, bool primary)
{
    op->primary = primary;
    op->group = NULL;
    op->chunk = NULL;
    op->failed = 0;
    op->failed_err = op->err = GFS_OK;
    op->effect = MUTATION_NONE;
    op->create = op->local_pending = op->fenced = false;
    op->acks_pending = 0;
}

enum gfs_err mutation_write(struct mutation_core *core, struct mutation_op *op,
                            char *const *secondaries, size_t secondary_count, uint64_t now_ms)
{
    struct mutation_chunk *chunk = chunk_find(core, op->handle);

    if (!chunk || !chunk->group || now_ms >= chunk->lease_expires_ms)
        return GFS_ERR_NO_LEASE;
    if (chunk->version != op->version)
        return GFS_ERR_STALE_VERSION;
    if (chunk->broken != GFS_OK || !group_is(chunk->group, secondaries, secondary_count))
        return GFS_ERR_NO_LEASE;
    if (op->length_bytes == 0 || op->offset_bytes > chunk->chunk_size_bytes ||
        op->length_bytes > chunk->chunk_size_bytes - op->offset_bytes)
        return GFS_ERR_INVAL;
    if (chunk->in_flight >= core->limits.window_max)
        return GFS_ERR_BUSY;
    op_reset(op, true);
    op->serial = chunk->next_serial;
    op->group = chunk->group;
    op->group->refs++;
    chunk_touch(core, chunk, now_ms);
    op_begin(core, chunk, op);
    return GFS_OK;
}

static enum gfs_err session_follow(struct mutation_core *core, const struct mutation_op *op,
                                   const struct mutation_have *have, uint64_t now_ms,
                                   struct mutation_chunk **ret_chunk)
{
    struct mutation_chunk *chunk = chunk_find(core, op->handle);
    bool fresh = is_fresh(op->version, have);

    if (!chunk || chunk->version < op->version) {
        if ((!have->exists && !fresh) || (have->exists && have->version < op->version))
            return GFS_ERR_NO_CHUNK;
        if (have->exists && have->version > op->version)
            return GFS_ERR_STALE_VERSION;
        if (!chunk)
            chunk = chunk_make(core, op->handle, now_ms);
        if (!chunk)
            return GFS_ERR_BUSY;
        session_begin(core, chunk, op->version, serial_after(have, op->version));
        chunk->fresh = fresh;
    }
    if (chunk->version > op->version)
        return GFS_ERR_STALE_VERSION;
    *ret_chunk = chunk;
    return chunk->broken;
}

static enum gfs_err op_hold(struct mutation_core *core, struct mutation_chunk *chunk,
                            struct mutation_op *op, uint64_t now_ms)
{
    struct mutation_op *after = NULL, *other;

    if (chunk->held_count >= core->limits.hold_max)
        return GFS_ERR_BUSY;
    DL_FOREACH (chunk->held, other) {
        if (other->serial == op->serial)
            return GFS_ERR_BUSY;
        if (other->serial < op->serial)
            after = other;
    }
    op_reset(op, false);
    op->chunk = chunk;
    op->held_until_ms = now_ms + core->limits.gap_ms;
    if (after)
        DL_APPEND_ELEM(chunk->held, after, op);
    else
        DL_PREPEND(chunk->held, op);
    chunk->held_count++;
    return GFS_OK;
}

enum gfs_err mutation_apply(struct mutation_core *core, struct mutation_op *op,
                            const struct mutation_have *have, uint64_t now_ms)
{
    struct mutation_chunk *chunk;
    enum gfs_err err;

    if (op->serial >> 32 != op->version || op->version == 0 || op->length_bytes == 0 ||
        op->offset_bytes > GFS_CHUNK_SIZE_MAX_BYTES ||
        op->length_bytes > GFS_CHUNK_SIZE_MAX_BYTES - op->offset_bytes)
        return GFS_ERR_INVAL;
    err = session_follow(core, op, have, now_ms, &chunk);
    if (err != GFS_OK)
        return err;
    if (chunk->group) /* two primaries for one version: the sender is wrong */
        return GFS_ERR_INVAL;
    chunk_touch(core, chunk, now_ms);
    if (op->serial > chunk->next_serial)
        return op_hold(core, chunk, op, now_ms);
    if (op->serial < chunk->next_serial && op->serial > chunk->durable_serial)
        return GFS_ERR_BUSY;
    op_reset(op, false);
    if (op->serial <= chunk->durable_serial) { /* a repeated order */
        effect_add(core, op, MUTATION_FINISH);
        return GFS_OK;
    }
    op_begin(core, chunk, op);
    while (chunk->held && chunk->held->serial == chunk->next_serial) {
        struct mutation_op *held = chunk->held;

        DL_DELETE(chunk->held, held);
        chunk->held_count--;
        op_begin(core, chunk, held);
    }
    return GFS_OK;
}

void mutation_submitted(struct mutation_core *core, struct mutation_op *op, enum gfs_err err)
{
    struct mutation_chunk *chunk = op->chunk;

    assert(op->local_pending);
    if (err == GFS_OK) {
        if (op->group && op->group->count > 0) {
            op->acks_pending = op->group->count;
            effect_add(core, op, MUTATION_SEND);
        }
        return;
    }
    op->local_pending = false;
    op->err = err;
    /* Nobody has seen the serial: it can be given again, unless later ones are on their way. */
    if (chunk->version == op->version && chunk->next_serial == op->serial + 1)
        chunk->next_serial--;
    else
        session_break(core, op, err);
    op_finish(core, op);
}

void mutation_local_done(struct mutation_core *core, struct mutation_op *op, enum gfs_err err,
                         uint64_t now_ms)
{
    struct mutation_chunk *chunk = op->chunk;

    assert(op->local_pending);
    op->local_pending = false;
    op->err = err;
    if (err != GFS_OK)
        session_break(core, op, err);
    else if (chunk->version == op->version && chunk->durable_serial < op->serial)
        chunk->durable_serial = op->serial;
    chunk_touch(core, chunk, now_ms);
    if (op->acks_pending == 0 && op->effect == MUTATION_NONE)
        op_finish(core, op);
}

/* The master went on to a higher version; or the secondary is whole and had no room, or no data
 * any more: the next version, of the same members, begins anew. */
static bool is_nobodys_fault(enum gfs_err err)
{
    return err == GFS_ERR_STALE_VERSION || err == GFS_ERR_BUSY || err == GFS_ERR_NO_DATA ||
           err == GFS_ERR_NO_MEMORY;
}

void mutation_ack(struct mutation_core *core, struct mutation_op *op, uint32_t index,
                  enum gfs_err err)
{
    assert(op->acks_pending > 0);
    op->acks_pending--;
    if (is_nobodys_fault(err)) {
        op->fenced = true;
        session_break(core, op, err);
    } else if (err != GFS_OK) {
        if (!op->failed)
            op->failed_err = err;
        op->failed |= 1u << index;
        session_break(core, op, err);
    }
    if (op->acks_pending == 0 && !op->local_pending)
        op_finish(core, op);
}

static bool chunk_idle(const struct mutation_core *core, const struct mutation_chunk *chunk,
                       uint64_t now_ms)
{
    if (chunk->in_flight > 0 || chunk->held_count > 0)
        return false;
    return !chunk->group || now_ms >= chunk->lease_expires_ms;
}

void mutation_tick(struct mutation_core *core, uint64_t now_ms)
{
    struct mutation_chunk *chunk, *next;

    DL_FOREACH_SAFE (core->by_use, chunk, next) {
        /* The oldest first: the rest is younger than any limit that matters here. */
        if (now_ms - chunk->used_ms < core->limits.idle_ms &&
            now_ms - chunk->used_ms < core->limits.gap_ms)
            break;
        if (chunk->held && now_ms >= chunk->held->held_until_ms) {
            chunk->broken = GFS_ERR_TIMEOUT;
            held_end(core, chunk, GFS_ERR_TIMEOUT);
        } else if (now_ms - chunk->used_ms >= core->limits.idle_ms &&
                   chunk_idle(core, chunk, now_ms)) {
            chunk_free(core, chunk);
        }
    }
}

/* An op whose session ended before its write was submitted: writing it would leave a gap. */
static bool local_is_void(struct mutation_op *op)
{
    const struct mutation_chunk *chunk = op->chunk;

    if (chunk->version != op->version)
        op->err = GFS_ERR_STALE_VERSION;
    else
        op->err = chunk->broken;
    return op->err != GFS_OK;
}

enum mutation_effect mutation_next(struct mutation_core *core, struct mutation_op **ret_op)
{
    while (core->effects) {
        struct mutation_op *op = core->effects;
        enum mutation_effect effect = op->effect;

        DL_DELETE(core->effects, op);
        op->effect = MUTATION_NONE;
        if (effect != MUTATION_LOCAL || !local_is_void(op)) {
            *ret_op = op;
            return effect;
        }
        op->local_pending = false;
        op_finish(core, op);
    }
    return MUTATION_NONE;
}

void mutation_op_release(struct mutation_op *op)
{
    group_unref(op->group);
    op->group = NULL;
}

size_t mutation_sessions(const struct mutation_core *core)
{
    return HASH_COUNT(core->by_handle);
}
