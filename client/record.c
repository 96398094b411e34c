#include "record.h"

#include <string.h>

#include "crc.h"

enum {
    AT_MAGIC = 0,
    AT_LENGTH = 4,
    AT_CRC = 8,
    AT_HEADER_CRC = 12,
    AT_PRODUCER = 16,
    AT_SEQUENCE = 24
};

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    put_u32(at, (uint32_t)value);
    put_u32(at + 4, (uint32_t)(value >> 32));
}

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get_u64(const uint8_t *at)
{
    return get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

static uint32_t header_crc(const uint8_t bytes[GFS_RECORD_HEADER_BYTES])
{
    uint32_t crc = crc32c(0, bytes, AT_HEADER_CRC);
    return crc32c(crc, bytes + AT_PRODUCER, GFS_RECORD_HEADER_BYTES - AT_PRODUCER);
}

void record_encode(const struct record_header *header, uint8_t ret_bytes[GFS_RECORD_HEADER_BYTES])
{
    put_u32(ret_bytes + AT_MAGIC, GFS_RECORD_MAGIC);
    put_u32(ret_bytes + AT_LENGTH, header->length_bytes);
    put_u32(ret_bytes + AT_CRC, header->crc);
    put_u64(ret_bytes + AT_PRODUCER, header->producer);
    put_u64(ret_bytes + AT_SEQUENCE, header->sequence);
    put_u32(ret_bytes + AT_HEADER_CRC, header_crc(ret_bytes));
}

enum record_kind record_decode(const uint8_t bytes[GFS_RECORD_HEADER_BYTES], uint64_t room_bytes,
                               struct record_header *ret_header)
{
    static const uint8_t zeros[GFS_RECORD_HEADER_BYTES];
    if (memcmp(bytes, zeros, sizeof(zeros)) == 0)
        return RECORD_PADDING;
    if (get_u32(bytes + AT_MAGIC) != GFS_RECORD_MAGIC ||
        get_u32(bytes + AT_HEADER_CRC) != header_crc(bytes))
        return RECORD_BAD;
    uint32_t length_bytes = get_u32(bytes + AT_LENGTH);
    if (length_bytes > GFS_RECORD_MAX_BYTES || room_bytes < GFS_RECORD_HEADER_BYTES ||
        length_bytes > room_bytes - GFS_RECORD_HEADER_BYTES)
        return RECORD_BAD;
    *ret_header = (struct record_header){
        .length_bytes = length_bytes,
        .crc = get_u32(bytes + AT_CRC),
        .producer = get_u64(bytes + AT_PRODUCER),
        .sequence = get_u64(bytes + AT_SEQUENCE),
    };
    return RECORD_HERE;
}

size_t record_max(uint32_t chunk_size_bytes)
{
    uint32_t most = chunk_size_bytes / 4;
    if (most > GFS_RECORD_MAX_BYTES)
        most = GFS_RECORD_MAX_BYTES;
    return most - GFS_RECORD_HEADER_BYTES;
}
