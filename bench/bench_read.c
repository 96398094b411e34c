/*
 * bench_read: files read whole, from the chunkservers' page cache, one file a client. libgfs checks
 * the CRC-32C of every byte. The ratio is to a plain TCP stream over the loopback, without checks,
 * measured in the same rounds.
 */
#include <stdlib.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_loopback.h"
#include "bench_report.h"

#define BENCH_READ_STEP_BYTES (8u << 20)
#define BENCH_READ_FILE_BYTES (512ull << 20)
#define BENCH_READ_ROUNDS_MAX 100

struct bench_read {
    struct bench *bench;
    struct bench_cluster cluster;
    struct bench_clients clients;
    struct bench_samples samples;
    void *data;
    uint64_t file_bytes;
    size_t measured;
    double ours_mb_per_s[BENCH_READ_ROUNDS_MAX];
    double loopback_mb_per_s[BENCH_READ_ROUNDS_MAX];
    double ratios[BENCH_READ_ROUNDS_MAX];
};

static void bench_read_make(struct bench_client *client)
{
    const struct bench_read *run = client->arg;
    char path[BENCH_FILES_PATH_BYTES];
    bench_files_path(path, "read-%u", client->index);
    bench_files_write(client, path, (uint32_t)run->bench->options.goal, run->data,
                      BENCH_READ_STEP_BYTES, run->file_bytes);
}

static void bench_read_file(struct bench_client *client, struct gfs_file *file, void *buffer)
{
    size_t len;
    do {
        double begun_s = bench_now_s();
        if (gfs_read(file, buffer, BENCH_READ_STEP_BYTES, &len) != GFS_OK) {
            bench_client_fail(client, "read");
            return;
        }
        if (len)
            bench_samples_add(&client->samples, bench_now_s() - begun_s);
        client->bytes += len;
    } while (len);
}

static void bench_read_client(struct bench_client *client)
{
    char path[BENCH_FILES_PATH_BYTES];
    struct gfs_file *file;
    void *buffer = aligned_alloc(4096, BENCH_READ_STEP_BYTES);
    bench_files_path(path, "read-%u", client->index);
    if (!buffer || gfs_open(client->fs, path, GFS_OPEN_READ, NULL, &file) != GFS_OK) {
        bench_client_fail(client, "open");
        free(buffer);
        return;
    }
    bench_read_file(client, file, buffer);
    gfs_abandon(file);
    free(buffer);
}

static bool bench_read_round(struct bench_read *run, bool measured)
{
    double seconds, loopback;
    uint64_t expected = run->file_bytes * run->bench->clients;
    if (!bench_loopback(expected, &loopback) ||
        !bench_clients_run(&run->clients, bench_read_client, run, bench_cluster_watch,
                           &run->cluster, &seconds))
        return false;
    if (bench_clients_bytes(&run->clients) != expected)
        return bench_fail("read: %llu of %llu bytes came",
                          (unsigned long long)bench_clients_bytes(&run->clients),
                          (unsigned long long)expected);
    if (!measured)
        return true;
    double ours = (double)expected / 1e6 / seconds;
    run->ours_mb_per_s[run->measured] = ours;
    run->loopback_mb_per_s[run->measured] = loopback;
    run->ratios[run->measured] = ours / loopback;
    run->measured++;
    bench_clients_samples(&run->clients, &run->samples);
    return true;
}

static void bench_read_report(struct bench_read *run)
{
    cJSON *report = run->bench->report;
    bench_report_number(report, "mb_per_s", bench_median(run->ours_mb_per_s, run->measured));
    bench_report_latency(report, &run->samples);
    bench_report_number(report, "call_bytes", BENCH_READ_STEP_BYTES);
    bench_report_number(report, "loopback_mb_per_s",
                        bench_median(run->loopback_mb_per_s, run->measured));
    bench_report_number(bench_report_object(report, "ratios"), "vs_loopback",
                        bench_median(run->ratios, run->measured));
    bench_cluster_report(&run->cluster, report);
}

static bool bench_read_measure(struct bench_read *run)
{
    struct bench *bench = run->bench;
    double seconds;
    if (!bench_clients_open(&run->clients, bench, run->cluster.master_addr, bench->clients))
        return false;
    bool ok = bench_files_begin(run->clients.items[0].fs) &&
              bench_clients_run(&run->clients, bench_read_make, run, NULL, NULL, &seconds);
    /* Every replica may be chosen, so the page cache is warm after some rounds only. */
    for (unsigned i = 0; ok && i < 3; i++)
        ok = bench_read_round(run, false);
    while (ok && run->measured < bench->options.rounds)
        ok = bench_read_round(run, true);
    if (ok)
        bench_read_report(run);
    ok = ok && bench_files_end(run->clients.items[0].fs);
    bench_clients_close(&run->clients);
    return ok;
}

bool bench_read_run(struct bench *bench)
{
    struct bench_read *run = calloc(1, sizeof *run);
    if (!run || !(run->data = malloc(BENCH_READ_STEP_BYTES))) {
        free(run);
        return bench_fail("out of memory");
    }
    run->bench = bench;
    run->file_bytes = bench_or(bench->options.size, BENCH_READ_FILE_BYTES);
    bench_fill(run->data, BENCH_READ_STEP_BYTES, 2);
    bool ok =
        bench_cluster_start(&run->cluster, bench, "read", (unsigned)bench->options.servers, NULL);
    if (ok) {
        ok = bench_read_measure(run);
        bench_cluster_stop(&run->cluster);
    }
    bench_samples_release(&run->samples);
    free(run->data);
    free(run);
    return ok;
}
