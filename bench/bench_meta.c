/*
 * bench_meta: the master alone. Clients make empty files, durably, and then ask for the attributes
 * of files chosen at random; each call asks for many, pipelined on its connection.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_report.h"

#define BENCH_META_FILES      100000
#define BENCH_META_BATCH      256
#define BENCH_META_DIRS       64 /* files are spread over as many directories */
#define BENCH_META_STATS_MIN  400000
#define BENCH_META_ROUNDS_MAX 100

struct bench_meta {
    struct bench *bench;
    struct bench_cluster cluster;
    struct bench_clients clients;
    uint64_t files;
    uint64_t stats; /* of a round, all clients */
    unsigned round;
};

/* Paths of one call. */
struct bench_meta_batch {
    char paths[BENCH_META_BATCH][BENCH_FILES_PATH_BYTES];
    const char *pointers[BENCH_META_BATCH];
    struct gfs_attr attrs[BENCH_META_BATCH];
    enum gfs_err errs[BENCH_META_BATCH];
    size_t count;
};

static void bench_meta_add(struct bench_meta_batch *batch, uint64_t file)
{
    bench_files_path(batch->paths[batch->count], "d%u/file-%llu",
                     (unsigned)(file % BENCH_META_DIRS), (unsigned long long)file);
    batch->pointers[batch->count] = batch->paths[batch->count];
    batch->count++;
}

static bool bench_meta_send(struct bench_client *client, struct bench_meta_batch *batch,
                            bool create)
{
    double begun_s = bench_now_s();
    enum gfs_err err =
        create
            ? gfs_create_many(client->fs, batch->pointers, batch->count, NULL, batch->errs)
            : gfs_stat_many(client->fs, batch->pointers, batch->count, batch->attrs, batch->errs);
    if (err != GFS_OK) {
        bench_client_fail(client, create ? "create" : "stat");
        return false;
    }
    bench_samples_add(&client->samples, bench_now_s() - begun_s);
    client->ops += batch->count;
    batch->count = 0;
    return true;
}

static void bench_meta_create(struct bench_client *client)
{
    const struct bench_meta *run = client->arg;
    struct bench_meta_batch *batch = calloc(1, sizeof *batch);
    bool ok = batch;
    for (uint64_t i = client->index; ok && i < run->files; i += client->count) {
        bench_meta_add(batch, i);
        if (batch->count == BENCH_META_BATCH || i + client->count >= run->files)
            ok = bench_meta_send(client, batch, true);
    }
    free(batch);
}

static void bench_meta_stat(struct bench_client *client)
{
    const struct bench_meta *run = client->arg;
    struct bench_meta_batch *batch = calloc(1, sizeof *batch);
    uint64_t seed = client->index * 1000 + run->round;
    bool ok = batch;
    for (uint64_t done = 0; ok && done < run->stats / client->count; done += BENCH_META_BATCH) {
        while (batch->count < BENCH_META_BATCH)
            bench_meta_add(batch, bench_random(&seed) % run->files);
        ok = bench_meta_send(client, batch, false);
    }
    free(batch);
}

static bool bench_meta_make_dirs(struct bench_meta *run)
{
    char path[BENCH_FILES_PATH_BYTES];
    struct gfs *fs = run->clients.items[0].fs;
    if (!bench_files_begin(fs))
        return false;
    for (unsigned i = 0; i < BENCH_META_DIRS; i++) {
        bench_files_path(path, "d%u", i);
        if (gfs_mkdir(fs, path, 0, false) != GFS_OK)
            return bench_fail_gfs("mkdir");
    }
    return true;
}

static bool bench_meta_measure_create(struct bench_meta *run)
{
    cJSON *report = bench_report_object(run->bench->report, "create");
    struct gfs *fs = run->clients.items[0].fs;
    struct gfs_statfs before, after;
    struct bench_samples samples = {0};
    double seconds;
    uint64_t rss_before = bench_cluster_master_rss(&run->cluster);
    if (gfs_statfs(fs, &before) != GFS_OK)
        return bench_fail_gfs("statfs");
    if (!bench_clients_run(&run->clients, bench_meta_create, run, bench_cluster_watch,
                           &run->cluster, &seconds))
        return false;
    if (gfs_statfs(fs, &after) != GFS_OK)
        return bench_fail_gfs("statfs");
    bench_clients_samples(&run->clients, &samples);
    bench_report_number(report, "ops_per_s", (double)run->files / seconds);
    bench_report_latency(report, &samples);
    bench_report_number(report, "files", (double)run->files);
    bench_report_number(report, "master_bytes_per_file",
                        ((double)after.master_memory_bytes - (double)before.master_memory_bytes) /
                            (double)run->files);
    if (rss_before)
        bench_report_number(report, "master_rss_bytes_per_file",
                            ((double)bench_cluster_master_rss(&run->cluster) - (double)rss_before) /
                                (double)run->files);
    bench_samples_release(&samples);
    return true;
}

static bool bench_meta_measure_stat(struct bench_meta *run)
{
    struct bench *bench = run->bench;
    double ops_per_s[BENCH_META_ROUNDS_MAX], seconds;
    struct bench_samples samples = {0};
    for (run->round = 0; run->round <= bench->options.rounds; run->round++) {
        if (!bench_clients_run(&run->clients, bench_meta_stat, run, bench_cluster_watch,
                               &run->cluster, &seconds)) {
            bench_samples_release(&samples);
            return false;
        }
        if (!run->round)
            continue; /* to warm up */
        ops_per_s[run->round - 1] = (double)bench_clients_ops(&run->clients) / seconds;
        bench_clients_samples(&run->clients, &samples);
    }
    bench_report_number(bench->report, "ops_per_s", bench_median(ops_per_s, bench->options.rounds));
    bench_report_latency(bench->report, &samples);
    bench_report_number(bench->report, "paths_per_call", BENCH_META_BATCH);
    bench_samples_release(&samples);
    return true;
}

bool bench_meta_run(struct bench *bench)
{
    struct bench_meta run = {
        .bench = bench,
        .files = bench_or(bench->options.files, BENCH_META_FILES),
        .stats = BENCH_META_STATS_MIN,
    };
    if (!bench_cluster_start(&run.cluster, bench, "meta", 0, NULL))
        return false;
    bool ok = bench_clients_open(&run.clients, bench, run.cluster.master_addr, bench->clients);
    if (ok) {
        ok = bench_meta_make_dirs(&run) && bench_meta_measure_create(&run) &&
             bench_meta_measure_stat(&run);
        ok = ok && bench_files_end(run.clients.items[0].fs);
        if (ok && run.cluster.master.pid)
            bench_report_number(bench_report_object(bench->report, "memory_mib"), "master_peak",
                                (double)run.cluster.memory.master_peak / BENCH_MIB);
        bench_clients_close(&run.clients);
    }
    bench_cluster_stop(&run.cluster);
    return ok;
}
