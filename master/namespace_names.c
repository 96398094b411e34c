/*
 * What gives, takes and moves names. Each function: check everything, reserve memory and room in
 * the changes, then do it; nothing fails after the first change.
 */
#include <assert.h>
#include <string.h>

#include "master/entries.h"
#include "master/inode.h"
#include "master/record.h"

#define NS_FILE_MODE_DEFAULT 0644u
#define NS_DIR_MODE_DEFAULT  0755u
#define NS_MODE_MASK         07777u

void ns_dir_changed(struct namespace *ns, struct inode *dir, int64_t now_ms,
                    struct changes *changes)
{
    int64_t now = ns_clamp_time(now_ms);
    if (dir->mtime_ms != now || dir->ctime_ms != now) {
        dir->mtime_ms = dir->ctime_ms = now;
        record_put_inode(ns, dir, changes);
    }
}

static void ns_init_inode(struct inode *inode, uint32_t goal, uint32_t mode, uint16_t owner,
                          int64_t now_ms)
{
    inode->goal = goal;
    inode->mode = mode & NS_MODE_MASK;
    inode->owner = owner;
    inode->mtime_ms = inode->ctime_ms = ns_clamp_time(now_ms);
}

static enum gfs_err ns_create_check(const struct ns_create_args *args, uint32_t *inout_size)
{
    uint32_t size = args->chunk_size_bytes != 0 ? args->chunk_size_bytes : *inout_size;
    if (size < GFS_CHUNK_SIZE_MIN_BYTES || size > GFS_CHUNK_SIZE_MAX_BYTES ||
        (size & (size - 1)) != 0 || args->goal > GFS_GOAL_MAX) {
        return GFS_ERR_INVAL;
    }
    *inout_size = size;
    return GFS_OK;
}

