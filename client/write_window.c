#include "write_window.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "retry.h"

/* So many refusals of one primary in a row mean that it and the master disagree. */
#define WRITE_REFUSALS_MAX 4
/* So many fruitless probes in a row: take the primary for the culprit. */
#define WRITE_PROBES_MAX 3

void write_window_init(struct write_window *window, uint32_t mutation_max, uint32_t timeout_ms)
{
    assert(mutation_max > 0 && mutation_max <= WRITE_WINDOW_MAX);
    memset(window, 0, sizeof(*window));
    window->mutation_max = mutation_max;
    window->timeout_ms = timeout_ms;
}

void write_window_release(struct write_window *window)
{
    struct write_chunk *chunk, *tmp;
    DL_FOREACH_SAFE (window->chunks, chunk, tmp)
        free(chunk);
    window->chunks = NULL;
    window->chunk_count = 0;
    window->mutations = NULL;
    window->mutation_count = 0;
}

/* ---- chunk records ------------------------------------------------------------------------- */

static struct write_chunk *chunk_find(const struct write_window *window, uint32_t index)
{
    struct write_chunk *chunk;
    DL_FOREACH (window->chunks, chunk)
        if (chunk->index == index)
            return chunk;
    return NULL;
}

static bool chunk_is_idle(const struct write_chunk *chunk)
{
    return chunk->pending == 0 && !chunk->dirty &&
           (chunk->state == WRITE_CHUNK_IDLE || chunk->state == WRITE_CHUNK_READY);
}

static struct write_chunk *chunk_oldest_idle(const struct write_window *window)
{
    struct write_chunk *oldest = NULL;
    struct write_chunk *chunk;
    DL_FOREACH (window->chunks, chunk)
        if (chunk_is_idle(chunk) && (oldest == NULL || chunk->used_seq < oldest->used_seq))
            oldest = chunk;
    return oldest;
}

static struct write_chunk *chunk_make(struct write_window *window, uint32_t index)
{
    if (window->chunk_count >= WRITE_WINDOW_CHUNKS_MAX) {
        struct write_chunk *oldest = chunk_oldest_idle(window);
        if (oldest == NULL)
            return NULL;
        DL_DELETE(window->chunks, oldest);
        window->chunk_count--;
        free(oldest);
    }
    struct write_chunk *chunk = calloc(1, sizeof(*chunk));
    if (chunk == NULL)
        return NULL;
    chunk->index = index;
    DL_APPEND(window->chunks, chunk);
    window->chunk_count++;
    return chunk;
}

bool write_window_crowded(const struct write_window *window, uint32_t chunk_index)
{
    return window->chunk_count >= WRITE_WINDOW_CHUNKS_MAX &&
           chunk_find(window, chunk_index) == NULL && chunk_oldest_idle(window) == NULL;
}

uint32_t write_window_failed_version(const struct write_chunk *chunk)
{
    return chunk->failed_count > 0 || chunk->refusals > 0 ? chunk->lease.version : 0;
}

bool write_window_has_room(const struct write_window *window, uint32_t chunk_index)
{
    return window->mutation_count < window->mutation_max &&
           !write_window_crowded(window, chunk_index);
}

enum gfs_err write_window_add(struct write_window *window, struct write_mutation *mutation,
                              uint32_t chunk_index)
{
    if (window->err != GFS_OK)
        return window->err;
    if (!write_window_has_room(window, chunk_index))
        return GFS_ERR_BUSY;
    struct write_chunk *chunk = chunk_find(window, chunk_index);
    if (chunk == NULL)
        chunk = chunk_make(window, chunk_index);
    if (chunk == NULL)
        return GFS_ERR_NO_MEMORY;
    mutation->chunk = chunk;
    mutation->state = WRITE_MUTATION_QUEUED;
    mutation->attempt = 0;
    mutation->wait_until_ms = 0;
    chunk->pending++;
    chunk->used_seq = ++window->seq;
    DL_APPEND(window->mutations, mutation);
    window->mutation_count++;
    return GFS_OK;
}

enum gfs_err write_window_seed(struct write_window *window, uint32_t chunk_index,
                               const struct write_lease *lease)
{
    assert(chunk_find(window, chunk_index) == NULL);
    struct write_chunk *chunk = chunk_make(window, chunk_index);
    if (chunk == NULL)
        return GFS_ERR_NO_MEMORY;
    chunk->lease = *lease;
    chunk->state = WRITE_CHUNK_READY;
    return GFS_OK;
}

/* ---- what to do next ----------------------------------------------------------------------- */

static void wake_at(struct write_window *window, uint64_t when_ms)
{
    if (window->wake_ms == 0 || when_ms < window->wake_ms)
        window->wake_ms = when_ms;
}

