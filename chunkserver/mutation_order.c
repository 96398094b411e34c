/* One mutation's way. See mutation.h; mutation.c has the sessions. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "chunkserver/mutation_impl.h"

static void effect_add(struct mutation_core *core, struct mutation_op *op,
                       enum mutation_effect effect)
{
    assert(op->effect == MUTATION_NONE);
    op->effect = effect;
    DL_APPEND(core->effects, op);
}

/* What an append that waited gets from the op it waited for. */
static void joiner_finish(struct mutation_core *core, const struct mutation_op *leader,
                          struct mutation_op *op)
{
    op->err = leader->err;
    op->failed = 0; /* who failed is the leader's to tell */
    if (op->err == GFS_ERR_REPLICA_FAILED)
        op->err = GFS_ERR_NO_LEASE;
    op->serial = leader->serial;
    op->full = leader->seal;
    op->repeated = !leader->seal;
    op->offset_bytes = leader->offset_bytes;
    effect_add(core, op, MUTATION_FINISH);
}

static void append_end(struct mutation_core *core, struct mutation_chunk *chunk,
                       struct mutation_op *op)
{
    struct window_entry *entry;
    struct mutation_op *joiner, *next;

    if (chunk->seal == op)
        chunk->seal = NULL;
    if (chunk->version == op->version && chunk->window && op->primary && op->producer &&
        !op->seal && window_find(chunk->window, op->producer, op->sequence, &entry) == GFS_OK &&
        entry->leader == op) {
        entry->leader = NULL;
        if (op->err != GFS_OK)
            window_remove(chunk->window, op->producer, op->sequence);
    }
    DL_FOREACH_SAFE (op->joiners, joiner, next) {
        DL_DELETE(op->joiners, joiner);
        joiner_finish(core, op, joiner);
    }
}

/* The op is in flight and all answers are in. */
static void op_finish(struct mutation_core *core, struct mutation_op *op, uint64_t now_ms)
{
    struct mutation_chunk *chunk = op->chunk;

    assert(!op->local_pending && op->acks_pending == 0);
    chunk->in_flight--;
    op->chunk = NULL;
    if (op->err == GFS_OK && op->failed)
        op->err = GFS_ERR_REPLICA_FAILED;
    else if (op->err == GFS_OK && op->fenced)
        op->err = GFS_ERR_STALE_VERSION;
    if (op->primary && op->err == GFS_OK)
        mutation_unsettled_done(core, chunk, op->serial, now_ms);
    op->full = op->seal && op->primary;
    append_end(core, chunk, op);
    effect_add(core, op, MUTATION_FINISH);
}

void mutation_held_end(struct mutation_core *core, struct mutation_chunk *chunk, enum gfs_err err)
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

void mutation_session_break(struct mutation_core *core, struct mutation_op *op, enum gfs_err err)
{
    struct mutation_chunk *chunk = op->chunk;

    if (chunk->version != op->version || chunk->broken != GFS_OK)
        return;
    chunk->broken = err;
    mutation_held_end(core, chunk, err);
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

/* The op has its turn: its serial is the chunk's next. NO_MEMORY: it was not taken. */
static enum gfs_err op_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                             struct mutation_op *op, uint64_t now_ms)
{
    uint32_t end_bytes = op->offset_bytes + op->length_bytes;
    enum gfs_err err;

    assert(op->serial == chunk->next_serial);
    /* Before the store can show it to anybody. */
    err = mutation_unsettled_add(core, chunk, op->serial, op->offset_bytes, end_bytes, now_ms);
    if (err != GFS_OK)
        return err;
    op->chunk = chunk;
    op->create = chunk->fresh && op->serial == mutation_serial_first(op->version);
    op->local_pending = true;
    op->end_before_bytes = chunk->end_bytes;
    if (end_bytes > chunk->end_bytes)
        chunk->end_bytes = end_bytes;
    chunk->next_serial++;
    chunk->in_flight++;
    effect_add(core, op, MUTATION_LOCAL);
    return GFS_OK;
}

