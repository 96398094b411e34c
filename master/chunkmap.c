#include "master/chunkmap.h"

#include <assert.h>
#include <string.h>

/* Replicas of a chunk that has more than fit inline: goal above 4, or stale ones beside good. */
struct chunk_overflow {
    uint16_t servers[CHUNK_LOCATIONS_MAX];
    uint8_t states[CHUNK_LOCATIONS_MAX];
};

/* Only copied chunks have one: a field would cost every file. */
struct chunk_family_item {
    uint64_t handle;
    uint64_t family;
    uint32_t next; /* the index's */
    uint32_t spare;
};

_Static_assert(sizeof(struct chunk) == 40, "a chunk is 40 bytes: docs say so");

static uint64_t chunkmap_hash(const struct chunkmap *map, uint64_t handle)
{
    return index_mix(handle ^ map->seed);
}

static uint64_t chunkmap_hash_item(const void *arg, const void *item)
{
    return chunkmap_hash(arg, ((const struct chunk *)item)->handle);
}

static uint64_t chunkmap_hash_family(const void *arg, const void *item)
{
    return chunkmap_hash(arg, ((const struct chunk_family_item *)item)->handle);
}

void chunkmap_init(struct chunkmap *map, uint64_t seed)
{
    *map = (struct chunkmap){.seed = seed};
    slab_init(&map->chunks, sizeof(struct chunk));
    slab_init(&map->overflows, sizeof(struct chunk_overflow));
    index_init(&map->by_handle, &map->chunks, offsetof(struct chunk, index_next),
               chunkmap_hash_item, map);
    slab_init(&map->families, sizeof(struct chunk_family_item));
    index_init(&map->family_by_handle, &map->families, offsetof(struct chunk_family_item, next),
               chunkmap_hash_family, map);
}

void chunkmap_release(struct chunkmap *map)
{
    index_release(&map->family_by_handle);
    slab_release(&map->families);
    index_release(&map->by_handle);
    slab_release(&map->overflows);
    slab_release(&map->chunks);
}

struct chunk *chunkmap_at(const struct chunkmap *map, uint32_t ref)
{
    return ref != 0 ? slab_at(&map->chunks, ref) : NULL;
}

static uint32_t chunkmap_find_ref(const struct chunkmap *map, uint64_t handle)
{
    uint32_t ref = index_first(&map->by_handle, chunkmap_hash(map, handle));
    while (ref != 0 && chunkmap_at(map, ref)->handle != handle) {
        ref = index_next(&map->by_handle, ref);
    }
    return ref;
}

uint32_t chunkmap_ref(const struct chunkmap *map, const struct chunk *chunk)
{
    return chunkmap_find_ref(map, chunk->handle);
}

struct chunk *chunkmap_find(const struct chunkmap *map, uint64_t handle)
{
    return chunkmap_at(map, chunkmap_find_ref(map, handle));
}

struct chunk *chunkmap_walk(const struct chunkmap *map, uint32_t *at)
{
    uint32_t ref = slab_next_used(&map->chunks, *at + 1);
    *at = ref != 0 ? ref : map->chunks.next;
    return chunkmap_at(map, ref);
}

enum gfs_err chunkmap_reserve(struct chunkmap *map)
{
    enum gfs_err err = slab_reserve(&map->chunks, 1);
    return err == GFS_OK ? index_reserve(&map->by_handle, 1) : err;
}

enum gfs_err chunkmap_reserve_family(struct chunkmap *map)
{
    enum gfs_err err = slab_reserve(&map->families, 1);
    return err == GFS_OK ? index_reserve(&map->family_by_handle, 1) : err;
}

static uint32_t chunkmap_family_ref(const struct chunkmap *map, const struct chunk *chunk)
{
    uint32_t ref = index_first(&map->family_by_handle, chunkmap_hash(map, chunk->handle));
    for (;;) {
        assert(ref != 0);
        const struct chunk_family_item *item = slab_at(&map->families, ref);
        if (item->handle == chunk->handle) {
            return ref;
        }
        ref = index_next(&map->family_by_handle, ref);
    }
}

