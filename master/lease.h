/*
 * lease: who may write a chunk, and how the master comes to let them. Floor 5, pure.
 *
 * One machine a chunk. Events go in by the functions below, effects come out of lease_next_effect;
 * the shell carries them out and brings their outcome back as further events.
 *
 *             fresh: placed                existing chunk: ask
 *                  |                             |
 *                  |              RAISING   SET_VERSION to all up-to-date replicas
 *                  |                 |  all have answered; one did not: again, higher, without it
 *                  |              RECONCILING  SYNC_CHUNK to those that are behind the most
 * advanced |                 |         one, or corrupt; one cannot: again, without it | WRITING
 * version to the journal |                 |  durable (asked only to settle or to cut: done, IDLE)
 *                  +---> GRANTING <--+      GRANT_LEASE to the primary (fresh: and the journal)
 *                           |   primary did not answer: RAISING again, higher, without it
 *                        GRANTED ---- silent for lease_ms ---> forgotten
 *
 * Invariants:
 * - The members of a granted version are exactly the servers that were asked for it and said yes.
 *   A server that was asked and gave no clear answer may hold that version without being told of
 *   the writes that follow: therefore the round is run again with a higher version without it.
 * - A version number is asked for once in the life of the cluster. Numbers tried in vain are
 *   remembered here; those of a master that was killed lie in an older epoch (the upper 20 bits,
 *   one epoch for each start). So a replica with a version above the journaled one took part in a
 *   round that granted nothing: it is as good as those at the journaled version.
 * - A version is granted once. A lease that ran out is followed by a higher version with the same
 *   members, not granted again: the primary may have forgotten that a write failed under it, and
 *   its secondaries hold that write's serial, which it would give to another.
 * - The members hold the same bytes when the version goes to the journal. Serials of a version are
 *   applied without gaps, so the replica with the highest one has all that any other has, and all
 *   that was acknowledged (decision 11).
 * - Nobody is told of a version before it is durable at its replicas and at the master.
 * What can fail: no replica answers (NO_REPLICA), too many wait (BUSY); never the caller's state.
 */
#ifndef MASTER_LEASE_H
#define MASTER_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

#define LEASE_EPOCH_SHIFT       12
#define LEASE_VERSION_FIRST     1u /* of a fresh chunk */
#define LEASE_CHUNK_WAITERS_MAX 256u
#define LEASE_TABLE_MAX         2000000u
#define LEASE_ROUNDS_MAX        8u

struct lease_table;

struct lease_options {
    uint32_t lease_ms;
    uint32_t min_replicas; /* a round that ends with fewer members (or than the goal, if that is
                              lower) grants nothing */
    uint32_t waiters_max;  /* of all chunks together */
    uint32_t epoch;        /* higher at every start of the master */
};

/* The shell embeds it in what it keeps of a request. */
struct lease_waiter {
    struct lease_waiter *next;
};

struct lease_grant {
    uint64_t handle;
    uint32_t version;
    uint32_t remaining_ms;
    uint8_t count;
    uint16_t members[GFS_GOAL_MAX]; /* slots; the first is the primary */
};

enum lease_effect_kind {
    LEASE_EFFECT_SET_VERSION, /* -> lease_raised */
    LEASE_EFFECT_SYNC,        /* make `slot` like `source` -> lease_synced */
    LEASE_EFFECT_GRANT,       /* -> lease_acked */
    LEASE_EFFECT_JOURNAL,     /* version and members -> lease_durable */
    LEASE_EFFECT_PLACE,       /* choose other servers, not `slot` -> lease_placed */
    LEASE_EFFECT_ANSWER,
};

struct lease_effect {
    enum lease_effect_kind kind;
    struct lease_grant grant; /* handle and version always; members: GRANT, JOURNAL, ANSWER */
    uint16_t slot;
    uint16_t source;       /* SYNC */
    bool fresh;            /* GRANT */
    bool create;           /* SET_VERSION */
    bool cut;              /* SET_VERSION, JOURNAL */
    uint32_t from_version; /* SET_VERSION */
    uint32_t length_bytes; /* SET_VERSION with cut */
    enum gfs_err err;      /* ANSWER */
    struct lease_waiter *waiter;
};

