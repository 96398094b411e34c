/*
 * bench_lesson: the lesson this system comes from. A sequential server makes the second client wait
 * for the first one's slow disk; threads and processes do not.
 *
 *   sequential   one chunkserver, one network thread, one storage thread
 *   threads      one chunkserver, many storage threads
 *   processes    as many chunkservers as clients, each with one thread of a kind
 *
 * Every client reads 64 KiB at random places of a file of its own, one request at a time. Reads of
 * the first client's chunk are delayed on their storage thread (the chunkserver's debug_delay_file
 * option); what is reported is how the others fare, and how they fared before the delay was set.
 */
#include "bench_lesson.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_plot.h"
#include "bench_report.h"

#define BENCH_LESSON_FILE_BYTES   (16u << 20)
#define BENCH_LESSON_READ_BYTES   (64u << 10)
#define BENCH_LESSON_DELAY_WAIT_S 10

struct bench_lesson_run {
    struct bench *bench;
    struct bench_cluster cluster;
    struct bench_clients clients;
    char delay_path[4096];
    void *data;
    double until_s;
    double seconds;
};

static void bench_lesson_make(struct bench_client *client)
{
    const struct bench_lesson_run *run = client->arg;
    char path[BENCH_FILES_PATH_BYTES];
    bench_files_path(path, "lesson-%u", client->index);
    bench_files_write(client, path, 1, run->data, BENCH_LESSON_FILE_BYTES, BENCH_LESSON_FILE_BYTES);
}

static void bench_lesson_reads(struct bench_client *client, struct gfs_file *file, char *buffer)
{
    const struct bench_lesson_run *run = client->arg;
    uint64_t seed = client->index;
    double begun_s;
    while ((begun_s = bench_now_s()) < run->until_s) {
        uint64_t block = bench_random(&seed) % (BENCH_LESSON_FILE_BYTES / BENCH_LESSON_READ_BYTES);
        size_t len = 0;
        if (gfs_pread(file, block * BENCH_LESSON_READ_BYTES, buffer, BENCH_LESSON_READ_BYTES,
                      &len) != GFS_OK) {
            bench_client_fail(client, "read");
            return;
        }
        bench_samples_add(&client->samples, bench_now_s() - begun_s);
        client->ops++;
        client->bytes += len;
    }
}

static void bench_lesson_client(struct bench_client *client)
{
    char path[BENCH_FILES_PATH_BYTES];
    struct gfs_file *file;
    char *buffer = malloc(BENCH_LESSON_READ_BYTES);
    bench_files_path(path, "lesson-%u", client->index);
    if (!buffer || gfs_open(client->fs, path, GFS_OPEN_READ, NULL, &file) != GFS_OK) {
        bench_client_fail(client, "open");
    } else {
        bench_lesson_reads(client, file, buffer);
        gfs_abandon(file);
    }
    free(buffer);
}

/* Runs all clients for a while. The others' samples go to *samples, when wanted. */
static bool bench_lesson_measure(struct bench_lesson_run *run, struct bench_samples *samples)
{
    run->until_s = bench_now_s() + (double)run->bench->options.seconds;
    if (!bench_clients_run(&run->clients, bench_lesson_client, run, bench_cluster_watch,
                           &run->cluster, &run->seconds))
        return false;
    bench_samples_clear(samples);
    for (unsigned i = 1; i < run->clients.count; i++)
        bench_samples_merge(samples, &run->clients.items[i].samples);
    return true;
}

/* Tells the chunkservers about the slow chunk, and waits until its reads are slow. */
static bool bench_lesson_slow_down(struct bench_lesson_run *run)
{
    struct gfs *fs = run->clients.items[0].fs;
    char path[BENCH_FILES_PATH_BYTES], byte;
    struct gfs_chunk_info *chunks;
    struct gfs_file *file;
    size_t count, len;
    double delay_s = (double)run->bench->options.delay_ms / 1000, took_s = 0, begun_s;
    bench_files_path(path, "lesson-0");
    if (gfs_chunks(fs, path, &chunks, &count) != GFS_OK)
        return bench_fail_gfs("chunks");
    FILE *delays = fopen(run->delay_path, "we");
    for (size_t i = 0; delays && i < count; i++)
        fprintf(delays, "%016" PRIx64 ":%" PRIu64 "\n", chunks[i].handle,
                run->bench->options.delay_ms);
    gfs_free(chunks);
    if (!delays || fclose(delays))
        return bench_fail("%s: cannot be written", run->delay_path);
    bench_cluster_signal(&run->cluster, SIGHUP);
    if (gfs_open(fs, path, GFS_OPEN_READ, NULL, &file) != GFS_OK)
        return bench_fail_gfs("open");
    enum gfs_err err = GFS_OK;
    double until_s = bench_now_s() + BENCH_LESSON_DELAY_WAIT_S;
    while (err == GFS_OK && took_s < delay_s && bench_now_s() < until_s) {
        begun_s = bench_now_s();
        err = gfs_pread(file, 0, &byte, 1, &len);
        took_s = bench_now_s() - begun_s;
    }
    gfs_abandon(file);
    if (err != GFS_OK)
        return bench_fail_gfs("read");
    return took_s >= delay_s || bench_fail("the chunk did not become slow");
}

