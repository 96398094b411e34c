#include <assert.h>
#include <string.h>
#include <utlist.h>

#include "master/lease_impl.h"

/* ---- rounds -------------------------------------------------------------------------------- */

static void fail_round(struct lease_table *table, struct lease *lease, enum gfs_err err)
{
    lease->state = LEASE_IDLE;
    lease_answer_all(table, lease, err);
}

/* A number never asked for before; false when this epoch has none left for the chunk. */
static bool take_version(struct lease_table *table, struct lease *lease)
{
    uint32_t last = lease->tried > lease->from_version ? lease->tried : lease->from_version;
    uint32_t base = table->options.epoch << LEASE_EPOCH_SHIFT;
    uint32_t version = last < base ? base : last + 1;
    if (last == UINT32_MAX || version >> LEASE_EPOCH_SHIFT > table->options.epoch) {
        table->epoch_wanted = true;
        return false;
    }
    lease->version = version;
    lease->tried = version;
    return true;
}

/* Asks lease->members for a new version. */
static void start_raise(struct lease_table *table, struct lease *lease)
{
    if (lease->count == 0) {
        fail_round(table, lease, GFS_ERR_NO_REPLICA);
        return;
    }
    if (lease->rounds++ >= LEASE_ROUNDS_MAX || !take_version(table, lease)) {
        fail_round(table, lease, GFS_ERR_BUSY);
        return;
    }
    lease->state = LEASE_RAISING;
    lease->fresh = false;
    lease->durable = false;
    for (uint8_t i = 0; i < lease->count; i++) {
        lease->answers[i] = ANSWER_PENDING;
        struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_SET_VERSION);
        effect->slot = lease->members[i];
        effect->from_version = lease->from_version;
        effect->create = lease->length_bytes == 0;
        effect->cut = lease->cut;
        effect->length_bytes = lease->length_bytes;
    }
}

static void start_grant(struct lease_table *table, struct lease *lease)
{
    lease->state = LEASE_GRANTING;
    lease->acked = false;
    struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_GRANT);
    effect->slot = lease->members[0];
    effect->fresh = lease->fresh;
}

static void keep_members(struct lease *lease, enum lease_reply wanted)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < lease->count; i++) {
        if (lease->answers[i] == wanted) {
            lease->members[kept] = lease->members[i];
            lease->serials[kept] = lease->serials[i];
            lease->lengths[kept] = lease->lengths[i];
            lease->bad[kept++] = lease->bad[i];
        }
    }
    lease->count = kept;
}

static bool has_answer(const struct lease *lease, enum lease_reply wanted)
{
    for (uint8_t i = 0; i < lease->count; i++) {
        if (lease->answers[i] == wanted) {
            return true;
        }
    }
    return false;
}

static uint32_t members_needed(const struct lease_table *table, const struct lease *lease)
{
    uint32_t needed = table->options.min_replicas;
    if (lease->goal > 0 && lease->goal < needed) {
        needed = lease->goal;
    }
    return needed > 0 ? needed : 1;
}

static void start_write(struct lease_table *table, struct lease *lease)
{
    lease->state = LEASE_WRITING;
    struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_JOURNAL);
    effect->cut = lease->cut;
}

/* The most advanced good member; -1: none is good. */
static int find_source(const struct lease *lease)
{
    int best = -1;
    for (uint8_t i = 0; i < lease->count; i++) {
        if (lease->bad[i]) {
            continue;
        }
        if (best < 0 || lease->serials[i] > lease->serials[best] ||
            (lease->serials[i] == lease->serials[best] &&
             lease->lengths[i] > lease->lengths[best])) {
            best = i;
        }
    }
    return best;
}

