/*
 * chunkserver: the server's parts put together. Floor 6.
 *
 *   net threads      PUSH: check, keep, forward, answer   READ: to the storage pool
 *        |  WRITE, APPLY: posted                                |
 *        v                                                  storage threads: store_read, answer
 *   control thread   mutation core, leases, master: register, heartbeat, report, orders
 *        |  store_submit                    ^ posted
 *        v                                  |
 *   the store's committer thread -----------+
 *
 * No thread but the storage threads and the committer ever waits for the disk.
 */
#ifndef CHUNKSERVER_CHUNKSERVER_H
#define CHUNKSERVER_CHUNKSERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "addr.h"
#include "chunkserver/cs_options.h"
#include "chunkserver/debug_delay.h"
#include "chunkserver/delta.h"
#include "chunkserver/mutation.h"
#include "chunkserver/pushbuf.h"
#include "chunkserver/store.h"
#include "chunkserver/storepool.h"
#include "daemon.h"
#include "loop.h"
#include "rpc.h"

struct read_job;
struct cs_scrub;

#define CS_HEARTBEAT_CHANGES_MAX 4096u
#define CS_HEARTBEAT_EXTENDS_MAX 8192u
#define CS_HEARTBEAT_STUCK_MAX   1024u
#define CS_REPORT_CHUNKS_MAX     10000u
#define CS_DELTA_MAX             262144u
#define CS_SESSIONS_MAX          262144u
#define CS_RETRY_HINT_MS         50u

struct chunkserver;

/* One loop of ours and the calls that leave from it. */
struct cs_net {
    struct chunkserver *cs;
    struct loop *loop;
    struct rpc_client *client;
};

/* How we stand with the master. Control thread only. */
struct cs_master {
    bool registered;
    bool calling; /* a REGISTER or HEARTBEAT is under way */
    bool reporting;
    bool stamping;
    uint32_t generation; /* of the registration: late answers of an older one are ignored */
    uint32_t failures;   /* since the last good answer */
    uint32_t heartbeat_ms;
    uint32_t lease_ms;
    uint64_t beat_sent_ms;
    uint64_t used_since_ms;
    uint64_t report_next_ms;
    uint64_t report_from; /* next handle of the rolling report */
    uint64_t report_last; /* of the part under way */
    bool report_full;     /* all of it at once */
    bool was_read_only, was_failed;
    struct loop_timer timer;
};

/* Appends that wait for the master. Control thread only. append.c. */
struct cs_append {
    struct append_lease *leases;
    struct write_op *waiting;
    bool calling;
    struct loop_timer timer;
};

/* Telling secondaries what is settled, and reads that wait for it. Control thread only. settle.c.
 */
struct cs_settle {
    struct loop_timer timer;
    bool armed;
    struct read_job *parked;
    uint32_t parked_count;
};

struct chunkserver {
    /* Set before the threads start, then read-only. */
    const struct cs_options *options;
    struct store *store;
    struct storepool *pool;
    struct pushbuf *pushbuf;
    struct debug_delay *delay;
    struct cs_net control;
    struct cs_net *nets;
    size_t net_count;
    struct rpc_server *server;
    char master_addr[ADDR_TEXT_MAX_BYTES];
    char advertise[ADDR_TEXT_MAX_BYTES];
    void (*stopped)(void *arg); /* control thread: drained, or cannot go on */
    void *stopped_arg;

    /* Any thread. */
    atomic_bool stopping;
    atomic_bool read_only;
    atomic_uint in_service; /* requests not answered yet */
    atomic_int exit_code;
    atomic_uint
        unsettled; /* chunks with mutations not to be shown: raised before they are stored */

    /* Control thread. */
    struct daemon_dir *dir;
    struct mutation_core *mutations;
    struct delta delta;
    struct cs_master master;
    struct cs_append append;
    struct cs_settle settle;
    struct cs_scrub *scrub;
    uint32_t sync_count; /* SYNC_CHUNKs under way */
    struct loop_timer tick;
    uint64_t drain_until_ms; /* 0: not draining */
    bool closed;             /* `stopped` was told: nothing is begun any more */
};

enum gfs_err chunkserver_new(const struct cs_options *options, struct daemon_dir *dir,
                             struct chunkserver **ret_cs, char *ret_detail) GFS_MUST_CHECK;
/* Starts serving and looking for the master. stopped(arg) is called once on the control thread. */
enum gfs_err chunkserver_start(struct chunkserver *cs, void (*stopped)(void *arg), void *arg,
                               char *ret_detail) GFS_MUST_CHECK;
