/*
 * APPENDED: a primary tells of records that are on every replica (decision 12). The lengths are
 * made durable by one change of the journal for all of the message, then the primary answers its
 * clients.
 */
#include <stdlib.h>

#include "master/service_op.h"

#define APPENDED_MAX 4096u

/* Which chunk of its file is it? Mostly the last one: that is where records go. */
static bool find_index(const struct service *service, const struct inode *inode,
                       const struct inode_attr *attr, const struct chunk *chunk,
                       uint32_t *ret_index)
{
    for (uint32_t index = attr->chunk_count; index > 0; index--) {
        if (ns_chunk_at(service->parts.ns, inode, index - 1) == chunk) {
            *ret_index = index - 1;
            return true;
        }
    }
    return false;
}

static enum gfs_err append_one(struct service *service, uint16_t slot,
                               const Gfs__AppendedChunk *told, uint64_t *ret_inode)
{
    struct chunk *chunk = chunkmap_find(ns_chunkmap(service->parts.ns), told->handle);
    uint32_t version, index;
    uint16_t holder;
    if (chunk == NULL || chunk_released(chunk)) {
        return GFS_ERR_STALE_HANDLE;
    }
    if (!lease_holder(service->leases, told->handle, &version, &holder) || holder != slot ||
        version != told->version || chunk->version != version || chunk->references != 1) {
        return GFS_ERR_STALE_VERSION;
    }
    struct inode *inode = ns_chunk_owner(service->parts.ns, chunk);
    struct inode_attr attr;
    if (inode == NULL) {
        return GFS_ERR_STALE_HANDLE;
    }
    ns_attr(service->parts.ns, inode, &attr);
    if (!find_index(service, inode, &attr, chunk, &index)) {
        return GFS_ERR_STALE_HANDLE;
    }
    if (told->length > attr.chunk_size_bytes) {
        return GFS_ERR_INVAL;
    }
    const struct ns_commit_chunk commit = {.index = index,
                                           .handle = told->handle,
                                           .version = told->version,
                                           .length_bytes = told->length};
    *ret_inode = attr.inode;
    return ns_commit(service->parts.ns, inode,
                     (uint64_t)index * attr.chunk_size_bytes + told->length, &commit, 1,
                     service_wall_ms(), &service->changes);
}

static void append_all(struct op *op, uint16_t slot, const Gfs__AppendedRequest *msg)
{
    struct service *service = op->service;
    Gfs__AppendedReply *reply = op_alloc(op, 1, sizeof(*reply));
    uint32_t *errors = op_alloc(op, msg->n_chunks + 1, sizeof(*errors));
    uint64_t *inodes = calloc(msg->n_chunks + 1, sizeof(*inodes));
    if (reply == NULL || errors == NULL || inodes == NULL) {
        free(inodes);
        op_fail(op, GFS_ERR_NO_MEMORY, 0, NULL);
        return;
    }
    for (size_t i = 0; i < msg->n_chunks; i++) {
        errors[i] = (uint32_t)append_one(service, slot, msg->chunks[i], &inodes[i]);
    }
    gfs__appended_reply__init(reply);
    reply->errors = errors;
    reply->n_errors = msg->n_chunks;
    op->reply = &reply->base;
    size_t count = msg->n_chunks; /* the message may be gone after this */
    op_commit(op);
    for (size_t i = 0; i < count; i++) {
        if (inodes[i] != 0) {
            service_wait_wake(service, inodes[i]);
        }
    }
    free(inodes);
}

void service_appended(struct service *service, struct rpc_request *take_request)
{
    const Gfs__AppendedRequest *msg = (const void *)take_request->msg;
    const struct registry_server *server = registry_find(&service->registry, take_request->peer_id);
    if (server == NULL || !server->up || server->link != take_request->conn) {
        service_refuse(take_request, GFS_ERR_UNKNOWN_SERVER, "register first");
        return;
    }
    if (msg->n_chunks > APPENDED_MAX) {
        service_refuse(take_request, GFS_ERR_INVAL, "too many chunks");
        return;
    }
    uint16_t slot = server->slot;
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op != NULL) {
        append_all(op, slot, msg);
    }
}
