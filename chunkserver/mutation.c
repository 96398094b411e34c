/* Sessions, leases, and what is settled. See the header; mutation_order.c has the mutations. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "chunkserver/mutation_impl.h"

static uint64_t serial_after(const struct mutation_have *have, uint32_t version)
{
    if (have->exists && have->serial >> 32 == version)
        return have->serial + 1;
    return mutation_serial_first(version);
}

struct mutation_core *mutation_new(const struct mutation_limits *limits)
{
    struct mutation_core *core = calloc(1, sizeof *core);

    if (core)
        core->limits = *limits;
    return core;
}

void mutation_group_unref(struct mutation_group *group)
{
    if (group && --group->refs == 0)
        free(group);
}

static void tell_end(struct mutation_core *core, struct mutation_chunk *chunk)
{
    if (chunk->telling)
        DL_DELETE2(core->to_tell, chunk, tell_prev, tell_next);
    chunk->telling = false;
}

static void lease_drop(struct mutation_core *core, struct mutation_chunk *chunk)
{
    mutation_group_unref(chunk->group);
    chunk->group = NULL;
    tell_end(core, chunk);
}

static void window_drop(struct mutation_chunk *chunk)
{
    window_free(chunk->window);
    chunk->window = NULL;
}

static void chunk_free(struct mutation_core *core, struct mutation_chunk *chunk)
{
    assert(chunk->in_flight == 0 && chunk->held_count == 0);
    lease_drop(core, chunk);
    window_drop(chunk);
    if (chunk->unsettled.count > 0)
        core->unsettled_chunks--;
    unsettled_release(&chunk->unsettled);
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

struct mutation_chunk *mutation_chunk_find(const struct mutation_core *core, uint64_t handle)
{
    struct mutation_chunk *chunk;

    HASH_FIND(hh, core->by_handle, &handle, sizeof handle, chunk);
    return chunk;
}

void mutation_chunk_touch(struct mutation_core *core, struct mutation_chunk *chunk, uint64_t now_ms)
{
    chunk->used_ms = now_ms;
    DL_DELETE(core->by_use, chunk);
    DL_APPEND(core->by_use, chunk);
}

struct mutation_chunk *mutation_chunk_make(struct mutation_core *core, uint64_t handle,
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

/* ---- what is settled ---- */

uint64_t mutation_settled_serial(const struct mutation_chunk *chunk)
{
    uint64_t first = unsettled_first(&chunk->unsettled);

    return first ? first - 1 : chunk->next_serial - 1;
}

/* A primary whose secondaries should hear of it. */
static void tell_check(struct mutation_core *core, struct mutation_chunk *chunk)
{
    bool news = chunk->group && chunk->group->count > 0 &&
                mutation_settled_serial(chunk) > chunk->told_serial;

    if (news && !chunk->telling) {
        chunk->telling = true;
        DL_APPEND2(core->to_tell, chunk, tell_prev, tell_next);
    } else if (!news) {
        tell_end(core, chunk);
    }
}

/* After a change: `was` entries before it. */
static void unsettled_changed(struct mutation_core *core, struct mutation_chunk *chunk,
                              uint32_t was, uint64_t now_ms)
{
    if (was == 0 && chunk->unsettled.count > 0)
        core->unsettled_chunks++;
    else if (was > 0 && chunk->unsettled.count == 0)
        core->unsettled_chunks--;
    if (was == 0 || chunk->unsettled.count < was)
        chunk->unsettled_since_ms = now_ms;
    tell_check(core, chunk);
}

enum gfs_err mutation_unsettled_add(struct mutation_core *core, struct mutation_chunk *chunk,
                                    uint64_t serial, uint32_t from_bytes, uint32_t to_bytes,
                                    uint64_t now_ms)
{
    uint32_t was = chunk->unsettled.count;
    enum gfs_err err = unsettled_add(&chunk->unsettled, serial, from_bytes, to_bytes);

    unsettled_changed(core, chunk, was, now_ms);
    return err;
}

void mutation_unsettled_back(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial)
{
    uint32_t was = chunk->unsettled.count;

    unsettled_take_back(&chunk->unsettled, serial);
    unsettled_changed(core, chunk, was, chunk->unsettled_since_ms);
}

void mutation_unsettled_done(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial, uint64_t now_ms)
{
    uint32_t was = chunk->unsettled.count;

    unsettled_done(&chunk->unsettled, serial);
    unsettled_changed(core, chunk, was, now_ms);
}

void mutation_unsettled_upto(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial, uint64_t now_ms)
{
    uint32_t was = chunk->unsettled.count;

    unsettled_settle(&chunk->unsettled, serial);
    unsettled_changed(core, chunk, was, now_ms);
}

