/*
 * index: a hash index over slab items, chained through a 32-bit field of theirs. Floor 5, pure.
 *
 * Linear hashing: with every insert at most one bucket is split, so the cost never bunches up into
 * a rehash of everything that would stall the loop; 4 bytes a bucket, one bucket an item.
 */
#ifndef MASTER_INDEX_H
#define MASTER_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "master/slab.h"

#define INDEX_SEGMENT_SHIFT   12u
#define INDEX_SEGMENT_BUCKETS (1u << INDEX_SEGMENT_SHIFT)

struct index {
    uint32_t **segments;
    uint32_t segment_count;
    uint32_t segment_cap;
    uint32_t bucket_count;
    uint32_t count;
    const struct slab *slab;
    uint32_t next_offset; /* of the chain field in an item */
    /* The hash of an item, to split its bucket. */
    uint64_t (*hash)(const void *arg, const void *item);
    const void *arg;
};

void index_init(struct index *table, const struct slab *slab, uint32_t next_offset,
                uint64_t (*hash)(const void *arg, const void *item), const void *arg);
void index_release(struct index *table);
/* Makes sure that the next `count` index_inserts succeed. */
enum gfs_err index_reserve(struct index *table, uint32_t count) GFS_MUST_CHECK;
/* Of an empty index that is to take about `count`: buckets for them at once, no splits later. */
enum gfs_err index_presize(struct index *table, uint32_t count) GFS_MUST_CHECK;
void index_insert(struct index *table, uint64_t hash, uint32_t ref); /* after index_reserve */
void index_remove(struct index *table, uint64_t hash, uint32_t ref); /* it must be there */
/* The chain that may hold items of this hash: walk it with index_next until 0. */
uint32_t index_first(const struct index *table, uint64_t hash);
uint64_t index_memory_bytes(const struct index *table);

static inline uint32_t *index_next_field(const struct index *table, uint32_t ref)
{
    return (uint32_t *)(void *)((uint8_t *)slab_at(table->slab, ref) + table->next_offset);
}
static inline uint32_t index_next(const struct index *table, uint32_t ref)
{
    return *index_next_field(table, ref);
}
/* Mixes 64 bits well. */
uint64_t index_mix(uint64_t value);
/* A keyed hash of bytes; not cryptographic, the seed must stay secret. */
uint64_t index_hash_bytes(uint64_t seed, const void *data, size_t len_bytes);

#endif
