/*
 * mutation: the order of writes, appends and seals of chunks, and what of them may be read.
 * Floor 5: no I/O, no clock, no locks; one thread.
 *
 *   primary                                       secondary
 *   mutation_write, _append -> serial given       mutation_apply -> in turn, or held until it is
 *     LOCAL  (store_submit) -> mutation_submitted   LOCAL -> mutation_submitted
 *     SEND   (APPLY to every secondary)             mutation_local_done
 *     mutation_local_done, mutation_ack             FINISH (answer the primary)
 *     settled: mutation_next_settled -> SETTLE ->   mutation_settle
 *     FINISH (answer the client)
 *
 * The caller makes a struct mutation_op, hands it in, and drains mutation_next after every event;
 * FINISH gives the op back. The core never waits for one mutation to be durable before it orders
 * the next: the store keeps the order of submission per chunk, and so does the connection to each
 * secondary. A secondary that sees a later serial first holds it for a while.
 *
 * Serial = version << 32 | n with n from 1: it grows over the life of a chunk, and needs nothing
 * but the chunk's record to go on after a restart.
 *
 * Invariants:
 * - Local writes of a chunk are submitted in serial order without a gap, on every replica. A
 * mutation that had a serial and failed anywhere breaks the chunk's session: nothing more is
 * ordered under that version. A higher version (mutation_fence) ends the session of a lower one.
 * - A mutation is unsettled from before its local write until it is known to be on every replica
 *   (decision 10). What is unsettled outlives its session: it ends when a later version is granted,
 *   which happens after the replicas were reconciled. mutation_can_read tells what may be shown.
 * - An append is in the window from its serial on. The same (producer, sequence) again waits for
 * the first, or gets its offset. CHUNK_FULL is answered by a sealed chunk only, whose window does
 * not have the append (decision 12).
 */
#ifndef CHUNKSERVER_MUTATION_H
#define CHUNKSERVER_MUTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chunkserver/window.h"
#include "gfs_err.h"
#include "gfs_limits.h"

#define MUTATION_ADDR_MAX_BYTES  64
#define MUTATION_SECONDARIES_MAX (GFS_GOAL_MAX - 1u)

struct mutation_core;
struct mutation_chunk; /* the session of one chunk: a lease held, or a primary followed */

struct mutation_limits {
    uint32_t chunks_max;   /* sessions */
    uint32_t window_max;   /* mutations in flight per chunk */
    uint32_t hold_max;     /* orders that came early, per chunk */
    uint32_t gap_ms;       /* how long an early one waits for those before it */
    uint32_t idle_ms;      /* a session unused so long is forgotten */
    uint32_t unsettled_ms; /* unsettled for so long: the master is to reconcile */
};

/* The other members of a lease; shared by the mutations made under it. */
struct mutation_group {
    uint32_t refs;
    uint32_t count;
    char addrs[MUTATION_SECONDARIES_MAX][MUTATION_ADDR_MAX_BYTES];
};

struct mutation_lease {
    uint64_t handle;
    uint32_t version;
    bool fresh;
    uint32_t chunk_size_bytes;
    uint64_t expires_ms;
    const char *const *secondaries;
    size_t secondary_count;
};

/* What the store knows of the chunk. */
struct mutation_have {
    bool exists;
    uint32_t version;
    uint32_t length_bytes;
    uint64_t serial;
};

enum mutation_effect {
    MUTATION_NONE,
    MUTATION_LOCAL, /* submit the local write, then mutation_submitted at once */
    MUTATION_SEND,  /* send the order to each of op->group, then a mutation_ack for each */
    MUTATION_FINISH /* answer with op->err, then mutation_op_release: the op is the caller's */
};

struct mutation_op {
    /* The caller's. */
    uint64_t handle;
    uint32_t version;
    uint64_t serial;       /* the primary's core gives it */
    uint32_t offset_bytes; /* likewise of an append */
    uint32_t length_bytes;
    uint64_t producer; /* of an append, else 0 */
    uint64_t sequence;
    bool seal; /* no data: zeros to the end of the chunk */

    /* The core's; to be read by the caller. */
    bool primary;
    bool create;                  /* the local write makes the chunk */
    bool full;                    /* with FINISH and OK: an append that found the chunk sealed */
    bool repeated;                /* likewise: offset_bytes is that of the first try */
    struct mutation_group *group; /* primary: the secondaries */
    uint64_t settled_serial;      /* with SEND: to be told along */
    uint32_t failed;              /* bit i: secondary i failed */
    enum gfs_err failed_err;      /* what the first of them said */
    enum gfs_err err;             /* with FINISH */

    /* The core's own. */
    struct mutation_chunk *chunk;
    enum mutation_effect effect;
    bool local_pending;
    bool fenced;
    bool joins; /* an append that waits for another op: its own, or the seal */
    uint32_t acks_pending;
    uint32_t end_before_bytes; /* of the chunk */
    uint64_t held_until_ms;
    struct mutation_op *joiners;     /* that wait for this one */
    struct mutation_op *prev, *next; /* in the chunk's list of held ones, in joiners, in effects */
};

/* NULL when memory is out. */
struct mutation_core *mutation_new(const struct mutation_limits *limits);
/* No op may be left. NULL is fine. */
void mutation_free(struct mutation_core *core);

/* ---- sessions ---- */
/* We are primary. A repeated grant prolongs. The window is taken when the grant is, NULL: the chunk
 * knows no appends; a repeated grant keeps the one it has. BUSY, INVAL, NO_CHUNK, STALE_VERSION. */