/* All members have the version. Those that do not have the bytes get them. */
static void start_reconcile(struct lease_table *table, struct lease *lease)
{
    int source = find_source(lease);
    if (source < 0) {
        fail_round(table, lease, GFS_ERR_NO_REPLICA);
        return;
    }
    bool any = false;
    for (uint8_t i = 0; i < lease->count; i++) {
        bool same = !lease->bad[i] && lease->serials[i] == lease->serials[source] &&
                    lease->lengths[i] == lease->lengths[source];
        lease->answers[i] = same ? ANSWER_YES : ANSWER_PENDING;
        if (same) {
            continue;
        }
        any = true;
        struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_SYNC);
        effect->slot = lease->members[i];
        effect->source = lease->members[source];
    }
    if (any) {
        lease->state = LEASE_RECONCILING;
    } else {
        start_write(table, lease);
    }
}

/* Every member's answer is in: who is left, and is that enough? */
static bool close_round(struct lease_table *table, struct lease *lease)
{
    bool unclear = has_answer(lease, ANSWER_UNCLEAR);
    keep_members(lease, ANSWER_YES);
    if (lease->count < members_needed(table, lease)) {
        fail_round(table, lease, GFS_ERR_NO_REPLICA);
        return false;
    }
    if (unclear) {
        start_raise(table, lease);
        return false;
    }
    return true;
}

static void end_raise(struct lease_table *table, struct lease *lease)
{
    if (has_answer(lease, ANSWER_BUSY)) {
        /* A good replica that is only busy now: better to try later than to go on without it. */
        fail_round(table, lease, GFS_ERR_BUSY);
        return;
    }
    if (close_round(table, lease)) {
        start_reconcile(table, lease);
    }
}

void lease_synced(struct lease_table *table, uint64_t handle, uint32_t version, uint16_t slot,
                  enum gfs_err err)
{
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_RECONCILING || lease->version != version) {
        return;
    }
    for (uint8_t i = 0; i < lease->count; i++) {
        if (lease->members[i] == slot && lease->answers[i] == ANSWER_PENDING) {
            /* It has the version, and not the bytes. */
            lease->answers[i] = err == GFS_OK ? ANSWER_YES : ANSWER_UNCLEAR;
            lease->bad[i] = err != GFS_OK;
        }
    }
    if (!has_answer(lease, ANSWER_PENDING) && close_round(table, lease)) {
        start_write(table, lease);
    }
}

/* Did the server surely not take the version? Not NO_SPACE: what a commit that failed has left in
 * the log may be found there by the next start. */
static bool is_refusal(enum gfs_err err)
{
    switch (err) {
    case GFS_ERR_NO_CHUNK:
    case GFS_ERR_STALE_VERSION:
    case GFS_ERR_CORRUPT:
    case GFS_ERR_SHORT:
    case GFS_ERR_READ_ONLY:
    case GFS_ERR_INVAL:
        return true;
    default:
        return false;
    }
}

static enum lease_reply reply_of(const struct lease *lease, const struct lease_answer *answer)
{
    if (answer->err == GFS_OK) {
        /* A short one holds the version without the bytes: it must not be taken for good. */
        bool whole = answer->corrupt || answer->length_bytes >= lease->length_bytes;
        return whole ? ANSWER_YES : ANSWER_UNCLEAR;
    }
    if (answer->err == GFS_ERR_BUSY) {
        return ANSWER_BUSY;
    }
    return is_refusal(answer->err) ? ANSWER_NO : ANSWER_UNCLEAR;
}

void lease_raised(struct lease_table *table, uint64_t handle, uint32_t version, uint16_t slot,
                  const struct lease_answer *answer)
{
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_RAISING || lease->version != version) {
        return;
    }
    for (uint8_t i = 0; i < lease->count; i++) {
        if (lease->members[i] != slot || lease->answers[i] != ANSWER_PENDING) {
            continue;
        }
        lease->answers[i] = reply_of(lease, answer);
        lease->serials[i] = answer->serial;
        lease->lengths[i] = answer->length_bytes;
        lease->bad[i] = lease->bad[i] || answer->corrupt;
    }
    if (!has_answer(lease, ANSWER_PENDING)) {
        end_raise(table, lease);
    }
}

