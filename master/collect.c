#include "master/collect.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "master/registry.h"

/* A chunkserver's full report may take this many quarantines to come round. */
#define FORGET_FACTOR 100u

struct suspect_key {
    uint64_t handle;
    uint64_t slot; /* wide, so that the key has no padding */
};

struct suspect {
    struct suspect_key key;
    uint64_t first_ms;
    UT_hash_handle hh;
};

struct due {
    uint64_t *handles; /* the first `out` of them are with the server */
    size_t count, cap, out;
};

struct collect {
    uint64_t quarantine_ms;
    struct suspect *suspects; /* in order of first_ms */
    struct due due[REGISTRY_SERVERS_MAX];
};

enum gfs_err collect_new(uint64_t quarantine_ms, struct collect **ret_collect)
{
    struct collect *collect = calloc(1, sizeof(*collect));
    if (collect == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    collect->quarantine_ms = quarantine_ms;
    *ret_collect = collect;
    return GFS_OK;
}

static void drop_suspect(struct collect *collect, struct suspect *suspect)
{
    HASH_DEL(collect->suspects, suspect);
    free(suspect);
}

void collect_free(struct collect *collect)
{
    if (collect == NULL) {
        return;
    }
    while (collect->suspects != NULL) {
        drop_suspect(collect, collect->suspects);
    }
    for (size_t i = 0; i < REGISTRY_SERVERS_MAX; i++) {
        free(collect->due[i].handles);
    }
    free(collect);
}

void collect_unknown(struct collect *collect, uint16_t slot, uint64_t handle, uint64_t now_ms)
{
    struct suspect_key key = {.handle = handle, .slot = slot};
    struct suspect *suspect;
    HASH_FIND(hh, collect->suspects, &key, sizeof(key), suspect);
    if (suspect != NULL) {
        if (now_ms - suspect->first_ms >= collect->quarantine_ms &&
            collect_add(collect, slot, handle) == GFS_OK) {
            drop_suspect(collect, suspect);
        }
        return;
    }
    if (HASH_COUNT(collect->suspects) >= COLLECT_QUARANTINE_MAX) {
        return;
    }
    suspect = calloc(1, sizeof(*suspect));
    if (suspect != NULL) {
        suspect->key = key;
        suspect->first_ms = now_ms;
        HASH_ADD(hh, collect->suspects, key, sizeof(suspect->key), suspect);
    }
}

enum gfs_err collect_add(struct collect *collect, uint16_t slot, uint64_t handle)
{
    assert(slot < REGISTRY_SERVERS_MAX);
    struct due *due = &collect->due[slot];
    if (due->count >= COLLECT_DUE_MAX) {
        return GFS_ERR_BUSY;
    }
    if (due->count == due->cap) {
        size_t cap = due->cap == 0 ? 64 : due->cap * 2;
        uint64_t *handles = realloc(due->handles, cap * sizeof(*handles));
        if (handles == NULL) {
            return GFS_ERR_BUSY;
        }
        due->handles = handles;
        due->cap = cap;
    }
    due->handles[due->count++] = handle;
    return GFS_OK;
}

size_t collect_take(struct collect *collect, uint16_t slot, uint64_t ret_handles[COLLECT_BATCH_MAX])
{
    assert(slot < REGISTRY_SERVERS_MAX);
    struct due *due = &collect->due[slot];
    if (due->out > 0) {
        return 0;
    }
    due->out = due->count < COLLECT_BATCH_MAX ? due->count : COLLECT_BATCH_MAX;
    if (due->out > 0) {
        memcpy(ret_handles, due->handles, due->out * sizeof(ret_handles[0]));
    }
    return due->out;
}

void collect_done(struct collect *collect, uint16_t slot, bool deleted)
{
    assert(slot < REGISTRY_SERVERS_MAX);
    struct due *due = &collect->due[slot];
    if (deleted && due->out > 0) {
        due->count -= due->out;
        memmove(due->handles, due->handles + due->out, due->count * sizeof(due->handles[0]));
    }
    due->out = 0;
}

void collect_server_down(struct collect *collect, uint16_t slot)
{
    assert(slot < REGISTRY_SERVERS_MAX);
    struct due *due = &collect->due[slot];
    free(due->handles);
    memset(due, 0, sizeof(*due));
}

void collect_tick(struct collect *collect, uint64_t now_ms)
{
    /* uthash keeps the order of insertion: the first is the oldest. */
    while (collect->suspects != NULL &&
           now_ms - collect->suspects->first_ms > FORGET_FACTOR * collect->quarantine_ms) {
        drop_suspect(collect, collect->suspects);
    }
}

size_t collect_due_count(const struct collect *collect, uint16_t slot)
{
    return collect->due[slot].count;
}

size_t collect_quarantined(const struct collect *collect)
{
    return HASH_COUNT(collect->suspects);
}
