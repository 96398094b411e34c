/* frame: see the layout in the header. */
#include "frame.h"

#include <endian.h>
#include <string.h>

#include "crc.h"
#include "gfs_limits.h"

#define FRAME_CRC_AT 36

static void frame_put16(uint8_t *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static void frame_put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static uint16_t frame_get16(const uint8_t *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static uint32_t frame_get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint32_t frame_crc(const uint8_t *frame, uint32_t message_bytes)
{
    uint32_t crc = crc32c(0, frame, FRAME_CRC_AT);

    return crc32c(crc, frame + FRAME_HEADER_BYTES, message_bytes);
}

void frame_encode(const struct frame_header *header, uint8_t *frame)
{
    uint64_t id = htole64(header->id);

    frame_put32(frame, GFS_PROTO_MAGIC);
    frame_put16(frame + 4, header->version);
    frame_put16(frame + 6, header->type);
    memcpy(frame + 8, &id, sizeof(id));
    frame_put16(frame + 16, header->flags);
    frame_put16(frame + 18, 0);
    frame_put32(frame + 20, header->message_bytes);
    frame_put32(frame + 24, header->payload_bytes);
    frame_put32(frame + 28, header->timeout_ms);
    frame_put32(frame + 32, 0);
    frame_put32(frame + FRAME_CRC_AT, frame_crc(frame, header->message_bytes));
}

enum gfs_err frame_decode(const uint8_t *frame, struct frame_header *ret_header)
{
    struct frame_header header;
    uint64_t id;

    if (frame_get32(frame) != GFS_PROTO_MAGIC)
        return GFS_ERR_PROTO;
    memcpy(&id, frame + 8, sizeof(id));
    header.version = frame_get16(frame + 4);
    header.type = frame_get16(frame + 6);
    header.id = le64toh(id);
    header.flags = frame_get16(frame + 16);
    header.message_bytes = frame_get32(frame + 20);
    header.payload_bytes = frame_get32(frame + 24);
    header.timeout_ms = frame_get32(frame + 28);
    if (header.flags & ~(FRAME_FLAG_REPLY | FRAME_FLAG_ERROR) || header.flags == FRAME_FLAG_ERROR ||
        header.message_bytes > GFS_MESSAGE_MAX_BYTES ||
        header.payload_bytes > GFS_PAYLOAD_MAX_BYTES)
        return GFS_ERR_PROTO;
    *ret_header = header;
    return GFS_OK;
}

enum gfs_err frame_check(const uint8_t *frame, const struct frame_header *header)
{
    uint32_t crc = frame_get32(frame + FRAME_CRC_AT);

    return crc == frame_crc(frame, header->message_bytes) ? GFS_OK : GFS_ERR_PROTO;
}