static void grant_done(struct lease_table *table, struct lease *lease, uint64_t now_ms)
{
    lease->state = LEASE_GRANTED;
    lease->rounds = 0;
    lease->expires_ms = now_ms + table->options.lease_ms;
    DL_APPEND(table->granted, lease);
    lease_answer_all(table, lease, GFS_OK);
}

void lease_durable(struct lease_table *table, uint64_t handle, uint32_t version, uint64_t now_ms)
{
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->version != version) {
        return;
    }
    lease->durable = true;
    if (lease->state == LEASE_GRANTING) {
        if (lease->acked) {
            grant_done(table, lease, now_ms);
        }
        return;
    }
    if (lease->state != LEASE_WRITING) {
        return;
    }
    bool ends_here = lease->cut_waiter != NULL || lease->settle;
    lease->cut = false;
    lease->settle = false;
    lease_answer_cut(table, lease, GFS_OK);
    if (ends_here && lease->waiters == NULL) {
        lease_forget(table, lease);
        return;
    }
    start_grant(table, lease);
}

/* The primary may hold the grant or not: nobody was told, so the next round goes without it. */
static void grant_failed(struct lease_table *table, struct lease *lease)
{
    uint16_t primary = lease->members[0];
    bool untouched = lease->fresh && !lease->told;
    lease->count--;
    memmove(lease->members, lease->members + 1, lease->count * sizeof(lease->members[0]));
    memset(lease->bad, 0, sizeof(lease->bad)); /* the others were good, or made good */
    if (!untouched) {
        lease->from_version = lease->version;
        start_raise(table, lease);
        return;
    }
    if (lease->rounds++ >= LEASE_ROUNDS_MAX) {
        fail_round(table, lease, GFS_ERR_NO_SERVERS);
        return;
    }
    struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_PLACE);
    effect->slot = primary;
}

void lease_acked(struct lease_table *table, uint64_t handle, uint32_t version, enum gfs_err err,
                 uint64_t now_ms)
{
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_GRANTING || lease->version != version ||
        lease->acked) {
        return;
    }
    if (err != GFS_OK) {
        grant_failed(table, lease);
        return;
    }
    lease->acked = true;
    if (lease->durable) {
        grant_done(table, lease, now_ms);
    }
}

void lease_placed(struct lease_table *table, uint64_t handle, const uint16_t *members,
                  uint8_t count)
{
    assert(count <= GFS_GOAL_MAX);
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_GRANTING || lease->told) {
        return;
    }
    if (count == 0) {
        fail_round(table, lease, GFS_ERR_NO_SERVERS);
        return;
    }
    /* Only version 1 comes to be with its first write: here the replicas are made by the raise. */
    lease->from_version = lease->version;
    lease->count = count;
    memcpy(lease->members, members, count * sizeof(members[0]));
    start_raise(table, lease);
}

/* ---- asking -------------------------------------------------------------------------------- */

enum gfs_err lease_fresh(struct lease_table *table, uint64_t handle, const uint16_t *members,
                         uint8_t count, struct lease_waiter *waiter)
{
    assert(count > 0 && count <= GFS_GOAL_MAX && lease_find(table, handle) == NULL);
    if (table->waiter_count >= table->options.waiters_max) {
        return GFS_ERR_BUSY;
    }
    struct lease *lease = lease_find_or_add(table, handle);
    if (lease == NULL) {
        return GFS_ERR_BUSY;
    }
    lease->version = LEASE_VERSION_FIRST;
    lease->tried = LEASE_VERSION_FIRST;
    lease->fresh = true;
    lease->count = count;
    memcpy(lease->members, members, count * sizeof(members[0]));
    lease_add_waiter(table, lease, waiter);
    start_grant(table, lease);
    return GFS_OK;
}

/* Is the lease that is out good enough for this caller? */
static bool is_usable(const struct lease_table *table, const struct lease *lease,
                      const struct lease_chunk *chunk, uint32_t failed_version, uint64_t now_ms)
{
    if (lease->state != LEASE_GRANTED || lease->version != chunk->version || chunk->cut ||
        failed_version == lease->version || now_ms >= lease->expires_ms) {
        return false;
    }
    return lease->expires_ms - now_ms >= table->options.lease_ms / 4;
}