static void op_reset(struct mutation_op *op, bool primary)
{
    op->primary = primary;
    op->group = NULL;
    op->chunk = NULL;
    op->joiners = NULL;
    op->failed = 0;
    op->failed_err = op->err = GFS_OK;
    op->effect = MUTATION_NONE;
    op->create = op->local_pending = op->fenced = op->full = op->repeated = false;
    op->acks_pending = 0;
}

/* May we order mutations of the chunk for this client? */
static enum gfs_err primary_check(const struct mutation_core *core,
                                  const struct mutation_chunk *chunk, const struct mutation_op *op,
                                  char *const *secondaries, size_t secondary_count, uint64_t now_ms)
{
    if (!chunk || !chunk->group || now_ms >= chunk->lease_expires_ms)
        return GFS_ERR_NO_LEASE;
    if (chunk->version != op->version)
        return GFS_ERR_STALE_VERSION;
    if (chunk->broken != GFS_OK || !group_is(chunk->group, secondaries, secondary_count))
        return GFS_ERR_NO_LEASE;
    if (op->length_bytes == 0)
        return GFS_ERR_INVAL;
    if (chunk->in_flight >= core->limits.window_max || unsettled_is_full(&chunk->unsettled))
        return GFS_ERR_BUSY;
    return GFS_OK;
}

static enum gfs_err primary_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                                  struct mutation_op *op, uint64_t now_ms)
{
    enum gfs_err err;

    op_reset(op, true);
    op->serial = chunk->next_serial;
    mutation_chunk_touch(core, chunk, now_ms);
    err = op_begin(core, chunk, op, now_ms);
    if (err == GFS_OK) {
        op->group = chunk->group;
        op->group->refs++;
    }
    return err;
}

enum gfs_err mutation_write(struct mutation_core *core, struct mutation_op *op,
                            char *const *secondaries, size_t secondary_count, uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, op->handle);
    enum gfs_err err = primary_check(core, chunk, op, secondaries, secondary_count, now_ms);

    if (err != GFS_OK)
        return err;
    if (op->offset_bytes > chunk->chunk_size_bytes ||
        op->length_bytes > chunk->chunk_size_bytes - op->offset_bytes)
        return GFS_ERR_INVAL;
    op->seal = false;
    return primary_begin(core, chunk, op, now_ms);
}

static void op_join(struct mutation_op *leader, struct mutation_op *op)
{
    op_reset(op, true);
    DL_APPEND(leader->joiners, op);
}

/* The record does not fit, or the window is full: this op seals the chunk, or waits until another
 * has, or finds it sealed. */
static enum gfs_err append_full(struct mutation_core *core, struct mutation_chunk *chunk,
                                struct mutation_op *op, uint64_t now_ms)
{
    enum gfs_err err;

    if (chunk->seal) {
        op_join(chunk->seal, op);
        return GFS_OK;
    }
    if (chunk->end_bytes >= chunk->chunk_size_bytes) {
        /* What filled it may still be under way, and fail. */
        if (chunk->unsettled.count > 0)
            return GFS_ERR_BUSY;
        op_reset(op, true);
        op->full = true;
        op->offset_bytes = chunk->end_bytes;
        effect_add(core, op, MUTATION_FINISH);
        return GFS_OK;
    }
    op->seal = true;
    op->offset_bytes = chunk->end_bytes;
    op->length_bytes = chunk->chunk_size_bytes - chunk->end_bytes;
    err = primary_begin(core, chunk, op, now_ms);
    if (err == GFS_OK)
        chunk->seal = op;
    return err;
}

static enum gfs_err append_new(struct mutation_core *core, struct mutation_chunk *chunk,
                               struct mutation_op *op, uint64_t now_ms)
{
    struct window_entry entry = {.sequence = op->sequence,
                                 .length_bytes = op->length_bytes,
                                 .leader = op};
    enum gfs_err err;