/* Any thread: refuse what is new, finish what is not, then `stopped`. */
void chunkserver_drain(struct chunkserver *cs);
/* Ends everything. Not from a thread of the server. NULL and half-built are fine. */
void chunkserver_free(struct chunkserver *cs);
int chunkserver_exit_code(const struct chunkserver *cs);

/* ---- between the server's files ---- */

/* Every request ends in one of these. */
void cs_reply(struct chunkserver *cs, struct rpc_request *take_request,
              const ProtobufCMessage *reply, const struct rpc_payload *payload);
void cs_reply_empty(struct chunkserver *cs, struct rpc_request *take_request);
void cs_reply_error(struct chunkserver *cs, struct rpc_request *take_request, enum gfs_err err,
                    const char *detail);
/* What is left of the request's time, less a share for those behind us; at least 1. */
uint32_t cs_time_left_ms(const struct rpc_request *request);
/* Any thread: tell the master about this chunk with the next heartbeat. */
void cs_chunk_changed(struct chunkserver *cs, uint64_t handle);
/* Control thread: stop the process, it cannot go on. */
void cs_give_up(struct chunkserver *cs);

void cs_push(struct cs_net *net, struct rpc_request *take_request);
void cs_read(struct chunkserver *cs, struct rpc_request *take_request);

/* Control thread. */
void cs_write(struct chunkserver *cs, struct rpc_request *take_request);
void cs_apply(struct chunkserver *cs, struct rpc_request *take_request);
void cs_append(struct chunkserver *cs, struct rpc_request *take_request);
void cs_mutations_drain(struct chunkserver *cs);

/* append.c. A lease was granted: where the chunk belongs, for APPENDED. */
enum gfs_err cs_append_granted(struct chunkserver *cs, uint64_t handle, uint32_t version,
                               uint64_t inode, uint32_t index) GFS_MUST_CHECK;
enum gfs_err cs_append_init(struct chunkserver *cs) GFS_MUST_CHECK;
void cs_append_release(struct chunkserver *cs); /* the timer; its loop's thread */
void cs_append_drop(struct chunkserver *cs);    /* the rest, at the end */

/* digest.c, copy.c, sync.c */
void cs_digest(struct chunkserver *cs, struct rpc_request *take_request);
void cs_copy_chunk(struct chunkserver *cs, struct rpc_request *take_request);
void cs_sync_chunk(struct chunkserver *cs, struct rpc_request *take_request);

/* scrub_run.c */
void cs_scrub_request(struct chunkserver *cs, struct rpc_request *take_request);
/* Any thread: a block of the chunk is bad; the master is told once the store has marked it. */
void cs_chunk_bad(struct chunkserver *cs, uint64_t handle);
void cs_scrub_tick(struct chunkserver *cs);
enum gfs_err cs_scrub_init(struct chunkserver *cs) GFS_MUST_CHECK;
void cs_scrub_go(struct chunkserver *cs);
void cs_scrub_release(struct chunkserver *cs); /* the timer; its loop's thread */
void cs_scrub_drop(struct chunkserver *cs);

/* settle.c */
void cs_settle(struct chunkserver *cs, struct rpc_request *take_request);
/* Before a mutation is given to the store: readers must be able to see that it is unsettled. */
void cs_unsettled_note(struct chunkserver *cs);
/* After events: secondaries are told, and reads that waited go on. */
void cs_settled(struct chunkserver *cs);
enum gfs_err cs_settle_init(struct chunkserver *cs) GFS_MUST_CHECK;
void cs_settle_release(struct chunkserver *cs);
void cs_settle_drop(struct chunkserver *cs);
/* Chunks that were being written when the server stopped. */
void cs_settle_doubt(struct chunkserver *cs);
void cs_set_version(struct chunkserver *cs, struct rpc_request *take_request);
void cs_grant_lease(struct chunkserver *cs, struct rpc_request *take_request);
/* A lease counted from from_ms, less the margin for clocks and messages on their way. */
uint64_t cs_lease_expiry_ms(uint64_t from_ms, uint32_t lease_ms, uint32_t margin_ms);
void cs_delete_chunks(struct chunkserver *cs, struct rpc_request *take_request);

enum gfs_err cs_master_init(struct chunkserver *cs) GFS_MUST_CHECK;
void cs_master_go(struct chunkserver *cs);
void cs_master_release(struct chunkserver *cs);
void cs_master_conn_closed(struct chunkserver *cs);

#endif
