/* What changes a file or directory without touching names: chunks, commits, attributes. */
#include <assert.h>

#include "master/entries.h"
#include "master/inode.h"
#include "master/record.h"

struct chunk *ns_chunk_at(const struct namespace *ns, const struct inode *inode,
                          uint32_t chunk_index)
{
    if (inode->is_dir) {
        return NULL;
    }
    return chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, inode, chunk_index));
}

struct inode *ns_chunk_owner(const struct namespace *ns, const struct chunk *chunk)
{
    return chunk_released(chunk) ? NULL : inode_at(ns, chunk->owner);
}

bool ns_chunk_claim(const struct namespace *ns, const struct inode *inode, struct chunk *chunk)
{
    uint32_t ref = inode_ref(ns, inode);
    if (chunk->references != 1 || chunk->owner == ref) {
        return false;
    }
    chunk->owner = ref;
    chunk->truncating = 1; /* not kept: a restart takes the only holder for the maker */
    return true;
}

uint64_t ns_chunk_family(const struct namespace *ns, const struct chunk *chunk)
{
    return chunk_family(&ns->chunkmap, chunk);
}

struct chunk *ns_add_chunk(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                           uint64_t handle)
{
    struct chunk *chunk = chunkmap_add(&ns->chunkmap, handle);
    chunk->version = 1;
    chunk->goal = file->goal;
    chunk->size_shift = file->chunk_shift - CHUNK_SIZE_SHIFT_MIN;
    chunkmap_hold(&ns->chunkmap, chunk, inode_ref(ns, file));
    inode_chunk_set(ns, file, chunk_index, chunkmap_ref(&ns->chunkmap, chunk));
    return chunk;
}

void ns_put_place(struct namespace *ns, const struct inode *file, uint32_t chunk_index,
                  struct changes *changes)
{
    if (chunk_index == 0) {
        record_put_inode(ns, file, changes);
    } else {
        record_put_segment(ns, file, chunk_index / NS_SEGMENT, changes);
    }
}

enum gfs_err ns_chunk_create(struct namespace *ns, struct inode *inode, uint32_t chunk_index,
                             struct changes *changes, struct chunk **ret_chunk)
{
    if (inode->is_dir) {
        return GFS_ERR_IS_DIR;
    }
    if (chunk_index >= NS_FILE_CHUNKS_MAX) {
        return GFS_ERR_TOO_LARGE;
    }
    if (inode_chunk_ref(ns, inode, chunk_index) != 0) {
        return GFS_ERR_EXISTS;
    }
    if (ns->handle_ids.limit == 0) {
        return GFS_ERR_STARTING;
    }
    if (ns->chunkmap.chunks.used_count >= ns->options.chunks_max ||
        ns->handle_ids.limit > NS_HANDLE_MAX) {
        return GFS_ERR_BUSY;
    }
    enum gfs_err err =
        changes_reserve(changes, RECORD_SUPER_MAX_BYTES + RECORD_CHUNK_MAX_BYTES +
                                     RECORD_INODE_MAX_BYTES + RECORD_SEGMENT_MAX_BYTES);
    if (err == GFS_OK) {
        err = chunkmap_reserve(&ns->chunkmap);
    }
    if (err == GFS_OK) {
        err = inode_chunks_reserve(ns, inode, chunk_index);
    }
    if (err != GFS_OK) {
        return err;
    }
    uint64_t handle = ns_take_id(ns, &ns->handle_ids, changes);
    struct chunk *chunk = ns_add_chunk(ns, inode, chunk_index, handle);
    record_put_chunk(ns, chunk, changes);
    ns_put_place(ns, inode, chunk_index, changes);
    *ret_chunk = chunk;
    return GFS_OK;
}

enum gfs_err ns_chunk_set_version(struct namespace *ns, struct chunk *chunk, uint32_t version,
                                  struct changes *changes)
{
    if (version <= chunk->version || chunk_released(chunk)) {
        return GFS_ERR_INVAL;
    }
    enum gfs_err err = changes_reserve(changes, RECORD_CHUNK_MAX_BYTES);
    if (err == GFS_OK) {
        chunk->version = version;
        chunk->truncating = 0;
        record_put_chunk(ns, chunk, changes);
    }
    return err;
}

/* ---- commit -------------------------------------------------------------------------------- */
enum gfs_err ns_commit_check(const struct namespace *ns, const struct inode *inode,
                             uint64_t length_bytes, const struct ns_commit_chunk *chunks,
                             size_t chunk_count)
{
    if (inode->is_dir) {
        return GFS_ERR_IS_DIR;
    }
    if (length_bytes > (uint64_t)NS_FILE_CHUNKS_MAX << inode->chunk_shift) {
        return GFS_ERR_TOO_LARGE;
    }
    for (size_t i = 0; i < chunk_count; i++) {
        const struct chunk *chunk = ns_chunk_at(ns, inode, chunks[i].index);
        if (chunks[i].length_bytes > 1u << inode->chunk_shift) {
            return GFS_ERR_INVAL;
        }
        if (chunk == NULL || chunk->handle != chunks[i].handle ||
            chunk->version != chunks[i].version || chunk->truncating) {
            return GFS_ERR_STALE_VERSION;
        }
        if (chunk->references > 1 && chunks[i].length_bytes > chunk->length_bytes) {
            return GFS_ERR_STALE_VERSION; /* would show in the snapshot: a lease unshares it */
        }
    }
    return GFS_OK;
}

