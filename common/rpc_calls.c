/* rpc_calls: a hash by id and a timer wheel over the same structs. */
#include "rpc_calls.h"

#include <assert.h>

static struct rpc_call **rpc_calls_bucket(struct rpc_calls *calls, uint64_t id)
{
    return &calls->buckets[id % RPC_CALLS_BUCKETS]; /* ids are consecutive: no need to mix */
}

/* The first tick at which the deadline has passed. */
static uint64_t rpc_calls_tick(uint64_t deadline_ms)
{
    return deadline_ms / RPC_CALLS_TICK_MS + 1;
}

enum gfs_err rpc_calls_add(struct rpc_calls *calls, struct rpc_call *call, uint64_t now_ms)
{
    struct rpc_call **bucket, **slot;
    uint64_t tick = rpc_calls_tick(call->deadline_ms);

    if (calls->count >= RPC_CALLS_MAX)
        return GFS_ERR_BUSY;
    if (calls->count == 0)
        calls->last_tick = now_ms / RPC_CALLS_TICK_MS;
    if (tick <= calls->last_tick)
        tick = calls->last_tick + 1;
    bucket = rpc_calls_bucket(calls, call->out.header.id);
    call->bucket_next = *bucket;
    *bucket = call;
    slot = &calls->wheel[tick % RPC_CALLS_WHEEL];
    call->slot_next = *slot;
    call->slot_at = slot;
    if (*slot)
        (*slot)->slot_at = &call->slot_next;
    *slot = call;
    calls->count++;
    return GFS_OK;
}

struct rpc_call *rpc_calls_find(const struct rpc_calls *calls, uint64_t id)
{
    struct rpc_call *call = calls->buckets[id % RPC_CALLS_BUCKETS];

    while (call && call->out.header.id != id)
        call = call->bucket_next;
    return call;
}

void rpc_calls_remove(struct rpc_calls *calls, struct rpc_call *call)
{
    struct rpc_call **at = rpc_calls_bucket(calls, call->out.header.id);

    while (*at != call)
        at = &(*at)->bucket_next;
    *at = call->bucket_next;
    *call->slot_at = call->slot_next;
    if (call->slot_next)
        call->slot_next->slot_at = call->slot_at;
    assert(calls->count > 0);
    calls->count--;
}

struct rpc_call *rpc_calls_expire(struct rpc_calls *calls, uint64_t now_ms)
{
    uint64_t now_tick = now_ms / RPC_CALLS_TICK_MS;

    if (now_tick > calls->last_tick + RPC_CALLS_WHEEL)
        calls->last_tick = now_tick - RPC_CALLS_WHEEL; /* every slot is visited once */
    while (calls->count > 0 && calls->last_tick < now_tick) {
        struct rpc_call *call = calls->wheel[(calls->last_tick + 1) % RPC_CALLS_WHEEL];

        while (call && call->deadline_ms > now_ms)
            call = call->slot_next;
        if (call) {
            rpc_calls_remove(calls, call);
            return call;
        }
        calls->last_tick++;
    }
    return NULL;
}

struct rpc_call *rpc_calls_pop(struct rpc_calls *calls)
{
    for (size_t i = 0; calls->count > 0 && i < RPC_CALLS_BUCKETS; i++) {
        struct rpc_call *call = calls->buckets[i];

        if (call) {
            rpc_calls_remove(calls, call);
            return call;
        }
    }
    return NULL;
}
