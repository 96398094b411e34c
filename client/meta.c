/* Calls of gfs.h on names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "failure.h"
#include "master.pb-c.h"

static enum gfs_err lookup_take(void *arg, const ProtobufCMessage *msg)
{
    return attr_take(((const Gfs__LookupReply *)msg)->attr, arg);
}

static enum gfs_err lookup(struct gfs *fs, const char *what, const char *path,
                           struct gfs_attr *ret_attr)
{
    enum gfs_err err = call_check_path(what, path);
    if (err != GFS_OK)
        return err;
    Gfs__LookupRequest msg = GFS__LOOKUP_REQUEST__INIT;
    msg.path = call_bytes(path);
    struct gfs_attr attr = {0};
    struct call call = {.type = GFS_MSG_LOOKUP,
                        .msg = &msg.base,
                        .take = lookup_take,
                        .arg = &attr,
                        .what = what,
                        .path = path};
    err = call_master(fs, &call);
    if (err == GFS_OK)
        *ret_attr = attr;
    return err;
}

enum gfs_err gfs_stat(struct gfs *fs, const char *path, struct gfs_attr *ret_attr)
{
    return lookup(fs, "stat", path, ret_attr);
}

enum gfs_err gfs_mkdir(struct gfs *fs, const char *path, uint32_t mode, bool parents)
{
    enum gfs_err err = call_check_path("mkdir", path);
    if (err != GFS_OK)
        return err;
    uint8_t id[FS_ID_BYTES];
    fs_make_id(fs, id);
    Gfs__MkdirRequest msg = GFS__MKDIR_REQUEST__INIT;
    msg.path = call_bytes(path);
    msg.parents = parents;
    msg.mode = mode != 0 ? mode : 0755;
    msg.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    struct call call = {.type = GFS_MSG_MKDIR, .msg = &msg.base, .what = "mkdir", .path = path};
    return call_master(fs, &call);
}

static enum gfs_err remove_path(struct gfs *fs, const char *what, const char *path, bool directory,
                                bool recursive)
{
    enum gfs_err err = call_check_path(what, path);
    if (err != GFS_OK)
        return err;
    uint8_t id[FS_ID_BYTES];
    fs_make_id(fs, id);
    Gfs__RemoveRequest msg = GFS__REMOVE_REQUEST__INIT;
    msg.path = call_bytes(path);
    msg.directory = directory;
    msg.recursive = recursive;
    msg.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    struct call call = {.type = GFS_MSG_REMOVE, .msg = &msg.base, .what = what, .path = path};
    return call_master(fs, &call);
}

enum gfs_err gfs_unlink(struct gfs *fs, const char *path)
{
    return remove_path(fs, "unlink", path, false, false);
}

enum gfs_err gfs_rmdir(struct gfs *fs, const char *path)
{
    return remove_path(fs, "rmdir", path, true, false);
}

enum gfs_err gfs_remove_tree(struct gfs *fs, const char *path)
{
    return remove_path(fs, "remove", path, false, true);
}

#define META_SHOWN_BYTES 200 /* of each of two paths in an error text */

struct two_paths {
    char text[2 * META_SHOWN_BYTES + 16];
};

/* Either may be what is wrong. */
static const char *two_paths(struct two_paths *both, const char *from, const char *to)
{
    snprintf(both->text, sizeof(both->text), "%.*s%s to %.*s%s", META_SHOWN_BYTES, from,
             strlen(from) > META_SHOWN_BYTES ? "..." : "", META_SHOWN_BYTES, to,
             strlen(to) > META_SHOWN_BYTES ? "..." : "");
    return both->text;
}

enum gfs_err gfs_rename(struct gfs *fs, const char *from, const char *to)
{
    enum gfs_err err = call_check_path("rename", from);
    if (err == GFS_OK)
        err = call_check_path("rename", to);
    if (err != GFS_OK)
        return err;
    uint8_t id[FS_ID_BYTES];
    fs_make_id(fs, id);
    Gfs__RenameRequest msg = GFS__RENAME_REQUEST__INIT;
    msg.from = call_bytes(from);
    msg.to = call_bytes(to);
    msg.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    struct two_paths both;
    struct call call = {.type = GFS_MSG_RENAME,
                        .msg = &msg.base,
                        .what = "rename",
                        .path = two_paths(&both, from, to)};
    return call_master(fs, &call);
}