    if (!chunk->window)
        chunk->window = window_new(GFS_APPEND_ENTRIES_MAX);
    if (!chunk->window)
        return GFS_ERR_NO_MEMORY;
    if (chunk->seal || op->length_bytes > chunk->chunk_size_bytes - chunk->end_bytes)
        return append_full(core, chunk, op, now_ms);
    entry.offset_bytes = op->offset_bytes = chunk->end_bytes;
    err = window_add(chunk->window, op->producer, &entry);
    if (err == GFS_ERR_BUSY)
        return append_full(core, chunk, op, now_ms);
    if (err != GFS_OK)
        return err;
    err = primary_begin(core, chunk, op, now_ms);
    if (err != GFS_OK)
        window_remove(chunk->window, op->producer, op->sequence);
    return err;
}

enum gfs_err mutation_append(struct mutation_core *core, struct mutation_op *op,
                             char *const *secondaries, size_t secondary_count, uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, op->handle);
    struct window_entry *entry;
    enum gfs_err err = primary_check(core, chunk, op, secondaries, secondary_count, now_ms);

    if (err != GFS_OK)
        return err;
    if (op->producer == 0 || op->sequence == 0)
        return GFS_ERR_INVAL;
    if (op->length_bytes > GFS_RECORD_MAX_BYTES || op->length_bytes > chunk->chunk_size_bytes / 4)
        return GFS_ERR_TOO_LARGE;
    op->seal = false;
    err = chunk->window ? window_find(chunk->window, op->producer, op->sequence, &entry)
                        : GFS_ERR_NO_DATA;
    if (err == GFS_ERR_NO_DATA)
        return append_new(core, chunk, op, now_ms);
    if (err != GFS_OK)
        return err;
    if (entry->length_bytes != op->length_bytes)
        return GFS_ERR_INVAL;
    if (entry->leader) {
        op_join(entry->leader, op);
        return GFS_OK;
    }
    op_reset(op, true);
    op->repeated = true;
    op->offset_bytes = entry->offset_bytes;
    effect_add(core, op, MUTATION_FINISH);
    return GFS_OK;
}

