#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "master/entries.h"
#include "master/inode.h"
#include "master/record.h"

#define NS_COUNT_MAX (1u << 31)

static uint64_t ns_hash_id(const struct namespace *ns, uint64_t id)
{
    return index_mix(id ^ ns->options.seed);
}

static uint64_t ns_hash_inode(const void *arg, const void *item)
{
    return ns_hash_id(arg, ((const struct inode *)item)->id);
}

enum gfs_err ns_new(const struct ns_options *options, struct namespace **ret_ns)
{
    struct namespace *ns = calloc(1, sizeof(*ns));
    struct ns_owner *owners = calloc(NS_OWNERS_MAX, sizeof(*owners));
    if (ns == NULL || owners == NULL) {
        free(ns);
        free(owners);
        return GFS_ERR_NO_MEMORY;
    }
    ns->options = *options;
    if (ns->options.goal_default == 0) {
        ns->options.goal_default = GFS_GOAL_DEFAULT;
    }
    if (ns->options.chunk_size_bytes == 0) {
        ns->options.chunk_size_bytes = GFS_CHUNK_SIZE_DEFAULT_BYTES;
    }
    if (ns->options.inodes_max == 0 || ns->options.inodes_max > NS_COUNT_MAX) {
        ns->options.inodes_max = NS_COUNT_MAX;
    }
    if (ns->options.chunks_max == 0 || ns->options.chunks_max > NS_COUNT_MAX) {
        ns->options.chunks_max = NS_COUNT_MAX;
    }
    ns->owners = owners;
    ns->owner_count = 1; /* 0: root's */
    slab_init(&ns->inodes, sizeof(struct inode));
    for (uint32_t i = 0; i < NS_NAME_SLABS; i++) {
        slab_init(&ns->names[i], (i + 1) * 8);
    }
    slab_init(&ns->tables, sizeof(struct chunk_table));
    slab_init(&ns->segments, sizeof(struct chunk_segment));
    index_init(&ns->by_id, &ns->inodes, offsetof(struct inode, id_next), ns_hash_inode, ns);
    index_init(&ns->by_name, &ns->inodes, offsetof(struct inode, name_next), entries_hash_item, ns);
    chunkmap_init(&ns->chunkmap, ns->options.seed);
    *ret_ns = ns;
    return GFS_OK;
}

void ns_free(struct namespace *ns)
{
    if (ns == NULL) {
        return;
    }
    for (uint32_t ref = slab_next_used(&ns->tables, 1); ref != 0;
         ref = slab_next_used(&ns->tables, ref + 1)) {
        free(((struct chunk_table *)slab_at(&ns->tables, ref))->segments);
    }
    chunkmap_release(&ns->chunkmap);
    index_release(&ns->by_name);
    index_release(&ns->by_id);
    slab_release(&ns->segments);
    slab_release(&ns->tables);
    for (uint32_t i = 0; i < NS_NAME_SLABS; i++) {
        slab_release(&ns->names[i]);
    }
    slab_release(&ns->inodes);
    free(ns->owners);
    free(ns);
}

enum gfs_err ns_format(struct namespace *ns, const uint8_t cluster_id[GFS_UUID_BYTES],
                       int64_t now_ms, struct changes *changes)
{
    assert(ns->root == 0);
    enum gfs_err err = changes_reserve(changes, RECORD_SUPER_MAX_BYTES + RECORD_INODE_MAX_BYTES);
    if (err != GFS_OK) {
        return err;
    }
    ns->inode_ids = (struct ns_ids){NS_ROOT_INODE, NS_ID_RANGE};
    ns->handle_ids = (struct ns_ids){1, NS_ID_RANGE};
    err = ns_reserve_inodes(ns, 1);
    if (err != GFS_OK) {
        return err;
    }
    memcpy(ns->cluster_id, cluster_id, GFS_UUID_BYTES);
    struct inode *root = ns_add_inode(ns, ns_take_id(ns, &ns->inode_ids, changes), true);
    root->goal = ns->options.goal_default;
    root->mode = 0755;
    root->mtime_ms = root->ctime_ms = ns_clamp_time(now_ms);
    ns->root = inode_ref(ns, root);
    record_put_super(ns, changes);
    record_put_inode(ns, root, changes);
    return GFS_OK;
}

enum gfs_err ns_start(struct namespace *ns, struct changes *changes)
{
    enum gfs_err err = changes_reserve(changes, RECORD_SUPER_MAX_BYTES);
    if (err == GFS_OK) {
        ns->inode_ids.limit = ns->inode_ids.next + NS_ID_RANGE;
        ns->handle_ids.limit = ns->handle_ids.next + NS_ID_RANGE;
        record_put_super(ns, changes);
    }
    return err;
}