static void answer_now(struct lease_table *table, const struct lease *lease,
                       struct lease_waiter *waiter, uint64_t now_ms)
{
    struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_ANSWER);
    effect->waiter = waiter;
    effect->grant.remaining_ms = (uint32_t)(lease->expires_ms - now_ms);
}

static void set_round(struct lease *lease, const struct lease_chunk *chunk)
{
    lease->from_version = chunk->version;
    lease->length_bytes = chunk->length_bytes;
    lease->cut = chunk->cut;
    lease->rounds = 0;
    lease->count = chunk->count;
    memcpy(lease->members, chunk->replicas, chunk->count * sizeof(chunk->replicas[0]));
    for (uint8_t i = 0; i < chunk->count; i++) {
        lease->bad[i] = (chunk->bad & 1u << i) != 0;
    }
    lease->goal = chunk->goal;
    lease->settle = false;
}

/* Of no use to raise the version at what is left. */
static bool is_too_few(const struct lease_table *table, const struct lease_chunk *chunk)
{
    uint32_t needed = table->options.min_replicas;
    if (chunk->goal > 0 && chunk->goal < needed) {
        needed = chunk->goal;
    }
    return chunk->count == 0 || chunk->count < needed;
}

static bool too_many(const struct lease_table *table, const struct lease *lease)
{
    return table->waiter_count >= table->options.waiters_max ||
           lease->waiter_count >= LEASE_CHUNK_WAITERS_MAX;
}

enum gfs_err lease_ask(struct lease_table *table, const struct lease_chunk *chunk,
                       uint32_t failed_version, struct lease_waiter *waiter, uint64_t now_ms)
{
    assert(chunk->count <= GFS_GOAL_MAX);
    struct lease *lease = lease_find(table, chunk->handle);
    if (lease != NULL && is_usable(table, lease, chunk, failed_version, now_ms)) {
        answer_now(table, lease, waiter, now_ms);
        return GFS_OK;
    }
    if ((lease == NULL || !lease_moving(lease)) && is_too_few(table, chunk)) {
        return GFS_ERR_NO_REPLICA;
    }
    lease = lease_find_or_add(table, chunk->handle);
    if (lease == NULL || too_many(table, lease)) {
        return GFS_ERR_BUSY;
    }
    bool was_moving = lease_moving(lease);
    lease_add_waiter(table, lease, waiter);
    if (was_moving) {
        return GFS_OK;
    }
    lease_leave_granted(table, lease);
    set_round(lease, chunk);
    start_raise(table, lease);
    return GFS_OK;
}

enum gfs_err lease_cut(struct lease_table *table, const struct lease_chunk *chunk,
                       struct lease_waiter *waiter)
{
    if (is_too_few(table, chunk)) {
        return GFS_ERR_NO_REPLICA;
    }
    struct lease *lease = lease_find_or_add(table, chunk->handle);
    if (lease == NULL || lease_moving(lease) || too_many(table, lease)) {
        return GFS_ERR_BUSY;
    }
    lease_leave_granted(table, lease);
    set_round(lease, chunk);
    lease->cut = true;
    lease->cut_waiter = waiter;
    table->waiter_count++;
    start_raise(table, lease);
    return GFS_OK;
}

enum gfs_err lease_settle(struct lease_table *table, const struct lease_chunk *chunk,
                          struct lease_waiter *waiter)
{
    if (is_too_few(table, chunk)) {
        return GFS_ERR_NO_REPLICA;
    }
    struct lease *lease = lease_find_or_add(table, chunk->handle);
    if (lease == NULL || lease_moving(lease) || too_many(table, lease)) {
        return GFS_ERR_BUSY;
    }
    lease_leave_granted(table, lease);
    set_round(lease, chunk);
    lease->settle = true;
    lease->cut_waiter = waiter;
    table->waiter_count += waiter != NULL;
    start_raise(table, lease);
    return GFS_OK;
}