static enum gfs_err session_follow(struct mutation_core *core, const struct mutation_op *op,
                                   const struct mutation_have *have, uint64_t now_ms,
                                   struct mutation_chunk **ret_chunk)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, op->handle);
    bool fresh = mutation_is_fresh(op->version, have);

    if (!chunk || chunk->version < op->version) {
        if ((!have->exists && !fresh) || (have->exists && have->version < op->version))
            return GFS_ERR_NO_CHUNK;
        if (have->exists && have->version > op->version)
            return GFS_ERR_STALE_VERSION;
        if (!chunk)
            chunk = mutation_chunk_make(core, op->handle, now_ms);
        if (!chunk)
            return GFS_ERR_BUSY;
        mutation_session_begin(core, chunk, op->version, have);
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

static enum gfs_err apply_check(const struct mutation_op *op, uint64_t settled)
{
    if (op->serial >> 32 != op->version || op->version == 0 || op->length_bytes == 0 ||
        op->offset_bytes > GFS_CHUNK_SIZE_MAX_BYTES ||
        op->length_bytes > GFS_CHUNK_SIZE_MAX_BYTES - op->offset_bytes)
        return GFS_ERR_INVAL;
    if (settled >= op->serial || (op->seal && op->producer))
        return GFS_ERR_INVAL;
    return GFS_OK;
}

/* Those that waited for the one just begun. */
static void held_begin(struct mutation_core *core, struct mutation_chunk *chunk, uint64_t now_ms)
{
    while (chunk->held && chunk->held->serial == chunk->next_serial) {
        struct mutation_op *held = chunk->held;

        DL_DELETE(chunk->held, held);
        chunk->held_count--;
        held->err = op_begin(core, chunk, held, now_ms);
        if (held->err != GFS_OK) {
            held->chunk = NULL;
            effect_add(core, held, MUTATION_FINISH);
            return; /* those behind it time out */
        }
    }
}

enum gfs_err mutation_apply(struct mutation_core *core, struct mutation_op *op,
                            const struct mutation_have *have, uint64_t settled, uint64_t now_ms)
{
    struct mutation_chunk *chunk;
    uint64_t all_before = (uint64_t)op->version << 32;
    enum gfs_err err = apply_check(op, settled);

    if (err == GFS_OK)
        err = session_follow(core, op, have, now_ms, &chunk);
    if (err != GFS_OK)
        return err;
    if (chunk->group) /* two primaries for one version: the sender is wrong */
        return GFS_ERR_INVAL;
    mutation_chunk_touch(core, chunk, now_ms);
    mutation_unsettled_upto(core, chunk, settled > all_before ? settled : all_before, now_ms);
    if (op->serial > chunk->next_serial)
        return op_hold(core, chunk, op, now_ms);
    if (op->serial < chunk->next_serial && op->serial > chunk->durable_serial)
        return GFS_ERR_BUSY;
    op_reset(op, false);
    if (op->serial <= chunk->durable_serial) { /* a repeated order */
        effect_add(core, op, MUTATION_FINISH);
        return GFS_OK;
    }
    err = op_begin(core, chunk, op, now_ms);
    if (err == GFS_OK)
        held_begin(core, chunk, now_ms);
    return err;
}

void mutation_submitted(struct mutation_core *core, struct mutation_op *op, enum gfs_err err)
{
    struct mutation_chunk *chunk = op->chunk;

    assert(op->local_pending);
    if (err == GFS_OK) {
        if (op->group && op->group->count > 0) {
            op->acks_pending = op->group->count;
            op->settled_serial = mutation_settled_serial(chunk);
            if (chunk->version == op->version)
                chunk->told_serial = op->settled_serial;
            effect_add(core, op, MUTATION_SEND);
        }
        return;
    }
    op->local_pending = false;
    op->err = err;
    /* Nobody has seen the serial: it can be given again, unless later ones are on their way. */
    if (chunk->version == op->version && chunk->next_serial == op->serial + 1) {
        chunk->next_serial--;
        chunk->end_bytes = op->end_before_bytes;
        mutation_unsettled_back(core, chunk, op->serial);
    } else {
        mutation_session_break(core, op, err);
    }
    op_finish(core, op, chunk->used_ms);
}

void mutation_local_done(struct mutation_core *core, struct mutation_op *op, enum gfs_err err,
                         uint64_t now_ms)
{
    struct mutation_chunk *chunk = op->chunk;

    assert(op->local_pending);
    op->local_pending = false;
    op->err = err;
    if (err != GFS_OK)
        mutation_session_break(core, op, err);
    else if (chunk->version == op->version && chunk->durable_serial < op->serial)
        chunk->durable_serial = op->serial;
    mutation_chunk_touch(core, chunk, now_ms);
    if (op->acks_pending == 0 && op->effect == MUTATION_NONE)
        op_finish(core, op, now_ms);
}

/* The master went on to a higher version; or the secondary is whole and had no room, or no data
 * any more: the next version, of the same members, begins anew. */
static bool is_nobodys_fault(enum gfs_err err)
{
    return err == GFS_ERR_STALE_VERSION || err == GFS_ERR_BUSY || err == GFS_ERR_NO_DATA ||
           err == GFS_ERR_NO_MEMORY;
}

void mutation_ack(struct mutation_core *core, struct mutation_op *op, uint32_t index,
                  enum gfs_err err, uint64_t now_ms)
{
    assert(op->acks_pending > 0);
    op->acks_pending--;
    if (is_nobodys_fault(err)) {
        op->fenced = true;
        mutation_session_break(core, op, err);
    } else if (err != GFS_OK) {
        if (!op->failed)
            op->failed_err = err;
        op->failed |= 1u << index;
        mutation_session_break(core, op, err);
    }
    if (op->acks_pending == 0 && !op->local_pending)
        op_finish(core, op, now_ms);
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
        mutation_unsettled_back(core, op->chunk, op->serial);
        op_finish(core, op, op->chunk->used_ms);
    }
    return MUTATION_NONE;
}

void mutation_op_release(struct mutation_op *op)
{
    mutation_group_unref(op->group);
    op->group = NULL;
}
