/*
 * bench_write: big sequential streams, each round beside three raw engines fed at once. With three
 * replicas on one machine every user byte is stored three times, so what three raw engines reach
 * together, divided by three, is what a service without any cost of its own would give its users.
 */
#include <stdlib.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_raw.h"
#include "bench_report.h"

#define BENCH_WRITE_STEP_BYTES   (1u << 20)
#define BENCH_WRITE_CLIENT_BYTES (128ull << 20)
#define BENCH_WRITE_REPLICAS     3 /* what --goal is by default */
#define BENCH_WRITE_ROUNDS_MAX   100

struct bench_write {
    struct bench *bench;
    struct bench_cluster cluster;
    struct bench_clients clients;
    struct bench_samples samples;
    void *data;
    uint64_t client_bytes;
    unsigned round;
    size_t measured;
    double ours_mb_per_s[BENCH_WRITE_ROUNDS_MAX];
    double raw_mb_per_s[BENCH_WRITE_ROUNDS_MAX]; /* of three, divided by three */
    double ratios[BENCH_WRITE_ROUNDS_MAX];
};

static void bench_write_client(struct bench_client *client)
{
    const struct bench_write *run = client->arg;
    char path[BENCH_FILES_PATH_BYTES];
    bench_files_path(path, "write-%u-%u", run->round, client->index);
    bench_files_write(client, path, (uint32_t)run->bench->options.goal, run->data,
                      BENCH_WRITE_STEP_BYTES, run->client_bytes);
}

static bool bench_write_round(struct bench_write *run, bool measured)
{
    double seconds, raw_mb_per_s = 0;
    uint64_t total = run->client_bytes * run->bench->clients;
    if (!bench_raw_engines(run->bench, BENCH_WRITE_REPLICAS, total, &raw_mb_per_s))
        return false;
    if (!bench_clients_run(&run->clients, bench_write_client, run, bench_cluster_watch,
                           &run->cluster, &seconds))
        return false;
    run->round++;
    if (!measured)
        return true;
    double ours = (double)bench_clients_bytes(&run->clients) / 1e6 / seconds;
    run->ours_mb_per_s[run->measured] = ours;
    run->raw_mb_per_s[run->measured] = raw_mb_per_s / BENCH_WRITE_REPLICAS;
    run->ratios[run->measured] = ours / (raw_mb_per_s / BENCH_WRITE_REPLICAS);
    run->measured++;
    bench_clients_samples(&run->clients, &run->samples);
    return true;
}

static void bench_write_report(struct bench_write *run)
{
    cJSON *report = run->bench->report;
    bench_report_number(report, "mb_per_s", bench_median(run->ours_mb_per_s, run->measured));
    bench_report_latency(report, &run->samples);
    bench_report_number(report, "raw_3_mb_per_s", bench_median(run->raw_mb_per_s, run->measured));
    bench_report_number(report, "rounds", (double)run->measured);
    bench_report_number(report, "bytes_per_round",
                        (double)(run->client_bytes * run->bench->clients));
    bench_report_number(bench_report_object(report, "ratios"), "vs_raw_3",
                        bench_median(run->ratios, run->measured));
    bench_cluster_report(&run->cluster, report);
}

static bool bench_write_measure(struct bench_write *run)
{
    struct bench *bench = run->bench;
    if (!bench_clients_open(&run->clients, bench, run->cluster.master_addr, bench->clients))
        return false;
    bool ok = bench_files_begin(run->clients.items[0].fs) && bench_write_round(run, false);
    while (ok && run->measured < bench->options.rounds)
        ok = bench_write_round(run, true);
    if (ok)
        bench_write_report(run);
    ok = ok && bench_files_end(run->clients.items[0].fs);
    bench_clients_close(&run->clients);
    return ok;
}

bool bench_write_run(struct bench *bench)
{
    struct bench_write *run = calloc(1, sizeof *run);
    if (!run || !(run->data = malloc(BENCH_WRITE_STEP_BYTES))) {
        free(run);
        return bench_fail("out of memory");
    }
    run->bench = bench;
    run->client_bytes = bench_or(bench->options.size, BENCH_WRITE_CLIENT_BYTES);
    bench_fill(run->data, BENCH_WRITE_STEP_BYTES, 1);
    bool ok =
        bench_cluster_start(&run->cluster, bench, "write", (unsigned)bench->options.servers, NULL);
    if (ok) {
        ok = bench_write_measure(run);
        bench_cluster_stop(&run->cluster);
    }
    bench_samples_release(&run->samples);
    free(run->data);
    free(run);
    return ok;
}
