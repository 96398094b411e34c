#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "master/lease_impl.h"

enum gfs_err lease_table_new(const struct lease_options *options, struct lease_table **ret_table)
{
    struct lease_table *table = calloc(1, sizeof(*table));
    if (table == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    table->options = *options;
    *ret_table = table;
    return GFS_OK;
}

void lease_table_free(struct lease_table *table)
{
    if (table == NULL) {
        return;
    }
    struct lease *lease, *tmp;
    HASH_ITER (hh, table->by_handle, lease, tmp) {
        HASH_DEL(table->by_handle, lease);
        free(lease);
    }
    free(table->effects);
    free(table);
}

/* ---- effects ------------------------------------------------------------------------------- */

bool lease_next_effect(struct lease_table *table, struct lease_effect *ret_effect)
{
    if (table->effect_count == 0) {
        return false;
    }
    *ret_effect = table->effects[table->effect_first];
    table->effect_first = (table->effect_first + 1) % table->effect_cap;
    table->effect_count--;
    return true;
}

static enum gfs_err reserve_effects(struct lease_table *table, size_t more)
{
    size_t need = table->effect_count + more;
    if (need <= table->effect_cap) {
        return GFS_OK;
    }
    size_t cap = table->effect_cap == 0 ? 64 : table->effect_cap;
    while (cap < need) {
        cap *= 2;
    }
    struct lease_effect *effects = malloc(cap * sizeof(*effects));
    if (effects == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < table->effect_count; i++) {
        effects[i] = table->effects[(table->effect_first + i) % table->effect_cap];
    }
    free(table->effects);
    table->effects = effects;
    table->effect_first = 0;
    table->effect_cap = cap;
    return GFS_OK;
}

struct lease_effect *lease_push_effect(struct lease_table *table, const struct lease *lease,
                                       enum lease_effect_kind kind)
{
    /* Out of memory with effects owed: nothing sane is left to do. */
    enum gfs_err err = reserve_effects(table, 1);
    if (err != GFS_OK) {
        abort();
    }
    size_t at = (table->effect_first + table->effect_count++) % table->effect_cap;
    struct lease_effect *effect = &table->effects[at];
    memset(effect, 0, sizeof(*effect));
    effect->kind = kind;
    effect->grant.handle = lease->handle;
    effect->grant.version = lease->version;
    effect->grant.count = lease->count;
    memcpy(effect->grant.members, lease->members, sizeof(lease->members));
    effect->grant.remaining_ms = table->options.lease_ms;
    return effect;
}

/* ---- the table ----------------------------------------------------------------------------- */

struct lease *lease_find(const struct lease_table *table, uint64_t handle)
{
    struct lease *lease;
    HASH_FIND(hh, table->by_handle, &handle, sizeof(handle), lease);
    return lease;
}

struct lease *lease_find_or_add(struct lease_table *table, uint64_t handle)
{
    struct lease *lease = lease_find(table, handle);
    if (lease != NULL) {
        return lease;
    }
    if (HASH_COUNT(table->by_handle) >= LEASE_TABLE_MAX) {
        return NULL;
    }
    lease = calloc(1, sizeof(*lease));
    if (lease != NULL) {
        lease->handle = handle;
        HASH_ADD(hh, table->by_handle, handle, sizeof(handle), lease);
    }
    return lease;
}

void lease_leave_granted(struct lease_table *table, struct lease *lease)
{
    if (lease->state == LEASE_GRANTED) {
        DL_DELETE(table->granted, lease);
        lease->state = LEASE_IDLE;
    }
}

void lease_forget(struct lease_table *table, struct lease *lease)
{
    assert(lease->waiters == NULL && lease->cut_waiter == NULL);
    lease_leave_granted(table, lease);
    HASH_DEL(table->by_handle, lease);
    free(lease);
}

bool lease_moving(const struct lease *lease)
{
    return lease->state != LEASE_IDLE && lease->state != LEASE_GRANTED;
}

void lease_add_waiter(struct lease_table *table, struct lease *lease, struct lease_waiter *waiter)
{
    if (waiter != NULL) {
        LL_PREPEND(lease->waiters, waiter);
        lease->waiter_count++;
        table->waiter_count++;
    }
}

void lease_answer_cut(struct lease_table *table, struct lease *lease, enum gfs_err err)
{
    if (lease->cut_waiter != NULL) {
        struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_ANSWER);
        effect->err = err;
        effect->waiter = lease->cut_waiter;
        lease->cut_waiter = NULL;
        table->waiter_count--;
    }
}

