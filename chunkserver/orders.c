/*
 * orders: what the master tells us to do with chunks. Control thread; durable before the answer.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "control.pb-c.h"

#define ORDERS_DELETES_AT_ONCE 64u
#define ORDERS_MARGIN_MIN_MS   100u

/* A change of one chunk that the store makes durable. */
struct order {
    struct store_mutation mutation;
    enum gfs_err err;
    struct loop_task task;
    struct chunkserver *cs;
    struct rpc_request *request; /* of a SET_VERSION */
    struct delete_run *run;      /* of a DELETE_CHUNKS */
};

struct delete_run {
    struct chunkserver *cs;
    struct rpc_request *request;
    const uint64_t *handles; /* in the request */
    size_t count;
    size_t next;
    size_t in_flight;
    enum gfs_err err;
    struct order orders[ORDERS_DELETES_AT_ONCE];
};

static struct order *order_of(struct loop_task *task)
{
    return (struct order *)((char *)task - offsetof(struct order, task));
}

/* Committer thread. */
static void order_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct order *order = mutation->arg;

    order->err = err;
    loop_post(order->cs->control.loop, &order->task);
}

static void set_version_done(struct loop_task *task)
{
    struct order *order = order_of(task);

    if (order->err == GFS_OK) {
        Gfs__SetVersionReply reply = GFS__SET_VERSION_REPLY__INIT;

        reply.length = order->mutation.result.length_bytes;
        reply.serial = order->mutation.result.serial;
        reply.corrupt = order->mutation.result.corrupt;
        cs_chunk_changed(order->cs, order->mutation.handle);
        cs_reply(order->cs, order->request, &reply.base, NULL);
    } else {
        cs_reply_error(order->cs, order->request, order->err, NULL);
    }
    free(order);
}

/* Which version the store is to find; see control.proto for what is accepted. */
static enum gfs_err set_version_check(struct chunkserver *cs, const Gfs__SetVersionRequest *msg,
                                      uint32_t *ret_from_version)
{
    struct store_chunk chunk;

    if (msg->handle == 0 || msg->version == 0 || msg->from_version > msg->version ||
        msg->length > GFS_CHUNK_SIZE_MAX_BYTES)
        return GFS_ERR_INVAL;
    *ret_from_version = msg->from_version;
    if (store_chunk_get(cs->store, msg->handle, &chunk) != GFS_OK)
        return msg->create ? GFS_OK : GFS_ERR_NO_CHUNK;
    if (chunk.version < msg->from_version || chunk.version > msg->version)
        return GFS_ERR_STALE_VERSION;
    *ret_from_version = chunk.version;
    return GFS_OK;
}

static struct order *set_version_make(struct chunkserver *cs, struct rpc_request *request,
                                      const Gfs__SetVersionRequest *msg, uint32_t from_version)
{
    struct order *order = calloc(1, sizeof *order);

    if (!order)
        return NULL;
    order->cs = cs;
    order->request = request;
    order->task.fn = set_version_done;
    order->mutation.op = STORE_OP_SET_VERSION;
    order->mutation.handle = msg->handle;
    order->mutation.version = msg->version;
    order->mutation.from_version = from_version;
    order->mutation.create = msg->create;
    order->mutation.truncate = msg->truncate;
    order->mutation.length_bytes = msg->length;
    order->mutation.done = order_done;
    order->mutation.arg = order;
    return order;
}

void cs_set_version(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__SetVersionRequest *msg = (const Gfs__SetVersionRequest *)take_request->msg;
    uint64_t handle = msg->handle;
    uint32_t version = msg->version, from_version = 0;
    struct order *order = NULL;
    enum gfs_err err = set_version_check(cs, msg, &from_version);

    if (err == GFS_OK) {
        order = set_version_make(cs, take_request, msg, from_version);
        err = order ? store_submit(cs->store, &order->mutation) : GFS_ERR_NO_MEMORY;
    }
    if (err != GFS_OK) {
        free(order);
        cs_reply_error(cs, take_request, err, NULL);
        return;
    }
    mutation_fence(cs->mutations, handle, version);
    cs_mutations_drain(cs);
}

uint64_t cs_lease_expiry_ms(uint64_t from_ms, uint32_t lease_ms, uint32_t margin_ms)
{
    if (margin_ms < ORDERS_MARGIN_MIN_MS)
        margin_ms = ORDERS_MARGIN_MIN_MS;
    return lease_ms > margin_ms ? from_ms + lease_ms - margin_ms : from_ms;
}

static void delete_run_end(struct delete_run *run)
{
    if (run->err != GFS_OK)
        cs_reply_error(run->cs, run->request, run->err, NULL);
    else
        cs_reply_empty(run->cs, run->request);
    free(run);
}

/* One more chunk, by this slot, until the list is at its end. */
static void delete_next(struct delete_run *run, struct order *order)
{
    struct chunkserver *cs = run->cs;

    while (run->err == GFS_OK && run->next < run->count) {
        uint64_t handle = run->handles[run->next++];
        struct store_chunk chunk;
        enum gfs_err err;

        if (store_chunk_get(cs->store, handle, &chunk) != GFS_OK)
            continue;
        memset(&order->mutation, 0, sizeof order->mutation);
        order->mutation.op = STORE_OP_DELETE;
        order->mutation.handle = handle;
        order->mutation.version = chunk.version;
        order->mutation.done = order_done;
        order->mutation.arg = order;
        err = store_submit(cs->store, &order->mutation);
        if (err != GFS_OK) {
            run->err = err;
            return;
        }
        run->in_flight++;
        mutation_forget(cs->mutations, handle);
        return;
    }
}

static void delete_done(struct loop_task *task)
{
    struct order *order = order_of(task);
    struct delete_run *run = order->run;

    run->in_flight--;
    if (order->err == GFS_OK)
        cs_chunk_changed(run->cs, order->mutation.handle);
    else if (order->err != GFS_ERR_NO_CHUNK)
        run->err = order->err;
    delete_next(run, order);
    cs_mutations_drain(run->cs);
    if (run->in_flight == 0)
        delete_run_end(run);
}

void cs_delete_chunks(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__DeleteChunksRequest *msg = (const Gfs__DeleteChunksRequest *)take_request->msg;
    struct delete_run *run = calloc(1, sizeof *run);

    if (!run) {
        cs_reply_error(cs, take_request, GFS_ERR_NO_MEMORY, NULL);
        return;
    }
    run->cs = cs;
    run->request = take_request;
    run->handles = msg->handles;
    run->count = msg->n_handles;
    for (size_t i = 0; i < ORDERS_DELETES_AT_ONCE; i++) {
        run->orders[i].cs = cs;
        run->orders[i].run = run;
        run->orders[i].task.fn = delete_done;
        delete_next(run, &run->orders[i]);
    }
    cs_mutations_drain(cs);
    if (run->in_flight == 0)
        delete_run_end(run);
}
