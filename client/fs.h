/*
 * fs: a connection to a cluster: one loop thread, one rpc client, the master's address.
 * User threads send calls themselves and wait; the loop thread runs answers and timers.
 */
#ifndef CLIENT_FS_H
#define CLIENT_FS_H

#include <pthread.h>

#include "addr.h"
#include "gfs.h"
#include "gfs_limits.h"
#include "loop.h"
#include "rpc.h"
#include "suspect.h"

#define FS_ID_BYTES 16 /* of an op_id and a data_id */

struct gfs {
    /* set by gfs_connect, then only read */
    struct loop *loop;
    struct rpc_client *rpc;
    struct gfs_options opts; /* defaults filled in */
    char master[ADDR_TEXT_MAX_BYTES];
    uint8_t client_id[GFS_UUID_BYTES];
    char (*hosts)[ADDR_TEXT_MAX_BYTES]; /* addresses of this machine */
    size_t host_count;

    /* any thread, atomic */
    uint64_t counter;
    uint64_t chance;

    /* under lock */
    pthread_mutex_t lock;
    struct suspect_list suspects;
    uint64_t report_ms;    /* when the last second of reports began */
    uint32_t report_count; /* in it */
};

/* Ids are our client id and a counter: never twice the same. Reserves `count`, returns the first
 * number. */
uint64_t fs_reserve_ids(struct gfs *fs, uint64_t count);
void fs_id(const struct gfs *fs, uint64_t number, uint8_t ret_id[FS_ID_BYTES]);
void fs_make_id(struct gfs *fs, uint8_t ret_id[FS_ID_BYTES]); /* reserves one */
/* Names one source of appends or writes, for ever; never 0. */
uint64_t fs_producer(struct gfs *fs);
/* For jitter and for choosing among equals. */
uint32_t fs_random(struct gfs *fs);
/* Whether "ip:port" is on this machine. */
bool fs_is_near(const struct gfs *fs, const char *addr);
/* Copies under the lock. */
void fs_suspects(struct gfs *fs, struct suspect_list *ret_suspects);
void fs_suspect(struct gfs *fs, const uint8_t server[GFS_UUID_BYTES], uint32_t for_ms);
/* Tells the master of a bad replica, at most a few a second; does not wait. */
void fs_report_bad(struct gfs *fs, uint64_t handle, uint32_t version,
                   const uint8_t server[GFS_UUID_BYTES], enum gfs_err err);

#endif