enum gfs_err gfs_snapshot(struct gfs *fs, const char *from, const char *to)
{
    enum gfs_err err = call_check_path("snapshot", from);
    if (err == GFS_OK)
        err = call_check_path("snapshot", to);
    if (err != GFS_OK)
        return err;
    uint8_t id[FS_ID_BYTES];
    fs_make_id(fs, id);
    Gfs__SnapshotRequest msg = GFS__SNAPSHOT_REQUEST__INIT;
    msg.from = call_bytes(from);
    msg.to = call_bytes(to);
    msg.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    struct two_paths both;
    struct call call = {.type = GFS_MSG_SNAPSHOT,
                        .msg = &msg.base,
                        .what = "snapshot",
                        .path = two_paths(&both, from, to)};
    return call_master(fs, &call);
}

enum gfs_err gfs_truncate(struct gfs *fs, const char *path, uint64_t size_bytes)
{
    struct gfs_attr attr;
    enum gfs_err err = lookup(fs, "truncate", path, &attr);
    if (err != GFS_OK)
        return err;
    if (attr.type != GFS_TYPE_FILE)
        return call_failed(fs, "truncate", path, GFS_ERR_IS_DIR, "");
    Gfs__TruncateRequest msg = GFS__TRUNCATE_REQUEST__INIT;
    msg.inode = attr.inode;
    msg.length = size_bytes;
    struct call call = {.type = GFS_MSG_TRUNCATE,
                        .msg = &msg.base,
                        .what = "truncate",
                        .path = path};
    return call_master(fs, &call);
}

static enum gfs_err setattr_take(void *arg, const ProtobufCMessage *msg)
{
    *(uint64_t *)arg = ((const Gfs__SetattrReply *)msg)->changed;
    return GFS_OK;
}

static enum gfs_err setattr(struct gfs *fs, const char *what, const char *path,
                            Gfs__SetattrRequest *msg, uint64_t *ret_changed)
{
    enum gfs_err err = call_check_path(what, path);
    if (err != GFS_OK)
        return err;
    msg->path = call_bytes(path);
    struct call call = {.type = GFS_MSG_SETATTR,
                        .msg = &msg->base,
                        .take = setattr_take,
                        .arg = ret_changed,
                        .what = what,
                        .path = path};
    return call_master(fs, &call);
}

enum gfs_err gfs_set_mtime(struct gfs *fs, const char *path, int64_t mtime_ms)
{
    Gfs__SetattrRequest msg = GFS__SETATTR_REQUEST__INIT;
    msg.set_mtime = true;
    msg.mtime_ms = mtime_ms;
    uint64_t changed;
    return setattr(fs, "set mtime of", path, &msg, &changed);
}

enum gfs_err gfs_set_goal(struct gfs *fs, const char *path, uint32_t goal, bool recursive,
                          uint64_t *ret_changed)
{
    if (goal < 1 || goal > GFS_GOAL_MAX)
        return failure_set(GFS_ERR_INVAL, "set goal of %s: a goal is 1 to %u replicas, not %u",
                           path != NULL ? path : "", GFS_GOAL_MAX, goal);
    Gfs__SetattrRequest msg = GFS__SETATTR_REQUEST__INIT;
    msg.set_goal = true;
    msg.goal = goal;
    msg.recursive = recursive;
    uint64_t changed = 0;
    enum gfs_err err = setattr(fs, "set goal of", path, &msg, &changed);
    if (err == GFS_OK && ret_changed != NULL)
        *ret_changed = changed;
    return err;
}

static enum gfs_err statfs_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__StatfsReply *reply = (const Gfs__StatfsReply *)msg;
    *(struct gfs_statfs *)arg = (struct gfs_statfs){
        .capacity_bytes = reply->capacity_bytes,
        .used_bytes = reply->used_bytes,
        .files = reply->files,
        .directories = reply->directories,
        .chunks = reply->chunks,
        .under_replicated_chunks = reply->under_replicated,
        .lost_chunks = reply->lost,
        .master_memory_bytes = reply->memory_bytes,
        .servers_up = reply->servers_up,
        .servers_down = reply->servers_down,
    };
    return GFS_OK;
}

enum gfs_err gfs_statfs(struct gfs *fs, struct gfs_statfs *ret_statfs)
{
    Gfs__StatfsRequest msg = GFS__STATFS_REQUEST__INIT;
    struct gfs_statfs statfs = {0};
    struct call call = {.type = GFS_MSG_STATFS,
                        .msg = &msg.base,
                        .take = statfs_take,
                        .arg = &statfs,
                        .what = "statfs"};
    enum gfs_err err = call_master(fs, &call);
    if (err == GFS_OK)
        *ret_statfs = statfs;
    return err;
}
