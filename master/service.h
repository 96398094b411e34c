/*
 * service: the master's requests and timers. Floor 6.
 *
 *   net threads: frames, protobuf --loop_post--> the metadata loop: one handler a message type
 *                                                 |  changes          |  lease effects
 *                                                 v                   v
 *                                              journal           chunkservers, on the
 *                                                 | durable       connections they opened
 *   net threads: reply <-------- op_finish <------+-------------------+
 *
 * Everything here runs on the metadata loop, without locks, except service_on_request and
 * service_on_close, which only hand over. A reply leaves when everything that had been appended to
 * the journal when it was made is durable, so nobody sees what a crash could take back.
 */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "master/collect.h"
#include "master/journal.h"
#include "master/lease.h"
#include "master/namespace.h"
#include "master/opwindow.h"
#include "master/registry.h"
#include "msg_arena.h"
#include "rpc.h"

struct config_option;

struct master_options {
#define FIELD_STRING                                        const char *
#define FIELD_U64                                           uint64_t
#define FIELD_SIZE                                          uint64_t
#define FIELD_BOOL                                          bool
#define OPT(name, type, default_text, min, max, unit, help) FIELD_##type name;
#include "master/master_options.tbl"
#undef OPT
};

/* What the service works with; all of it is the caller's and outlives it. */
struct service_parts {
    const struct master_options *options;
    struct loop *loop;
    struct namespace *ns;
    struct opwindow *window;
    struct journal *journal;
    uint8_t cluster_id[GFS_UUID_BYTES];
    uint64_t random_seed;
    uint32_t epoch;       /* of this start: see lease.h */
    const char *data_dir; /* where epochs are kept */
};

struct service;

/* On the loop's thread, before it runs. */
enum gfs_err service_new(const struct service_parts *parts,
                         struct service **ret_service) GFS_MUST_CHECK;
/* After service_stop, and after the loop is freed: what it still has in its mailbox belongs to the
 * service. NULL is fine. */
void service_free(struct service *service);
/* Requests from now on, and those that wait for leases, are answered STOPPING; the clock stops. */
void service_stop(struct service *service);
/* No request waits for anything any more. */
bool service_is_idle(const struct service *service);
/* rpc_events; arg is the service. */
void service_on_request(void *arg, struct rpc_request *take_request);
void service_on_close(void *arg, struct rpc_conn *conn);

#endif
