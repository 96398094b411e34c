/*
 * slab: items of one size in blocks that never move, named by 32-bit references. Floor 5, pure.
 * Half the size of pointers, no allocator overhead per item; 0 is "none". Freed items are reused.
 * The first item of each block is its head: the block's number, for slab_ref.
 */
#ifndef MASTER_SLAB_H
#define MASTER_SLAB_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs_err.h"

#define SLAB_BLOCK_SHIFT 10u
#define SLAB_BLOCK_ITEMS (1u << SLAB_BLOCK_SHIFT)

struct slab {
    uint8_t **blocks;
    uint8_t **used; /* a bit for each item, per block */
    uint32_t block_count;
    uint32_t block_cap;
    uint32_t item_bytes; /* a multiple of 8 */
    uint32_t next;       /* first reference never handed out */
    uint32_t free_first; /* chain through the items' first four bytes */
    uint32_t free_count;
    uint32_t used_count;
};

void slab_init(struct slab *slab, uint32_t item_bytes);
void slab_release(struct slab *slab);
/* Makes sure that the next `count` slab_allocs succeed. */
enum gfs_err slab_reserve(struct slab *slab, uint32_t count) GFS_MUST_CHECK;
/* Zeroed. After slab_reserve. */
uint32_t slab_alloc(struct slab *slab);
void slab_free(struct slab *slab, uint32_t ref);
/* The first used reference >= ref; 0 when there is none. */
uint32_t slab_next_used(const struct slab *slab, uint32_t ref);
uint64_t slab_memory_bytes(const struct slab *slab);

static inline void *slab_at(const struct slab *slab, uint32_t ref)
{
    return slab->blocks[ref >> SLAB_BLOCK_SHIFT] +
           (uint64_t)(ref & (SLAB_BLOCK_ITEMS - 1)) * slab->item_bytes;
}

/* The reference of an item; item_bytes must be a power of two. */
static inline uint32_t slab_ref(const struct slab *slab, const void *item)
{
    uintptr_t bytes = (uintptr_t)SLAB_BLOCK_ITEMS * slab->item_bytes;
    uintptr_t offset = (uintptr_t)item & (bytes - 1);
    const uint32_t *head = (const uint32_t *)((uintptr_t)item - offset);
    return (*head << SLAB_BLOCK_SHIFT) + (uint32_t)(offset / slab->item_bytes);
}

#endif
