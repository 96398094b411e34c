/*
 * chunkmap: handle -> chunk, with its replica locations. Floor 5, pure; the master loop's thread.
 *
 * Chunks live in a slab, 40 bytes each, found by a linear-hash index that grows one bucket at a
 * time, so no insert ever stalls. Version, length, goal and references are persistent and change
 * only through namespace.h, which records the change; locations are in RAM only, and the service's.
 *
 * Life: live (references > 0) -> released (its last file dropped it; queued in order of release,
 * locations kept so that the service knows where to send deletes) -> freed by chunkmap_drop.
 */
#ifndef MASTER_CHUNKMAP_H
#define MASTER_CHUNKMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "master/index.h"
#include "master/slab.h"

#define CHUNK_INLINE_LOCATIONS 4u
#define CHUNK_LOCATIONS_MAX    32u
#define CHUNK_SERVER_MAX       65535u /* server indexes are below it */
#define CHUNK_REFERENCES_MAX   ((1u << 22) - 1)
#define CHUNK_SIZE_SHIFT_MIN   20u /* GFS_CHUNK_SIZE_MIN_BYTES */

enum chunk_location_state {
    CHUNK_LOCATION_OK = 0,
    CHUNK_LOCATION_STALE = 1,
    CHUNK_LOCATION_CORRUPT = 2,
};

/* Read the plain fields freely; write none of them outside chunkmap.c and namespace*.c. */
struct chunk {
    uint64_t handle;
    uint32_t version;
    union {
        struct {
            uint32_t length_bytes : 31; /* committed */
            uint32_t truncating : 1;    /* cut at the master, not yet on the replicas */
        };
        uint32_t released_s; /* released: when */
    };
    uint32_t references : 22; /* files that hold it; 0: released; above 1: a snapshot shares it */
    uint32_t copied : 1;      /* on write: it has a family */
    uint32_t size_shift : 4;  /* of its files: CHUNK_SIZE_SHIFT_MIN above */
    uint32_t goal : 5;
    /* Slab reference of the inode that holds it, 0: not known. Known as long as only the file it
     * was made for has held it, and again after ns_chunk_claim. Released: next in queue. */
    uint32_t owner;
    uint32_t index_next; /* the index's */
    uint8_t location_count;
    uint8_t inline_states; /* 2 bits each */
    uint16_t cuts;         /* how often a truncation has cut it; wraps */
    union {
        uint16_t inline_servers[CHUNK_INLINE_LOCATIONS];
        uint32_t overflow; /* when location_count > CHUNK_INLINE_LOCATIONS */
    };
};

struct chunk_location {
    uint16_t server;
    enum chunk_location_state state;
};

struct chunkmap {
    struct slab chunks;
    struct slab overflows;
    struct index by_handle;
    struct slab families; /* of copied chunks */
    struct index family_by_handle;
    uint64_t seed;
    uint64_t live_count;
    uint64_t released_count;
    uint32_t released_first;
    uint32_t released_last;
};

void chunkmap_init(struct chunkmap *map, uint64_t seed);
void chunkmap_release(struct chunkmap *map);
/* Live or released (chunk_released tells); NULL when unknown. Valid until it is dropped. */
struct chunk *chunkmap_find(const struct chunkmap *map, uint64_t handle);
static inline bool chunk_released(const struct chunk *chunk)
{
    return chunk->references == 0;
}

static inline uint32_t chunk_size_bytes(const struct chunk *chunk)
{
    return 1u << (CHUNK_SIZE_SHIFT_MIN + chunk->size_shift);
}
/* The handle that it, and others, were first copied from; its own when it was made empty. */
uint64_t chunk_family(const struct chunkmap *map, const struct chunk *chunk);

/*
 * Walks all chunks, live and released, in slices: *at starts at 0; NULL at the end. Chunks made or
 * dropped between two calls are seen or not, nothing else goes wrong.
 */
struct chunk *chunkmap_walk(const struct chunkmap *map, uint32_t *at);

/* Adds the location or changes its state. BUSY: it has CHUNK_LOCATIONS_MAX. NO_MEMORY. */
enum gfs_err chunk_add_location(struct chunkmap *map, struct chunk *chunk, uint16_t server,
                                enum chunk_location_state state) GFS_MUST_CHECK;
/* false: it was not there. The order of the others may change. */
bool chunk_remove_location(struct chunkmap *map, struct chunk *chunk, uint16_t server);
void chunk_clear_locations(struct chunkmap *map, struct chunk *chunk);
/* i < chunk->location_count. */
struct chunk_location chunk_location(const struct chunkmap *map, const struct chunk *chunk,
                                     uint32_t i);
bool chunk_find_location(const struct chunkmap *map, const struct chunk *chunk, uint16_t server,
                         enum chunk_location_state *ret_state);
uint32_t chunk_count_locations(const struct chunkmap *map, const struct chunk *chunk,
                               enum chunk_location_state state);

/*
 * The chunk released longest ago, NULL when none is. Before a server is told to delete it, the
 * change that released it must be durable (journal_barrier), since the file is back otherwise.
 */
struct chunk *chunkmap_released_first(const struct chunkmap *map);
/* Forgets a released chunk: it must be chunkmap_released_first. */
void chunkmap_drop(struct chunkmap *map, struct chunk *chunk);

uint64_t chunkmap_memory_bytes(const struct chunkmap *map);

/* For namespace*.c and image.c only. */
/* Makes sure that the next chunkmap_add succeeds; the next chunkmap_set_family. */
enum gfs_err chunkmap_reserve(struct chunkmap *map) GFS_MUST_CHECK;
enum gfs_err chunkmap_reserve_family(struct chunkmap *map) GFS_MUST_CHECK;
/* The handle must be new. The chunk has no references yet. */
struct chunk *chunkmap_add(struct chunkmap *map, uint64_t handle);
/* Once, and only another handle than its own. */
void chunkmap_set_family(struct chunkmap *map, struct chunk *chunk, uint64_t family);
/* One more file holds it: `owner`. */
void chunkmap_hold(struct chunkmap *map, struct chunk *chunk, uint32_t owner);
uint32_t chunkmap_ref(const struct chunkmap *map, const struct chunk *chunk);
struct chunk *chunkmap_at(const struct chunkmap *map, uint32_t ref);
/* One file less: `owner`; true: it was the last, the chunk is released now. */
bool chunkmap_let_go(struct chunkmap *map, struct chunk *chunk, uint32_t owner, int64_t now_ms);

#endif