static bool bench_lesson_compare(struct bench_lesson_run *run, struct bench_lesson_way *way)
{
    struct bench_samples samples = {0};
    double warm_s = bench_now_s();
    if (!bench_clients_run(&run->clients, bench_lesson_make, run, NULL, NULL, &warm_s) ||
        !bench_lesson_measure(run, &samples))
        return false;
    way->calm_p50_ms = bench_samples_quantile(&samples, 0.50) * 1000;
    way->calm_p99_ms = bench_samples_quantile(&samples, 0.99) * 1000;
    bool ok = bench_lesson_slow_down(run) && bench_lesson_measure(run, &samples);
    if (ok) {
        way->p50_ms = bench_samples_quantile(&samples, 0.50) * 1000;
        way->p99_ms = bench_samples_quantile(&samples, 0.99) * 1000;
        way->ops_per_s = (double)bench_clients_ops(&run->clients) / run->seconds;
        way->mb_per_s = (double)bench_clients_bytes(&run->clients) / 1e6 / run->seconds;
        way->memory_mib = (double)run->cluster.memory.servers_anonymous_sum / BENCH_MIB;
    }
    bench_samples_release(&samples);
    return ok;
}

static bool bench_lesson_way(struct bench *bench, struct bench_lesson_way *way,
                             const char *net_threads, const char *store_threads)
{
    struct bench_lesson_run run = {.bench = bench};
    snprintf(run.delay_path, sizeof run.delay_path, "%s/%s.delays", bench->work_dir, way->name);
    const char *const args[] = {"--net-threads",
                                net_threads,
                                "--store-threads",
                                store_threads,
                                "--debug-delay-file",
                                run.delay_path,
                                "--write-buffer",
                                "4M",
                                NULL};
    FILE *delays = fopen(run.delay_path, "we");
    run.data = malloc(BENCH_LESSON_FILE_BYTES);
    if (!delays || fclose(delays) || !run.data) {
        free(run.data);
        return bench_fail("%s: cannot be made", run.delay_path);
    }
    bench_fill(run.data, BENCH_LESSON_FILE_BYTES, 4);
    bool ok = bench_cluster_start(&run.cluster, bench, way->name, way->processes, args);
    if (ok) {
        ok = bench_clients_open(&run.clients, bench, run.cluster.master_addr, bench->clients);
        if (ok) {
            ok = bench_files_begin(run.clients.items[0].fs) && bench_lesson_compare(&run, way);
            bench_clients_close(&run.clients);
        }
        bench_cluster_stop(&run.cluster);
    }
    free(run.data);
    return ok;
}

static void bench_lesson_report(const struct bench *bench, const struct bench_lesson *lesson)
{
    const struct bench_lesson_way *sequential = &lesson->ways[0], *threads = &lesson->ways[1];
    bench_report_number(bench->report, "ops_per_s", threads->ops_per_s);
    bench_report_number(bench->report, "p50_ms", threads->p50_ms);
    bench_report_number(bench->report, "p99_ms", threads->p99_ms);
    bench_report_number(bench->report, "delay_ms", lesson->delay_ms);
    cJSON *ratios = bench_report_object(bench->report, "ratios");
    bench_report_number(ratios, "p50_sequential_vs_threads", sequential->p50_ms / threads->p50_ms);
    bench_report_number(ratios, "ops_threads_vs_sequential",
                        threads->ops_per_s / sequential->ops_per_s);
    cJSON *ways = bench_report_object(bench->report, "ways");
    for (unsigned i = 0; i < BENCH_LESSON_WAYS; i++) {
        const struct bench_lesson_way *way = &lesson->ways[i];
        cJSON *item = bench_report_object(ways, way->name);
        bench_report_number(item, "chunkservers", way->processes);
        bench_report_number(item, "others_p50_ms", way->p50_ms);
        bench_report_number(item, "others_p99_ms", way->p99_ms);
        bench_report_number(item, "undisturbed_p50_ms", way->calm_p50_ms);
        bench_report_number(item, "undisturbed_p99_ms", way->calm_p99_ms);
        bench_report_number(item, "ops_per_s", way->ops_per_s);
        bench_report_number(item, "mb_per_s", way->mb_per_s);
        bench_report_number(item, "chunkservers_anonymous_mib", way->memory_mib);
    }
}

bool bench_lesson_run(struct bench *bench)
{
    static const char *const net_threads[BENCH_LESSON_WAYS] = {"1", "2", "1"};
    static const char *const store_threads[BENCH_LESSON_WAYS] = {"1", "16", "1"};
    struct bench_lesson lesson = {
        .ways = {{.name = "sequential", .title = "one thread", .processes = 1},
                 {.name = "threads", .title = "one process, 16 storage threads", .processes = 1},
                 {.name = "processes", .title = "a process a client"}},
        .others = bench->clients - 1,
        .delay_ms = (unsigned)bench->options.delay_ms,
    };
    if (bench->options.master[0])
        return bench_fail("concurrency: needs clusters of its own, so it takes no --master");
    if (bench->clients < 2 || bench->clients > BENCH_CLUSTER_SERVERS_MAX)
        return bench_fail("concurrency: --clients is 2 to %d", BENCH_CLUSTER_SERVERS_MAX);
    lesson.ways[2].processes = bench->clients;
    for (unsigned i = 0; i < BENCH_LESSON_WAYS; i++)
        if (!bench_lesson_way(bench, &lesson.ways[i], net_threads[i], store_threads[i]))
            return false;
    bench_lesson_report(bench, &lesson);
    return !bench->options.plot[0] || bench_plot(&lesson, bench->options.plot);
}
