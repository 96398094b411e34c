/*
 * index: a hash index over slab items, chained through a 32-bit field of theirs. Floor 5, pure.
 *
 * Linear hashing: with every insert at most one bucket is split, so the cost never bunches up into
 * a rehash of everything that would stall the loop; 4 bytes a bucket, one bucket an item.
 */
#ifndef MASTER_INDEX_H
#define MASTER_INDEX_H

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

void index_init(struct index *index, const struct slab *slab, uint32_t next_offset,
                uint64_t (*hash)(const void *arg, const void *item), const void *arg);
void index_release(struct index *index);
/* Makes sure that one index_insert succeeds. */
enum gfs_err index_reserve(struct index *index) GFS_MUST_CHECK;
void index_insert(struct index *index, uint64_t hash, uint32_t ref); /* after index_reserve */
void index_remove(struct index *index, uint64_t hash, uint32_t ref); /* it must be there */
/* The chain that may hold items of this hash: walk it with index_next until 0. */
uint32_t index_first(const struct index *index, uint64_t hash);
uint64_t index_memory_bytes(const struct index *index);

static inline uint32_t *index_next_field(const struct index *index, uint32_t ref)
{
    return (uint32_t *)(void *)((uint8_t *)slab_at(index->slab, ref) + index->next_offset);
}
static inline uint32_t index_next(const struct index *index, uint32_t ref)
{
    return *index_next_field(index, ref);
}
/* Mixes 64 bits well. */
uint64_t index_mix(uint64_t value);

#endif