static bool mutation_needs_lease(const struct write_mutation *mutation)
{
    return mutation->state == WRITE_MUTATION_QUEUED || mutation->state == WRITE_MUTATION_PUSHED;
}

static bool chunk_next(struct write_window *window, struct write_chunk *chunk, uint64_t now_ms,
                       struct write_effect *ret_effect)
{
    if (chunk->pending == 0)
        return false;
    if (chunk->state == WRITE_CHUNK_READY && now_ms >= chunk->lease.expires_ms) {
        struct write_mutation *mutation;
        DL_FOREACH (window->mutations, mutation)
            if (mutation->chunk == chunk && mutation_needs_lease(mutation))
                chunk->state = WRITE_CHUNK_IDLE;
    }
    if (chunk->state != WRITE_CHUNK_IDLE && chunk->state != WRITE_CHUNK_PROBE)
        return false;
    if (now_ms < chunk->wait_until_ms) {
        wake_at(window, chunk->wait_until_ms);
        return false;
    }
    bool probe = chunk->state == WRITE_CHUNK_PROBE;
    chunk->state = probe ? WRITE_CHUNK_PROBING : WRITE_CHUNK_LEASING;
    ret_effect->kind = probe ? WRITE_EFFECT_PROBE : WRITE_EFFECT_LEASE;
    ret_effect->chunk = chunk;
    ret_effect->mutation = NULL;
    return true;
}

static bool mutation_is_held(const struct write_window *window,
                             const struct write_mutation *mutation)
{
    const struct write_mutation *older;
    for (older = window->mutations; older != mutation; older = older->next)
        if (older->chunk == mutation->chunk &&
            older->offset_bytes < mutation->offset_bytes + mutation->length_bytes &&
            mutation->offset_bytes < older->offset_bytes + older->length_bytes)
            return true;
    return false;
}

static bool mutation_next(struct write_window *window, struct write_mutation *mutation,
                          uint64_t now_ms, struct write_effect *ret_effect)
{
    if (mutation->chunk->state != WRITE_CHUNK_READY || !mutation_needs_lease(mutation))
        return false;
    if (now_ms < mutation->wait_until_ms) {
        wake_at(window, mutation->wait_until_ms);
        return false;
    }
    if (mutation->state == WRITE_MUTATION_PUSHED) {
        mutation->state = WRITE_MUTATION_WRITING;
        ret_effect->kind = WRITE_EFFECT_WRITE;
    } else {
        if (mutation_is_held(window, mutation))
            return false;
        mutation->state = WRITE_MUTATION_PUSHING;
        mutation->attempt++;
        ret_effect->kind = WRITE_EFFECT_PUSH;
    }
    ret_effect->chunk = mutation->chunk;
    ret_effect->mutation = mutation;
    return true;
}

bool write_window_next(struct write_window *window, uint64_t now_ms,
                       struct write_effect *ret_effect)
{
    window->wake_ms = 0;
    if (window->err != GFS_OK)
        return false;
    struct write_chunk *chunk;
    DL_FOREACH (window->chunks, chunk)
        if (chunk_next(window, chunk, now_ms, ret_effect))
            return true;
    struct write_mutation *mutation;
    DL_FOREACH (window->mutations, mutation)
        if (mutation_next(window, mutation, now_ms, ret_effect))
            return true;
    return false;
}

/* ---- failures ------------------------------------------------------------------------------ */

static void window_fail(struct write_window *window, const struct write_chunk *chunk,
                        enum gfs_err err)
{
    if (window->err != GFS_OK)
        return;
    window->err = err;
    window->err_chunk_index = chunk->index;
    window->err_handle = chunk->lease.handle;
}

/* Counts a failure. Returns the time of the next try, or fails the window when the chunk has made
 * no progress for too long. */
static uint64_t chunk_backoff(struct write_window *window, struct write_chunk *chunk,
                              enum gfs_err err, uint32_t hint_ms, struct write_moment at)
{
    chunk->tries++;
    chunk->last_err = err;
    if (chunk->stuck_since_ms == 0)
        chunk->stuck_since_ms = at.now_ms;
    uint64_t next_ms = at.now_ms + retry_backoff_ms(chunk->tries, hint_ms, at.random);
    if (next_ms > chunk->stuck_since_ms + window->timeout_ms)
        window_fail(window, chunk, err);
    return next_ms;
}

static void chunk_blame(struct write_chunk *chunk, uint32_t blamed)
{
    for (uint32_t i = 0; i < chunk->lease.replica_count; i++) {
        if (!(blamed & (1u << i)))
            continue;
        bool known = false;
        for (uint32_t f = 0; f < chunk->failed_count; f++)
            known = known ||
                    memcmp(chunk->failed[f], chunk->lease.replicas[i].server, GFS_UUID_BYTES) == 0;
        if (!known && chunk->failed_count < GFS_GOAL_MAX)
            memcpy(chunk->failed[chunk->failed_count++], chunk->lease.replicas[i].server,
                   GFS_UUID_BYTES);
    }
}