bool mutation_has_news(const struct mutation_core *core)
{
    return core->to_tell != NULL;
}

bool mutation_next_news(struct mutation_core *core, struct mutation_news *ret_news)
{
    struct mutation_chunk *chunk = core->to_tell;

    if (!chunk)
        return false;
    tell_end(core, chunk);
    chunk->told_serial = mutation_settled_serial(chunk);
    chunk->group->refs++;
    *ret_news = (struct mutation_news){.handle = chunk->handle,
                                       .version = chunk->version,
                                       .serial = chunk->told_serial,
                                       .group = chunk->group};
    return true;
}

void mutation_news_failed(struct mutation_core *core, uint64_t handle, uint32_t version)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (!chunk || chunk->version != version || chunk->broken != GFS_OK)
        return;
    chunk->told_serial = 0;
    tell_check(core, chunk);
}

void mutation_settle(struct mutation_core *core, uint64_t handle, uint32_t version, uint64_t serial,
                     const struct mutation_have *have, uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);
    uint64_t all_before = (uint64_t)version << 32;

    /* A later version is being made, or we are not of this one. */
    if (!chunk || chunk->version > version || !have->exists || have->version != version)
        return;
    if (serial >> 32 > version)
        return;
    mutation_unsettled_upto(core, chunk, serial > all_before ? serial : all_before, now_ms);
}

enum gfs_err mutation_doubt(struct mutation_core *core, uint64_t handle,
                            const struct mutation_have *have, uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (chunk) /* it has a session since: it knows better */
        return GFS_OK;
    chunk = mutation_chunk_make(core, handle, now_ms);
    if (!chunk)
        return GFS_ERR_BUSY;
    mutation_session_begin(core, chunk, have->version, have);
    chunk->broken = GFS_ERR_STALE_VERSION; /* only a later version can tell */
    return mutation_unsettled_add(core, chunk, have->serial, 0, UINT32_MAX, now_ms);
}

enum gfs_err mutation_mixed(struct mutation_core *core, uint64_t handle,
                            const struct mutation_have *have, uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);
    uint64_t serial = (uint64_t)have->version
                      << 32; /* of this version's eve: any grant settles it */
    const struct unsettled *before = chunk ? &chunk->unsettled : NULL;

    if (before && before->count > 0 && before->entries[before->count - 1].serial >= serial)
        return before->entries[before->count - 1].serial == serial ? GFS_OK : GFS_ERR_STALE_VERSION;
    if (!chunk) {
        chunk = mutation_chunk_make(core, handle, now_ms);
        if (!chunk)
            return GFS_ERR_BUSY;
        mutation_session_begin(core, chunk, have->version, have);
    }
    return mutation_unsettled_add(core, chunk, serial, 0, UINT32_MAX, now_ms);
}

bool mutation_can_read(const struct mutation_core *core, uint64_t handle, uint32_t offset_bytes,
                       uint32_t length_bytes)
{
    const struct mutation_chunk *chunk;

    if (core->unsettled_chunks == 0)
        return true;
    chunk = mutation_chunk_find(core, handle);
    return !chunk ||
           !unsettled_overlaps(&chunk->unsettled, offset_bytes, offset_bytes + length_bytes);
}

uint32_t mutation_unsettled_count(const struct mutation_core *core)
{
    return core->unsettled_chunks;
}

bool mutation_is_unsettled(const struct mutation_core *core, uint64_t handle)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    return chunk && chunk->unsettled.count > 0;
}

static bool is_stuck(const struct mutation_core *core, const struct mutation_chunk *chunk,
                     uint64_t now_ms)
{
    return chunk->unsettled.count > 0 &&
           (chunk->broken != GFS_OK ||
            now_ms >= chunk->unsettled_since_ms + core->limits.unsettled_ms);
}

bool mutation_is_stuck(const struct mutation_core *core, uint64_t handle, uint64_t now_ms)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    return chunk && is_stuck(core, chunk, now_ms);
}

size_t mutation_stuck(const struct mutation_core *core, uint64_t now_ms, uint64_t *ret_handles,
                      size_t max)
{
    const struct mutation_chunk *chunk;
    size_t count = 0;

    if (core->unsettled_chunks == 0)
        return 0;
    DL_FOREACH (core->by_use, chunk) {
        if (count == max)
            break;
        if (is_stuck(core, chunk, now_ms))
            ret_handles[count++] = chunk->handle;
    }
    return count;
}

/* ---- sessions ---- */