void lease_answer_all(struct lease_table *table, struct lease *lease, enum gfs_err err)
{
    lease_answer_cut(table, lease, err);
    struct lease_waiter *waiter, *tmp;
    LL_FOREACH_SAFE (lease->waiters, waiter, tmp) {
        struct lease_effect *effect = lease_push_effect(table, lease, LEASE_EFFECT_ANSWER);
        effect->err = err;
        effect->waiter = waiter;
        table->waiter_count--;
    }
    lease->waiters = NULL;
    lease->waiter_count = 0;
    if (err == GFS_OK) {
        lease->told = true;
    }
}

/* ---- the rest ------------------------------------------------------------------------------ */

bool lease_extend(struct lease_table *table, uint64_t handle, uint16_t slot, uint64_t now_ms)
{
    struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_GRANTED || lease->members[0] != slot) {
        return false;
    }
    lease->expires_ms = now_ms + table->options.lease_ms;
    DL_DELETE(table->granted, lease);
    DL_APPEND(table->granted, lease);
    return true;
}

void lease_server_down(struct lease_table *table, uint16_t slot)
{
    struct lease *lease, *tmp;
    DL_FOREACH_SAFE (table->granted, lease, tmp) {
        if (lease->members[0] == slot) {
            lease_forget(table, lease);
        }
    }
}

void lease_drop(struct lease_table *table, uint64_t handle, enum gfs_err err)
{
    struct lease *lease = lease_find(table, handle);
    if (lease != NULL) {
        lease_answer_all(table, lease, err);
        lease_forget(table, lease);
    }
}

void lease_drop_all(struct lease_table *table, enum gfs_err err)
{
    struct lease *lease, *tmp;
    HASH_ITER (hh, table->by_handle, lease, tmp) {
        lease_answer_all(table, lease, err);
        lease_forget(table, lease);
    }
}

void lease_tick(struct lease_table *table, uint64_t now_ms)
{
    while (table->granted != NULL &&
           now_ms >= table->granted->expires_ms + table->options.lease_ms) {
        lease_forget(table, table->granted);
    }
}

bool lease_is_moving(const struct lease_table *table, uint64_t handle)
{
    const struct lease *lease = lease_find(table, handle);
    return lease != NULL && lease_moving(lease);
}

bool lease_is_live(const struct lease_table *table, uint64_t handle)
{
    const struct lease *lease = lease_find(table, handle);
    return lease != NULL && lease->state != LEASE_IDLE;
}

bool lease_holder(const struct lease_table *table, uint64_t handle, uint32_t *ret_version,
                  uint16_t *ret_slot)
{
    const struct lease *lease = lease_find(table, handle);
    if (lease == NULL || lease->state != LEASE_GRANTED) {
        return false;
    }
    *ret_version = lease->version;
    *ret_slot = lease->members[0];
    return true;
}

bool lease_is_known(const struct lease_table *table, uint64_t handle)
{
    return lease_find(table, handle) != NULL;
}

bool lease_epoch_wanted(const struct lease_table *table)
{
    return table->epoch_wanted;
}

void lease_set_epoch(struct lease_table *table, uint32_t epoch)
{
    assert(epoch >= table->options.epoch);
    table->options.epoch = epoch;
    table->epoch_wanted = false;
}

size_t lease_count(const struct lease_table *table)
{
    return HASH_COUNT(table->by_handle);
}
