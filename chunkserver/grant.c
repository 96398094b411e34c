/*
 * grant: leases from the master. Control thread; the append window of a chunk that has one is
 * loaded by a storage thread before the grant counts.
 */
#include <stddef.h>
#include <stdlib.h>

#include "chunkserver/chunkserver.h"
#include "control.pb-c.h"

struct grant {
    struct storepool_job job; /* first */
    struct loop_task task;
    struct chunkserver *cs;
    struct rpc_request *request;
    uint64_t received_ms;
    struct window *window;
    enum gfs_err err;
};

static void grant_end(struct grant *take_grant, struct window *take_window)
{
    struct chunkserver *cs = take_grant->cs;
    const Gfs__GrantLeaseRequest *msg = (const Gfs__GrantLeaseRequest *)take_grant->request->msg;
    struct mutation_have have = {0};
    struct store_chunk chunk;
    struct mutation_lease lease = {
        .handle = msg->handle,
        .version = msg->version,
        .fresh = msg->fresh,
        .chunk_size_bytes = msg->chunk_size,
        .expires_ms = cs_lease_expiry_ms(take_grant->received_ms, msg->lease_ms, msg->margin_ms),
        .secondaries = (const char *const *)msg->secondaries,
        .secondary_count = msg->n_secondaries,
    };
    enum gfs_err err = take_grant->err;

    if (store_chunk_get(cs->store, msg->handle, &chunk) == GFS_OK) {
        have.exists = true;
        have.version = chunk.version;
        have.length_bytes = chunk.length_bytes;
        have.serial = chunk.serial;
    }
    if (err == GFS_OK)
        err = mutation_grant(cs->mutations, &lease, &have, take_window, loop_now_ms());
    else
        window_free(take_window);
    if (err == GFS_OK)
        err = cs_append_granted(cs, msg->handle, msg->version, msg->inode, msg->index);
    cs_mutations_drain(cs);
    if (err != GFS_OK)
        cs_reply_error(cs, take_grant->request, err, NULL);
    else
        cs_reply_empty(cs, take_grant->request);
    free(take_grant);
}

static void window_loaded(struct loop_task *task)
{
    struct grant *grant = (struct grant *)((char *)task - offsetof(struct grant, task));

    grant_end(grant, grant->window);
}

/* Storage thread. */
static void window_load(struct storepool_job *job)
{
    struct grant *grant = (struct grant *)job;
    const Gfs__GrantLeaseRequest *msg = (const Gfs__GrantLeaseRequest *)grant->request->msg;
    struct store_append *entries = NULL;
    size_t count = 0;

    grant->err = store_window(grant->cs->store, msg->handle, &entries, &count);
    grant->window = window_new(GFS_APPEND_ENTRIES_MAX);
    if (!grant->window && grant->err == GFS_OK)
        grant->err = GFS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count && grant->err == GFS_OK; i++) {
        const struct window_entry entry = {.sequence = entries[i].sequence,
                                           .offset_bytes = entries[i].offset_bytes,
                                           .length_bytes = entries[i].length_bytes};

        if (entries[i].length_bytes > 0) /* 0: not known any more, see sync.c */
            grant->err = window_add(grant->window, entries[i].producer, &entry);
    }
    free(entries);
    grant->task.fn = window_loaded;
    loop_post(grant->cs->control.loop, &grant->task);
}

void cs_grant_lease(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__GrantLeaseRequest *msg = (const Gfs__GrantLeaseRequest *)take_request->msg;
    struct store_chunk chunk;
    struct grant *grant;
    enum gfs_err err;

    if (msg->revoke) {
        mutation_revoke(cs->mutations, msg->handle, msg->version);
        cs_reply_empty(cs, take_request);
        return;
    }
    grant = calloc(1, sizeof *grant);
    if (!grant) {
        cs_reply_error(cs, take_request, GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    grant->cs = cs;
    grant->request = take_request;
    grant->received_ms = loop_now_ms();
    if (store_chunk_get(cs->store, msg->handle, &chunk) != GFS_OK || !chunk.appended ||
        mutation_is_leased(cs->mutations, msg->handle, grant->received_ms)) {
        grant_end(grant, NULL);
        return;
    }
    grant->job.fn = window_load;
    grant->job.key = msg->handle;
    /* The job may be done, and the grant gone, before this returns. */
    err = storepool_submit(cs->pool, &grant->job);
    if (err != GFS_OK) {
        grant->err = err;
        grant_end(grant, NULL);
    }
}
