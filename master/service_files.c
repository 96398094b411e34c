/* Requests that change a file: create, publish, abandon, commit, truncate. */
#include <stdio.h>

#include "master/service_op.h"

/* ---- create -------------------------------------------------------------------------------- */

static void set_create_reply(struct op *op, struct inode *inode, bool created)
{
    Gfs__CreateReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Attr *attr = op_alloc(op, 1, sizeof(*attr));
    if (reply != NULL && attr != NULL) {
        gfs__create_reply__init(reply);
        op_set_attr(op, inode, attr);
        reply->attr = attr;
        reply->created = created;
        op->reply = &reply->base;
    }
}

/* The file stands, with or without its first lease: without, the client asks again by LEASE. */
static void create_leased(struct op *op, enum gfs_err err, const struct lease_grant *grant)
{
    if (err == GFS_OK && op->err == GFS_OK) {
        Gfs__CreateReply *reply = (Gfs__CreateReply *)op->reply;
        reply->lease = op_make_lease(op, grant);
        if (reply->lease != NULL) {
            reply->lease->chunk_size = reply->attr->chunk_size;
        }
    }
    op_finish(op);
}

/* A retry whose first try was done: the file as it is now. */
static bool repeat_create(struct op *op, ProtobufCBinaryData id)
{
    struct opwindow_result result;
    struct inode *inode;
    if (!opwindow_find(op->service->parts.window, id.data, id.len, op->request->type, &result)) {
        return false;
    }
    enum gfs_err err = ns_inode(op->service->parts.ns, result.inode, &inode);
    if (err != GFS_OK) {
        op_fail(op, err, 0, NULL);
        return true;
    }
    set_create_reply(op, inode, result.created);
    op_finish(op);
    return true;
}

static enum gfs_err make_file(struct op *op, const Gfs__CreateRequest *msg,
                              struct inode **ret_inode, bool *ret_created)
{
    struct service *service = op->service;
    struct ns_create_args args = {
        .path = msg->path.data,
        .path_bytes = msg->path.len,
        .goal = msg->goal,
        .chunk_size_bytes = msg->chunk_size,
        .mode = msg->mode,
        .exclusive = msg->exclusive,
        .anonymous = msg->anonymous,
    };
    enum gfs_err err = opwindow_reserve(&service->changes);
    if (err == GFS_OK) {
        err = ns_create(service->parts.ns, &args, service_wall_ms(), &service->changes, ret_inode,
                        ret_created);
    }
    if (err == GFS_OK) {
        ns_anonymous_touch(service->parts.ns, *ret_inode, service_steady_ms(service));
    }
    return err;
}

void service_create(struct service *service, struct rpc_request *take_request)
{
    const Gfs__CreateRequest *msg = (const void *)take_request->msg;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL || repeat_create(op, msg->op_id)) {
        return;
    }
    struct inode *inode;
    bool created;
    enum gfs_err err = make_file(op, msg, &inode, &created);
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    struct opwindow_result result = {
        .kind = take_request->type,
        .inode = inode_id(inode),
        .created = created,
    };
    opwindow_record(service->parts.window, msg->op_id.data, msg->op_id.len, &result,
                    &service->changes);
    struct fresh *fresh = NULL;
    if (created && msg->first_chunk && !service_snapshot_holds(service, inode)) {
        err = service_fresh_prepare(service, inode, 0, NULL, 0, &fresh);
    }
    set_create_reply(op, inode, created);
    if (fresh == NULL || err != GFS_OK) {
        op_commit(op);
        return;
    }
    op->inode = inode_id(inode);
    op->leased = create_leased;
    service_fresh_begin(service, fresh, op);
}

/* ---- publish, commit ----------------------------------------------------------------------- */

/* The commit's chunks in the namespace's form. NULL with op->err set when memory is out. */
static struct ns_commit_chunk *commit_chunks(struct op *op, const Gfs__CommitRequest *msg)
{
    struct ns_commit_chunk *chunks = op_alloc(op, msg->n_chunks, sizeof(*chunks));
    for (size_t i = 0; chunks != NULL && i < msg->n_chunks; i++) {
        chunks[i] = (struct ns_commit_chunk){
            .index = msg->chunks[i]->index,
            .handle = msg->chunks[i]->handle,
            .version = msg->chunks[i]->version,
            .length_bytes = msg->chunks[i]->length,
        };
    }
    return chunks;
}