/* The lease is of no use any more: ask for another, the first time at once. */
static void chunk_lost_lease(struct write_window *window, struct write_chunk *chunk,
                             const struct write_result *result, struct write_moment at)
{
    uint64_t next_ms = chunk_backoff(window, chunk, result->err, result->hint_ms, at);
    if (chunk->state == WRITE_CHUNK_LEASING || chunk->state == WRITE_CHUNK_PROBING)
        return; /* an answer is to come: it sees to those blamed */
    chunk->state = WRITE_CHUNK_IDLE;
    chunk->wait_until_ms = chunk->tries > 1 ? next_ms : at.now_ms;
}

static void mutation_requeue(struct write_mutation *mutation)
{
    mutation->state = WRITE_MUTATION_QUEUED;
    mutation->attempt++;
    mutation->wait_until_ms = 0;
}

static void chunk_refused(struct write_window *window, struct write_chunk *chunk,
                          const struct write_result *result, struct write_moment at)
{
    /* Of the writes under way when a lease breaks each is refused: that is one refusal. */
    if (chunk->state == WRITE_CHUNK_READY && ++chunk->refusals >= WRITE_REFUSALS_MAX) {
        chunk->refusals = 0;
        chunk_blame(chunk, 1);
    }
    chunk_lost_lease(window, chunk, result, at);
}

/* A push or write of the current attempt failed; the mutation goes back to `state`. */
static void mutation_failed(struct write_window *window, struct write_mutation *mutation,
                            enum write_mutation_state state, const struct write_result *result,
                            struct write_moment at)
{
    struct write_chunk *chunk = mutation->chunk;
    if (result->blamed != 0) {
        mutation_requeue(mutation);
        chunk_blame(chunk, result->blamed);
        chunk_lost_lease(window, chunk, result, at);
        return;
    }
    switch (result->err) {
    case GFS_ERR_BUSY:
    case GFS_ERR_NO_MEMORY:
        mutation->state = state;
        mutation->wait_until_ms = chunk_backoff(window, chunk, result->err, result->hint_ms, at);
        return;
    case GFS_ERR_NO_DATA:
        mutation_requeue(mutation);
        mutation->wait_until_ms = chunk_backoff(window, chunk, result->err, result->hint_ms, at);
        return;
    case GFS_ERR_NO_LEASE:
    case GFS_ERR_STALE_VERSION:
    case GFS_ERR_NO_CHUNK:
        mutation->state = state;
        chunk_refused(window, chunk, result, at);
        return;
    default:
        break;
    }
    if (gfs_err_class(result->err) == GFS_ERR_CLASS_FINAL) {
        window_fail(window, chunk, result->err);
        return;
    }
    mutation_requeue(mutation);
    uint64_t next_ms = chunk_backoff(window, chunk, result->err, result->hint_ms, at);
    if (chunk->state == WRITE_CHUNK_READY) {
        chunk->state = WRITE_CHUNK_PROBE;
        chunk->wait_until_ms = chunk->tries > 1 ? next_ms : at.now_ms;
    }
}

/* ---- events -------------------------------------------------------------------------------- */

/* Is all that was acknowledged under the old lease in the chunk of the new one? */
static enum gfs_err lease_descends(const struct write_lease *old, const struct write_lease *lease)
{
    bool copied = old->handle != lease->handle;
    if (copied ? old->family == 0 || old->family != lease->family : lease->version < old->version)
        return GFS_ERR_NO_REPLICA;
    if (old->cuts != lease->cuts)
        return GFS_ERR_STALE_VERSION;
    for (uint32_t i = 0; i < old->replica_count; i++)
        for (uint32_t k = 0; k < lease->replica_count; k++)
            if (memcmp(old->replicas[i].server, lease->replicas[k].server, GFS_UUID_BYTES) == 0)
                return GFS_OK;
    return GFS_ERR_NO_REPLICA;
}

void write_window_leased(struct write_window *window, struct write_chunk *chunk,
                         const struct write_lease *lease, struct write_moment at)
{
    assert(chunk->state == WRITE_CHUNK_LEASING);
    enum gfs_err err = chunk->dirty ? lease_descends(&chunk->lease, lease) : GFS_OK;
    if (err != GFS_OK) {
        window_fail(window, chunk, err);
        return;
    }
    bool same = chunk->lease.handle == lease->handle && chunk->lease.version == lease->version;
    chunk->lease = *lease;
    if (same && chunk->failed_count > 0) {
        /* A member was found to have failed while we asked: ask again, without it. */
        chunk->state = WRITE_CHUNK_IDLE;
        chunk->wait_until_ms = chunk_backoff(window, chunk, chunk->last_err, 0, at);
        return;
    }
    chunk->failed_count = 0;
    chunk->state = WRITE_CHUNK_READY;
    if (same)
        return;
    struct write_mutation *mutation;
    DL_FOREACH (window->mutations, mutation)
        if (mutation->chunk == chunk)
            mutation_requeue(mutation);
}