enum gfs_err ns_commit(struct namespace *ns, struct inode *inode, uint64_t length_bytes,
                       const struct ns_commit_chunk *chunks, size_t chunk_count, int64_t now_ms,
                       struct changes *changes)
{
    enum gfs_err err = ns_commit_check(ns, inode, length_bytes, chunks, chunk_count);
    if (err == GFS_OK) {
        err = changes_reserve(changes, RECORD_INODE_MAX_BYTES +
                                           chunk_count * (size_t)RECORD_CHUNK_MAX_BYTES);
    }
    if (err != GFS_OK) {
        return err;
    }
    uint64_t length = length_bytes > inode->length_bytes ? length_bytes : inode->length_bytes;
    for (size_t i = 0; i < chunk_count; i++) {
        struct chunk *chunk = ns_chunk_at(ns, inode, chunks[i].index);
        if (chunks[i].length_bytes > chunk->length_bytes) {
            chunk->length_bytes = chunks[i].length_bytes;
            record_put_chunk(ns, chunk, changes);
        }
        uint64_t end = ((uint64_t)chunks[i].index << inode->chunk_shift) + chunks[i].length_bytes;
        length = chunks[i].length_bytes > 0 && end > length ? end : length;
    }
    if (chunk_count > 0 || length > inode->length_bytes) {
        ns_set_length(ns, inode, length);
        inode->mtime_ms = inode->ctime_ms = ns_clamp_time(now_ms);
        record_put_inode(ns, inode, changes);
    }
    return GFS_OK;
}

/* ---- attributes ---------------------------------------------------------------------------- */
struct inode *ns_walk_next(const struct namespace *ns, const struct inode *top, struct inode *at)
{
    if (at->is_dir && at->count > 0) {
        struct inode *first;
        entries_list(ns, at, NULL, &first, 1);
        return first;
    }
    while (at != top) {
        struct inode *dir = inode_at(ns, at->parent);
        struct path_name name = entries_name(ns, at);
        struct inode *next;
        if (entries_list(ns, dir, &name, &next, 1) == 1) {
            return next;
        }
        at = dir;
    }
    return NULL;
}

static size_t ns_goal_room_bytes(const struct inode *inode)
{
    return RECORD_INODE_MAX_BYTES + inode_chunk_count(inode) * (size_t)RECORD_CHUNK_MAX_BYTES;
}

static bool ns_set_goal(struct namespace *ns, struct inode *inode, uint32_t goal, int64_t now_ms,
                        struct changes *changes)
{
    if (inode->goal == goal) {
        return false;
    }
    inode->goal = goal;
    inode->ctime_ms = ns_clamp_time(now_ms);
    for (uint32_t i = 0; i < inode_chunk_count(inode); i++) {
        struct chunk *chunk = ns_chunk_at(ns, inode, i);
        if (chunk == NULL || (chunk->references > 1 && chunk->goal > goal)) {
            continue; /* the other files' wish stands */
        }
        if (chunk->goal != goal) {
            chunk->goal = goal;
            record_put_chunk(ns, chunk, changes);
        }
    }
    record_put_inode(ns, inode, changes);
    return true;
}

static enum gfs_err ns_setattr_reserve(const struct namespace *ns, struct inode *inode,
                                       const struct ns_setattr_args *args, struct changes *changes)
{
    size_t room = ns_goal_room_bytes(inode) + RECORD_INODE_MAX_BYTES;
    if (args->set_goal && args->recursive) {
        room = RECORD_INODE_MAX_BYTES;
        for (struct inode *at = inode; at != NULL; at = ns_walk_next(ns, inode, at)) {
            if (at->goal != args->goal) {
                room += ns_goal_room_bytes(at);
            }
            if (room > CHANGES_MAX_BYTES) {
                return GFS_ERR_TOO_LARGE;
            }
        }
    }
    return changes_reserve(changes, room);
}

enum gfs_err ns_setattr(struct namespace *ns, struct inode *inode,
                        const struct ns_setattr_args *args, int64_t now_ms, struct changes *changes,
                        uint64_t *ret_changed)
{
    if ((args->set_goal && (args->goal == 0 || args->goal > GFS_GOAL_MAX)) ||
        (args->set_mode && args->mode > 07777) ||
        (args->set_mtime && args->mtime_ms != ns_clamp_time(args->mtime_ms))) {
        return GFS_ERR_INVAL;
    }
    enum gfs_err err = ns_setattr_reserve(ns, inode, args, changes);
    if (err != GFS_OK) {
        return err;
    }
    uint64_t changed = 0;
    if (args->set_goal) {
        changed += ns_set_goal(ns, inode, args->goal, now_ms, changes);
        struct inode *at = args->recursive ? ns_walk_next(ns, inode, inode) : NULL;
        for (; at != NULL; at = ns_walk_next(ns, inode, at)) {
            changed += ns_set_goal(ns, at, args->goal, now_ms, changes);
        }
    }
    if (args->set_mode || args->set_mtime) {
        inode->mode = args->set_mode ? args->mode : inode->mode;
        if (args->set_mtime) {
            inode->mtime_ms = ns_clamp_time(args->mtime_ms != 0 ? args->mtime_ms : now_ms);
        }
        inode->ctime_ms = ns_clamp_time(now_ms);
        record_put_inode(ns, inode, changes);
        changed += changed == 0;
    }
    *ret_changed = changed;
    return GFS_OK;
}
