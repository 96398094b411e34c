/*
 * service_op: one request on its way through the master, and the service's insides. Floor 6.
 * Private to service*.c.
 */
#ifndef MASTER_SERVICE_OP_H
#define MASTER_SERVICE_OP_H

#include "chunk.pb-c.h"
#include "control.pb-c.h"
#include "master.pb-c.h"
#include "master/service.h"
#include "rpc.pb-c.h"

#define SERVICE_RETRY_MS       100u
#define SERVICE_NO_SERVERS     "none with free space is connected"
#define SERVICE_CHUNKS_MAX     256u /* in one reply, so that it fits a message */
#define SERVICE_OP_FIRST_BYTES 512u

struct service_sweep;
struct service_cow;
struct service_snapshot;
struct service_settle;
struct service_waits;

/* All fields: the metadata loop. */
struct service {
    struct service_parts parts;
    struct registry registry;
    struct lease_table *leases;
    struct collect *collect;
    struct service_sweep *sweeps; /* full reports being compared */
    struct loop_task sweep_task;
    bool sweep_posted;
    struct changes changes; /* of the request at hand; empty between requests */
    uint64_t random_state;
    uint64_t started_ms;
    int64_t started_wall_ms;
    uint64_t max_handle; /* highest handle seen */
    uint32_t op_count;
    bool stopping;
    struct service_epoch *epoch_under_way;
    struct service_cow *cows;           /* copies on write under way, by file and index */
    struct service_snapshot *snapshots; /* under way */
    struct service_waits *waits;
    struct service_settle *settles; /* chunks to be reconciled */
    uint32_t settle_count;
    uint64_t came_back_ms;                  /* when a server registered last */
    uint64_t down_ms[REGISTRY_SERVERS_MAX]; /* when a server went away last, + 1 */
    struct loop_timer tick;
    uint64_t tick_count;
    struct journal_wait tick_wait;
    bool tick_waiting;
    int64_t tick_cutoff_s; /* what was released before it is durably so when tick_wait is done */
    /* Counted by a walk in slices: what STATFS tells. */
    uint32_t count_at;
    uint64_t counting_under, counting_lost;
    uint64_t under_replicated, lost;
};

/* A request that waits: for the journal, or for a lease. */
struct op {
    struct service *service;
    struct rpc_request *request;
    struct journal_wait wait;
    struct lease_waiter waiter;
    const ProtobufCMessage *reply; /* in arena, what it points at too */
    enum gfs_err err;              /* else this, with... */
    uint32_t retry_ms;
    char detail[160];
    /* LEASE, CREATE with a first chunk, TRUNCATE */
    uint64_t inode;
    uint64_t handle;
    uint32_t index;
    uint32_t tries;
    uint8_t exclude_count; /* servers that failed the caller */
    uint16_t exclude[GFS_GOAL_MAX];
    void (*leased)(struct op *op, enum gfs_err err, const struct lease_grant *grant);
    void (*copied)(struct op *op, enum gfs_err err); /* after service_cow_begin */
    struct op *cow_next;
    struct msg_arena arena;
    uint64_t first[SERVICE_OP_FIRST_BYTES / 8];
};

typedef void service_handler_fn(struct service *service, struct rpc_request *take_request);

/* ---- service_op.c: how requests end ---- */
/* NULL: answered BUSY. */
struct op *op_new(struct service *service, struct rpc_request *take_request);
/* Zeroed memory that lives as long as the op; NULL: none, and the reply becomes NO_MEMORY. */
void *op_alloc(struct op *op, size_t count, size_t bytes);
/* Answers op->reply, or op->err, once all that is appended now is durable; frees the op. */
void op_finish(struct op *op);
void op_fail(struct op *op, enum gfs_err err, uint32_t retry_ms, const char *detail);
/* Appends service->changes to the journal, then as op_finish. */
void op_commit(struct op *op);
void op_answer_empty(struct op *op);
/* For requests that need no op: an error that depends on no state that is not durable. */
void service_refuse(struct rpc_request *take_request, enum gfs_err err, const char *detail);
/* True: the journal is full, and the request was answered BUSY. */
bool service_is_full(struct service *service, struct rpc_request *take_request);
void op_set_attr(struct op *op, const struct inode *inode, Gfs__Attr *ret_attr);
int64_t service_wall_ms(void);
/* Wall time as of the start, and on from there without steps: for how long a file is silent. */
int64_t service_steady_ms(const struct service *service);
ProtobufCBinaryData op_copy(struct op *op, const void *data, size_t len_bytes);