void ns_cluster_id(const struct namespace *ns, uint8_t ret_id[GFS_UUID_BYTES])
{
    memcpy(ret_id, ns->cluster_id, GFS_UUID_BYTES);
}

struct chunkmap *ns_chunkmap(struct namespace *ns)
{
    return &ns->chunkmap;
}

void ns_counters(const struct namespace *ns, struct ns_counters *ret_counters)
{
    uint64_t memory = slab_memory_bytes(&ns->inodes) + slab_memory_bytes(&ns->tables) +
                      slab_memory_bytes(&ns->segments) + index_memory_bytes(&ns->by_id) +
                      index_memory_bytes(&ns->by_name) + chunkmap_memory_bytes(&ns->chunkmap) +
                      ns->table_bytes;
    for (uint32_t i = 0; i < NS_NAME_SLABS; i++) {
        memory += slab_memory_bytes(&ns->names[i]);
    }
    *ret_counters = (struct ns_counters){
        .files = ns->files,
        .directories = ns->directories,
        .chunks = ns->chunkmap.live_count,
        .length_bytes = ns->length_bytes,
        .anonymous = ns->anonymous.count,
        .trash = ns->trash.count,
        .memory_bytes = memory,
    };
}

/* ---- inodes -------------------------------------------------------------------------------- */
struct inode *inode_find(const struct namespace *ns, uint64_t id)
{
    uint32_t ref = index_first(&ns->by_id, ns_hash_id(ns, id));
    while (ref != 0 && inode_at(ns, ref)->id != id) {
        ref = index_next(&ns->by_id, ref);
    }
    return inode_at(ns, ref);
}

uint64_t inode_id(const struct inode *inode)
{
    return inode->id;
}

uint32_t inode_type(const struct inode *inode)
{
    return inode->is_dir ? INODE_DIR : INODE_FILE;
}

enum gfs_err ns_inode(const struct namespace *ns, uint64_t inode_id, struct inode **ret_inode)
{
    struct inode *inode = inode_find(ns, inode_id);
    if (inode == NULL || inode->trash) {
        return GFS_ERR_STALE_HANDLE;
    }
    *ret_inode = inode;
    return GFS_OK;
}

enum gfs_err ns_reserve_inodes(struct namespace *ns, uint32_t count)
{
    if (ns->inode_ids.limit == 0) {
        return GFS_ERR_STARTING;
    }
    if (ns->inodes.used_count + (uint64_t)count > ns->options.inodes_max ||
        ns->inode_ids.limit > NS_ID_MAX - NS_ID_RANGE) {
        return GFS_ERR_BUSY;
    }
    enum gfs_err err = slab_reserve(&ns->inodes, count);
    return err == GFS_OK ? index_reserve(&ns->by_id, count) : err;
}

enum gfs_err ns_intern_owner(struct namespace *ns, uint32_t uid, uint32_t gid, uint16_t *ret_owner)
{
    uint32_t i = 0;
    while (i < ns->owner_count && (ns->owners[i].uid != uid || ns->owners[i].gid != gid)) {
        i++;
    }
    if (i == ns->owner_count) {
        if (i == NS_OWNERS_MAX) {
            return GFS_ERR_BUSY;
        }
        ns->owners[ns->owner_count++] = (struct ns_owner){uid, gid};
    }
    *ret_owner = (uint16_t)i;
    return GFS_OK;
}

uint64_t ns_take_id(struct namespace *ns, struct ns_ids *ids, struct changes *changes)
{
    assert(ids->next < ids->limit);
    uint64_t id = ids->next++;
    /* Half a range ahead: longer than the journal's queue, so that the new limit is durable before
     * an id beyond the old one is told to anybody. */
    if (ids->limit - ids->next < NS_ID_RANGE / 2) {
        ids->limit += NS_ID_RANGE / 2;
        record_put_super(ns, changes);
    }
    return id;
}

struct inode *ns_add_inode(struct namespace *ns, uint64_t id, bool is_dir)
{
    uint32_t ref = slab_alloc(&ns->inodes);
    struct inode *inode = inode_at(ns, ref);
    inode->id = id;
    inode->is_dir = is_dir;
    index_insert(&ns->by_id, ns_hash_id(ns, id), ref);
    if (is_dir) {
        ns->directories++;
    } else {
        ns->files++;
    }
    return inode;
}

void ns_drop_inode(struct namespace *ns, struct inode *inode)
{
    assert(inode->parent == 0 && inode->count == 0);
    if (inode->is_dir) {
        ns->directories--;
    } else {
        ns->files--;
    }
    ns->length_bytes -= inode->length_bytes;
    uint32_t ref = inode_ref(ns, inode);
    index_remove(&ns->by_id, ns_hash_id(ns, inode->id), ref);
    slab_free(&ns->inodes, ref);
}