void write_window_lease_failed(struct write_window *window, struct write_chunk *chunk,
                               const struct write_result *result, struct write_moment at)
{
    assert(chunk->state == WRITE_CHUNK_LEASING);
    chunk->state = WRITE_CHUNK_IDLE;
    if (gfs_err_class(result->err) == GFS_ERR_CLASS_FINAL) {
        window_fail(window, chunk, result->err);
        return;
    }
    /* Nobody is left: those that failed may be back when we ask again. */
    if (result->err == GFS_ERR_NO_REPLICA || result->err == GFS_ERR_NO_SERVERS)
        chunk->failed_count = 0;
    chunk->wait_until_ms = chunk_backoff(window, chunk, result->err, result->hint_ms, at);
}

void write_window_probed(struct write_window *window, struct write_chunk *chunk, uint32_t silent,
                         struct write_moment at)
{
    assert(chunk->state == WRITE_CHUNK_PROBING);
    if (silent == 0 && chunk->failed_count == 0 && chunk->tries >= WRITE_PROBES_MAX)
        silent = 1;
    if (silent == 0 && chunk->failed_count == 0) {
        chunk->state = WRITE_CHUNK_READY;
        return;
    }
    chunk_blame(chunk, silent);
    chunk->state = WRITE_CHUNK_IDLE;
    chunk->wait_until_ms = at.now_ms;
}

void write_window_pushed(struct write_window *window, struct write_mutation *mutation,
                         uint32_t attempt, const struct write_result *result,
                         struct write_moment at)
{
    if (attempt != mutation->attempt || mutation->state != WRITE_MUTATION_PUSHING)
        return;
    if (result->err == GFS_OK)
        mutation->state = WRITE_MUTATION_PUSHED;
    else
        mutation_failed(window, mutation, WRITE_MUTATION_QUEUED, result, at);
}

bool write_window_written(struct write_window *window, struct write_mutation *mutation,
                          uint32_t attempt, const struct write_result *result,
                          struct write_moment at)
{
    if (attempt != mutation->attempt || mutation->state != WRITE_MUTATION_WRITING)
        return false;
    if (result->err != GFS_OK) {
        mutation_failed(window, mutation, WRITE_MUTATION_PUSHED, result, at);
        return false;
    }
    struct write_chunk *chunk = mutation->chunk;
    uint32_t end_bytes = mutation->offset_bytes + mutation->length_bytes;
    if (end_bytes > chunk->acked_end_bytes)
        chunk->acked_end_bytes = end_bytes;
    chunk->dirty = true;
    chunk->acks++;
    chunk->tries = 0;
    chunk->refusals = 0;
    chunk->stuck_since_ms = 0;
    chunk->pending--;
    DL_DELETE(window->mutations, mutation);
    window->mutation_count--;
    return true;
}

/* ---- commit -------------------------------------------------------------------------------- */

size_t write_window_commit_list(const struct write_window *window, struct write_commit *ret_list,
                                size_t max)
{
    size_t count = 0;
    const struct write_chunk *chunk;
    DL_FOREACH (window->chunks, chunk) {
        if (!chunk->dirty || chunk->pending > 0 || count == max)
            continue;
        ret_list[count++] = (struct write_commit){
            .index = chunk->index,
            .handle = chunk->lease.handle,
            .version = chunk->lease.version,
            .length_bytes = chunk->acked_end_bytes,
            .acks = chunk->acks,
        };
    }
    return count;
}

void write_window_committed(struct write_window *window, const struct write_commit *list,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct write_chunk *chunk = chunk_find(window, list[i].index);
        if (chunk != NULL && chunk->acks == list[i].acks) {
            chunk->dirty = false;
            /* To commit it again after a truncation would claim bytes that are gone. */
            chunk->acked_end_bytes = 0;
        }
    }
}

enum gfs_err write_window_relocated(struct write_window *window, uint32_t chunk_index,
                                    const struct write_lease *there)
{
    struct write_chunk *chunk = chunk_find(window, chunk_index);
    if (chunk == NULL ||
        (chunk->lease.handle == there->handle && chunk->lease.version == there->version &&
         chunk->lease.cuts == there->cuts))
        return GFS_OK;
    enum gfs_err err = lease_descends(&chunk->lease, there);
    if (err != GFS_OK) {
        window_fail(window, chunk, err);
        return err;
    }
    chunk->lease = *there;
    chunk->lease.expires_ms = 0;
    if (chunk->state == WRITE_CHUNK_READY)
        chunk->state = WRITE_CHUNK_IDLE;
    return GFS_OK;
}
