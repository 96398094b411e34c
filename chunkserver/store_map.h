/*
 * store_map: which records hold a chunk's bytes, as the value of a COPY record. Floor 6.
 *
 * A copy on write is the one mutation that depends on another chunk. When it is replayed the index
 * may be ahead, and the source's entries those of later writes: so the record itself lists what the
 * copy is made of. Parts, each of at most STORE_MAP_PART_BYTES, are records of their own and
 * complete: a part says all there is of its blocks. Numbers are varints (7 bits a byte, low ones
 * first):
 *
 *   part  = { block - block before (from -1), count, count * extent }
 *   extent = zigzag(seq - seq before (from 0)), start, length
 *
 * A block written whole takes 6 to 12 bytes.
 */
#ifndef CHUNKSERVER_STORE_MAP_H
#define CHUNKSERVER_STORE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "store_index.h"

#define STORE_MAP_PART_BYTES 65000u /* a block of the most extents fits in */
#define STORE_MAP_PARTS_MAX  200u

/* Parts in the making. Zero it first. */
struct store_map {
    uint8_t *bytes;
    size_t len_bytes, cap_bytes;
    size_t ends[STORE_MAP_PARTS_MAX]; /* of parts but the last one */
    size_t part_count;                /* of ends */
    uint64_t last_seq;                /* in the last part */
    int64_t last_block;
};

/* Blocks come in order. BUSY: too much for one copy; NO_MEMORY. */
enum gfs_err store_map_add(struct store_map *map, uint32_t block,
                           const struct store_extent *extents, size_t count) GFS_MUST_CHECK;
size_t store_map_parts(const struct store_map *map); /* at least 1 */
const uint8_t *store_map_part(const struct store_map *map, size_t i, uint32_t *ret_len_bytes);
void store_map_release(struct store_map *map);

/* Steps over the blocks of a part. */
struct store_map_reader {
    const uint8_t *at, *end;
    uint64_t last_seq;
    int64_t last_block;
};
void store_map_read(struct store_map_reader *reader, const uint8_t *bytes, size_t len_bytes);
/* extents has room for STORE_EXTENTS_MAX. NOT_FOUND at the end; CORRUPT. */
enum gfs_err store_map_next(struct store_map_reader *reader, uint32_t *ret_block,
                            struct store_extent *ret_extents, size_t *ret_count) GFS_MUST_CHECK;

#endif
