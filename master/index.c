#include "master/index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void index_init(struct index *table, const struct slab *slab, uint32_t next_offset,
                uint64_t (*hash)(const void *arg, const void *item), const void *arg)
{
    *table = (struct index){.slab = slab, .next_offset = next_offset, .hash = hash, .arg = arg};
}

void index_release(struct index *table)
{
    for (uint32_t i = 0; i < table->segment_count; i++) {
        free(table->segments[i]);
    }
    free(table->segments);
    table->segments = NULL;
    table->segment_count = table->segment_cap = table->bucket_count = table->count = 0;
}

static uint32_t *index_bucket(const struct index *table, uint32_t bucket)
{
    return &table->segments[bucket >> INDEX_SEGMENT_SHIFT][bucket & (INDEX_SEGMENT_BUCKETS - 1)];
}

/* Buckets below the split point of this round have been split: they use one hash bit more. */
static uint32_t index_bucket_of(const struct index *table, uint64_t hash)
{
    uint32_t round = 1u << (31 - __builtin_clz(table->bucket_count));
    uint32_t bucket = (uint32_t)(hash & ((uint64_t)round * 2 - 1));
    return bucket < table->bucket_count ? bucket : bucket - round;
}

enum gfs_err index_reserve(struct index *table, uint32_t count)
{
    uint64_t need = (uint64_t)table->count + count;
    while ((uint64_t)table->segment_count * INDEX_SEGMENT_BUCKETS < need) {
        if (table->segment_count == table->segment_cap) {
            uint32_t cap = table->segment_cap > 0 ? table->segment_cap * 2 : 16;
            uint32_t **segments = realloc(table->segments, cap * sizeof(*segments));
            if (segments == NULL) {
                return GFS_ERR_NO_MEMORY;
            }
            table->segments = segments;
            table->segment_cap = cap;
        }
        uint32_t *segment = calloc(INDEX_SEGMENT_BUCKETS, sizeof(*segment));
        if (segment == NULL) {
            return GFS_ERR_NO_MEMORY;
        }
        table->segments[table->segment_count++] = segment;
    }
    return GFS_OK;
}

enum gfs_err index_presize(struct index *table, uint32_t count)
{
    assert(table->count == 0);
    enum gfs_err err = index_reserve(table, count);
    if (err == GFS_OK && table->bucket_count < count) {
        table->bucket_count = count; /* segments come zeroed: empty buckets */
    }
    return err;
}

/* Adds one bucket and moves to it what belongs there out of the one it splits from. */
static void index_split(struct index *table)
{
    uint32_t added = table->bucket_count++;
    *index_bucket(table, added) = 0;
    if (added == 0) {
        return;
    }
    uint32_t round = 1u << (31 - __builtin_clz(added));
    uint32_t *from = index_bucket(table, added - round);
    uint32_t *to = index_bucket(table, added);
    for (uint32_t ref = *from; ref != 0;) {
        uint32_t next = index_next(table, ref);
        uint64_t hash = table->hash(table->arg, slab_at(table->slab, ref));
        if (index_bucket_of(table, hash) == added) {
            *from = next;
            *to = ref;
            to = index_next_field(table, ref);
            *to = 0;
        } else {
            from = index_next_field(table, ref);
        }
        ref = next;
    }
}

void index_insert(struct index *table, uint64_t hash, uint32_t ref)
{
    if (table->count == table->bucket_count) {
        assert(table->bucket_count < (uint64_t)table->segment_count * INDEX_SEGMENT_BUCKETS);
        index_split(table);
    }
    uint32_t *bucket = index_bucket(table, index_bucket_of(table, hash));
    *index_next_field(table, ref) = *bucket;
    *bucket = ref;
    table->count++;
}

void index_remove(struct index *table, uint64_t hash, uint32_t ref)
{
    uint32_t *link = index_bucket(table, index_bucket_of(table, hash));
    while (*link != ref) {
        assert(*link != 0);
        link = index_next_field(table, *link);
    }
    *link = index_next(table, ref);
    table->count--;
}

uint32_t index_first(const struct index *table, uint64_t hash)
{
    return table->bucket_count > 0 ? *index_bucket(table, index_bucket_of(table, hash)) : 0;
}

uint64_t index_memory_bytes(const struct index *table)
{
    return (uint64_t)table->segment_count * INDEX_SEGMENT_BUCKETS * sizeof(uint32_t) +
           table->segment_cap * sizeof(void *);
}

uint64_t index_mix(uint64_t value)
{
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93u;
    value ^= value >> 32;
    value *= 0xd6e8feb86659fd93u;
    return value ^ (value >> 32);
}

static uint64_t index_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t index_hash_bytes(uint64_t seed, const void *data, size_t len_bytes)
{
    const uint8_t *at = data;
    uint64_t hash = seed ^ 0xa0761d6478bd642fu;
    uint64_t word;
    size_t left = len_bytes;
    for (; left >= sizeof(word); left -= sizeof(word), at += sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        hash = index_fold(hash ^ word, 0xe7037ed1a0b428dbu ^ seed);
    }
    word = 0;
    memcpy(&word, at, left);
    hash = index_fold(hash ^ word, 0x8ebc6af09c88c6e3u ^ seed);
    return index_fold(hash ^ len_bytes, 0x589965cc75374cc3u);
}