void service_commit(struct service *service, struct rpc_request *take_request)
{
    const Gfs__CommitRequest *msg = (const void *)take_request->msg;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct ns_commit_chunk *chunks = commit_chunks(op, msg);
    struct inode *inode;
    int64_t now_ms = service_wall_ms();
    enum gfs_err err =
        chunks == NULL ? GFS_ERR_NO_MEMORY : ns_inode(service->parts.ns, msg->inode, &inode);
    if (err == GFS_OK) {
        ns_anonymous_touch(service->parts.ns, inode, service_steady_ms(service));
        err = ns_commit(service->parts.ns, inode, msg->length, chunks, msg->n_chunks, now_ms,
                        &service->changes);
    }
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    op_answer_empty(op);
    uint64_t id = msg->inode; /* the request goes with the op */
    op_commit(op);
    service_wait_wake(service, id);
}

static enum gfs_err apply_publish(struct op *op, const Gfs__PublishRequest *msg,
                                  struct inode *inode)
{
    struct service *service = op->service;
    struct namespace *ns = service->parts.ns;
    const Gfs__CommitRequest *commit = msg->commit;
    int64_t now_ms = service_wall_ms();
    enum gfs_err err = ns_publish_check(ns, inode, msg->path.data, msg->path.len, msg->replace);
    if (err == GFS_OK) {
        err = opwindow_reserve(&service->changes);
    }
    if (err == GFS_OK && commit != NULL) {
        if (commit->inode != 0 && commit->inode != msg->inode) {
            return GFS_ERR_INVAL;
        }
        struct ns_commit_chunk *chunks = commit_chunks(op, commit);
        err = chunks == NULL ? GFS_ERR_NO_MEMORY
                             : ns_commit(ns, inode, commit->length, chunks, commit->n_chunks,
                                         now_ms, &service->changes);
    }
    if (err == GFS_OK) {
        err = ns_publish(ns, inode, msg->path.data, msg->path.len, msg->replace, now_ms,
                         &service->changes);
    }
    return err;
}

static void set_publish_reply(struct op *op, struct inode *inode)
{
    Gfs__PublishReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Attr *attr = op_alloc(op, 1, sizeof(*attr));
    if (reply != NULL && attr != NULL) {
        gfs__publish_reply__init(reply);
        op_set_attr(op, inode, attr);
        reply->attr = attr;
        op->reply = &reply->base;
    }
}

void service_publish(struct service *service, struct rpc_request *take_request)
{
    const Gfs__PublishRequest *msg = (const void *)take_request->msg;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct opwindow_result result;
    struct inode *inode;
    bool repeated = opwindow_find(service->parts.window, msg->op_id.data, msg->op_id.len,
                                  take_request->type, &result);
    enum gfs_err err = ns_inode(service->parts.ns, msg->inode, &inode);
    if (err == GFS_OK && !repeated) {
        err = apply_publish(op, msg, inode);
    }
    if (err != GFS_OK) {
        /* A commit that was done before a publish that then failed for memory stays done. */
        op->err = err;
        op->retry_ms = gfs_err_class(err) == GFS_ERR_CLASS_RETRY ? SERVICE_RETRY_MS : 0;
        op_commit(op);
        return;
    }
    if (!repeated) {
        result = (struct opwindow_result){.kind = take_request->type, .inode = msg->inode};
        opwindow_record(service->parts.window, msg->op_id.data, msg->op_id.len, &result,
                        &service->changes);
    }
    set_publish_reply(op, inode);
    uint64_t id = msg->inode;
    op_commit(op);
    service_wait_wake(service, id);
    service_wait_check(service); /* of the file that it replaced */
}

void service_abandon(struct service *service, struct rpc_request *take_request)
{
    const Gfs__AbandonRequest *msg = (const void *)take_request->msg;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct inode *inode;
    enum gfs_err err = ns_inode(service->parts.ns, msg->inode, &inode);
    if (err == GFS_OK) {
        err = ns_abandon(service->parts.ns, inode, service_wall_ms(), &service->changes);
    } else if (err == GFS_ERR_STALE_HANDLE) {
        err = GFS_OK; /* it is gone already, as wanted */
    }
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    op_answer_empty(op);
    op_commit(op);
    service_wait_check(service);
}

/* ---- truncate ------------------------------------------------------------------------------ */

static void truncate_cut(struct op *op, enum gfs_err err, const struct lease_grant *grant)
{
    if (err != GFS_OK) {
        op_fail(op, err, 0, "the file is shorter, but no replica of its last chunk was cut yet");
        return;
    }
    op_answer_empty(op);
    op_finish(op);
}

/* The cut waits for the change: done before, and lost with the master, it would have cut replicas
 * of a file that is still long. */