/* ---- service_lease.c: effects, and fresh chunks ---- */
void service_run_effects(struct service *service);
/* Fills what a lease machine must know of the chunk; `exclude` servers are left out. */
void service_lease_chunk(const struct service *service, const struct chunk *chunk,
                         const uint16_t *exclude, size_t exclude_count,
                         struct lease_chunk *ret_chunk);
/* Makes a chunk in the hole, appends nothing yet: service->changes has it. NULL op waiter: none.
 * The caller calls service_fresh_begin after the journal has the changes. */
struct fresh;
enum gfs_err service_fresh_prepare(struct service *service, struct inode *inode, uint32_t index,
                                   const uint16_t *exclude, size_t exclude_count,
                                   struct fresh **ret_fresh) GFS_MUST_CHECK;
void service_fresh_begin(struct service *service, struct fresh *take_fresh, struct op *op);
Gfs__Lease *op_make_lease(struct op *op, const struct lease_grant *grant);
/* The end of a lease that its holder does not use. */
uint32_t service_margin_ms(const struct service *service);
/* Chunkservers may still be about to report what they hold. */
bool service_is_starting(const struct service *service);
/* A new version made now would leave behind replicas that are about to be reported. */
bool service_awaits_replicas(const struct service *service, const struct lease_chunk *chunk,
                             uint32_t goal);
void service_forget_link(struct service *service, struct rpc_conn *conn);

/* ---- service_report.c ---- */
void service_sweep_drop(struct service *service, uint16_t slot);
void service_apply_report(struct service *service, uint16_t slot, const Gfs__ChunkState *state);

/* ---- service_cow.c ---- */
/*
 * Gives the file op->inode a chunk of its own at op->index, in the place of the shared one there
 * (references > 1). Ends with op->copied, perhaps before it returns: the file may have changed
 * meanwhile, so on GFS_OK look at everything again (the snapshot hold too); on an error nothing has
 * changed, and op->detail says more: end with op_fail(op, err, 0, op->detail).
 */
void service_cow_begin(struct op *op, const struct chunk *chunk);
void service_cow_stop(struct service *service);
void service_cow_free(struct service *service);

/* ---- service_snapshot.c ---- */
/* A snapshot of a tree with this file is being made: no lease, no fresh chunk, no truncation now:
 * answer BUSY. */
bool service_snapshot_holds(const struct service *service, const struct inode *inode);
/* Leases that the server has as a primary may be out still. */
void service_snapshot_server_down(struct service *service, uint16_t slot);
void service_snapshot_stop(struct service *service);

/* ---- service_wait.c ---- */
/* The file may have grown. Call it after the change is in the journal: not before journal_append or
 * op_commit, or the answer could get ahead of the disk. */
void service_wait_wake(struct service *service, uint64_t inode);
/* Files may have been removed or replaced. */
void service_wait_check(struct service *service);
void service_wait_forget(struct service *service, const struct rpc_conn *conn);
enum gfs_err service_wait_init(struct service *service) GFS_MUST_CHECK;
/* All that wait are answered STOPPING. */
void service_wait_stop(struct service *service);
void service_wait_free(struct service *service);

/* ---- service_settle.c ---- */
/* A replica does not know how its last mutations ended, or is corrupt: a round will reconcile. */
void service_settle_want(struct service *service, uint64_t handle);
bool service_settle_is_wanted(const struct service *service, uint64_t handle);
void service_settle_tick(struct service *service);
void service_settle_free(struct service *service);

/* ---- service_servers.c ---- */
/* Servers silent for too long are down; late ones get no new chunks. */
void service_drop_silent(struct service *service);

/* ---- service_maintain.c ---- */
enum gfs_err service_maintain_init(struct service *service) GFS_MUST_CHECK;
void service_count_replicas(struct service *service);

/* ---- service.c ---- */
/* Has the next epoch written, off the loop, and then used. */
void service_begin_epoch(struct service *service);

/* ---- handlers, by file ---- */
service_handler_fn service_lookup, service_readdir, service_mkdir, service_remove, service_rename,
    service_setattr; /* service_names.c */
service_handler_fn service_create, service_publish, service_abandon, service_commit,
    service_truncate;                                                 /* service_files.c */
service_handler_fn service_chunks, service_lease, service_report_bad; /* service_chunks.c */
service_handler_fn service_snapshot;                                  /* service_snapshot.c */
service_handler_fn service_wait;                                      /* service_wait.c */
service_handler_fn service_register, service_heartbeat, service_statfs,
    service_servers;                     /* service_servers.c */
service_handler_fn service_chunk_report; /* service_report.c */
service_handler_fn service_appended;     /* service_append.c */

#endif
