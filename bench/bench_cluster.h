/*
 * bench_cluster: a master and chunkservers as child processes of this one. They die with the thread
 * that started them (PR_SET_PDEATHSIG), so it must be the main one. Their logs are in the work
 * directory.
 */
#ifndef BENCH_CLUSTER_H
#define BENCH_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench.h"

#define BENCH_CLUSTER_SERVERS_MAX 64
#define BENCH_CLUSTER_ARGS_MAX    16

struct bench_daemon {
    pid_t pid; /* 0: does not run */
    char addr[64];
};

/* In bytes. */
struct bench_memory {
    uint64_t server_peak;           /* VmHWM of the largest chunkserver, mapped tables included */
    uint64_t server_anonymous;      /* most RssAnon of one chunkserver seen */
    uint64_t servers_anonymous_sum; /* most of all together */
    uint64_t master_peak;
};

struct bench_cluster {
    const struct bench *bench;
    char dir[4096];
    const char *master_addr; /* of --master, or of our own */
    struct bench_daemon master;
    struct bench_daemon servers[BENCH_CLUSTER_SERVERS_MAX];
    unsigned server_count;
    struct bench_memory memory;
};

/* Starts a cluster of its own in work_dir/name, or takes the one of --master (server_count 0 then).
 * args: more options for the chunkservers, ending in NULL; NULL: none. On failure it said why, and
 * nothing runs. */
bool bench_cluster_start(struct bench_cluster *cluster, const struct bench *bench, const char *name,
                         unsigned server_count, const char *const *args);
/* Sends every chunkserver a signal. */
void bench_cluster_signal(const struct bench_cluster *cluster, int signo);
void bench_cluster_stop(struct bench_cluster *cluster);
/* Looks at /proc and keeps the highest. To be called while the cluster works: the `tick` of
 * bench_clients_run. arg: the cluster. */
void bench_cluster_watch(void *arg);
/* "memory" of the report; nothing for a cluster that is not ours. */
void bench_cluster_report(struct bench_cluster *cluster, cJSON *object);
uint64_t bench_cluster_master_rss(const struct bench_cluster *cluster); /* 0: not ours */

#endif
