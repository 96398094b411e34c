#include "master/service_op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The most that a reply may take while it is put together. */
#define REPLY_MEMORY_MAX_BYTES (8u << 20)

int64_t service_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t service_steady_ms(const struct service *service)
{
    return service->started_wall_ms + (int64_t)(loop_now_ms() - service->started_ms);
}

void service_refuse(struct rpc_request *take_request, enum gfs_err err, const char *detail)
{
    uint32_t retry_ms = gfs_err_class(err) == GFS_ERR_CLASS_RETRY ? SERVICE_RETRY_MS : 0;
    rpc_reply_error(take_request, err, retry_ms, detail);
}

bool service_is_full(struct service *service, struct rpc_request *take_request)
{
    if (journal_full(service->parts.journal)) {
        service_refuse(take_request, GFS_ERR_BUSY, "the journal's queue is full");
        return true;
    }
    return false;
}

struct op *op_new(struct service *service, struct rpc_request *take_request)
{
    struct op *op = NULL;
    if (service->op_count < service->parts.options->ops_max) {
        op = malloc(sizeof(*op));
    }
    if (op == NULL) {
        service_refuse(take_request, GFS_ERR_BUSY, "too many requests wait at the master");
        return NULL;
    }
    memset(op, 0, offsetof(struct op, first));
    op->service = service;
    op->request = take_request;
    msg_arena_init(&op->arena, op->first, sizeof(op->first), REPLY_MEMORY_MAX_BYTES);
    service->op_count++;
    return op;
}

void *op_alloc(struct op *op, size_t count, size_t bytes)
{
    void *memory = op->arena.allocator.alloc(op->arena.allocator.allocator_data, count * bytes + 1);
    if (memory == NULL) {
        op->err = GFS_ERR_NO_MEMORY;
        return NULL;
    }
    memset(memory, 0, count * bytes);
    return memory;
}

ProtobufCBinaryData op_copy(struct op *op, const void *data, size_t len_bytes)
{
    ProtobufCBinaryData copy = {.len = 0, .data = op_alloc(op, len_bytes, 1)};
    if (copy.data != NULL && len_bytes > 0) {
        memcpy(copy.data, data, len_bytes);
        copy.len = len_bytes;
    }
    return copy;
}

static void op_send(struct op *op)
{
    if (op->err == GFS_OK) {
        rpc_reply(op->request, op->reply, NULL);
    } else {
        rpc_reply_error(op->request, op->err, op->retry_ms,
                        op->detail[0] != '\0' ? op->detail : NULL);
    }
    op->service->op_count--;
    msg_arena_release(&op->arena);
    free(op);
}

static void op_durable(struct journal_wait *wait, enum gfs_err err)
{
    struct op *op = (struct op *)((char *)wait - offsetof(struct op, wait));
    if (err != GFS_OK) {
        op->err = err;
        snprintf(op->detail, sizeof(op->detail), "the master's journal failed");
    }
    op_send(op);
}

void op_finish(struct op *op)
{
    struct journal *journal = op->service->parts.journal;
    if (journal_durable(journal) == journal_appended(journal)) {
        op_send(op);
        return;
    }
    op->wait.done = op_durable;
    journal_barrier(journal, &op->wait);
}

void op_fail(struct op *op, enum gfs_err err, uint32_t retry_ms, const char *detail)
{
    op->err = err;
    op->retry_ms = retry_ms;
    if (retry_ms == 0 && gfs_err_class(err) == GFS_ERR_CLASS_RETRY) {
        op->retry_ms = SERVICE_RETRY_MS;
    }
    if (detail != op->detail) {
        snprintf(op->detail, sizeof(op->detail), "%s", detail != NULL ? detail : "");
    }
    op_finish(op);
}

void op_commit(struct op *op)
{
    op->wait.done = op_durable;
    journal_append(op->service->parts.journal, &op->service->changes, &op->wait);
}

void op_answer_empty(struct op *op)
{
    static const Gfs__EmptyReply empty = GFS__EMPTY_REPLY__INIT;
    op->reply = &empty.base;
}

void op_set_attr(struct op *op, const struct inode *inode, Gfs__Attr *ret_attr)
{
    struct inode_attr attr;
    ns_attr(op->service->parts.ns, inode, &attr);
    gfs__attr__init(ret_attr);
    ret_attr->inode = attr.inode;
    ret_attr->type = (Gfs__FileType)attr.type;
    ret_attr->length = attr.length_bytes;
    ret_attr->goal = attr.goal;
    ret_attr->chunk_size = attr.chunk_size_bytes;
    ret_attr->mtime_ms = attr.mtime_ms;
    ret_attr->ctime_ms = attr.ctime_ms;
    ret_attr->mode = attr.mode;
    ret_attr->uid = attr.uid;
    ret_attr->gid = attr.gid;
    ret_attr->chunk_count = attr.chunk_count;
    ret_attr->entry_count = attr.entry_count;
}