uint64_t chunk_family(const struct chunkmap *map, const struct chunk *chunk)
{
    if (!chunk->copied) {
        return chunk->handle;
    }
    const struct chunk_family_item *item = slab_at(&map->families, chunkmap_family_ref(map, chunk));
    return item->family;
}

void chunkmap_set_family(struct chunkmap *map, struct chunk *chunk, uint64_t family)
{
    assert(!chunk->copied && family != chunk->handle);
    uint32_t ref = slab_alloc(&map->families);
    struct chunk_family_item *item = slab_at(&map->families, ref);
    item->handle = chunk->handle;
    item->family = family;
    index_insert(&map->family_by_handle, chunkmap_hash(map, chunk->handle), ref);
    chunk->copied = 1;
}

static void chunkmap_drop_family(struct chunkmap *map, struct chunk *chunk)
{
    if (chunk->copied) {
        uint32_t ref = chunkmap_family_ref(map, chunk);
        index_remove(&map->family_by_handle, chunkmap_hash(map, chunk->handle), ref);
        slab_free(&map->families, ref);
        chunk->copied = 0;
    }
}

struct chunk *chunkmap_add(struct chunkmap *map, uint64_t handle)
{
    uint32_t ref = slab_alloc(&map->chunks);
    struct chunk *chunk = chunkmap_at(map, ref);
    chunk->handle = handle;
    index_insert(&map->by_handle, chunkmap_hash(map, handle), ref);
    return chunk;
}

void chunkmap_hold(struct chunkmap *map, struct chunk *chunk, uint32_t owner)
{
    assert(chunk->references < CHUNK_REFERENCES_MAX);
    if (chunk->references++ == 0) {
        map->live_count++;
    }
    if (chunk->references == 1) {
        chunk->owner = owner;
    }
}

bool chunkmap_let_go(struct chunkmap *map, struct chunk *chunk, uint32_t owner, int64_t now_ms)
{
    assert(chunk->references > 0);
    chunk->references--;
    if (chunk->references > 0) {
        if (chunk->owner == owner) {
            /* What it had written and not committed is none of those that are left. */
            chunk->owner = 0;
            chunk->truncating = 1;
        }
        return false;
    }
    uint32_t ref = chunkmap_ref(map, chunk);
    chunk->released_s = (uint32_t)(now_ms / 1000);
    chunk->owner = 0;
    if (map->released_last != 0) {
        chunkmap_at(map, map->released_last)->owner = ref;
    } else {
        map->released_first = ref;
    }
    map->released_last = ref;
    map->live_count--;
    map->released_count++;
    return true;
}

struct chunk *chunkmap_released_first(const struct chunkmap *map)
{
    return chunkmap_at(map, map->released_first);
}

void chunkmap_drop(struct chunkmap *map, struct chunk *chunk)
{
    uint32_t ref = map->released_first;
    assert(ref != 0 && chunkmap_at(map, ref) == chunk);
    map->released_first = chunk->owner;
    if (map->released_first == 0) {
        map->released_last = 0;
    }
    map->released_count--;
    chunk_clear_locations(map, chunk);
    chunkmap_drop_family(map, chunk);
    index_remove(&map->by_handle, chunkmap_hash(map, chunk->handle), ref);
    slab_free(&map->chunks, ref);
}

uint64_t chunkmap_memory_bytes(const struct chunkmap *map)
{
    return slab_memory_bytes(&map->chunks) + slab_memory_bytes(&map->overflows) +
           index_memory_bytes(&map->by_handle) + slab_memory_bytes(&map->families) +
           index_memory_bytes(&map->family_by_handle);
}

/* ---- locations ----------------------------------------------------------------------------- */
static struct chunk_overflow *chunk_overflow(const struct chunkmap *map, const struct chunk *chunk)
{
    return chunk->location_count > CHUNK_INLINE_LOCATIONS
               ? slab_at(&map->overflows, chunk->overflow)
               : NULL;
}

struct chunk_location chunk_location(const struct chunkmap *map, const struct chunk *chunk,
                                     uint32_t i)
{
    assert(i < chunk->location_count);
    const struct chunk_overflow *over = chunk_overflow(map, chunk);
    if (over != NULL) {
        return (struct chunk_location){over->servers[i], over->states[i]};
    }
    return (struct chunk_location){chunk->inline_servers[i], chunk->inline_states >> (2 * i) & 3};
}

