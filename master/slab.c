#include "master/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void slab_init(struct slab *slab, uint32_t item_bytes)
{
    assert(item_bytes >= 8 && item_bytes % 8 == 0);
    *slab = (struct slab){.item_bytes = item_bytes, .next = 1};
}

void slab_release(struct slab *slab)
{
    for (uint32_t i = 0; i < slab->block_count; i++) {
        free(slab->blocks[i]);
        free(slab->used[i]);
    }
    free(slab->blocks);
    free(slab->used);
    slab_init(slab, slab->item_bytes);
}

static enum gfs_err slab_grow_table(struct slab *slab)
{
    uint32_t cap = slab->block_cap > 0 ? slab->block_cap * 2 : 16;
    uint8_t **blocks = realloc(slab->blocks, cap * sizeof(*blocks));
    if (blocks == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    slab->blocks = blocks;
    uint8_t **used = realloc(slab->used, cap * sizeof(*used));
    if (used == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    slab->used = used;
    slab->block_cap = cap;
    return GFS_OK;
}

static enum gfs_err slab_add_block(struct slab *slab)
{
    if (slab->block_count == slab->block_cap) {
        enum gfs_err err = slab_grow_table(slab);
        if (err != GFS_OK) {
            return err;
        }
    }
    /* Aligned so that slab_ref finds the block's start, and cache line items do not straddle. */
    size_t bytes = (size_t)SLAB_BLOCK_ITEMS * slab->item_bytes;
    bool power_of_two = (bytes & (bytes - 1)) == 0;
    uint8_t *block = aligned_alloc(power_of_two ? bytes : 64, bytes);
    uint8_t *used = calloc(1, SLAB_BLOCK_ITEMS / 8);
    if (block == NULL || used == NULL) {
        free(block);
        free(used);
        return GFS_ERR_NO_MEMORY;
    }
    memcpy(block, &slab->block_count, sizeof(slab->block_count));
    slab->blocks[slab->block_count] = block;
    slab->used[slab->block_count] = used;
    slab->block_count++;
    return GFS_OK;
}

enum gfs_err slab_reserve(struct slab *slab, uint32_t count)
{
    uint64_t fresh = count > slab->free_count ? count - slab->free_count : 0;
    uint64_t need = slab->next + fresh + fresh / (SLAB_BLOCK_ITEMS - 1) + 1;
    if (need > UINT32_MAX - SLAB_BLOCK_ITEMS) {
        return GFS_ERR_BUSY;
    }
    while ((uint64_t)slab->block_count * SLAB_BLOCK_ITEMS < need) {
        enum gfs_err err = slab_add_block(slab);
        if (err != GFS_OK) {
            return err;
        }
    }
    return GFS_OK;
}

uint32_t slab_alloc(struct slab *slab)
{
    uint32_t ref = slab->free_first;
    if (ref != 0) {
        memcpy(&slab->free_first, slab_at(slab, ref), sizeof(slab->free_first));
        slab->free_count--;
    } else {
        slab->next += (slab->next & (SLAB_BLOCK_ITEMS - 1)) == 0; /* the block's head */
        ref = slab->next++;
        assert(ref >> SLAB_BLOCK_SHIFT < slab->block_count);
    }
    memset(slab_at(slab, ref), 0, slab->item_bytes);
    uint32_t bit = ref & (SLAB_BLOCK_ITEMS - 1);
    slab->used[ref >> SLAB_BLOCK_SHIFT][bit / 8] |= (uint8_t)(1u << (bit % 8));
    slab->used_count++;
    return ref;
}

static bool slab_is_used(const struct slab *slab, uint32_t ref)
{
    uint32_t bit = ref & (SLAB_BLOCK_ITEMS - 1);
    return (slab->used[ref >> SLAB_BLOCK_SHIFT][bit / 8] >> (bit % 8)) & 1;
}

void slab_free(struct slab *slab, uint32_t ref)
{
    assert(ref != 0 && ref < slab->next && slab_is_used(slab, ref));
    uint32_t bit = ref & (SLAB_BLOCK_ITEMS - 1);
    slab->used[ref >> SLAB_BLOCK_SHIFT][bit / 8] &= (uint8_t) ~(1u << (bit % 8));
    memcpy(slab_at(slab, ref), &slab->free_first, sizeof(slab->free_first));
    slab->free_first = ref;
    slab->free_count++;
    slab->used_count--;
}

uint32_t slab_next_used(const struct slab *slab, uint32_t ref)
{
    for (uint32_t at = ref > 0 ? ref : 1; at < slab->next; at++) {
        if (slab_is_used(slab, at)) {
            return at;
        }
    }
    return 0;
}

uint64_t slab_memory_bytes(const struct slab *slab)
{
    uint64_t block = (uint64_t)SLAB_BLOCK_ITEMS * slab->item_bytes + SLAB_BLOCK_ITEMS / 8;
    return slab->block_count * block + slab->block_cap * 2 * sizeof(void *);
}
