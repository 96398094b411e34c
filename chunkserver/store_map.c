#include "store_map.h"

#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"

#define STORE_VARINT_MAX 10u

static uint8_t *varint_put(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static bool varint_get(struct store_map_reader *reader, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

static uint64_t zigzag(uint64_t difference)
{
    return difference << 1 ^ (0 - (difference >> 63));
}

static uint64_t unzigzag(uint64_t value)
{
    return value >> 1 ^ (0 - (value & 1));
}

static enum gfs_err map_reserve(struct store_map *map, size_t more_bytes)
{
    if (map->cap_bytes - map->len_bytes >= more_bytes)
        return GFS_OK;
    size_t cap = 2 * map->cap_bytes + more_bytes;
    uint8_t *grown = realloc(map->bytes, cap);
    if (grown == NULL)
        return GFS_ERR_NO_MEMORY;
    map->bytes = grown;
    map->cap_bytes = cap;
    return GFS_OK;
}

static size_t part_start(const struct store_map *map, size_t i)
{
    return i > 0 ? map->ends[i - 1] : 0;
}

enum gfs_err store_map_add(struct store_map *map, uint32_t block,
                           const struct store_extent *extents, size_t count)
{
    size_t most = STORE_VARINT_MAX * (2 + 3 * count);
    if (map->len_bytes == 0)
        map->last_block = -1;
    /* By the most it can take: a part may end a little early. */
    if (map->len_bytes > part_start(map, map->part_count) &&
        map->len_bytes - part_start(map, map->part_count) + most > STORE_MAP_PART_BYTES) {
        if (map->part_count == STORE_MAP_PARTS_MAX - 1)
            return GFS_ERR_BUSY;
        map->ends[map->part_count++] = map->len_bytes;
        map->last_seq = 0;
        map->last_block = -1;
    }
    enum gfs_err err = map_reserve(map, most);
    if (err != GFS_OK)
        return err;
    uint8_t *at = varint_put(map->bytes + map->len_bytes, (uint64_t)(block - map->last_block));
    at = varint_put(at, count);
    for (size_t i = 0; i < count; i++) {
        at = varint_put(at, zigzag(extents[i].seq - map->last_seq));
        at = varint_put(at, extents[i].start_bytes);
        at = varint_put(at, extents[i].length_bytes);
        map->last_seq = extents[i].seq;
    }
    map->last_block = block;
    map->len_bytes = (size_t)(at - map->bytes);
    return GFS_OK;
}

size_t store_map_parts(const struct store_map *map)
{
    return map->part_count + 1;
}

const uint8_t *store_map_part(const struct store_map *map, size_t i, uint32_t *ret_len_bytes)
{
    size_t start = part_start(map, i);
    size_t end = i < map->part_count ? map->ends[i] : map->len_bytes;
    *ret_len_bytes = (uint32_t)(end - start);
    return end > 0 ? map->bytes + start : (const uint8_t *)"";
}

void store_map_release(struct store_map *map)
{
    free(map->bytes);
    memset(map, 0, sizeof(*map));
}

void store_map_read(struct store_map_reader *reader, const uint8_t *bytes, size_t len_bytes)
{
    *reader = (struct store_map_reader){.at = bytes, .end = bytes + len_bytes, .last_block = -1};
}

enum gfs_err store_map_next(struct store_map_reader *reader, uint32_t *ret_block,
                            struct store_extent *ret_extents, size_t *ret_count)
{
    uint64_t step, count;
    if (reader->at == reader->end)
        return GFS_ERR_NOT_FOUND;
    if (!varint_get(reader, &step) || !varint_get(reader, &count) || step == 0 ||
        step > GFS_CHUNK_SIZE_MAX_BYTES >> GFS_BLOCK_SHIFT || count > STORE_EXTENTS_MAX)
        return GFS_ERR_CORRUPT;
    reader->last_block += (int64_t)step;
    if (reader->last_block >= GFS_CHUNK_SIZE_MAX_BYTES >> GFS_BLOCK_SHIFT)
        return GFS_ERR_CORRUPT;
    uint64_t upto = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t seq, start, length;
        if (!varint_get(reader, &seq) || !varint_get(reader, &start) ||
            !varint_get(reader, &length) || start < upto || length == 0 ||
            start > GFS_BLOCK_SIZE_BYTES || length > GFS_BLOCK_SIZE_BYTES - start)
            return GFS_ERR_CORRUPT;
        reader->last_seq += unzigzag(seq);
        upto = start + length;
        ret_extents[i] = (struct store_extent){reader->last_seq, (uint32_t)start, (uint32_t)length};
    }
    *ret_block = (uint32_t)reader->last_block;
    *ret_count = count;
    return GFS_OK;
}