static void chunk_location_set(struct chunkmap *map, struct chunk *chunk, uint32_t i,
                               struct chunk_location location)
{
    struct chunk_overflow *over = chunk_overflow(map, chunk);
    if (over != NULL) {
        over->servers[i] = location.server;
        over->states[i] = (uint8_t)location.state;
        return;
    }
    chunk->inline_servers[i] = location.server;
    chunk->inline_states =
        (uint8_t)((chunk->inline_states & ~(3u << (2 * i))) | (unsigned)location.state << (2 * i));
}

static uint32_t chunk_location_at(const struct chunkmap *map, const struct chunk *chunk,
                                  uint16_t server)
{
    uint32_t i = 0;
    while (i < chunk->location_count && chunk_location(map, chunk, i).server != server) {
        i++;
    }
    return i;
}

/* Moves the inline locations out, into an overflow item that has been reserved. */
static void chunk_spill(struct chunkmap *map, struct chunk *chunk)
{
    uint32_t ref = slab_alloc(&map->overflows);
    struct chunk_overflow *over = slab_at(&map->overflows, ref);
    for (uint32_t i = 0; i < CHUNK_INLINE_LOCATIONS; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        over->servers[i] = location.server;
        over->states[i] = (uint8_t)location.state;
    }
    chunk->overflow = ref;
}

enum gfs_err chunk_add_location(struct chunkmap *map, struct chunk *chunk, uint16_t server,
                                enum chunk_location_state state)
{
    uint32_t i = chunk_location_at(map, chunk, server);
    if (i == chunk->location_count) {
        if (i == CHUNK_LOCATIONS_MAX) {
            return GFS_ERR_BUSY;
        }
        if (i == CHUNK_INLINE_LOCATIONS) {
            enum gfs_err err = slab_reserve(&map->overflows, 1);
            if (err != GFS_OK) {
                return err;
            }
            chunk_spill(map, chunk);
        }
        chunk->location_count++;
    }
    chunk_location_set(map, chunk, i, (struct chunk_location){server, state});
    return GFS_OK;
}

/* Back inline, when one more than fits there is about to become as many as fit. */
static void chunk_unspill(struct chunkmap *map, struct chunk *chunk)
{
    uint32_t ref = chunk->overflow;
    const struct chunk_overflow *over = slab_at(&map->overflows, ref);
    chunk->location_count = CHUNK_INLINE_LOCATIONS;
    for (uint32_t i = 0; i < CHUNK_INLINE_LOCATIONS; i++) {
        chunk_location_set(map, chunk, i,
                           (struct chunk_location){over->servers[i], over->states[i]});
    }
    slab_free(&map->overflows, ref);
}

bool chunk_remove_location(struct chunkmap *map, struct chunk *chunk, uint16_t server)
{
    uint32_t i = chunk_location_at(map, chunk, server);
    if (i == chunk->location_count) {
        return false;
    }
    uint32_t last = chunk->location_count - 1u;
    chunk_location_set(map, chunk, i, chunk_location(map, chunk, last));
    if (last == CHUNK_INLINE_LOCATIONS) {
        chunk_unspill(map, chunk);
    } else {
        chunk->location_count--;
    }
    return true;
}

void chunk_clear_locations(struct chunkmap *map, struct chunk *chunk)
{
    if (chunk->location_count > CHUNK_INLINE_LOCATIONS) {
        slab_free(&map->overflows, chunk->overflow);
    }
    chunk->location_count = 0;
    chunk->inline_states = 0;
}

bool chunk_find_location(const struct chunkmap *map, const struct chunk *chunk, uint16_t server,
                         enum chunk_location_state *ret_state)
{
    uint32_t i = chunk_location_at(map, chunk, server);
    if (i == chunk->location_count) {
        return false;
    }
    *ret_state = chunk_location(map, chunk, i).state;
    return true;
}

uint32_t chunk_count_locations(const struct chunkmap *map, const struct chunk *chunk,
                               enum chunk_location_state state)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        count += chunk_location(map, chunk, i).state == state;
    }
    return count;
}
