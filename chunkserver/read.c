/*
 * read: from the store to the socket. Taken in on a net thread, read and checked on a storage
 * thread, sent by the net thread straight from the memory the store has pinned.
 */
#include <stddef.h>
#include <stdlib.h>
#include <utlist.h>

#include "chunk.pb-c.h"
#include "chunkserver/read_job.h"

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

/* Takes the job. */
static void read_end(struct read_job *job, enum gfs_err err)
{
    if (err == GFS_OK) {
        read_answer(job->cs, job->request, job->read);
    } else {
        store_read_release(job->read);
        cs_reply_error(job->cs, job->request, err, NULL);
    }
    free(job);
}

static bool read_is_settled(const struct read_job *job)
{
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)job->request->msg;

    /* A replica that is brought up to date must see everything. */
    return job->request->peer_role == GFS_ROLE_CHUNKSERVER || msg->unsettled ||
           mutation_can_read(job->cs->mutations, msg->handle, msg->offset, msg->length);
}

static void read_park(struct read_job *job)
{
    struct chunkserver *cs = job->cs;
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)job->request->msg;
    uint64_t now_ms = loop_now_ms();
    bool leads = mutation_is_leased(cs->mutations, msg->handle, now_ms);

    job->until_ms = now_ms + (leads ? READ_PARK_PRIMARY_MS : READ_PARK_SECONDARY_MS);
    if (job->until_ms > job->request->deadline_ms)
        job->until_ms = job->request->deadline_ms;
    if (cs->settle.parked_count >= READ_PARKED_MAX || cs->closed || now_ms >= job->until_ms) {
        read_end(job, GFS_ERR_UNSETTLED);
        return;
    }
    DL_APPEND(cs->settle.parked, job);
    cs->settle.parked_count++;
    cs_settled(cs);
}

/*
 * Control thread. What was read may hold bytes of mutations that are not on every replica. They
 * were unsettled before they could be read, so it is enough to look afterwards; what has settled
 * since may be shown.
 */
static void read_gate(struct loop_task *task)
{
    struct read_job *job = (struct read_job *)((char *)task - offsetof(struct read_job, task));

    if (read_is_settled(job))
        read_end(job, GFS_OK);
    else
        read_park(job);
}

void read_parked_check(struct chunkserver *cs, bool end)
{
    struct read_job *job, *next;
    uint64_t now_ms = loop_now_ms();

    DL_FOREACH_SAFE (cs->settle.parked, job, next) {
        bool settled = read_is_settled(job);

        if (!settled && !end && now_ms < job->until_ms)
            continue;
        DL_DELETE(cs->settle.parked, job);
        cs->settle.parked_count--;
        read_end(job, settled ? GFS_OK : GFS_ERR_UNSETTLED);
    }
}

static void read_run(struct storepool_job *base)
{
    struct read_job *job = (struct read_job *)base;
    struct chunkserver *cs = job->cs;
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)job->request->msg;
    enum gfs_err err = GFS_ERR_TIMEOUT;

    if (loop_now_ms() < job->request->deadline_ms) {
        debug_delay_wait(cs->delay, msg->handle);
        err =
            store_read(cs->store, msg->handle, msg->version, msg->offset, msg->length, &job->read);
    }
    if (err == GFS_ERR_CORRUPT)
        cs_chunk_bad(cs, msg->handle);
    if (err != GFS_OK || atomic_load(&cs->unsettled) == 0) {
        read_end(job, err);
        return;
    }
    job->task.fn = read_gate;
    loop_post(cs->control.loop, &job->task);
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
