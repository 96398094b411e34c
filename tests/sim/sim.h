/*
 * sim: a whole cluster in one process, one thread and virtual time. DESIGN §8.
 *
 *   client/  master/  chunkserver/       the real code, blocking API, store and all, as it is
 *   ---------------------------------    loop.h rpc.h kv.h, threads, clocks, files: replaced below
 *   sim_loop  sim_rpc  sim_task  sim_wrap        sim_kv  sim_files  (sim_disk.h)
 *   ---------------------------------
 *   sim_world: one queue of events ordered by (time, number); every choice comes from the seed
 *
 * A node is a process on a machine: the master, a chunkserver, or a client's. It has its own loops,
 * clock (offset and drift), disk, and threads, which are coroutines: a wait on a mutex, a
 * condition, a join or a sleep switches to the scheduler. Code of a node runs with that node as
 * `sim->current`. A crash drops all the node's events, coroutines and connections; its memory
 * leaks, since every seed runs in a process of its own, forked for it.
 *
 * The same seed gives the same run: nothing here looks at addresses, real clocks or the kernel's
 * random numbers. `trace_hash` covers every event and message, and a test compares two runs.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

#define SIM_SERVERS_MAX 8u
#define SIM_CLIENTS_MAX 8u
#define SIM_NODES_MAX   (1u + SIM_SERVERS_MAX + SIM_CLIENTS_MAX)
#define SIM_MS          1000ull
#define SIM_S           1000000ull

struct chunkserver;
struct service;
struct namespace;
struct journal;
struct kv;
struct gfs;
struct loop;
struct sim_disk; /* sim_disk.h */
struct sim_task; /* a coroutine */
struct sim_boot; /* what a node's process has made */
struct work;     /* work.h: of the workload */
struct check;    /* check.h: of the invariants */

/* ---- events ---------------------------------------------------------------------------------- */

/* Intrusive. Zero it first. fn runs with `node` as the current one, unless that has crashed since:
 * then the event is dropped. */
struct sim_event {
    void (*fn)(struct sim_event *event);
    const char *what; /* for the trace */
    struct sim_node *node;
    uint64_t at_us;
    uint64_t number;
    uint32_t incarnation;
    uint32_t place; /* in the queue, + 1; 0: not queued */
};

enum sim_role {
    SIM_MASTER,
    SIM_SERVER,
    SIM_CLIENT,
};

struct sim_node {
    enum sim_role role;
    uint32_t index; /* in sim->nodes: 0 is the master, then servers, then clients */
    char name[8];   /* "m0", "s1", "c5" */
    char ip[16];    /* "10.0.0.1" */
    char addr[24];  /* with the port */
    char rack[8];
    bool up;               /* the process runs */
    bool machine_up;       /* else nothing answers, not even "refused" */
    uint32_t incarnation;  /* rises with every end of the process */
    struct sim_disk *disk; /* survives. NULL for clients */

    /* its clocks: local = base + (now - since) * (1e6 + drift) / 1e6 */
    uint64_t clock_base_us, clock_since_us;
    int64_t drift_ppm;
    int64_t wall_offset_ms;

    uint64_t paused_until_us; /* all its events wait: SIGSTOP, or a slow machine */

    /* kept on its disk by what sim_wrap.c and sim_boot.c replace */
    uint32_t epoch;
    uint8_t server_id[GFS_UUID_BYTES];
    uint8_t cluster_id[GFS_UUID_BYTES]; /* stamped; zeros: not yet */

    struct sim_boot *boot; /* while up */
    uint64_t random_state; /* what its process draws: ids, jitter */
    uint32_t crashes;
};

/* What a direction between two nodes does. */
struct sim_link {
    bool cut;              /* nothing gets through; it is sent again when the link is whole */
    uint32_t delay_min_us; /* one way */
    uint32_t delay_max_us;
};

struct sim_options {
    uint64_t seed;
    uint32_t servers, clients, racks; /* 0: drawn from the seed, 4, 2 and 3 mostly */
    uint32_t ops;                     /* of the workload; 0: its own choice */
    uint64_t fault_us;                /* how long faults go on; 0: drawn */
    bool no_faults;
    const char *faults; /* names of kinds, with commas; NULL: drawn */
    bool verbose;       /* trace on stdout */
};

