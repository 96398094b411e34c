/* copy: a chunk's copy on write: index entries under another handle, no data. Control thread. */
#include <stddef.h>
#include <stdlib.h>

#include "chunkserver/chunkserver.h"
#include "control.pb-c.h"

struct copy {
    struct store_mutation mutation;
    struct loop_task task;
    struct chunkserver *cs;
    struct rpc_request *request;
    enum gfs_err err;
};

static void copy_end(struct loop_task *task)
{
    struct copy *copy = (struct copy *)((char *)task - offsetof(struct copy, task));

    if (copy->err == GFS_OK) {
        Gfs__CopyChunkReply reply = GFS__COPY_CHUNK_REPLY__INIT;

        reply.length = copy->mutation.result.length_bytes;
        reply.serial = copy->mutation.result.serial;
        cs_chunk_changed(copy->cs, copy->mutation.handle);
        cs_reply(copy->cs, copy->request, &reply.base, NULL);
    } else {
        cs_reply_error(copy->cs, copy->request, copy->err, NULL);
    }
    free(copy);
}

/* Committer thread. */
static void copy_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct copy *copy = mutation->arg;

    copy->err = err;
    copy->task.fn = copy_end;
    loop_post(copy->cs->control.loop, &copy->task);
}

void cs_copy_chunk(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__CopyChunkRequest *msg = (const Gfs__CopyChunkRequest *)take_request->msg;
    struct copy *copy;
    enum gfs_err err;

    if (msg->handle == 0 || msg->to_handle == 0 || msg->handle == msg->to_handle ||
        msg->to_version == 0) {
        cs_reply_error(cs, take_request, GFS_ERR_INVAL, NULL);
        return;
    }
    /* What is being written has no fixed bytes to copy. */
    if (mutation_is_leased(cs->mutations, msg->handle, loop_now_ms())) {
        cs_reply_error(cs, take_request, GFS_ERR_BUSY, "the chunk is leased");
        return;
    }
    copy = calloc(1, sizeof *copy);
    if (!copy) {
        cs_reply_error(cs, take_request, GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    copy->cs = cs;
    copy->request = take_request;
    copy->mutation.op = STORE_OP_COPY;
    copy->mutation.handle = msg->to_handle;
    copy->mutation.version = msg->to_version;
    copy->mutation.source = msg->handle;
    copy->mutation.from_version = msg->version;
    copy->mutation.done = copy_done;
    copy->mutation.arg = copy;
    err = store_submit(cs->store, &copy->mutation);
    if (err != GFS_OK) {
        free(copy);
        cs_reply_error(cs, take_request, err, NULL);
    }
}