void mutation_session_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                            uint32_t version, const struct mutation_have *have)
{
    mutation_held_end(core, chunk, GFS_ERR_STALE_VERSION);
    lease_drop(core, chunk);
    window_drop(chunk);
    chunk->version = version;
    chunk->next_serial = serial_after(have, version);
    chunk->durable_serial = chunk->next_serial - 1;
    chunk->end_bytes = have->exists ? have->length_bytes : 0;
    chunk->broken = GFS_OK;
    chunk->fresh = mutation_is_fresh(version, have);
    chunk->chunk_size_bytes = GFS_CHUNK_SIZE_MAX_BYTES;
    chunk->told_serial = 0;
    chunk->seal = NULL;
}

bool mutation_is_fresh(uint32_t version, const struct mutation_have *have)
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
                            const struct mutation_have *have, struct window *take_window,
                            uint64_t now_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, lease->handle);
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
        chunk = mutation_chunk_make(core, lease->handle, now_ms);
    if (!chunk) {
        free(group);
        return GFS_ERR_BUSY;
    }
    if (chunk->version != lease->version)
        mutation_session_begin(core, chunk, lease->version, have);
    /* When a fence began the session, what was before it was not all on our disk yet. */
    if (!chunk->group && chunk->end_bytes < have->length_bytes)
        chunk->end_bytes = have->length_bytes;
    if (!chunk->group && chunk->fresh)
        chunk->told_serial = mutation_settled_serial(chunk);
    if (!chunk->window)
        chunk->window = take_window;
    else
        window_free(take_window);
    lease_drop(core, chunk);
    chunk->group = group;
    chunk->chunk_size_bytes = lease->chunk_size_bytes;
    chunk->lease_expires_ms = lease->expires_ms;
    mutation_chunk_touch(core, chunk, now_ms);
    /* The replicas were reconciled before: whatever older versions left open is settled. */
    mutation_unsettled_upto(core, chunk, (uint64_t)lease->version << 32, now_ms);
    return GFS_OK;
}

void mutation_revoke(struct mutation_core *core, uint64_t handle, uint32_t version)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (chunk && chunk->version <= version)
        lease_drop(core, chunk);
}

void mutation_break(struct mutation_core *core, uint64_t handle, uint32_t version, enum gfs_err err)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (!chunk || chunk->version != version || chunk->broken != GFS_OK)
        return;
    chunk->broken = err;
    mutation_held_end(core, chunk, err);
}

bool mutation_leads(const struct mutation_core *core, uint64_t handle, uint32_t version,
                    uint64_t now_ms)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    return chunk && chunk->version == version && mutation_is_leased(core, handle, now_ms);
}

bool mutation_is_busy(const struct mutation_core *core, uint64_t handle)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    return chunk && (chunk->in_flight > 0 || chunk->unsettled.count > 0);
}

bool mutation_is_leased(const struct mutation_core *core, uint64_t handle, uint64_t now_ms)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    return chunk && chunk->group && chunk->broken == GFS_OK && now_ms < chunk->lease_expires_ms;
}

void mutation_extend(struct mutation_core *core, uint64_t handle, uint64_t expires_ms)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

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
    static const struct mutation_have nothing = {0};
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (!chunk || chunk->version >= version)
        return;
    mutation_session_begin(core, chunk, version, &nothing);
    chunk->fresh = false;
}

void mutation_forget(struct mutation_core *core, uint64_t handle)
{
    struct mutation_chunk *chunk = mutation_chunk_find(core, handle);

    if (!chunk)
        return;
    mutation_held_end(core, chunk, GFS_ERR_NO_CHUNK);
    lease_drop(core, chunk);
    chunk->broken = GFS_ERR_NO_CHUNK;
    mutation_unsettled_upto(core, chunk, UINT64_MAX, chunk->used_ms);
    if (chunk->in_flight == 0)
        chunk_free(core, chunk);
}

static bool chunk_idle(const struct mutation_chunk *chunk, uint64_t now_ms)
{
    if (chunk->in_flight > 0 || chunk->held_count > 0)
        return false;
    if (now_ms == UINT64_MAX) /* the end */
        return true;
    return chunk->unsettled.count == 0 && (!chunk->group || now_ms >= chunk->lease_expires_ms);
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
            mutation_held_end(core, chunk, GFS_ERR_TIMEOUT);
        } else if (now_ms - chunk->used_ms >= core->limits.idle_ms && chunk_idle(chunk, now_ms)) {
            chunk_free(core, chunk);
        }
    }
}

size_t mutation_sessions(const struct mutation_core *core)
{
    return HASH_COUNT(core->by_handle);
}