struct sim {
    struct sim_options options;
    uint64_t now_us;
    uint64_t events; /* run so far */
    uint64_t trace_hash;
    struct sim_node *current; /* whose code is running; NULL: nobody's */
    struct sim_node *ran;     /* whose event was the last; for check_after_event */
    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t node_count, server_count, client_count;
    struct sim_link links[SIM_NODES_MAX][SIM_NODES_MAX]; /* [from][to] */
    bool healed; /* faults are over: what is checked at the end must come true */
    struct work *work;
    struct check *check;
};

extern struct sim *const sim;

/* ---- for everybody --------------------------------------------------------------------------- */

/* At now + delay, after what is due then already. An event is queued once at a time. */
void sim_schedule(struct sim_event *event, struct sim_node *node, uint64_t delay_us);
void sim_cancel(struct sim_event *event);
static inline bool sim_is_scheduled(const struct sim_event *event)
{
    return event->place != 0;
}
/* One-shot, its memory is the scheduler's. node NULL: survives every crash. */
void sim_after(struct sim_node *node, uint64_t delay_us, const char *what, void (*fn)(void *arg),
               void *arg);

/* Independent streams, so that a change of the workload does not move the faults. */
enum sim_stream {
    SIM_STREAM_PLAN, /* cluster and faults */
    SIM_STREAM_NET,
    SIM_STREAM_DISK,
    SIM_STREAM_WORK,
    SIM_STREAMS,
};
uint64_t sim_random(enum sim_stream stream);
uint64_t sim_below(enum sim_stream stream, uint64_t n);                   /* [0, n) */
uint64_t sim_between(enum sim_stream stream, uint64_t from, uint64_t to); /* [from, to] */
bool sim_chance(enum sim_stream stream, uint32_t per_mille);

/* A line of the trace; only formatted when it is wanted. It goes into the hash only by `mix`. */
void sim_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void sim_mix(uint64_t value); /* into trace_hash */
bool sim_is_traced(void);
/* The seed fails, now. Does not return. */
void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- coroutines ------------------------------------------------------------------------------ */

/* A thread of the node, begins soon. It dies with the node. */
struct sim_task *sim_spawn(struct sim_node *node, const char *name, void (*fn)(void *arg),
                           void *arg);
/* In a coroutine only: pthread_create makes one too, so the real journal.c and storepool.c run
 * as they are when what they call on sleeps by this. */
void sim_sleep_us(uint64_t us);
bool sim_in_task(void);
uint32_t sim_tasks_of(const struct sim_node *node); /* not ended */

/* ---- nodes ----------------------------------------------------------------------------------- */

struct sim_node *sim_master(void);
struct sim_node *sim_server(uint32_t i);
struct sim_node *sim_client(uint32_t i);
uint64_t sim_local_ms(const struct sim_node *node); /* its monotonic clock */
/* Starts the process: the real start-up, from what its disk has. */
void sim_boot(struct sim_node *node);
/* The process ends at once. power: the machine too, and with it what was not synced. */
void sim_crash(struct sim_node *node, bool power);
/* While up, else NULL. For invariants, which only look. */
struct service *sim_service_of(const struct sim_node *node);
struct namespace *sim_namespace_of(const struct sim_node *node);
struct journal *sim_journal_of(const struct sim_node *node);
struct kv *sim_kv_of(const struct sim_node *node); /* the master's */
struct chunkserver *sim_chunkserver_of(const struct sim_node *node);
/* A client: connected lazily by the workload with gfs_connect(sim_master()->addr, ...). */

/* ---- network --------------------------------------------------------------------------------- */

/* Counts for the end of a run and for checks. */
struct sim_net_stat {
    uint64_t messages, bytes;
    uint64_t calls_pending;  /* made and not answered, on nodes that are up */
    uint64_t served_pending; /* requests dispatched and not replied to, likewise */
};
void sim_net_stat(struct sim_net_stat *ret_stat);

/* ---- the other half: workload and invariants (work_*.c, check_*.c) ----------------------------
 */

/* When the cluster is up. Spawns coroutines on client nodes. */
void work_begin(void);
/* Every operation has come back. Asked after faults are healed. */
bool work_is_over(void);
/* A client node was started again after a crash. */
void work_client_back(struct sim_node *node);
/* Before anything runs; after every event; when all is quiet at the end. They call sim_fail. */
void check_begin(void);
void check_after_event(void);
void check_at_end(void);

#endif
