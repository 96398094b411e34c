/*
 * lease_impl: what lease.c (rounds) and lease_table.c (the table, effects, time) share. Floor 5.
 */
#ifndef MASTER_LEASE_IMPL_H
#define MASTER_LEASE_IMPL_H

#include <uthash.h>

#include "master/lease.h"

enum lease_state {
    LEASE_IDLE, /* nothing out; kept for the numbers tried in vain, or not yet told */
    LEASE_RAISING,
    LEASE_RECONCILING,
    LEASE_WRITING,
    LEASE_GRANTING,
    LEASE_GRANTED,
};

enum lease_reply { ANSWER_PENDING, ANSWER_YES, ANSWER_NO, ANSWER_BUSY, ANSWER_UNCLEAR };

struct lease {
    uint64_t handle;
    uint32_t version; /* of the round, or granted */
    uint32_t tried;   /* highest ever asked for */
    uint32_t from_version;
    uint32_t length_bytes;
    uint8_t state;
    bool told;    /* a client may have written under some version of it */
    bool fresh;   /* the round's replicas make the chunk at the first write */
    bool durable; /* the round's version is in the journal */
    bool acked;   /* the primary has the grant */
    bool cut;
    bool settle; /* asked for without a grant */
    uint8_t goal;
    uint8_t rounds;
    uint8_t count;
    uint8_t answers[GFS_GOAL_MAX];
    uint16_t members[GFS_GOAL_MAX];
    /* of each member: */
    uint64_t serials[GFS_GOAL_MAX];
    uint32_t lengths[GFS_GOAL_MAX];
    bool bad[GFS_GOAL_MAX]; /* never a source */
    uint32_t waiter_count;
    struct lease_waiter *waiters;    /* newest first */
    struct lease_waiter *cut_waiter; /* of a cut or a settling */
    uint64_t expires_ms;
    struct lease *prev, *next; /* granted ones, in order of expiry */
    UT_hash_handle hh;
};

struct lease_table {
    struct lease_options options;
    struct lease *by_handle;
    struct lease *granted;
    uint32_t waiter_count;
    bool epoch_wanted;
    struct lease_effect *effects; /* a ring */
    size_t effect_first, effect_count, effect_cap;
};

/* A new effect with handle, version and members of the lease. */
struct lease_effect *lease_push_effect(struct lease_table *table, const struct lease *lease,
                                       enum lease_effect_kind kind);
struct lease *lease_find(const struct lease_table *table, uint64_t handle);
/* NULL: the table is full. */
struct lease *lease_find_or_add(struct lease_table *table, uint64_t handle);
/* Nobody may wait for it. */
void lease_forget(struct lease_table *table, struct lease *lease);
void lease_leave_granted(struct lease_table *table, struct lease *lease);
bool lease_moving(const struct lease *lease);
void lease_add_waiter(struct lease_table *table, struct lease *lease, struct lease_waiter *waiter);
void lease_answer_cut(struct lease_table *table, struct lease *lease, enum gfs_err err);
void lease_answer_all(struct lease_table *table, struct lease *lease, enum gfs_err err);

#endif
