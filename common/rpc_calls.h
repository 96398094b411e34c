/*
 * rpc_calls: the calls of a connection that wait for their reply, by id and by deadline. Floor 4.
 * Pure: time is an argument.
 *
 * Deadlines stand in a wheel of 256 slots of 50 ms; a slot's visit skips what is due in a later
 * round. So a call ends up to 50 ms late, never early.
 */
#ifndef COMMON_RPC_CALLS_H
#define COMMON_RPC_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpc_out.h"
#include "rpc_table.h"

#define RPC_CALLS_TICK_MS 50
#define RPC_CALLS_WHEEL   256
#define RPC_CALLS_BUCKETS 1024
#define RPC_CALLS_MAX     65536

struct rpc_call {
    struct rpc_out out;
    const struct rpc_type *type;
    uint32_t timeout_ms;
    uint64_t deadline_ms;
    void *dest;
    size_t dest_bytes;
    rpc_done_fn *done;
    void *arg;
    bool is_waiting; /* for the reply */
    bool is_queued;  /* for sending; freed when neither */
    struct rpc_call *bucket_next;
    struct rpc_call *slot_next, **slot_at;

    struct loop_task task; /* to fail from another thread */
    enum gfs_err fail_err;
};

struct rpc_calls {
    size_t count;
    uint64_t last_tick; /* visited already */
    struct rpc_call *buckets[RPC_CALLS_BUCKETS];
    struct rpc_call *wheel[RPC_CALLS_WHEEL];
};

/* By out.header.id, which is in use by no other. BUSY at RPC_CALLS_MAX. */
enum gfs_err rpc_calls_add(struct rpc_calls *calls, struct rpc_call *call,
                           uint64_t now_ms) GFS_MUST_CHECK;
struct rpc_call *rpc_calls_find(const struct rpc_calls *calls, uint64_t id);
void rpc_calls_remove(struct rpc_calls *calls, struct rpc_call *call);
/* Removes one call that is past its deadline and returns it; NULL: none is left. */
struct rpc_call *rpc_calls_expire(struct rpc_calls *calls, uint64_t now_ms);
/* Removes any one; NULL: none. */
struct rpc_call *rpc_calls_pop(struct rpc_calls *calls);

#endif
