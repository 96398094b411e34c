/* The CRCs of a chunk's blocks. Every byte they are of is read and checked. */
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "store_impl.h"

#define STORE_DIGEST_BAD   UINT32_MAX
#define STORE_DIGEST_TRIES 4u

/* One block; STORE_DIGEST_BAD when it cannot be read. SHORT: the chunk was cut meanwhile. */
static enum gfs_err block_crc(struct store *store, const struct store_chunk *chunk, uint32_t block,
                              uint32_t *ret_crc)
{
    uint32_t at = block << GFS_BLOCK_SHIFT;
    uint32_t length = chunk->length_bytes - at;
    struct store_read *read;
    enum gfs_err err;
    if (length > GFS_BLOCK_SIZE_BYTES)
        length = GFS_BLOCK_SIZE_BYTES;
    err = store_read_any(store, chunk->handle, 0, true, at, length, &read);
    if (err == GFS_ERR_CORRUPT) {
        *ret_crc = STORE_DIGEST_BAD;
        return err;
    }
    if (err != GFS_OK)
        return err;
    *ret_crc = store_read_info(read)->pieces[0].crc;
    store_read_release(read);
    return GFS_OK;
}

static enum gfs_err digest_once(struct store *store, uint64_t handle, uint32_t min_version,
                                uint32_t first_block, uint32_t count, bool verify,
                                struct store_digest *ret_digest)
{
    struct store_digest digest = {.first_block = first_block};
    enum gfs_err err = store_chunk_get(store, handle, &digest.chunk);
    if (err != GFS_OK)
        return err;
    if (digest.chunk.version < min_version)
        return GFS_ERR_STALE_VERSION;
    uint32_t blocks = (uint32_t)(((uint64_t)digest.chunk.length_bytes + GFS_BLOCK_SIZE_BYTES - 1) >>
                                 GFS_BLOCK_SHIFT);
    uint32_t left = first_block < blocks ? blocks - first_block : 0;
    digest.count = count == 0 || count > left ? left : count;
    digest.crcs = calloc(digest.count + 1u, sizeof(*digest.crcs));
    if (digest.crcs == NULL)
        return GFS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < digest.count && err == GFS_OK; i++) {
        err = block_crc(store, &digest.chunk, first_block + i, &digest.crcs[i]);
        digest.bad_block = first_block + i;
        if (err != GFS_OK && digest.crcs[i] == STORE_DIGEST_BAD && !verify)
            err = GFS_OK;
    }
    if (err == GFS_ERR_CORRUPT && !digest.chunk.corrupt)
        store_mark_corrupt(store, handle);
    if (err != GFS_OK) {
        free(digest.crcs);
        digest.crcs = NULL;
    }
    if (err == GFS_OK || err == GFS_ERR_CORRUPT)
        *ret_digest = digest;
    return err;
}

enum gfs_err store_digest(struct store *store, uint64_t handle, uint32_t min_version,
                          uint32_t first_block, uint32_t count, bool verify,
                          struct store_digest *ret_digest)
{
    enum gfs_err err = GFS_ERR_SHORT;
    for (uint32_t tries = 0; err == GFS_ERR_SHORT && tries < STORE_DIGEST_TRIES; tries++)
        err = digest_once(store, handle, min_version, first_block, count, verify, ret_digest);
    return err == GFS_ERR_SHORT ? GFS_ERR_BUSY : err;
}