enum gfs_err mutation_grant(struct mutation_core *core, const struct mutation_lease *lease,
                            const struct mutation_have *have, struct window *take_window,
                            uint64_t now_ms) GFS_MUST_CHECK;
void mutation_revoke(struct mutation_core *core, uint64_t handle, uint32_t version);
/* Prolongs a lease that is still held. */
void mutation_extend(struct mutation_core *core, uint64_t handle, uint64_t expires_ms);
/* A lease is held that can be used. */
/* The same, at this version. */
bool mutation_leads(const struct mutation_core *core, uint64_t handle, uint32_t version,
                    uint64_t now_ms);
/* Mutations of it are under way. */
bool mutation_is_busy(const struct mutation_core *core, uint64_t handle);
bool mutation_is_leased(const struct mutation_core *core, uint64_t handle, uint64_t now_ms);
/* Handles of held leases used at or after since_ms, up to max. */
size_t mutation_leases_used(const struct mutation_core *core, uint64_t since_ms, uint64_t now_ms,
                            uint64_t *ret_handles, size_t max);
/* The chunk goes to a higher version (about to be submitted): lower sessions end. */
void mutation_fence(struct mutation_core *core, uint64_t handle, uint32_t version);
/* The primary cannot go on: what it was told by the master says so. */
void mutation_break(struct mutation_core *core, uint64_t handle, uint32_t version,
                    enum gfs_err err);
/* The chunk is being deleted. */
void mutation_forget(struct mutation_core *core, uint64_t handle);
/* Ends held orders whose gap was not filled, forgets idle sessions. Every 100 ms or so. */
void mutation_tick(struct mutation_core *core, uint64_t now_ms);
size_t mutation_sessions(const struct mutation_core *core);

/* ---- mutations ---- */
/* A client's write to us as primary. secondaries: whom the client believes in. On an error the op
 * was not taken: NO_LEASE, STALE_VERSION, INVAL (beyond the chunk), BUSY (window). */
enum gfs_err mutation_write(struct mutation_core *core, struct mutation_op *op,
                            char *const *secondaries, size_t secondary_count,
                            uint64_t now_ms) GFS_MUST_CHECK;
/* An append: producer, sequence and length are set. Further errors: TOO_LATE, TOO_LARGE. */
enum gfs_err mutation_append(struct mutation_core *core, struct mutation_op *op,
                             char *const *secondaries, size_t secondary_count,
                             uint64_t now_ms) GFS_MUST_CHECK;
/* A primary's order to us. settled: what it says of others. On an error the op was not taken:
 * STALE_VERSION (ours is higher), NO_CHUNK (ours is lower or missing), BUSY (held too many, or it
 * is here already), or what broke the session. */
enum gfs_err mutation_apply(struct mutation_core *core, struct mutation_op *op,
                            const struct mutation_have *have, uint64_t settled,
                            uint64_t now_ms) GFS_MUST_CHECK;
/* Answer to LOCAL: did the store take it? */
void mutation_submitted(struct mutation_core *core, struct mutation_op *op, enum gfs_err err);
void mutation_local_done(struct mutation_core *core, struct mutation_op *op, enum gfs_err err,
                         uint64_t now_ms);
/* Secondary `index` of op->group answered. */
void mutation_ack(struct mutation_core *core, struct mutation_op *op, uint32_t index,
                  enum gfs_err err, uint64_t now_ms);
/* The next thing to do; MUTATION_NONE when there is nothing. */
enum mutation_effect mutation_next(struct mutation_core *core, struct mutation_op **ret_op);
void mutation_op_release(struct mutation_op *op);

/* ---- what is settled ---- */
/* What primaries have to tell their secondaries, one after the other, each once. The group is
 * referenced for the caller: mutation_group_unref. */
struct mutation_news {
    uint64_t handle;
    uint32_t version;
    uint64_t serial;
    struct mutation_group *group;
};
bool mutation_next_news(struct mutation_core *core, struct mutation_news *ret_news);
bool mutation_has_news(const struct mutation_core *core);
/* It did not reach everybody: it is news again. */
void mutation_news_failed(struct mutation_core *core, uint64_t handle, uint32_t version);
void mutation_group_unref(struct mutation_group *group);
/* Our primary says: up to this serial everything is everywhere. */
void mutation_settle(struct mutation_core *core, uint64_t handle, uint32_t version, uint64_t serial,
                     const struct mutation_have *have, uint64_t now_ms);
/* At start: the last mutations of the chunk may not be on every replica. BUSY. */
enum gfs_err mutation_doubt(struct mutation_core *core, uint64_t handle,
                            const struct mutation_have *have, uint64_t now_ms) GFS_MUST_CHECK;
/* The replica is about to take over what another one has, under the version that it has now:
 * nothing of it is shown until that version, or a later one, is granted. BUSY, NO_MEMORY. */
enum gfs_err mutation_mixed(struct mutation_core *core, uint64_t handle,
                            const struct mutation_have *have, uint64_t now_ms) GFS_MUST_CHECK;
/* False: what is there may still vanish, or is not everywhere yet. */
bool mutation_can_read(const struct mutation_core *core, uint64_t handle, uint32_t offset_bytes,
                       uint32_t length_bytes);
/* How many chunks have something unsettled. */
uint32_t mutation_unsettled_count(const struct mutation_core *core);
bool mutation_is_unsettled(const struct mutation_core *core, uint64_t handle);
/* Chunks whose unsettled mutations will not settle by themselves: the master is to be told. */
size_t mutation_stuck(const struct mutation_core *core, uint64_t now_ms, uint64_t *ret_handles,
                      size_t max);
bool mutation_is_stuck(const struct mutation_core *core, uint64_t handle, uint64_t now_ms);

#endif
