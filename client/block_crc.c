#include "block_crc.h"

#include "crc.h"

static uint32_t block_crc_piece_bytes(uint32_t chunk_offset, uint32_t left_bytes)
{
    uint32_t bytes = GFS_BLOCK_SIZE_BYTES - chunk_offset % GFS_BLOCK_SIZE_BYTES;
    return bytes < left_bytes ? bytes : left_bytes;
}

size_t block_crc_count(uint32_t chunk_offset, uint32_t length_bytes)
{
    if (length_bytes == 0)
        return 0;
    uint64_t last = (uint64_t)chunk_offset + length_bytes - 1;
    return (size_t)(last / GFS_BLOCK_SIZE_BYTES - chunk_offset / GFS_BLOCK_SIZE_BYTES + 1);
}

enum gfs_err block_crc_verify(const void *data, uint32_t chunk_offset, uint32_t length_bytes,
                              const uint32_t *crcs, size_t crc_count)
{
    if (crc_count != block_crc_count(chunk_offset, length_bytes))
        return GFS_ERR_PROTO;
    const uint8_t *bytes = data;
    for (size_t i = 0; i < crc_count; i++) {
        uint32_t piece_bytes = block_crc_piece_bytes(chunk_offset, length_bytes);
        if (crc32c(0, bytes, piece_bytes) != crcs[i])
            return GFS_ERR_CORRUPT;
        bytes += piece_bytes;
        chunk_offset += piece_bytes;
        length_bytes -= piece_bytes;
    }
    return GFS_OK;
}

size_t block_crc_make(const void *data, uint32_t chunk_offset, uint32_t length_bytes,
                      uint32_t *ret_crcs)
{
    const uint8_t *bytes = data;
    size_t count = 0;
    while (length_bytes > 0) {
        uint32_t piece_bytes = block_crc_piece_bytes(chunk_offset, length_bytes);
        ret_crcs[count++] = crc32c(0, bytes, piece_bytes);
        bytes += piece_bytes;
        chunk_offset += piece_bytes;
        length_bytes -= piece_bytes;
    }
    return count;
}
