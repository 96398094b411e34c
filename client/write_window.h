/*
 * write_window: the mutations of one open file that are not durable yet, and the leases they are
 * written under. Pure: events in, effects out; the shell (writer.c) calls the servers.
 *
 *   a mutation   QUEUED --PUSH--> PUSHING --ok--> PUSHED --WRITE--> WRITING --ok--> durable, gone
 *                  ^                 |              |                  |
 *                  +-----------------+-- failure, or another version --+
 *
 *   a chunk      IDLE --LEASE--> LEASING --granted--> READY --expired, refused, server blamed-->
 * IDLE
 *                                                       `--silence nobody can be blamed for-->
 *                                                          PROBE -> PROBING -> IDLE or READY
 *
 * Invariants:
 * - A mutation's bytes stay with the shell until it is durable, so it can be pushed again under
 *   the next version: same offsets, same bytes.
 * - Each push has an attempt number of its own; what answers an older attempt is ignored.
 * - Mutations that overlap are written in the order they were added; others in any order.
 * - Bytes acknowledged under version v are on every replica of v. A later version is made only of
 *   replicas that had v (each must take the version, and one that missed a mutation of v is below
 *   it), so the bytes are there too, and may be committed under the later version. That holds as
 *   long as the chunk was not placed anew, which we see by another family of handles (a copy on
 *   write has another handle, and all the bytes) or by no server in
 *   common, nor truncated, which we see by its count of cuts: then acknowledged but uncommitted
 *   bytes may be gone, and the window fails.
 * - After a failure nothing is done any more; the error stays.
 */
#ifndef CLIENT_WRITE_WINDOW_H
#define CLIENT_WRITE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "gfs_err.h"
#include "gfs_limits.h"

#define WRITE_WINDOW_MAX        64 /* mutations */
#define WRITE_WINDOW_CHUNKS_MAX 64 /* with a lease, or not committed yet */

struct write_replica {
    uint8_t server[GFS_UUID_BYTES];
    char addr[ADDR_TEXT_MAX_BYTES];
};

struct write_lease {
    uint64_t handle;
    uint32_t version;
    uint32_t cuts;          /* truncations of the chunk so far */
    uint64_t family;        /* of handles copied from each other */
    uint32_t replica_count; /* 0: none */
    uint64_t expires_ms;
    struct write_replica replicas[GFS_GOAL_MAX]; /* the first is the primary */
};

enum write_chunk_state {
    WRITE_CHUNK_IDLE, /* no lease to use */
    WRITE_CHUNK_LEASING,
    WRITE_CHUNK_PROBE, /* to be probed */
    WRITE_CHUNK_PROBING,
    WRITE_CHUNK_READY,
};

struct write_chunk {
    uint32_t index;
    enum write_chunk_state state;
    struct write_lease lease;                     /* the last one known */
    uint8_t failed[GFS_GOAL_MAX][GFS_UUID_BYTES]; /* to be left out of the next version */
    uint32_t failed_count;
    uint32_t tries;    /* failures since the last progress */
    uint32_t refusals; /* NO_LEASE and the like since the last progress */
    enum gfs_err last_err;
    uint64_t wait_until_ms;
    uint64_t stuck_since_ms;  /* 0: it goes on */
    uint32_t pending;         /* mutations */
    uint32_t acked_end_bytes; /* of what is not committed */
    uint64_t acks;
    bool dirty;        /* acknowledged since the last commit */
    uint64_t used_seq; /* the larger, the later used */
    struct write_chunk *prev, *next;
};

enum write_mutation_state {
    WRITE_MUTATION_QUEUED,
    WRITE_MUTATION_PUSHING,
    WRITE_MUTATION_PUSHED,
    WRITE_MUTATION_WRITING,
};

/* The shell embeds it beside the bytes. */
struct write_mutation {
    struct write_chunk *chunk;
    uint32_t offset_bytes; /* in the chunk */
    uint32_t length_bytes;
    enum write_mutation_state state;
    uint32_t attempt;
    uint64_t wait_until_ms;
    struct write_mutation *prev, *next;
};

