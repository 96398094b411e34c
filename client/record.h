/*
 * record: what an appended record looks like in a file. Pure.
 *
 *   | magic 4 | length 4 | payload CRC-32C 4 | header CRC-32C 4 | producer 8 | sequence 8 | payload
 * | little-endian; the header's CRC covers its other 28 bytes
 *
 * A record never crosses a chunk's end: the space left there is padding, which is zeros, as is what
 * a seal adds. So at any place where a record may begin there is a header, or zeros to the end of
 * the chunk, or bytes that no append has written.
 */
#ifndef CLIENT_RECORD_H
#define CLIENT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

struct record_header {
    uint32_t length_bytes; /* of the payload */
    uint32_t crc;          /* of the payload */
    uint64_t producer;
    uint64_t sequence;
};

enum record_kind {
    RECORD_HERE,
    RECORD_PADDING, /* nothing more in this chunk */
    RECORD_BAD,
};

void record_encode(const struct record_header *header, uint8_t ret_bytes[GFS_RECORD_HEADER_BYTES]);
/* room_bytes: from the header's beginning to the end of the chunk. */
enum record_kind record_decode(const uint8_t bytes[GFS_RECORD_HEADER_BYTES], uint64_t room_bytes,
                               struct record_header *ret_header);
/* The largest payload in a file of such chunks. */
size_t record_max(uint32_t chunk_size_bytes);

#endif
