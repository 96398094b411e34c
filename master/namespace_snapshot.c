/*
 * Snapshots: a copy of a tree that shares its chunks, and what it takes to unshare one again.
 *
 *   ns_snapshot            file a --+                 ns_chunk_replace     file a --> chunk 9
 *                                   +--> chunk 7                                     family 7
 *                          copy b --+   references 2                       copy b --> chunk 7
 *
 * Invariants: a chunk's references are the places in files that name it; a chunk with more than one
 * is never written, cut or made longer. What fails does so in the measuring pass, before anything
 * has changed: the building pass only takes what was reserved.
 */
#include <assert.h>
#include <stdlib.h>

#include "master/entries.h"
#include "master/inode.h"
#include "master/record.h"

struct snapshot_size {
    uint32_t inodes;
    uint32_t chunks;
    uint32_t tables;
    uint32_t segments; /* of chunk tables in use */
    uint32_t names[NS_NAME_SLABS];
    size_t room_bytes;
};

/* Memory of the copies' chunk tables, taken one by one while they are built. */
struct snapshot_tables {
    uint32_t **list;
    uint32_t count;
    uint32_t next;
};

/* ---- where ---------------------------------------------------------------------------------- */
bool ns_is_below(const struct namespace *ns, const struct inode *inode, uint64_t above_id)
{
    for (; inode != NULL; inode = inode_at(ns, inode->parent)) {
        if (inode->id == above_id) {
            return true;
        }
    }
    return false;
}

bool ns_is_removed(const struct namespace *ns, const struct inode *inode)
{
    for (; inode != NULL; inode = inode_at(ns, inode->parent)) {
        if (inode->trash) {
            return true;
        }
    }
    return false;
}

static enum gfs_err snapshot_resolve(const struct namespace *ns, const void *from,
                                     size_t from_bytes, const void *to, size_t to_bytes,
                                     struct inode **ret_from, struct path *ret_to,
                                     struct inode **ret_to_dir)
{
    enum gfs_err err = ns_lookup(ns, from, from_bytes, ret_from);
    if (err == GFS_OK) {
        err = path_init(ret_to, to, to_bytes);
    }
    if (err == GFS_OK && ret_to->depth == 0) {
        err = GFS_ERR_EXISTS;
    }
    if (err == GFS_OK) {
        err = ns_resolve_parent(ns, ret_to, ret_to_dir);
    }
    if (err != GFS_OK) {
        return err;
    }
    if (ns_is_below(ns, *ret_to_dir, (*ret_from)->id)) {
        return GFS_ERR_LOOP;
    }
    return entries_find(ns, *ret_to_dir, &ret_to->last) != NULL ? GFS_ERR_EXISTS : GFS_OK;
}

/* ---- how much ------------------------------------------------------------------------------- */
static uint32_t snapshot_segments_used(const struct namespace *ns, const struct inode *file)
{
    uint32_t used = 0;
    if (file->has_table) {
        const struct chunk_table *table = slab_at(&ns->tables, file->first);
        for (uint32_t i = 0; i < table->segment_count; i++) {
            used += table->segments[i] != 0;
        }
    }
    return used;
}

static enum gfs_err snapshot_measure_file(const struct namespace *ns, const struct inode *file,
                                          struct snapshot_size *size)
{
    uint32_t segments = snapshot_segments_used(ns, file);
    size->tables += file->has_table;
    size->segments += segments;
    size->room_bytes += segments * (size_t)RECORD_SEGMENT_MAX_BYTES;
    for (uint32_t i = 0; i < inode_chunk_count(file); i++) {
        const struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, file, i));
        if (chunk == NULL) {
            continue;
        }
        size->room_bytes += RECORD_CHUNK_MAX_BYTES;
        /* All of this snapshot's chunks may be the same one. */
        if (++size->chunks > NS_SNAPSHOT_CHUNKS_MAX ||
            chunk->references > CHUNK_REFERENCES_MAX - NS_SNAPSHOT_CHUNKS_MAX) {
            return GFS_ERR_TOO_LARGE;
        }
    }
    return GFS_OK;
}

/* The root of the copy is called `root_name`. */
static enum gfs_err snapshot_measure(const struct namespace *ns, struct inode *top,
                                     const struct path_name *root_name,
                                     struct snapshot_size *ret_size)
{
    *ret_size = (struct snapshot_size){0};
    enum gfs_err err = GFS_OK;
    for (struct inode *at = top; err == GFS_OK && at != NULL; at = ns_walk_next(ns, top, at)) {
        if (++ret_size->inodes > NS_SNAPSHOT_INODES_MAX) {
            return GFS_ERR_TOO_LARGE;
        }
        uint32_t name_bytes = at == top ? root_name->len_bytes : at->name_bytes;
        ret_size->names[entries_name_class(name_bytes)]++;
        ret_size->room_bytes += RECORD_INODE_MAX_BYTES + RECORD_NAME_MAX_BYTES;
        err = at->is_dir ? GFS_OK : snapshot_measure_file(ns, at, ret_size);
    }
    return err;
}

