/*
 * location: where the chunks of one open file are, as the master told. Pure; no locks of its own
 * except the atomic count of references, since reads in flight keep the location they were sent by.
 *
 * The cache is direct-mapped by chunk index and so bounded: LOCATION_SLOTS chunks. Nothing in it
 * is trusted: a replica that answers otherwise makes the reader drop the entry and ask again.
 */
#ifndef CLIENT_LOCATION_H
#define CLIENT_LOCATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "gfs_limits.h"

#define LOCATION_SLOTS 256

struct location_replica {
    uint8_t server[GFS_UUID_BYTES];
    char addr[ADDR_TEXT_MAX_BYTES];
    bool near; /* on this host */
};

struct location {
    int refs; /* atomic */
    uint32_t index;
    uint32_t version;
    uint64_t handle;          /* 0: a hole */
    uint32_t length_bytes;    /* committed */
    uint64_t file_size_bytes; /* of the file, when this was told */
    uint64_t told_ms;
    uint32_t replica_count;
    struct location_replica replicas[];
};

struct location_cache {
    struct location *slots[LOCATION_SLOTS];
};

/* NULL when memory is out. Fields are zero but the count of replicas. */
struct location *location_new(uint32_t replica_count);
struct location *location_ref(struct location *location);
void location_unref(struct location *take_location); /* NULL is fine */

void location_cache_release(struct location_cache *cache); /* drops all; usable again */
/* Takes over a reference; replaces what was known of that chunk. */
void location_cache_put(struct location_cache *cache, struct location *take_location);
/* A reference for the caller, or NULL: not known. */
struct location *location_cache_get(struct location_cache *cache, uint32_t index);
/* Forgets the chunk if `seen` is still what is known of it: of many readers that fail on one entry
 * only the first makes the master be asked. */
void location_cache_drop(struct location_cache *cache, const struct location *seen);

#endif
