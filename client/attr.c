#include "attr.h"

#include "gfs_limits.h"

enum gfs_err attr_take(const Gfs__Attr *attr, struct gfs_attr *ret_attr)
{
    if (attr == NULL)
        return GFS_ERR_PROTO;
    bool file = attr->type == GFS__FILE_TYPE__FILE_REGULAR;
    if (!file && attr->type != GFS__FILE_TYPE__FILE_DIRECTORY)
        return GFS_ERR_PROTO;
    if (file && (attr->chunk_size < GFS_CHUNK_SIZE_MIN_BYTES ||
                 attr->chunk_size > GFS_CHUNK_SIZE_MAX_BYTES ||
                 (attr->chunk_size & (attr->chunk_size - 1)) != 0))
        return GFS_ERR_PROTO;
    *ret_attr = (struct gfs_attr){
        .inode = attr->inode,
        .type = file ? GFS_TYPE_FILE : GFS_TYPE_DIR,
        .size_bytes = attr->length,
        .goal = attr->goal,
        .chunk_size_bytes = attr->chunk_size,
        .chunk_count = attr->chunk_count,
        .entry_count = attr->entry_count,
        .mode = attr->mode,
        .uid = attr->uid,
        .gid = attr->gid,
        .mtime_ms = attr->mtime_ms,
        .ctime_ms = attr->ctime_ms,
    };
    return GFS_OK;
}