void ns_set_length(struct namespace *ns, struct inode *file, uint64_t length_bytes)
{
    ns->length_bytes += length_bytes - file->length_bytes;
    file->length_bytes = length_bytes;
}

int64_t ns_clamp_time(int64_t time_ms)
{
    if (time_ms > NS_TIME_MAX_MS) {
        return NS_TIME_MAX_MS;
    }
    return time_ms < -NS_TIME_MAX_MS ? -NS_TIME_MAX_MS : time_ms;
}

void ns_list_append(struct namespace *ns, struct ns_inode_list *list, struct inode *inode)
{
    uint32_t ref = inode_ref(ns, inode);
    inode->left = list->last;
    inode->right = 0;
    if (list->last != 0) {
        inode_at(ns, list->last)->right = ref;
    } else {
        list->first = ref;
    }
    list->last = ref;
    list->count++;
}

void ns_list_remove(struct namespace *ns, struct ns_inode_list *list, struct inode *inode)
{
    if (inode->left != 0) {
        inode_at(ns, inode->left)->right = inode->right;
    } else {
        list->first = inode->right;
    }
    if (inode->right != 0) {
        inode_at(ns, inode->right)->left = inode->left;
    } else {
        list->last = inode->left;
    }
    inode->left = inode->right = 0;
    list->count--;
}

/* ---- lookup -------------------------------------------------------------------------------- */
/* Steps down from `dir` by one name. */
static enum gfs_err ns_step(const struct namespace *ns, const struct path_name *name,
                            struct inode **inout_inode)
{
    if (!(*inout_inode)->is_dir) {
        return GFS_ERR_NOT_DIR;
    }
    struct inode *next = entries_find(ns, *inout_inode, name);
    if (next == NULL) {
        return GFS_ERR_NOT_FOUND;
    }
    *inout_inode = next;
    return GFS_OK;
}

enum gfs_err ns_lookup(const struct namespace *ns, const void *path_data, size_t path_bytes,
                       struct inode **ret_inode)
{
    struct path path;
    enum gfs_err err = path_init(&path, path_data, path_bytes);
    if (err != GFS_OK) {
        return err;
    }
    struct inode *inode = inode_at(ns, ns->root);
    struct path_name name;
    while (err == GFS_OK && path_next(&path, &name)) {
        err = ns_step(ns, &name, &inode);
    }
    if (err == GFS_OK) {
        *ret_inode = inode;
    }
    return err;
}

enum gfs_err ns_resolve_parent(const struct namespace *ns, const struct path *path,
                               struct inode **ret_parent)
{
    struct path walk = *path;
    struct inode *inode = inode_at(ns, ns->root);
    struct path_name name;
    for (uint32_t i = 0; i + 1 < path->depth; i++) {
        path_next(&walk, &name);
        enum gfs_err err = ns_step(ns, &name, &inode);
        if (err != GFS_OK) {
            return err;
        }
    }
    if (!inode->is_dir) {
        return GFS_ERR_NOT_DIR;
    }
    *ret_parent = inode;
    return GFS_OK;
}

void ns_attr(const struct namespace *ns, const struct inode *inode, struct inode_attr *ret_attr)
{
    *ret_attr = (struct inode_attr){
        .inode = inode->id,
        .type = inode_type(inode),
        .anonymous = inode->anonymous,
        .length_bytes = inode->length_bytes,
        .goal = inode->goal,
        .chunk_size_bytes = inode->is_dir ? 0 : 1u << inode->chunk_shift,
        .mtime_ms = inode->mtime_ms,
        .ctime_ms = inode->ctime_ms,
        .mode = inode->mode,
        .uid = ns->owners[inode->owner].uid,
        .gid = ns->owners[inode->owner].gid,
        .chunk_count = inode_chunk_count(inode),
        .entry_count = inode->is_dir ? inode->count : 0,
    };
}

enum gfs_err ns_list(const struct namespace *ns, const struct inode *dir, const void *after,
                     size_t after_bytes, struct ns_entry *ret_entries, size_t max,
                     size_t *ret_count, bool *ret_more)
{
    if (!dir->is_dir) {
        return GFS_ERR_NOT_DIR;
    }
    if (max == 0 || max > NS_LIST_MAX || after_bytes > GFS_NAME_MAX_BYTES) {
        return GFS_ERR_INVAL;
    }
    struct path_name behind = {after, (uint32_t)after_bytes};
    struct inode *inodes[NS_LIST_MAX + 1];
    size_t count = entries_list(ns, dir, after_bytes > 0 ? &behind : NULL, inodes, max + 1);
    *ret_more = count > max;
    *ret_count = count > max ? max : count;
    for (size_t i = 0; i < *ret_count; i++) {
        ret_entries[i] = (struct ns_entry){entries_name(ns, inodes[i]), inodes[i]};
    }
    return GFS_OK;
}