enum gfs_err ns_snapshot_check(const struct namespace *ns, const void *from, size_t from_bytes,
                               const void *to, size_t to_bytes, struct inode **ret_from)
{
    struct path to_path;
    struct inode *top;
    struct inode *to_dir;
    struct snapshot_size size;
    enum gfs_err err =
        snapshot_resolve(ns, from, from_bytes, to, to_bytes, &top, &to_path, &to_dir);
    if (err == GFS_OK) {
        err = snapshot_measure(ns, top, &to_path.last, &size);
    }
    if (err == GFS_OK) {
        *ret_from = top;
    }
    return err;
}

/* ---- room ----------------------------------------------------------------------------------- */
static void snapshot_tables_free(struct snapshot_tables *tables)
{
    for (uint32_t i = tables->next; i < tables->count; i++) {
        free(tables->list[i]);
    }
    free(tables->list);
}

static enum gfs_err snapshot_tables_make(const struct namespace *ns, struct inode *top,
                                         uint32_t count, struct snapshot_tables *ret_tables)
{
    *ret_tables = (struct snapshot_tables){0};
    ret_tables->list = count > 0 ? calloc(count, sizeof(*ret_tables->list)) : NULL;
    struct inode *at = count > 0 ? top : NULL;
    for (; at != NULL; at = ns_walk_next(ns, top, at)) {
        uint32_t segments = inode_table_segments(ns, at);
        if (ret_tables->list != NULL && segments > 0) {
            ret_tables->list[ret_tables->count] = calloc(segments, sizeof(uint32_t));
            if (ret_tables->list[ret_tables->count] == NULL) {
                break;
            }
            ret_tables->count++;
        }
    }
    if (ret_tables->count == count) {
        return GFS_OK;
    }
    snapshot_tables_free(ret_tables);
    return GFS_ERR_NO_MEMORY;
}

static enum gfs_err snapshot_reserve(struct namespace *ns, const struct snapshot_size *size,
                                     struct changes *changes)
{
    enum gfs_err err = ns_reserve_inodes(ns, size->inodes);
    for (uint32_t i = 0; err == GFS_OK && i < NS_NAME_SLABS; i++) {
        if (size->names[i] > 0) {
            err = entries_reserve(ns, (i + 1) * 8 - 1, size->names[i]);
        }
    }
    if (err == GFS_OK) {
        err = index_reserve(&ns->by_name, size->inodes);
    }
    if (err == GFS_OK) {
        err = slab_reserve(&ns->tables, size->tables);
    }
    if (err == GFS_OK) {
        err = slab_reserve(&ns->segments, size->segments);
    }
    if (err == GFS_OK) {
        err = changes_reserve(changes, size->room_bytes + RECORD_INODE_MAX_BYTES +
                                           2 * RECORD_SUPER_MAX_BYTES);
    }
    return err;
}

/* ---- building ------------------------------------------------------------------------------- */
static void snapshot_share_chunks(struct namespace *ns, struct inode *copy,
                                  const struct inode *from, struct snapshot_tables *tables,
                                  struct changes *changes)
{
    uint32_t *segments = from->has_table ? tables->list[tables->next++] : NULL;
    inode_chunks_share(ns, copy, from, segments);
    for (uint32_t i = 0; i < inode_chunk_count(copy); i++) {
        struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, copy, i));
        if (chunk != NULL) {
            chunkmap_hold(&ns->chunkmap, chunk, inode_ref(ns, copy));
            record_put_chunk(ns, chunk, changes);
        }
    }
    if (copy->has_table) {
        const struct chunk_table *table = slab_at(&ns->tables, copy->first);
        for (uint32_t i = 0; i < table->segment_count; i++) {
            if (table->segments[i] != 0) {
                record_put_segment(ns, copy, i, changes);
            }
        }
    }
}

static struct inode *snapshot_copy(struct namespace *ns, const struct inode *from,
                                   struct inode *into, const struct path_name *name,
                                   struct snapshot_tables *tables, int64_t now_ms,
                                   struct changes *changes)
{
    struct inode *copy = ns_add_inode(ns, ns_take_id(ns, &ns->inode_ids, changes), from->is_dir);
    copy->goal = from->goal;
    copy->mode = from->mode;
    copy->owner = from->owner;
    copy->chunk_shift = from->chunk_shift;
    copy->mtime_ms = from->mtime_ms;
    copy->ctime_ms = ns_clamp_time(now_ms);
    if (!from->is_dir) {
        ns_set_length(ns, copy, from->length_bytes);
        snapshot_share_chunks(ns, copy, from, tables, changes);
    }
    entries_insert(ns, into, name, copy);
    record_put_inode(ns, copy, changes);
    record_put_name(ns, copy, changes);
    return copy;
}

