/*
 * mutation_impl: what mutation.c (sessions) and mutation_order.c (mutations) share. Floor 5.
 */
#ifndef CHUNKSERVER_MUTATION_IMPL_H
#define CHUNKSERVER_MUTATION_IMPL_H

#include <uthash.h>

#include "chunkserver/mutation.h"
#include "chunkserver/unsettled.h"

struct mutation_chunk {
    uint64_t handle;
    uint32_t version;
    uint32_t chunk_size_bytes;
    uint64_t next_serial;         /* to give (primary) or to take (secondary) */
    uint64_t durable_serial;      /* every one up to it in this version is on our disk */
    uint32_t end_bytes;           /* of the chunk, with what is under way */
    enum gfs_err broken;          /* what broke the session, GFS_OK: nothing */
    bool fresh;                   /* the chunk is made by serial 1 */
    struct mutation_group *group; /* lease held: the secondaries. NULL: no lease */
    uint64_t lease_expires_ms;
    uint32_t in_flight; /* taken ops that are not held and not finished */
    uint32_t held_count;
    struct mutation_op *held; /* by serial */
    uint64_t used_ms;

    struct unsettled unsettled; /* of this and of earlier sessions */
    uint64_t unsettled_since_ms;
    uint64_t told_serial;     /* primary: the secondaries know that it is settled */
    struct window *window;    /* primary: the appends it knows; NULL: none yet */
    struct mutation_op *seal; /* primary: under way */

    UT_hash_handle hh;
    struct mutation_chunk *prev, *next;           /* in by_use */
    struct mutation_chunk *tell_prev, *tell_next; /* in to_tell, when telling */
    bool telling;
};

struct mutation_core {
    struct mutation_limits limits;
    struct mutation_chunk *by_handle;
    struct mutation_chunk *by_use;  /* least recently used first */
    struct mutation_chunk *to_tell; /* primaries with news for their secondaries */
    struct mutation_op *effects;    /* in order */
    uint32_t unsettled_chunks;
};

static inline uint64_t mutation_serial_first(uint32_t version)
{
    return (uint64_t)version << 32 | 1;
}

struct mutation_chunk *mutation_chunk_find(const struct mutation_core *core, uint64_t handle);
/* NULL: too many, or no memory. */
struct mutation_chunk *mutation_chunk_make(struct mutation_core *core, uint64_t handle,
                                           uint64_t now_ms);
void mutation_chunk_touch(struct mutation_core *core, struct mutation_chunk *chunk,
                          uint64_t now_ms);
void mutation_session_begin(struct mutation_core *core, struct mutation_chunk *chunk,
                            uint32_t version, const struct mutation_have *have);
/* Ends what is held. */
void mutation_held_end(struct mutation_core *core, struct mutation_chunk *chunk, enum gfs_err err);
/* The session of the op's version is broken. */
void mutation_session_break(struct mutation_core *core, struct mutation_op *op, enum gfs_err err);
bool mutation_is_fresh(uint32_t version, const struct mutation_have *have);

/* Changes of what is unsettled; they keep the core's count and the primary's news. */
enum gfs_err mutation_unsettled_add(struct mutation_core *core, struct mutation_chunk *chunk,
                                    uint64_t serial, uint32_t from_bytes, uint32_t to_bytes,
                                    uint64_t now_ms) GFS_MUST_CHECK;
void mutation_unsettled_back(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial);
void mutation_unsettled_done(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial, uint64_t now_ms);
void mutation_unsettled_upto(struct mutation_core *core, struct mutation_chunk *chunk,
                             uint64_t serial, uint64_t now_ms);
/* Every serial up to it is on every replica. */
uint64_t mutation_settled_serial(const struct mutation_chunk *chunk);

#endif
