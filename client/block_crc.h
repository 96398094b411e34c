/*
 * block_crc: CRC-32C of each block piece of a range of a chunk, as PUSH and READ carry them. A
 * piece never crosses a 64 KiB boundary of the chunk. Pure.
 */
#ifndef CLIENT_BLOCK_CRC_H
#define CLIENT_BLOCK_CRC_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

/* Of a range as long as a request may be. */
#define BLOCK_CRC_MAX (GFS_READ_MAX_BYTES / GFS_BLOCK_SIZE_BYTES + 1)

/* Pieces of blocks in [chunk_offset, chunk_offset + length). */
size_t block_crc_count(uint32_t chunk_offset, uint32_t length_bytes);
/* CORRUPT when a CRC does not hold; PROTO when their number is wrong. */
enum gfs_err block_crc_verify(const void *data, uint32_t chunk_offset, uint32_t length_bytes,
                              const uint32_t *crcs, size_t crc_count) GFS_MUST_CHECK;
/* CRC of each block piece into ret_crcs; returns how many. */
size_t block_crc_make(const void *data, uint32_t chunk_offset, uint32_t length_bytes,
                      uint32_t *ret_crcs);

#endif
