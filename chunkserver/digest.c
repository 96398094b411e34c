/* DIGEST: the CRCs of a replica's blocks, for comparing replicas, for checksums, for a scrub of one
 * file. On a storage thread. */
#include "chunkserver/digest.h"

#include <stdio.h>
#include <stdlib.h>

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"
#include "chunkserver/store_record.h"

struct digest_job {
    struct storepool_job job;
    struct chunkserver *cs;
    struct rpc_request *request;
};

void digest_window_put(uint8_t *at, const struct store_append *entry)
{
    store_put_u64(at, entry->producer);
    store_put_u64(at + 8, entry->sequence);
    store_put_u32(at + 16, entry->offset_bytes);
    store_put_u32(at + 20, entry->length_bytes);
}

void digest_window_get(const uint8_t *at, struct store_append *ret_entry)
{
    ret_entry->producer = store_get_u64(at);
    ret_entry->sequence = store_get_u64(at + 8);
    ret_entry->offset_bytes = store_get_u32(at + 16);
    ret_entry->length_bytes = store_get_u32(at + 20);
}

static void payload_free(void *arg)
{
    free(arg);
}

/* *ret_bytes is malloc'd; NULL when there is no window. */
static enum gfs_err window_pack(struct chunkserver *cs, uint64_t handle, uint8_t **ret_bytes,
                                size_t *ret_len)
{
    struct store_append *entries;
    size_t count;
    uint8_t *bytes = NULL;
    enum gfs_err err = store_window(cs->store, handle, &entries, &count);

    if (err != GFS_OK)
        return err;
    if (count > 0) {
        bytes = malloc(count * DIGEST_WINDOW_ENTRY_BYTES);
        if (!bytes) {
            free(entries);
            return GFS_ERR_NO_MEMORY;
        }
    }
    for (size_t i = 0; i < count; i++)
        digest_window_put(bytes + i * DIGEST_WINDOW_ENTRY_BYTES, &entries[i]);
    free(entries);
    *ret_bytes = bytes;
    *ret_len = count * DIGEST_WINDOW_ENTRY_BYTES;
    return GFS_OK;
}

static void digest_answer(struct chunkserver *cs, struct rpc_request *request,
                          const struct store_digest *digest)
{
    const Gfs__DigestRequest *msg = (const Gfs__DigestRequest *)request->msg;
    Gfs__DigestReply reply = GFS__DIGEST_REPLY__INIT;
    struct rpc_piece piece = {NULL, 0};
    struct rpc_payload payload = {&piece, 1, payload_free, NULL};
    uint8_t *bytes = NULL;
    enum gfs_err err = GFS_OK;

    if (msg->window)
        err = window_pack(cs, msg->handle, &bytes, &piece.len_bytes);
    if (err != GFS_OK) {
        cs_reply_error(cs, request, err, NULL);
        return;
    }
    reply.version = digest->chunk.version;
    reply.serial = digest->chunk.serial;
    reply.chunk_length = digest->chunk.length_bytes;
    reply.corrupt = digest->chunk.corrupt;
    reply.crcs = digest->crcs;
    reply.n_crcs = digest->count;
    piece.data = payload.arg = bytes;
    cs_reply(cs, request, &reply.base, bytes ? &payload : NULL);
}

static void digest_run(struct storepool_job *base)
{
    struct digest_job *job = (struct digest_job *)base;
    struct chunkserver *cs = job->cs;
    struct rpc_request *request = job->request;
    const Gfs__DigestRequest *msg = (const Gfs__DigestRequest *)request->msg;
    struct store_digest digest = {0};
    enum gfs_err err = GFS_ERR_TIMEOUT;

    free(job);
    if (loop_now_ms() < request->deadline_ms)
        err = store_digest(cs->store, msg->handle, msg->version, msg->first_block, msg->count,
                           msg->verify, &digest);
    if (err == GFS_OK) {
        digest_answer(cs, request, &digest);
        free(digest.crcs);
    } else if (err == GFS_ERR_CORRUPT) {
        char detail[64];

        cs_chunk_bad(cs, msg->handle);
        snprintf(detail, sizeof detail, "block %u", digest.bad_block);
        cs_reply_error(cs, request, err, detail);
    } else {
        cs_reply_error(cs, request, err, NULL);
    }
}

void cs_digest(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__DigestRequest *msg = (const Gfs__DigestRequest *)take_request->msg;
    struct digest_job *job = calloc(1, sizeof *job);
    enum gfs_err err = job ? GFS_OK : GFS_ERR_NO_MEMORY;

    if (job) {
        job->job.fn = digest_run;
        job->job.key = msg->handle;
        job->cs = cs;
        job->request = take_request;
        err = storepool_submit(cs->pool, &job->job);
    }
    if (err != GFS_OK) {
        free(job);
        cs_reply_error(cs, take_request, err, "too many reads are waiting");
    }
}