/* The chunk as the master has it now. */
struct lease_chunk {
    uint64_t handle;
    uint32_t version;
    uint32_t length_bytes; /* committed */
    bool cut;              /* its replicas must be cut to that length */
    uint8_t goal;          /* of the chunk: fewer than min_replicas may be wanted */
    uint8_t count;         /* replicas to carry on with: up to date, reachable, not failed */
    uint16_t replicas[GFS_GOAL_MAX];
    uint16_t bad; /* bit i: replicas[i] is corrupt: to be made good from another */
};

enum gfs_err lease_table_new(const struct lease_options *options,
                             struct lease_table **ret_table) GFS_MUST_CHECK;
void lease_table_free(struct lease_table *table);
/* True: fills ret_effect. Waiters of dropped tables are the shell's to find. */
bool lease_next_effect(struct lease_table *table, struct lease_effect *ret_effect);

/*
 * Events. On an error the waiter stays the caller's; on GFS_OK an ANSWER effect gives it back.
 */
/* A new chunk: the caller journals version 1 with these members; durable comes by lease_durable.
 * waiter may be NULL. */
enum gfs_err lease_fresh(struct lease_table *table, uint64_t handle, const uint16_t *members,
                         uint8_t count, struct lease_waiter *waiter) GFS_MUST_CHECK;
/* failed_version: the version under which the caller saw a server fail, 0: none did. */
enum gfs_err lease_ask(struct lease_table *table, const struct lease_chunk *chunk,
                       uint32_t failed_version, struct lease_waiter *waiter,
                       uint64_t now_ms) GFS_MUST_CHECK;
/* Raises the version and cuts the replicas to chunk->length_bytes, ending any lease. BUSY while a
 * round is under way. */
enum gfs_err lease_cut(struct lease_table *table, const struct lease_chunk *chunk,
                       struct lease_waiter *waiter) GFS_MUST_CHECK;

/*
 * Raises the version, reconciles the replicas and journals, then grants nothing: any lease of the
 * chunk has ended and no mutation of it is under way. For snapshots, and for replicas that do not
 * know how a mutation ended. waiter may be NULL; it is answered when all that is durable. A lease
 * asked for meanwhile follows. BUSY while another round is under way.
 */
enum gfs_err lease_settle(struct lease_table *table, const struct lease_chunk *chunk,
                          struct lease_waiter *waiter) GFS_MUST_CHECK;

/* What a replica said to SET_VERSION. */
struct lease_answer {
    enum gfs_err err;
    uint32_t length_bytes;
    uint64_t serial;
    bool corrupt;
};
void lease_raised(struct lease_table *table, uint64_t handle, uint32_t version, uint16_t slot,
                  const struct lease_answer *answer);
void lease_synced(struct lease_table *table, uint64_t handle, uint32_t version, uint16_t slot,
                  enum gfs_err err);
void lease_durable(struct lease_table *table, uint64_t handle, uint32_t version, uint64_t now_ms);
void lease_acked(struct lease_table *table, uint64_t handle, uint32_t version, enum gfs_err err,
                 uint64_t now_ms);
void lease_placed(struct lease_table *table, uint64_t handle, const uint16_t *members,
                  uint8_t count);
/* The primary asks for more time. False: it is not the holder. */
bool lease_extend(struct lease_table *table, uint64_t handle, uint16_t slot, uint64_t now_ms);
/* Its leases as a primary end. */
void lease_server_down(struct lease_table *table, uint16_t slot);
/* The chunk is gone: waiters get `err`. */
void lease_drop(struct lease_table *table, uint64_t handle, enum gfs_err err);
/* The master stops: every waiter gets `err`. */
void lease_drop_all(struct lease_table *table, enum gfs_err err);
/* Forgets leases that ran out. */
void lease_tick(struct lease_table *table, uint64_t now_ms);

/* A round or grant is under way. */
bool lease_is_moving(const struct lease_table *table, uint64_t handle);
/* A lease is out or on its way: replicas may not have the chunk yet. */
bool lease_is_live(const struct lease_table *table, uint64_t handle);
/* The primary of the lease that is out. False: none is. */
bool lease_holder(const struct lease_table *table, uint64_t handle, uint32_t *ret_version,
                  uint16_t *ret_slot);
/* It is live, or a round of it failed, so that a lease from before may still be out. */
bool lease_is_known(const struct lease_table *table, uint64_t handle);
/* The chunk's numbers of this epoch are used up: the shell should start a new epoch. */
bool lease_epoch_wanted(const struct lease_table *table);
void lease_set_epoch(struct lease_table *table, uint32_t epoch);
size_t lease_count(const struct lease_table *table);

#endif
