/* A fresh chunk in the place of one of which nothing is left: see namespace.h. */
#include <assert.h>

#include "master/inode.h"
#include "master/record.h"

enum gfs_err ns_chunk_renew(struct namespace *ns, struct inode *inode, uint32_t index,
                            int64_t now_ms, struct changes *changes, struct chunk **ret_chunk)
{
    struct chunk *old = ns_chunk_at(ns, inode, index);
    if (old == NULL || old->length_bytes != 0) {
        return GFS_ERR_INVAL;
    }
    if (ns->chunkmap.chunks.used_count >= ns->options.chunks_max ||
        ns->handle_ids.limit > UINT64_MAX - NS_ID_RANGE) {
        return GFS_ERR_BUSY;
    }
    /* All that ns_chunk_create could lack, before anything is released. */
    enum gfs_err err =
        changes_reserve(changes, RECORD_SUPER_MAX_BYTES + 2 * RECORD_CHUNK_MAX_BYTES +
                                     RECORD_INODE_MAX_BYTES + RECORD_SEGMENT_MAX_BYTES);
    if (err == GFS_OK) {
        err = chunkmap_reserve(&ns->chunkmap);
    }
    if (err == GFS_OK) {
        err = inode_chunks_reserve(ns, inode, index);
    }
    if (err != GFS_OK) {
        return err;
    }
    ns_release_chunk(ns, inode, index, now_ms, changes);
    err = ns_chunk_create(ns, inode, index, changes, ret_chunk);
    assert(err == GFS_OK);
    return err;
}
