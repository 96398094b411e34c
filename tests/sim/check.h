/*
 * check: the promises of DESIGN §1 that can be looked at from outside of the history: while a
 * cluster runs (check.c, check_lease.c) and when all is quiet at the end (check_end.c,
 * check_tree.c). What clients saw is judged in work_final.c. All calls sim_fail.
 */
#ifndef TESTS_SIM_CHECK_H
#define TESTS_SIM_CHECK_H

#include <uthash.h>

#include "sim.h"

struct namespace;

/* What is known of a chunk over the whole run. */
struct check_chunk {
    uint64_t handle;
    bool there[SIM_SERVERS_MAX];
    uint32_t versions[SIM_SERVERS_MAX]; /* on that server's disk, as last seen */
    bool corrupt[SIM_SERVERS_MAX];
    uint32_t looks[SIM_SERVERS_MAX];
    uint32_t led[SIM_SERVERS_MAX]; /* version of the lease that the server can use; 0: none */
    uint32_t used_version;         /* highest that anybody led */
    uint32_t master_version;
    uint32_t master_incarnation;
    UT_hash_handle hh;
};

struct check {
    struct check_chunk *chunks;
    uint64_t looks;
};

struct check_chunk *check_chunk_of(uint64_t handle);
/* Server i has just run. */
void check_leases(uint32_t i);
/* Of the master's namespace in memory and in its journal: the same. */
void check_namespace(void);
/* The same names, attributes and chunks. */
void check_same_tree(struct namespace *one, struct namespace *other);

#endif
