/* Calls of gfs.h for many paths at once. */
#include "attr.h"
#include "call.h"
#include "failure.h"
#include "master.pb-c.h"

struct batch {
    struct gfs *fs;
    const char *const *paths;
    struct gfs_attr *attrs;
    uint64_t first_id; /* a retry must carry the op_id of its first try */
    /* the request in the making */
    Gfs__LookupRequest lookup;
    Gfs__CreateRequest create;
    uint8_t op_id[FS_ID_BYTES];
};

/* All paths are fit to be sent: their errs become TIMEOUT, "not answered yet". */
static enum gfs_err batch_check(const char *what, const char *const *paths, size_t count,
                                enum gfs_err *ret_errs)
{
    for (size_t i = 0; i < count; i++) {
        enum gfs_err err = call_check_path(what, paths[i]);
        if (err != GFS_OK) {
            for (size_t k = 0; k < count; k++)
                ret_errs[k] = k == i ? err : GFS_ERR_CANCELLED;
            return err;
        }
    }
    for (size_t i = 0; i < count; i++)
        ret_errs[i] = GFS_ERR_TIMEOUT;
    return GFS_OK;
}

static const ProtobufCMessage *batch_lookup(void *arg, size_t i)
{
    struct batch *batch = arg;
    batch->lookup.path = call_bytes(batch->paths[i]);
    return &batch->lookup.base;
}

static enum gfs_err batch_lookup_take(void *arg, size_t i, const ProtobufCMessage *msg)
{
    struct batch *batch = arg;
    return attr_take(((const Gfs__LookupReply *)msg)->attr, &batch->attrs[i]);
}

enum gfs_err gfs_stat_many(struct gfs *fs, const char *const *paths, size_t count,
                           struct gfs_attr *ret_attrs, enum gfs_err *ret_errs)
{
    enum gfs_err err = batch_check("stat", paths, count, ret_errs);
    if (err != GFS_OK)
        return err;
    struct batch batch = {.paths = paths, .attrs = ret_attrs, .lookup = GFS__LOOKUP_REQUEST__INIT};
    struct call_many many = {.type = GFS_MSG_LOOKUP,
                             .count = count,
                             .msg = batch_lookup,
                             .take = batch_lookup_take,
                             .arg = &batch,
                             .what = "stat",
                             .paths = paths,
                             .ret_errs = ret_errs};
    return call_many(fs, &many);
}

static const ProtobufCMessage *batch_create(void *arg, size_t i)
{
    struct batch *batch = arg;
    batch->create.path = call_bytes(batch->paths[i]);
    fs_id(batch->fs, batch->first_id + i, batch->op_id);
    return &batch->create.base;
}

enum gfs_err gfs_create_many(struct gfs *fs, const char *const *paths, size_t count,
                             const struct gfs_create_options *create_opts, enum gfs_err *ret_errs)
{
    enum gfs_err err = batch_check("create", paths, count, ret_errs);
    if (err != GFS_OK)
        return err;
    struct batch batch = {.fs = fs,
                          .paths = paths,
                          .first_id = fs_reserve_ids(fs, count),
                          .create = GFS__CREATE_REQUEST__INIT};
    if (create_opts != NULL) {
        batch.create.goal = create_opts->goal;
        batch.create.chunk_size = create_opts->chunk_size_bytes;
        batch.create.mode = create_opts->mode;
    }
    if (batch.create.mode == 0)
        batch.create.mode = 0644;
    batch.create.exclusive = true;
    batch.create.op_id = (ProtobufCBinaryData){.len = FS_ID_BYTES, .data = batch.op_id};
    struct call_many many = {.type = GFS_MSG_CREATE,
                             .count = count,
                             .msg = batch_create,
                             .arg = &batch,
                             .what = "create",
                             .paths = paths,
                             .ret_errs = ret_errs};
    return call_many(fs, &many);
}
