/*
 * read: from the store to the socket. Taken in on a net thread, read and checked on a storage
 * thread, sent by the net thread straight from the memory the store has pinned.
 */
#include <stdlib.h>

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"

struct read_job {
    struct storepool_job job;
    struct chunkserver *cs;
    struct rpc_request *request;
};

static void read_release(void *arg)
{
    store_read_release(arg);
}

/* Takes both. */
static void read_answer(struct chunkserver *cs, struct rpc_request *request,
                        struct store_read *read)
{
    const struct store_read_info *info = store_read_info(read);
    Gfs__ReadReply reply = GFS__READ_REPLY__INIT;
    struct rpc_piece *pieces = calloc(info->piece_count, sizeof *pieces);
    uint32_t *crcs = calloc(info->piece_count, sizeof *crcs);
    struct rpc_payload payload = {pieces, info->piece_count, read_release, read};

    if (pieces && crcs) {
        for (size_t i = 0; i < info->piece_count; i++) {
            pieces[i].data = info->pieces[i].data;
            pieces[i].len_bytes = info->pieces[i].length_bytes;
            crcs[i] = info->pieces[i].crc;
        }
        reply.version = info->version;
        reply.chunk_length = info->chunk_length_bytes;
        reply.n_crcs = info->piece_count;
        reply.crcs = crcs;
        cs_reply(cs, request, &reply.base, &payload);
    } else {
        store_read_release(read);
        cs_reply_error(cs, request, GFS_ERR_NO_MEMORY, NULL);
    }
    free(pieces);
    free(crcs);
}

static void read_run(struct storepool_job *base)
{
    struct read_job *job = (struct read_job *)base;
    struct chunkserver *cs = job->cs;
    struct rpc_request *request = job->request;
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)request->msg;
    struct store_read *read = NULL;
    enum gfs_err err = GFS_ERR_TIMEOUT;

    free(job);
    if (loop_now_ms() < request->deadline_ms) {
        debug_delay_wait(cs->delay, msg->handle);
        err = store_read(cs->store, msg->handle, msg->version, msg->offset, msg->length, &read);
    }
    if (err == GFS_ERR_CORRUPT)
        cs_chunk_changed(cs, msg->handle);
    if (err != GFS_OK)
        cs_reply_error(cs, request, err, NULL);
    else
        read_answer(cs, request, read);
}

void cs_read(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)take_request->msg;
    struct read_job *job;
    enum gfs_err err;

    if (msg->length == 0 || msg->length > GFS_READ_MAX_BYTES ||
        msg->offset > GFS_CHUNK_SIZE_MAX_BYTES - msg->length) {
        cs_reply_error(cs, take_request, GFS_ERR_INVAL, NULL);
        return;
    }
    job = calloc(1, sizeof *job);
    if (!job) {
        cs_reply_error(cs, take_request, GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    job->job.fn = read_run;
    job->job.key = msg->handle;
    job->cs = cs;
    job->request = take_request;
    err = storepool_submit(cs->pool, &job->job);
    if (err != GFS_OK) {
        free(job);
        cs_reply_error(cs, take_request, err, "too many reads are waiting");
    }
}