static void truncate_durable(struct journal_wait *wait, enum gfs_err err)
{
    struct op *op = (struct op *)((char *)wait - offsetof(struct op, wait));
    struct service *service = op->service;
    const struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), op->handle);
    if (err != GFS_OK || chunk == NULL || chunk_released(chunk) || !chunk->truncating) {
        truncate_cut(op, err, NULL);
        return;
    }
    struct lease_chunk state;
    service_lease_chunk(service, chunk, NULL, 0, &state);
    op->leased = truncate_cut;
    err = lease_cut(service->leases, &state, &op->waiter);
    if (err != GFS_OK) {
        truncate_cut(op, err, NULL);
        return;
    }
    service_run_effects(service);
}

/* The chunk whose replicas a truncation to this length would cut; NULL: none. */
static struct chunk *find_cut(const struct namespace *ns, const struct inode *inode,
                              uint64_t length_bytes)
{
    struct inode_attr attr;
    ns_attr(ns, inode, &attr);
    if (attr.type != INODE_FILE || length_bytes >= attr.length_bytes ||
        length_bytes % attr.chunk_size_bytes == 0) {
        return NULL;
    }
    return ns_chunk_at(ns, inode, (uint32_t)(length_bytes / attr.chunk_size_bytes));
}

/* Nothing may change when the cut cannot be carried out. */
static enum gfs_err check_truncate(struct op *op, const struct inode *inode, uint64_t length_bytes)
{
    struct service *service = op->service;
    const struct chunk *chunk = find_cut(service->parts.ns, inode, length_bytes);
    if (chunk == NULL) {
        return GFS_OK;
    }
    if (lease_is_moving(service->leases, chunk->handle) || service_snapshot_holds(service, inode)) {
        return GFS_ERR_BUSY;
    }
    struct lease_chunk state;
    service_lease_chunk(service, chunk, NULL, 0, &state);
    if (service_awaits_replicas(service, &state, chunk->goal)) {
        return GFS_ERR_STARTING;
    }
    if (state.count == 0) {
        snprintf(op->detail, sizeof(op->detail), "chunk %016llx has no reachable replica",
                 (unsigned long long)chunk->handle);
        return GFS_ERR_NO_REPLICA;
    }
    return GFS_OK;
}

static void truncate_copied(struct op *op, enum gfs_err err);

/* Cuts the file, whose last chunk is its own. */
static void truncate_file(struct op *op, struct inode *inode, uint64_t length_bytes)
{
    struct service *service = op->service;
    struct chunk *chunk = NULL;
    enum gfs_err err = ns_truncate(service->parts.ns, inode, length_bytes, service_wall_ms(),
                                   &service->changes, &chunk);
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0, NULL);
        return;
    }
    uint64_t id = inode_id(inode);
    if (chunk == NULL) {
        op_answer_empty(op);
        op_commit(op);
    } else {
        op->handle = chunk->handle;
        op->wait.done = truncate_durable;
        journal_append(service->parts.journal, &service->changes, &op->wait);
    }
    service_wait_wake(service, id);
}

static void truncate_try(struct op *op)
{
    struct service *service = op->service;
    const Gfs__TruncateRequest *msg = (const void *)op->request->msg;
    struct inode *inode;
    enum gfs_err err = journal_full(service->parts.journal)
                           ? GFS_ERR_BUSY
                           : ns_inode(service->parts.ns, msg->inode, &inode);
    if (err == GFS_OK) {
        err = check_truncate(op, inode, msg->length);
    }
    if (err != GFS_OK) {
        op->err = err;
        op->retry_ms = gfs_err_class(err) == GFS_ERR_CLASS_RETRY ? SERVICE_RETRY_MS : 0;
        op_finish(op);
        return;
    }
    const struct chunk *cut = find_cut(service->parts.ns, inode, msg->length);
    if (cut == NULL || cut->references == 1) {
        truncate_file(op, inode, msg->length);
        return;
    }
    if (op->tries++ > 0) {
        op_fail(op, GFS_ERR_BUSY, 0, "the chunk was shared again meanwhile");
        return;
    }
    struct inode_attr attr;
    ns_attr(service->parts.ns, inode, &attr);
    op->inode = msg->inode;
    op->index = (uint32_t)(msg->length / attr.chunk_size_bytes);
    op->copied = truncate_copied;
    service_cow_begin(op, cut);
}

static void truncate_copied(struct op *op, enum gfs_err err)
{
    if (err != GFS_OK) {
        op_fail(op, err, 0, op->detail);
        return;
    }
    truncate_try(op);
}

void service_truncate(struct service *service, struct rpc_request *take_request)
{
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op != NULL) {
        truncate_try(op);
    }
}