struct write_window {
    uint32_t mutation_max;
    uint32_t timeout_ms; /* without any progress on a chunk: give up */
    uint32_t mutation_count;
    uint32_t chunk_count;
    uint64_t seq;
    uint64_t wake_ms; /* by the last write_window_next: when something will be due; 0: never */
    enum gfs_err err; /* sticky */
    uint32_t err_chunk_index;
    uint64_t err_handle;
    struct write_mutation *mutations; /* oldest first */
    struct write_chunk *chunks;
};

enum write_effect_kind {
    WRITE_EFFECT_LEASE, /* ask the master; answer by write_window_leased or _lease_failed */
    WRITE_EFFECT_PROBE, /* ping all replicas of the lease; write_window_probed */
    WRITE_EFFECT_PUSH,  /* write_window_pushed */
    WRITE_EFFECT_WRITE, /* write_window_written */
};

struct write_effect {
    enum write_effect_kind kind;
    struct write_chunk *chunk;
    struct write_mutation *mutation; /* of PUSH and WRITE */
};

/* How a PUSH or a WRITE ended. */
struct write_result {
    enum gfs_err err;
    uint32_t hint_ms;
    uint32_t blamed; /* bit i: replica i of the lease is at fault */
};

/* Time and chance of an event. */
struct write_moment {
    uint64_t now_ms;
    uint32_t random;
};

void write_window_init(struct write_window *window, uint32_t mutation_max, uint32_t timeout_ms);
/* Frees the chunk records. The mutations are the shell's. */
void write_window_release(struct write_window *window);

/* Whether a mutation of that chunk can be added: else wait for one to end, or, when
 * write_window_crowded, commit first. */
bool write_window_has_room(const struct write_window *window, uint32_t chunk_index);
/* Every chunk record is in use and a new one is asked for: only a commit makes room. */
bool write_window_crowded(const struct write_window *window, uint32_t chunk_index);
/* BUSY when there is no room, NO_MEMORY, or the window's error. offset, length are set before. */
enum gfs_err write_window_add(struct write_window *window, struct write_mutation *mutation,
                              uint32_t chunk_index) GFS_MUST_CHECK;
/* A lease that came unasked (with CREATE). */
enum gfs_err write_window_seed(struct write_window *window, uint32_t chunk_index,
                               const struct write_lease *lease) GFS_MUST_CHECK;

/* The next thing to do now, taken as begun. False: nothing; see wake_ms. */
bool write_window_next(struct write_window *window, uint64_t now_ms,
                       struct write_effect *ret_effect);

/* For the LEASE effect: the version under which somebody failed, or the primary refused: the master
 * is to make another, of the same members when nobody is to blame. 0: none. */
uint32_t write_window_failed_version(const struct write_chunk *chunk);
void write_window_leased(struct write_window *window, struct write_chunk *chunk,
                         const struct write_lease *lease, struct write_moment at);
void write_window_lease_failed(struct write_window *window, struct write_chunk *chunk,
                               const struct write_result *result, struct write_moment at);
/* silent: bit i: replica i did not answer. */
void write_window_probed(struct write_window *window, struct write_chunk *chunk, uint32_t silent,
                         struct write_moment at);
void write_window_pushed(struct write_window *window, struct write_mutation *mutation,
                         uint32_t attempt, const struct write_result *result,
                         struct write_moment at);
/* True: the mutation is durable and out of the window. */
bool write_window_written(struct write_window *window, struct write_mutation *mutation,
                          uint32_t attempt, const struct write_result *result,
                          struct write_moment at);

/* What may be committed: chunks with acknowledged bytes and none under way. */
struct write_commit {
    uint32_t index;
    uint64_t handle;
    uint32_t version;
    uint32_t length_bytes;
    uint64_t acks;
};
size_t write_window_commit_list(const struct write_window *window, struct write_commit *ret_list,
                                size_t max);
void write_window_committed(struct write_window *window, const struct write_commit *list,
                            size_t count);
/*
 * A commit was refused because the chunk is at another version; `there` is what the master says
 * of it now. GFS_OK: its replicas descend from ours, commit again. NO_REPLICA: they do not;
 * STALE_VERSION: they do, but were cut.
 */
enum gfs_err write_window_relocated(struct write_window *window, uint32_t chunk_index,
                                    const struct write_lease *there) GFS_MUST_CHECK;

#endif