/* The next inode of the tree, as ns_walk_next, and the copy of its directory. */
static struct inode *snapshot_next(const struct namespace *ns, const struct inode *top,
                                   struct inode *at, struct inode *copy, struct inode **ret_into)
{
    struct inode *next = ns_walk_next(ns, top, at);
    if (next == NULL) {
        return NULL;
    }
    const struct inode *dir = inode_at(ns, next->parent);
    for (; at != dir; at = inode_at(ns, at->parent)) {
        copy = inode_at(ns, copy->parent);
    }
    *ret_into = copy;
    return next;
}

enum gfs_err ns_snapshot(struct namespace *ns, const void *from, size_t from_bytes, const void *to,
                         size_t to_bytes, int64_t now_ms, struct changes *changes)
{
    struct path to_path;
    struct inode *top;
    struct inode *to_dir;
    struct snapshot_size size;
    struct snapshot_tables tables;
    enum gfs_err err =
        snapshot_resolve(ns, from, from_bytes, to, to_bytes, &top, &to_path, &to_dir);
    if (err == GFS_OK) {
        err = snapshot_measure(ns, top, &to_path.last, &size);
    }
    if (err == GFS_OK) {
        err = snapshot_reserve(ns, &size, changes);
    }
    if (err == GFS_OK) {
        err = snapshot_tables_make(ns, top, size.tables, &tables);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct path_name name = to_path.last;
    struct inode *into = to_dir;
    for (struct inode *at = top; at != NULL;) {
        struct inode *copy = snapshot_copy(ns, at, into, &name, &tables, now_ms, changes);
        at = snapshot_next(ns, top, at, copy, &into);
        if (at != NULL) {
            name = entries_name(ns, at);
        }
    }
    ns_dir_changed(ns, to_dir, now_ms, changes);
    assert(tables.next == tables.count);
    snapshot_tables_free(&tables);
    return GFS_OK;
}

void ns_visit_chunks(const struct namespace *ns, struct inode *top,
                     void (*visit)(void *arg, struct chunk *chunk), void *arg)
{
    for (struct inode *at = top; at != NULL; at = ns_walk_next(ns, top, at)) {
        for (uint32_t i = 0; i < inode_chunk_count(at); i++) {
            struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, at, i));
            if (chunk != NULL) {
                visit(arg, chunk);
            }
        }
    }
}

/* ---- copy on write -------------------------------------------------------------------------- */
enum gfs_err ns_take_handle(struct namespace *ns, struct changes *changes, uint64_t *ret_handle)
{
    if (ns->handle_ids.limit == 0) {
        return GFS_ERR_STARTING;
    }
    if (ns->handle_ids.limit > NS_HANDLE_MAX) {
        return GFS_ERR_BUSY;
    }
    enum gfs_err err = changes_reserve(changes, RECORD_SUPER_MAX_BYTES);
    if (err == GFS_OK) {
        *ret_handle = ns_take_id(ns, &ns->handle_ids, changes);
    }
    return err;
}

enum gfs_err ns_chunk_replace(struct namespace *ns, struct inode *inode, uint32_t index,
                              uint64_t handle, int64_t now_ms, struct changes *changes,
                              struct chunk **ret_chunk)
{
    struct chunk *old = ns_chunk_at(ns, inode, index);
    if (old == NULL || old->references < 2 || handle >= ns->handle_ids.next ||
        chunkmap_find(&ns->chunkmap, handle) != NULL) {
        return GFS_ERR_INVAL;
    }
    if (ns->chunkmap.chunks.used_count >= ns->options.chunks_max) {
        return GFS_ERR_BUSY;
    }
    enum gfs_err err =
        changes_reserve(changes, 2 * RECORD_CHUNK_MAX_BYTES + RECORD_INODE_MAX_BYTES +
                                     RECORD_SEGMENT_MAX_BYTES);
    if (err == GFS_OK) {
        err = chunkmap_reserve(&ns->chunkmap);
    }
    if (err == GFS_OK) {
        err = chunkmap_reserve_family(&ns->chunkmap);
    }
    if (err == GFS_OK) {
        err = inode_chunks_reserve(ns, inode, index);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct chunk was = *old;
    uint64_t family = chunk_family(&ns->chunkmap, old);
    ns_release_chunk(ns, inode, index, now_ms, changes);
    struct chunk *chunk = ns_add_chunk(ns, inode, index, handle);
    chunkmap_set_family(&ns->chunkmap, chunk, family);
    chunk->length_bytes = was.length_bytes;
    chunk->truncating = was.truncating || was.owner != inode_ref(ns, inode);
    chunk->cuts = was.cuts;
    record_put_chunk(ns, chunk, changes);
    ns_put_place(ns, inode, index, changes);
    *ret_chunk = chunk;
    return GFS_OK;
}
