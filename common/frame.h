/*
 * frame: the head of every frame on the wire, and its checksum. Floor 3. Pure, no I/O.
 *
 *    0 magic u32 | 4 version u16 | 6 type u16 | 8 request id u64 | 16 flags u16 | 18 reserved u16
 *   20 message bytes u32 | 24 payload bytes u32 | 28 timeout ms u32 | 32 reserved u32
 *   36 CRC-32C u32 of bytes 0..35 and the message | 40 message | payload
 *
 * Little-endian. Reserved fields are sent as zero and not looked at. The layout up to here never
 * changes: a peer of any version can be told, by an error reply, that it is too old or too new.
 */
#ifndef COMMON_FRAME_H
#define COMMON_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define FRAME_HEADER_BYTES 40

#define FRAME_FLAG_REPLY 1u
#define FRAME_FLAG_ERROR 2u

struct frame_header {
    uint16_t version;
    uint16_t type;
    uint64_t id;
    uint16_t flags;
    uint32_t message_bytes;
    uint32_t payload_bytes;
    uint32_t timeout_ms;
};

/* Writes the header in front of the message that already stands at frame + FRAME_HEADER_BYTES. */
void frame_encode(const struct frame_header *header, uint8_t *frame);
/* Reads FRAME_HEADER_BYTES bytes; PROTO: not a frame, unknown flags, or sizes above the limits. */
enum gfs_err frame_decode(const uint8_t *frame, struct frame_header *ret_header) GFS_MUST_CHECK;
/* Checks the CRC once header and message are there; PROTO when it does not match. */
enum gfs_err frame_check(const uint8_t *frame, const struct frame_header *header) GFS_MUST_CHECK;

#endif
