/* Requests about names: lookup, listing, directories, removal, renaming, attributes. */
#include "master/service_op.h"

/* An error found by looking at the state: true to the caller only once that state is durable. */
static void fail_op(struct service *service, struct rpc_request *take_request, enum gfs_err err)
{
    struct op *op = op_new(service, take_request);
    if (op != NULL) {
        op_fail(op, err, 0, NULL);
    }
}

void service_lookup(struct service *service, struct rpc_request *take_request)
{
    const Gfs__LookupRequest *msg = (const void *)take_request->msg;
    struct inode *inode;
    enum gfs_err err = ns_lookup(service->parts.ns, msg->path.data, msg->path.len, &inode);
    if (err != GFS_OK) {
        fail_op(service, take_request, err);
        return;
    }
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    Gfs__LookupReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Attr *attr = op_alloc(op, 1, sizeof(*attr));
    if (reply != NULL && attr != NULL) {
        gfs__lookup_reply__init(reply);
        op_set_attr(op, inode, attr);
        reply->attr = attr;
        op->reply = &reply->base;
        ns_anonymous_touch(service->parts.ns, inode, service_steady_ms(service));
    }
    op_finish(op);
}

static void fill_listing(struct op *op, const struct ns_entry *entries, size_t count, bool more)
{
    Gfs__ReaddirReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__DirEntry **list = op_alloc(op, count, sizeof(*list));
    Gfs__DirEntry *items = op_alloc(op, count, sizeof(*items));
    Gfs__Attr *attrs = op_alloc(op, count, sizeof(*attrs));
    if (reply == NULL || list == NULL || items == NULL || attrs == NULL) {
        return;
    }
    gfs__readdir_reply__init(reply);
    for (size_t i = 0; i < count; i++) {
        gfs__dir_entry__init(&items[i]);
        items[i].name = op_copy(op, entries[i].name.data, entries[i].name.len_bytes);
        op_set_attr(op, entries[i].inode, &attrs[i]);
        items[i].attr = &attrs[i];
        list[i] = &items[i];
    }
    reply->entries = list;
    reply->n_entries = count;
    reply->more = more;
    op->reply = &reply->base;
}

void service_readdir(struct service *service, struct rpc_request *take_request)
{
    const Gfs__ReaddirRequest *msg = (const void *)take_request->msg;
    struct inode *dir;
    enum gfs_err err = ns_lookup(service->parts.ns, msg->path.data, msg->path.len, &dir);
    if (err == GFS_OK && msg->after.len > GFS_NAME_MAX_BYTES) {
        err = GFS_ERR_NAME_TOO_LONG;
    }
    struct ns_entry entries[NS_LIST_MAX];
    size_t max = msg->limit == 0 || msg->limit > NS_LIST_MAX ? NS_LIST_MAX : msg->limit;
    size_t count = 0;
    bool more = false;
    if (err == GFS_OK) {
        err = ns_list(service->parts.ns, dir, msg->after.data, msg->after.len, entries, max, &count,
                      &more);
    }
    if (err != GFS_OK) {
        fail_op(service, take_request, err);
        return;
    }
    struct op *op = op_new(service, take_request);
    if (op != NULL) {
        fill_listing(op, entries, count, more);
        op_finish(op);
    }
}

/* A retry of an operation that was done: its first answer, without doing it again. */
static bool was_done(const struct service *service, ProtobufCBinaryData id, enum gfs_msg kind)
{
    struct opwindow_result result;
    return opwindow_find(service->parts.window, id.data, id.len, kind, &result);
}

static void record(struct service *service, ProtobufCBinaryData id, enum gfs_msg kind)
{
    struct opwindow_result result = {.kind = kind};
    opwindow_record(service->parts.window, id.data, id.len, &result, &service->changes);
}

/* Ends an operation whose reply is empty: `err` is what the namespace said. */
static void end_change(struct op *op, enum gfs_err err, ProtobufCBinaryData id)
{
    if (err != GFS_OK) {
        changes_clear(&op->service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    struct service *service = op->service;
    record(service, id, op->request->type);
    op_answer_empty(op);
    op_commit(op);
    service_wait_check(service);
}

/* What every change begins with. NULL: the request has been answered. */
static struct op *begin_change(struct service *service, struct rpc_request *take_request,
                               ProtobufCBinaryData id)
{
    if (service_is_full(service, take_request)) {
        return NULL;
    }
    enum gfs_msg kind = take_request->type;
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return NULL;
    }
    if (was_done(service, id, kind)) {
        op_answer_empty(op);
        op_finish(op);
        return NULL;
    }
    enum gfs_err err = opwindow_reserve(&service->changes);
    if (err != GFS_OK) {
        op_fail(op, err, 0, NULL);
        return NULL;
    }
    return op;
}

void service_mkdir(struct service *service, struct rpc_request *take_request)
{
    const Gfs__MkdirRequest *msg = (const void *)take_request->msg;
    struct op *op = begin_change(service, take_request, msg->op_id);
    if (op == NULL) {
        return;
    }
    struct ns_mkdir_args args = {
        .path = msg->path.data,
        .path_bytes = msg->path.len,
        .mode = msg->mode,
        .parents = msg->parents,
    };
    struct inode *inode;
    enum gfs_err err =
        ns_mkdir(service->parts.ns, &args, service_wall_ms(), &service->changes, &inode);
    end_change(op, err, msg->op_id);
}

void service_remove(struct service *service, struct rpc_request *take_request)
{
    const Gfs__RemoveRequest *msg = (const void *)take_request->msg;
    struct op *op = begin_change(service, take_request, msg->op_id);
    if (op == NULL) {
        return;
    }
    enum gfs_err err = ns_remove(service->parts.ns, msg->path.data, msg->path.len, msg->directory,
                                 msg->recursive, service_wall_ms(), &service->changes);
    end_change(op, err, msg->op_id);
}

void service_rename(struct service *service, struct rpc_request *take_request)
{
    const Gfs__RenameRequest *msg = (const void *)take_request->msg;
    struct op *op = begin_change(service, take_request, msg->op_id);
    if (op == NULL) {
        return;
    }
    enum gfs_err err =
        ns_rename(service->parts.ns, msg->from.data, msg->from.len, msg->to.data, msg->to.len,
                  msg->no_replace, service_wall_ms(), &service->changes);
    end_change(op, err, msg->op_id);
}

void service_setattr(struct service *service, struct rpc_request *take_request)
{
    const Gfs__SetattrRequest *msg = (const void *)take_request->msg;
    if (service_is_full(service, take_request)) {
        return;
    }
    struct ns_setattr_args args = {
        .set_goal = msg->set_goal,
        .set_mtime = msg->set_mtime,
        .set_mode = msg->set_mode,
        .recursive = msg->recursive,
        .goal = msg->goal,
        .mode = msg->mode,
        .mtime_ms = msg->mtime_ms,
    };
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct inode *inode;
    uint64_t changed = 0;
    enum gfs_err err = args.set_goal && (args.goal < 1 || args.goal > GFS_GOAL_MAX)
                           ? GFS_ERR_INVAL
                           : ns_lookup(service->parts.ns, msg->path.data, msg->path.len, &inode);
    if (err == GFS_OK) {
        err = ns_setattr(service->parts.ns, inode, &args, service_wall_ms(), &service->changes,
                         &changed);
    }
    Gfs__SetattrReply *reply = err == GFS_OK ? op_alloc(op, 1, sizeof(*reply)) : NULL;
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    if (reply != NULL) {
        gfs__setattr_reply__init(reply);
        reply->changed = changed;
        op->reply = &reply->base;
    }
    op_commit(op);
}