/* Makes the file; parent NULL: anonymous. */
static enum gfs_err ns_make_file(struct namespace *ns, struct inode *parent,
                                 const struct path_name *name, const struct ns_create_args *args,
                                 const struct inode *from_dir, int64_t now_ms,
                                 struct changes *changes, struct inode **ret_inode)
{
    uint32_t size = ns->options.chunk_size_bytes;
    uint16_t owner = 0;
    enum gfs_err err = ns_create_check(args, &size);
    if (err == GFS_OK) {
        err = ns_reserve_inodes(ns, 1);
    }
    if (err == GFS_OK && parent != NULL) {
        err = entries_reserve(ns, name->len_bytes, 1);
    }
    if (err == GFS_OK) {
        err = changes_reserve(changes, RECORD_SUPER_MAX_BYTES + 2 * RECORD_INODE_MAX_BYTES +
                                           RECORD_NAME_MAX_BYTES);
    }
    if (err == GFS_OK) {
        err = ns_intern_owner(ns, args->uid, args->gid, &owner);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct inode *inode = ns_add_inode(ns, ns_take_id(ns, &ns->inode_ids, changes), false);
    ns_init_inode(inode, args->goal != 0 ? args->goal : from_dir->goal,
                  args->mode != 0 ? args->mode : NS_FILE_MODE_DEFAULT, owner, now_ms);
    inode->chunk_shift = (uint32_t)__builtin_ctz(size);
    if (parent != NULL) {
        entries_insert(ns, parent, name, inode);
        record_put_inode(ns, inode, changes);
        record_put_name(ns, inode, changes);
        ns_dir_changed(ns, parent, now_ms, changes);
    } else {
        inode->anonymous = 1;
        inode->seen_ms = now_ms;
        ns_list_append(ns, &ns->anonymous, inode);
        record_put_inode(ns, inode, changes);
    }
    *ret_inode = inode;
    return GFS_OK;
}

enum gfs_err ns_create(struct namespace *ns, const struct ns_create_args *args, int64_t now_ms,
                       struct changes *changes, struct inode **ret_inode, bool *ret_created)
{
    struct path path;
    struct inode *parent = NULL;
    enum gfs_err err = path_init(&path, args->path, args->path_bytes);
    if (err == GFS_OK && path.depth == 0) {
        err = GFS_ERR_IS_DIR;
    }
    if (err == GFS_OK) {
        err = ns_resolve_parent(ns, &path, &parent);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct inode *there = entries_find(ns, parent, &path.last);
    if (there != NULL) {
        if (args->exclusive) {
            return GFS_ERR_EXISTS;
        }
        if (there->is_dir) {
            return GFS_ERR_IS_DIR;
        }
        if (!args->anonymous) {
            *ret_inode = there;
            *ret_created = false;
            return GFS_OK;
        }
    }
    struct inode *into = args->anonymous ? NULL : parent;
    err = ns_make_file(ns, into, &path.last, args, parent, now_ms, changes, ret_inode);
    if (err == GFS_OK) {
        *ret_created = true;
    }
    return err;
}

/* Where a publish goes. *ret_there: the file it replaces, or NULL. */
static enum gfs_err ns_publish_resolve(const struct namespace *ns, const struct inode *inode,
                                       const void *path_data, size_t path_bytes, bool replace,
                                       struct path *ret_path, struct inode **ret_parent,
                                       struct inode **ret_there)
{
    if (!inode->anonymous) {
        return GFS_ERR_INVAL;
    }
    enum gfs_err err = path_init(ret_path, path_data, path_bytes);
    if (err == GFS_OK && ret_path->depth == 0) {
        err = GFS_ERR_IS_DIR;
    }
    if (err == GFS_OK) {
        err = ns_resolve_parent(ns, ret_path, ret_parent);
    }
    if (err != GFS_OK) {
        return err;
    }
    *ret_there = entries_find(ns, *ret_parent, &ret_path->last);
    if (*ret_there == NULL) {
        return GFS_OK;
    }
    if ((*ret_there)->is_dir) {
        return GFS_ERR_IS_DIR;
    }
    return replace ? GFS_OK : GFS_ERR_EXISTS;
}

enum gfs_err ns_publish_check(const struct namespace *ns, const struct inode *inode,
                              const void *path_data, size_t path_bytes, bool replace)
{
    struct path path;
    struct inode *parent;
    struct inode *there;
    return ns_publish_resolve(ns, inode, path_data, path_bytes, replace, &path, &parent, &there);
}

/* Takes away the name of what is to be replaced and gives back what it held. */
static void ns_displace(struct namespace *ns, struct inode *there, int64_t now_ms,
                        struct changes *changes)
{
    record_delete_name(ns, there, changes);
    entries_remove(ns, there);
    if (there->is_dir) {
        record_delete_inode(there, changes);
        ns_drop_inode(ns, there);
    } else {
        ns_discard_file(ns, there, now_ms, changes);
    }
}

enum gfs_err ns_publish(struct namespace *ns, struct inode *inode, const void *path_data,
                        size_t path_bytes, bool replace, int64_t now_ms, struct changes *changes)
{
    struct path path;
    struct inode *parent;
    struct inode *there;
    enum gfs_err err =
        ns_publish_resolve(ns, inode, path_data, path_bytes, replace, &path, &parent, &there);
    if (err == GFS_OK) {
        err = entries_reserve(ns, path.last.len_bytes, 1);
    }
    if (err == GFS_OK) {
        err = changes_reserve(changes, 3 * RECORD_INODE_MAX_BYTES + 2 * RECORD_NAME_MAX_BYTES +
                                           RECORD_CHUNK_MAX_BYTES);
    }
    if (err != GFS_OK) {
        return err;
    }
    if (there != NULL) {
        ns_displace(ns, there, now_ms, changes);
    }
    ns_list_remove(ns, &ns->anonymous, inode);
    inode->anonymous = 0;
    inode->seen_ms = 0;
    inode->ctime_ms = ns_clamp_time(now_ms);
    entries_insert(ns, parent, &path.last, inode);
    record_put_inode(ns, inode, changes);
    record_put_name(ns, inode, changes);
    ns_dir_changed(ns, parent, now_ms, changes);
    return GFS_OK;
}

enum gfs_err ns_abandon(struct namespace *ns, struct inode *inode, int64_t now_ms,
                        struct changes *changes)
{
    if (!inode->anonymous) {
        return GFS_ERR_INVAL;
    }
    enum gfs_err err = changes_reserve(changes, RECORD_INODE_MAX_BYTES + RECORD_CHUNK_MAX_BYTES);
    if (err != GFS_OK) {
        return err;
    }
    ns_list_remove(ns, &ns->anonymous, inode);
    inode->anonymous = 0;
    inode->seen_ms = 0;
    ns_discard_file(ns, inode, now_ms, changes);
    return GFS_OK;
}

/* ---- directories --------------------------------------------------------------------------- */
/* Room for the directories of the rest of the walk, `count` of them. */
static enum gfs_err ns_mkdir_reserve(struct namespace *ns, const struct path *rest, uint32_t count,
                                     struct changes *changes)
{
    uint32_t classes[NS_NAME_SLABS] = {0};
    struct path walk = *rest;
    struct path_name name;
    while (path_next(&walk, &name)) {
        classes[entries_name_class(name.len_bytes)]++;
    }
    enum gfs_err err = ns_reserve_inodes(ns, count);
    for (uint32_t i = 0; err == GFS_OK && i < NS_NAME_SLABS; i++) {
        if (classes[i] > 0) {
            err = entries_reserve(ns, (i + 1) * 8 - 1, classes[i]);
        }
    }
    if (err == GFS_OK) {
        err = index_reserve(&ns->by_name, count);
    }
    size_t each = 2 * RECORD_INODE_MAX_BYTES + RECORD_NAME_MAX_BYTES;
    return err == GFS_OK ? changes_reserve(changes, RECORD_SUPER_MAX_BYTES + count * each) : err;
}

static struct inode *ns_make_dir(struct namespace *ns, struct inode *parent,
                                 const struct path_name *name, uint32_t mode, uint16_t owner,
                                 int64_t now_ms, struct changes *changes)
{
    struct inode *inode = ns_add_inode(ns, ns_take_id(ns, &ns->inode_ids, changes), true);
    ns_init_inode(inode, parent->goal, mode != 0 ? mode : NS_DIR_MODE_DEFAULT, owner, now_ms);
    entries_insert(ns, parent, name, inode);
    record_put_inode(ns, inode, changes);
    record_put_name(ns, inode, changes);
    ns_dir_changed(ns, parent, now_ms, changes);
    return inode;
}

enum gfs_err ns_mkdir(struct namespace *ns, const struct ns_mkdir_args *args, int64_t now_ms,
                      struct changes *changes, struct inode **ret_inode)
{
    struct path path;
    enum gfs_err err = path_init(&path, args->path, args->path_bytes);
    if (err != GFS_OK) {
        return err;
    }
    struct inode *inode = inode_at(ns, ns->root);
    struct path rest = path;
    struct path_name name;
    uint32_t found = 0;
    while (path_next(&path, &name)) {
        if (!inode->is_dir) {
            return GFS_ERR_NOT_DIR;
        }
        struct inode *next = entries_find(ns, inode, &name);
        if (next == NULL) {
            break;
        }
        inode = next;
        rest = path;
        found++;
    }
    uint32_t missing = path.depth - found;
    if (missing == 0) {
        if (!args->parents || !inode->is_dir) {
            return GFS_ERR_EXISTS;
        }
        *ret_inode = inode;
        return GFS_OK;
    }
    if (missing > 1 && !args->parents) {
        return GFS_ERR_NOT_FOUND;
    }
    uint16_t owner = 0;
    err = ns_mkdir_reserve(ns, &rest, missing, changes);
    if (err == GFS_OK) {
        err = ns_intern_owner(ns, args->uid, args->gid, &owner);
    }
    if (err != GFS_OK) {
        return err;
    }
    while (path_next(&rest, &name)) {
        inode = ns_make_dir(ns, inode, &name, args->mode, owner, now_ms, changes);
    }
    *ret_inode = inode;
    return GFS_OK;
}

enum gfs_err ns_remove(struct namespace *ns, const void *path_data, size_t path_bytes,
                       bool directory, bool recursive, int64_t now_ms, struct changes *changes)
{
    struct inode *inode;
    enum gfs_err err = ns_lookup(ns, path_data, path_bytes, &inode);
    if (err != GFS_OK) {
        return err;
    }
    if (inode_ref(ns, inode) == ns->root) {
        return GFS_ERR_PERM;
    }
    if (!inode->is_dir && directory) {
        return GFS_ERR_NOT_DIR;
    }
    if (inode->is_dir && !directory && !recursive) {
        return GFS_ERR_IS_DIR;
    }
    if (inode->is_dir && inode->count > 0 && !recursive) {
        return GFS_ERR_NOT_EMPTY;
    }
    err = changes_reserve(changes, 2 * RECORD_INODE_MAX_BYTES + RECORD_NAME_MAX_BYTES +
                                       RECORD_CHUNK_MAX_BYTES);
    if (err != GFS_OK) {
        return err;
    }
    struct inode *parent = inode_at(ns, inode->parent);
    if (inode->is_dir && inode->count > 0) {
        record_delete_name(ns, inode, changes);
        entries_remove(ns, inode);
        ns_discard_tree(ns, inode, changes);
    } else {
        ns_displace(ns, inode, now_ms, changes);
    }
    ns_dir_changed(ns, parent, now_ms, changes);
    return GFS_OK;
}

/* ---- rename -------------------------------------------------------------------------------- */
/* May `from` take the place of `there`? */
static enum gfs_err ns_rename_check(const struct inode *from, const struct inode *there,
                                    bool no_replace)
{
    if (there == NULL) {
        return GFS_OK;
    }
    if (no_replace) {
        return GFS_ERR_EXISTS;
    }
    if (there->is_dir && !from->is_dir) {
        return GFS_ERR_IS_DIR;
    }
    if (from->is_dir && !there->is_dir) {
        return GFS_ERR_NOT_DIR;
    }
    return there->is_dir && there->count > 0 ? GFS_ERR_NOT_EMPTY : GFS_OK;
}

static void ns_move(struct namespace *ns, struct inode *inode, struct inode *to_dir,
                    const struct path_name *to_name, int64_t now_ms, struct changes *changes)
{
    struct inode *from_dir = inode_at(ns, inode->parent);
    record_delete_name(ns, inode, changes);
    entries_remove(ns, inode);
    entries_insert(ns, to_dir, to_name, inode);
    inode->ctime_ms = ns_clamp_time(now_ms);
    record_put_inode(ns, inode, changes);
    record_put_name(ns, inode, changes);
    ns_dir_changed(ns, from_dir, now_ms, changes);
    ns_dir_changed(ns, to_dir, now_ms, changes);
}

enum gfs_err ns_rename(struct namespace *ns, const void *from, size_t from_bytes, const void *to,
                       size_t to_bytes, bool no_replace, int64_t now_ms, struct changes *changes)
{
    struct inode *inode;
    struct inode *to_dir = NULL;
    struct path to_path;
    enum gfs_err err = ns_lookup(ns, from, from_bytes, &inode);
    if (err == GFS_OK) {
        err = path_init(&to_path, to, to_bytes);
    }
    if (err != GFS_OK) {
        return err;
    }
    if (inode_ref(ns, inode) == ns->root) {
        return to_path.depth == 0 ? GFS_OK : GFS_ERR_LOOP;
    }
    if (to_path.depth == 0) {
        return inode->is_dir ? GFS_ERR_NOT_EMPTY : GFS_ERR_IS_DIR;
    }
    err = ns_resolve_parent(ns, &to_path, &to_dir);
    if (err != GFS_OK) {
        return err;
    }
    if (ns_is_below(ns, to_dir, inode->id)) {
        return GFS_ERR_LOOP;
    }
    struct inode *there = entries_find(ns, to_dir, &to_path.last);
    if (there == inode) {
        return no_replace ? GFS_ERR_EXISTS : GFS_OK;
    }
    err = ns_rename_check(inode, there, no_replace);
    if (err == GFS_OK) {
        err = entries_reserve(ns, to_path.last.len_bytes, 1);
    }
    if (err == GFS_OK) {
        err = changes_reserve(changes, 5 * RECORD_INODE_MAX_BYTES + 3 * RECORD_NAME_MAX_BYTES +
                                           RECORD_CHUNK_MAX_BYTES);
    }
    if (err != GFS_OK) {
        return err;
    }
    if (there != NULL) {
        ns_displace(ns, there, now_ms, changes);
    }
    ns_move(ns, inode, to_dir, &to_path.last, now_ms, changes);
    return GFS_OK;
}
