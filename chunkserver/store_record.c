#include "store_record.h"

#include "crc.h"
#include "gfs_limits.h"

#define STORE_RECORD_FORMAT 1

/* Offsets in the key; the CRC covers all before it. */
enum {
    AT_SEQ = 0,
    AT_FORMAT = 8,
    AT_KIND = 9,
    AT_FLAGS = 10,
    AT_HANDLE = 12,
    AT_SERIAL = 20,
    AT_PREV_SEQ = 28,
    AT_AS_OF = 36,
    AT_FAMILY = 44,
    AT_SOURCE = 52,
    AT_VERSION = 60,
    AT_CHUNK_LENGTH = 64,
    AT_OFFSET = 68,
    AT_LENGTH = 72,
    AT_DATA_CRC = 76,
    AT_SEQUENCE = 80,
    AT_CRC = 88,
};

void store_record_encode(const struct store_record *record, uint8_t ret_key[STORE_RECORD_KEY_BYTES])
{
    store_put_key64(ret_key + AT_SEQ, record->seq);
    ret_key[AT_FORMAT] = STORE_RECORD_FORMAT;
    ret_key[AT_KIND] = (uint8_t)record->kind;
    ret_key[AT_FLAGS] = (uint8_t)record->flags;
    ret_key[AT_FLAGS + 1] = (uint8_t)(record->flags >> 8);
    store_put_u64(ret_key + AT_HANDLE, record->handle);
    store_put_u64(ret_key + AT_SERIAL, record->serial);
    store_put_u64(ret_key + AT_PREV_SEQ, record->prev_seq);
    store_put_u64(ret_key + AT_AS_OF, record->as_of);
    store_put_u64(ret_key + AT_FAMILY, record->family);
    store_put_u64(ret_key + AT_SOURCE, record->source);
    store_put_u32(ret_key + AT_VERSION, record->version);
    store_put_u32(ret_key + AT_CHUNK_LENGTH, record->chunk_length);
    store_put_u32(ret_key + AT_OFFSET, record->offset_bytes);
    store_put_u32(ret_key + AT_LENGTH, record->length_bytes);
    store_put_u32(ret_key + AT_DATA_CRC, record->data_crc);
    store_put_u64(ret_key + AT_SEQUENCE, record->sequence);
    store_put_u32(ret_key + AT_CRC, crc32c(0, ret_key, AT_CRC));
}

enum gfs_err store_record_decode(const void *key, size_t key_bytes, struct store_record *ret_record)
{
    const uint8_t *at = key;
    if (key_bytes != STORE_RECORD_KEY_BYTES || at[AT_FORMAT] != STORE_RECORD_FORMAT)
        return GFS_ERR_CORRUPT;
    if (store_get_u32(at + AT_CRC) != crc32c(0, at, AT_CRC))
        return GFS_ERR_CORRUPT;
    if (at[AT_KIND] < STORE_RECORD_HEAD || at[AT_KIND] > STORE_RECORD_APPEND)
        return GFS_ERR_CORRUPT;
    struct store_record record = {
        .seq = store_get_key64(at + AT_SEQ),
        .kind = (enum store_record_kind)at[AT_KIND],
        .flags = at[AT_FLAGS] | (uint32_t)at[AT_FLAGS + 1] << 8,
        .handle = store_get_u64(at + AT_HANDLE),
        .serial = store_get_u64(at + AT_SERIAL),
        .prev_seq = store_get_u64(at + AT_PREV_SEQ),
        .as_of = store_get_u64(at + AT_AS_OF),
        .family = store_get_u64(at + AT_FAMILY),
        .source = store_get_u64(at + AT_SOURCE),
        .sequence = store_get_u64(at + AT_SEQUENCE),
        .version = store_get_u32(at + AT_VERSION),
        .chunk_length = store_get_u32(at + AT_CHUNK_LENGTH),
        .offset_bytes = store_get_u32(at + AT_OFFSET),
        .length_bytes = store_get_u32(at + AT_LENGTH),
        .data_crc = store_get_u32(at + AT_DATA_CRC),
    };
    uint32_t in_block = record.offset_bytes % GFS_BLOCK_SIZE_BYTES;
    if ((record.flags & STORE_RECORD_MAPPED) && record.kind != STORE_RECORD_COPY)
        return GFS_ERR_CORRUPT;
    if (record.length_bytes > GFS_BLOCK_SIZE_BYTES - in_block ||
        record.chunk_length > GFS_CHUNK_SIZE_MAX_BYTES ||
        record.offset_bytes >= GFS_CHUNK_SIZE_MAX_BYTES)
        return GFS_ERR_CORRUPT;
    *ret_record = record;
    return GFS_OK;
}
