/* bench_small: many clients that each make, write and close one small file after another; close
 * returns when the file is durable on every replica. */
#include <stdlib.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_report.h"

#define BENCH_SMALL_FILES      6000
#define BENCH_SMALL_BYTES      4096
#define BENCH_SMALL_BYTES_MAX  (4u << 20)
#define BENCH_SMALL_WARM_SHARE 10
#define BENCH_SMALL_ROUNDS_MAX 100

struct bench_small {
    struct bench *bench;
    struct bench_cluster cluster;
    struct bench_clients clients;
    struct bench_samples samples;
    char data[BENCH_SMALL_BYTES_MAX];
    uint64_t file_bytes;
    uint64_t files; /* of this round, all clients */
    unsigned round;
    double ops_per_s[BENCH_SMALL_ROUNDS_MAX];
};

static void bench_small_client(struct bench_client *client)
{
    const struct bench_small *run = client->arg;
    char path[BENCH_FILES_PATH_BYTES];
    for (uint64_t i = client->index; i < run->files; i += client->count) {
        bench_files_path(path, "d%u/%llu", run->round, (unsigned long long)i);
        if (!bench_files_write(client, path, (uint32_t)run->bench->options.goal, run->data,
                               BENCH_SMALL_BYTES_MAX, run->file_bytes))
            return;
    }
}

/* A directory of its own for each round. */
static bool bench_small_round(struct bench_small *run, uint64_t files, double *ret_ops_per_s)
{
    char path[BENCH_FILES_PATH_BYTES];
    double seconds;
    run->files = files;
    run->round++;
    bench_files_path(path, "d%u", run->round);
    if (gfs_mkdir(run->clients.items[0].fs, path, 0, false) != GFS_OK)
        return bench_fail_gfs("mkdir");
    if (!bench_clients_run(&run->clients, bench_small_client, run, bench_cluster_watch,
                           &run->cluster, &seconds))
        return false;
    *ret_ops_per_s = (double)files / seconds;
    return true;
}

static bool bench_small_rounds(struct bench_small *run, uint64_t files)
{
    struct bench *bench = run->bench;
    struct gfs *fs = run->clients.items[0].fs;
    struct gfs_statfs before, after;
    double ignored;
    if (!bench_small_round(run, files / BENCH_SMALL_WARM_SHARE + 1, &ignored))
        return false;
    if (gfs_statfs(fs, &before) != GFS_OK)
        return bench_fail_gfs("statfs");
    for (unsigned i = 0; i < bench->options.rounds; i++) {
        if (!bench_small_round(run, files, &run->ops_per_s[i]))
            return false;
        bench_clients_samples(&run->clients, &run->samples);
    }
    if (gfs_statfs(fs, &after) != GFS_OK)
        return bench_fail_gfs("statfs");
    bench_report_number(bench->report, "ops_per_s",
                        bench_median(run->ops_per_s, bench->options.rounds));
    bench_report_latency(bench->report, &run->samples);
    bench_report_number(bench->report, "files", (double)(files * bench->options.rounds));
    bench_report_number(bench->report, "file_bytes", (double)run->file_bytes);
    bench_report_number(bench->report, "master_bytes_per_file",
                        ((double)after.master_memory_bytes - (double)before.master_memory_bytes) /
                            (double)(files * bench->options.rounds));
    bench_cluster_report(&run->cluster, bench->report);
    return true;
}

static bool bench_small_measure(struct bench_small *run)
{
    struct bench *bench = run->bench;
    if (!bench_cluster_start(&run->cluster, bench, "small", (unsigned)bench->options.servers, NULL))
        return false;
    bool ok = bench_clients_open(&run->clients, bench, run->cluster.master_addr, bench->clients);
    if (ok) {
        ok = bench_files_begin(run->clients.items[0].fs) &&
             bench_small_rounds(run, bench_or(bench->options.files, BENCH_SMALL_FILES));
        ok = ok && bench_files_end(run->clients.items[0].fs);
        bench_clients_close(&run->clients);
    }
    bench_cluster_stop(&run->cluster);
    return ok;
}

bool bench_small_run(struct bench *bench)
{
    struct bench_small *run = calloc(1, sizeof *run);
    if (!run)
        return bench_fail("out of memory");
    run->bench = bench;
    run->file_bytes = bench_or(bench->options.size, BENCH_SMALL_BYTES);
    bench_fill(run->data, sizeof run->data, 3);
    bool ok = run->file_bytes <= BENCH_SMALL_BYTES_MAX
                  ? bench_small_measure(run)
                  : bench_fail("small: --size is at most %u", BENCH_SMALL_BYTES_MAX);
    bench_samples_release(&run->samples);
    free(run);
    return ok;
}
