#include "location.h"

#include <stdlib.h>

struct location *location_new(uint32_t replica_count)
{
    struct location *location =
        calloc(1, sizeof(*location) + replica_count * sizeof(location->replicas[0]));
    if (location == NULL)
        return NULL;
    location->refs = 1;
    location->replica_count = replica_count;
    return location;
}

struct location *location_ref(struct location *location)
{
    __atomic_add_fetch(&location->refs, 1, __ATOMIC_RELAXED);
    return location;
}

void location_unref(struct location *take_location)
{
    if (take_location != NULL && __atomic_sub_fetch(&take_location->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(take_location);
}

void location_cache_release(struct location_cache *cache)
{
    for (size_t i = 0; i < LOCATION_SLOTS; i++) {
        location_unref(cache->slots[i]);
        cache->slots[i] = NULL;
    }
}

void location_cache_put(struct location_cache *cache, struct location *take_location)
{
    struct location **slot = &cache->slots[take_location->index % LOCATION_SLOTS];
    location_unref(*slot);
    *slot = take_location;
}

struct location *location_cache_get(struct location_cache *cache, uint32_t index)
{
    struct location *location = cache->slots[index % LOCATION_SLOTS];
    return location != NULL && location->index == index ? location_ref(location) : NULL;
}

void location_cache_drop(struct location_cache *cache, const struct location *seen)
{
    struct location **slot = &cache->slots[seen->index % LOCATION_SLOTS];
    if (*slot == seen) {
        location_unref(*slot);
        *slot = NULL;
    }
}
