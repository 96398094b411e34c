/*
 * bench_failover: a client writes and syncs without pause to one chunk; a second on, the chunk's
 * primary, or a secondary, is killed, or frozen. How long does the longest write take? Each round
 * has a cluster of its own, with the options that a cluster has by default.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_report.h"

#define BENCH_FAILOVER_BYTES      65536u
#define BENCH_FAILOVER_PLACES     64u /* in the one chunk */
#define BENCH_FAILOVER_BEFORE_S   1.0
#define BENCH_FAILOVER_AFTER_S    3.0 /* beyond the stall */
#define BENCH_FAILOVER_ROUNDS_MAX 100

struct bench_failover_case {
    const char *name;
    bool primary;
    int signo;
};

static const struct bench_failover_case bench_failover_cases[] = {
    {"primary_killed", true, SIGKILL},
    {"secondary_killed", false, SIGKILL},
    {"primary_frozen", true, SIGSTOP},
    {"secondary_frozen", false, SIGSTOP},
};

struct bench_failover {
    struct bench *bench;
    const struct bench_failover_case *what;
    struct bench_cluster cluster;
    struct bench_clients clients; /* one */
    struct gfs *fs;               /* of the thread that kills */
    char path[BENCH_FILES_PATH_BYTES];
    double began_s;
    double struck_s; /* 0: not yet */
    pid_t victim;
    bool strike_failed;
    unsigned round;
};

/* The client's thread only reads when the strike was. */
static double bench_failover_struck_s(const struct bench_failover *run)
{
    double struck_s;
    __atomic_load(&run->struck_s, &struck_s, __ATOMIC_ACQUIRE);
    return struck_s;
}

static void bench_failover_client(struct bench_client *client)
{
    const struct bench_failover *run = client->arg;
    static char data[BENCH_FAILOVER_BYTES];
    struct gfs_file *file;
    if (gfs_create(client->fs, run->path, NULL, &file) != GFS_OK) {
        bench_client_fail(client, "create");
        return;
    }
    bench_fill(data, sizeof data, 5);
    for (uint64_t i = 0;; i++) {
        double began_s = bench_now_s(), struck_s;
        if (gfs_pwrite(file, i % BENCH_FAILOVER_PLACES * sizeof data, data, sizeof data) !=
                GFS_OK ||
            gfs_sync(file) != GFS_OK) {
            bench_client_fail(client, "write");
            break;
        }
        struck_s = bench_failover_struck_s(run);
        if (struck_s > 0 && bench_now_s() > struck_s)
            bench_samples_add(&client->samples, bench_now_s() - began_s);
        if (struck_s > 0 && bench_now_s() > struck_s + BENCH_FAILOVER_AFTER_S)
            break;
    }
    gfs_abandon(file);
}

static pid_t bench_failover_pid(const struct bench_failover *run, const char *addr)
{
    for (unsigned i = 0; i < run->cluster.server_count; i++)
        if (strcmp(run->cluster.servers[i].addr, addr) == 0)
            return run->cluster.servers[i].pid;
    return 0;
}

/* While a lease is out its holder is listed first. */
static bool bench_failover_strike(struct bench_failover *run)
{
    struct gfs_chunk_info *chunks;
    size_t count;
    if (gfs_chunks(run->fs, run->path, &chunks, &count) != GFS_OK)
        return bench_fail_gfs("chunks");
    if (count > 0 && chunks[0].replica_count > 1)
        run->victim = bench_failover_pid(run, chunks[0].replicas[run->what->primary ? 0 : 1].addr);
    gfs_free(chunks);
    if (run->victim == 0 || kill(run->victim, run->what->signo) != 0)
        return bench_fail("failover: no chunkserver to strike");
    double struck_s = bench_now_s();
    __atomic_store(&run->struck_s, &struck_s, __ATOMIC_RELEASE);
    return true;
}

static void bench_failover_tick(void *arg)
{
    struct bench_failover *run = arg;
    if (run->struck_s > 0 || run->strike_failed ||
        bench_now_s() < run->began_s + BENCH_FAILOVER_BEFORE_S)
        return;
    run->strike_failed = !bench_failover_strike(run);
    if (run->strike_failed) { /* so that the client ends */
        double struck_s = bench_now_s();
        __atomic_store(&run->struck_s, &struck_s, __ATOMIC_RELEASE);
    }
}

static bool bench_failover_round(struct bench_failover *run, double *ret_stall_s)
{
    struct bench *bench = run->bench;
    struct bench_samples samples = {0};
    double seconds;
    char name[32];
    run->struck_s = 0;
    run->victim = 0;
    run->strike_failed = false;
    snprintf(name, sizeof name, "failover%u", run->round++);
    if (!bench_cluster_start(&run->cluster, bench, name, (unsigned)bench->options.servers, NULL))
        return false;
    bool ok = gfs_connect(run->cluster.master_addr, NULL, &run->fs) == GFS_OK ||
              bench_fail_gfs("connect");
    if (ok) {
        ok = bench_clients_open(&run->clients, bench, run->cluster.master_addr, 1);
        bench_files_path(run->path, "file");
        run->began_s = bench_now_s();
        ok = ok && bench_files_begin(run->fs) &&
             bench_clients_run(&run->clients, bench_failover_client, run, bench_failover_tick, run,
                               &seconds) &&
             !run->strike_failed;
        if (ok) {
            bench_clients_samples(&run->clients, &samples);
            *ret_stall_s = bench_samples_quantile(&samples, 1);
        }
        bench_clients_close(&run->clients);
        gfs_disconnect(run->fs);
    }
    if (run->victim > 0 && run->what->signo == SIGSTOP)
        kill(run->victim, SIGCONT);
    bench_samples_release(&samples);
    bench_cluster_stop(&run->cluster);
    return ok;
}

static bool bench_failover_all(struct bench_failover *run)
{
    unsigned rounds = (unsigned)run->bench->options.rounds;
    double stalls_s[BENCH_FAILOVER_ROUNDS_MAX];
    for (size_t i = 0; i < sizeof bench_failover_cases / sizeof *bench_failover_cases; i++) {
        cJSON *report = bench_report_object(run->bench->report, bench_failover_cases[i].name);
        run->what = &bench_failover_cases[i];
        for (unsigned j = 0; j < rounds; j++)
            if (!bench_failover_round(run, &stalls_s[j]))
                return false;
        double median_s = bench_median(stalls_s, rounds); /* sorts */
        bench_report_number(report, "stall_ms_median", 1e3 * median_s);
        bench_report_number(report, "stall_ms_longest", 1e3 * stalls_s[rounds - 1]);
    }
    return true;
}

bool bench_failover_run(struct bench *bench)
{
    if (bench->options.master[0])
        return bench_fail("failover: it kills chunkservers, and so needs a cluster of its own");
    struct bench_failover *run = calloc(1, sizeof *run);
    if (!run)
        return bench_fail("out of memory");
    run->bench = bench;
    bool ok = bench_failover_all(run);
    free(run);
    return ok;
}
