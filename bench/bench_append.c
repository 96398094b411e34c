/*
 * bench_append: 1, 4 and 16 producers append records to one file, each record durable on every
 * replica before its producer goes on. At the end of each run the file is read and every record
 * must be in it, once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_clients.h"
#include "bench_cluster.h"
#include "bench_files.h"
#include "bench_report.h"

#define BENCH_APPEND_SIZES      2
#define BENCH_APPEND_COUNTS     3
#define BENCH_APPEND_CLIENTS    16
#define BENCH_APPEND_ROUNDS_MAX 100

static const uint32_t bench_append_bytes[BENCH_APPEND_SIZES] = {1024, 65536};
static const uint64_t bench_append_records[BENCH_APPEND_SIZES] = {4800, 800}; /* of a run */
static const unsigned bench_append_clients[BENCH_APPEND_COUNTS] = {1, 4, BENCH_APPEND_CLIENTS};

struct bench_append {
    struct bench *bench;
    struct bench_cluster cluster;
    /* of the run at hand */
    char path[BENCH_FILES_PATH_BYTES];
    uint32_t record_bytes;
    uint64_t records;
    unsigned producers;
    unsigned run;
};

/* The first bytes of a record: which one it is. */
struct bench_append_head {
    uint64_t producer;
    uint64_t number;
};

static void bench_append_client(struct bench_client *client)
{
    const struct bench_append *run = client->arg;
    char *record = malloc(run->record_bytes);
    struct bench_append_head head = {.producer = client->index};
    struct gfs_file *file;
    if (!record || gfs_open(client->fs, run->path, GFS_OPEN_WRITE, NULL, &file) != GFS_OK) {
        free(record);
        bench_client_fail(client, "open");
        return;
    }
    bench_fill(record, run->record_bytes, client->index);
    for (; head.number < run->records / run->producers; head.number++) {
        double began_s = bench_now_s();
        memcpy(record, &head, sizeof head);
        if (gfs_append(file, record, run->record_bytes, NULL) != GFS_OK) {
            bench_client_fail(client, "append");
            break;
        }
        bench_samples_add(&client->samples, bench_now_s() - began_s);
        client->bytes += run->record_bytes;
    }
    gfs_abandon(file);
    free(record);
}

/* Reads all; counts records that are there twice, and those that are not. */
static bool bench_append_check(struct bench_append *run, struct gfs *fs, uint64_t *ret_twice,
                               uint64_t *ret_lost)
{
    uint64_t each = run->records / run->producers, offset = 0, twice = 0, found = 0;
    uint8_t *seen = calloc(run->producers, each);
    struct gfs_file *file;
    const void *data;
    size_t len;
    if (!seen || gfs_open(fs, run->path, GFS_OPEN_READ, NULL, &file) != GFS_OK) {
        free(seen);
        return bench_fail_gfs("open");
    }
    bool ok = true;
    for (;;) {
        struct bench_append_head head;
        if (gfs_read_record(file, &offset, &data, &len) != GFS_OK) {
            ok = bench_fail_gfs("reading records");
            break;
        }
        if (!data)
            break;
        memcpy(&head, data, sizeof head);
        if (len != run->record_bytes || head.producer >= run->producers || head.number >= each) {
            ok = bench_fail("append: a record is there that nobody appended");
            break;
        }
        uint8_t *at = &seen[head.producer * each + head.number];
        twice += *at;
        found += !*at;
        *at = 1;
    }
    *ret_twice = twice;
    *ret_lost = each * run->producers - found;
    gfs_abandon(file);
    free(seen);
    return ok;
}

/* What the chunkservers have given to their disks. */
static uint64_t bench_append_written(const struct bench_cluster *cluster)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < cluster->server_count; i++) {
        char path[64], line[128];
        snprintf(path, sizeof path, "/proc/%d/io", (int)cluster->servers[i].pid);
        FILE *file = fopen(path, "re");
        unsigned long long bytes;
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "write_bytes: %llu", &bytes) == 1)
                sum += bytes;
        if (file)
            fclose(file);
    }
    return sum;
}

struct bench_append_result {
    double records_per_s[BENCH_APPEND_ROUNDS_MAX];
    struct bench_samples samples;
    double user_bytes, written_bytes;
    uint64_t twice, lost;
};

static bool bench_append_round(struct bench_append *run, struct bench_clients *clients,
                               unsigned round, struct bench_append_result *result)
{
    struct gfs_file *file;
    struct gfs_create_options create = {.goal = (uint32_t)run->bench->options.goal};
    uint64_t before, twice = 0, lost = 0;
    double seconds;
    bench_files_path(run->path, "log%u", run->run++);
    if (gfs_create(clients->items[0].fs, run->path, &create, &file) != GFS_OK)
        return bench_fail_gfs("create");
    gfs_abandon(file);
    before = bench_append_written(&run->cluster);
    if (!bench_clients_run(clients, bench_append_client, run, bench_cluster_watch, &run->cluster,
                           &seconds))
        return false;
    result->written_bytes += (double)(bench_append_written(&run->cluster) - before);
    result->user_bytes += (double)bench_clients_bytes(clients);
    result->records_per_s[round] = (double)run->records / seconds;
    bench_clients_samples(clients, &result->samples);
    if (!bench_append_check(run, clients->items[0].fs, &twice, &lost))
        return false;
    result->twice += twice;
    result->lost += lost;
    return true;
}

/* One number of producers with one size of record. */
static bool bench_append_one(struct bench_append *run, cJSON *report, double *ret_records_per_s)
{
    struct bench_append_result *result = calloc(1, sizeof *result);
    struct bench_clients clients;
    unsigned rounds = (unsigned)run->bench->options.rounds;
    bool ok = result &&
              bench_clients_open(&clients, run->bench, run->cluster.master_addr, run->producers);
    if (!ok) {
        free(result);
        return false;
    }
    for (unsigned i = 0; ok && i < rounds; i++)
        ok = bench_append_round(run, &clients, i, result);
    bench_clients_close(&clients);
    if (ok) {
        *ret_records_per_s = bench_median(result->records_per_s, rounds);
        bench_report_number(report, "records_per_s", *ret_records_per_s);
        bench_report_number(report, "mb_per_s", *ret_records_per_s * run->record_bytes / 1e6);
        bench_report_latency(report, &result->samples);
        if (run->cluster.server_count > 0)
            bench_report_number(report, "written_per_user_byte",
                                result->written_bytes /
                                    (result->user_bytes * (double)run->bench->options.goal));
        bench_report_number(report, "twice", (double)result->twice);
        bench_report_number(report, "lost", (double)result->lost);
        if (result->twice + result->lost > 0)
            ok = bench_fail("append: %llu records are there twice and %llu are lost",
                            (unsigned long long)result->twice, (unsigned long long)result->lost);
    }
    bench_samples_release(&result->samples);
    free(result);
    return ok;
}

static bool bench_append_all(struct bench_append *run)
{
    cJSON *ratios = bench_report_object(run->bench->report, "ratios");
    char key[64];
    for (unsigned size = 0; size < BENCH_APPEND_SIZES; size++) {
        snprintf(key, sizeof key, "bytes_%u", bench_append_bytes[size]);
        cJSON *of_size = bench_report_object(run->bench->report, key);
        double rates[BENCH_APPEND_COUNTS];
        run->record_bytes = bench_append_bytes[size];
        run->records = bench_or(run->bench->options.files, bench_append_records[size]) /
                       BENCH_APPEND_CLIENTS * BENCH_APPEND_CLIENTS;
        for (unsigned i = 0; i < BENCH_APPEND_COUNTS; i++) {
            run->producers = bench_append_clients[i];
            snprintf(key, sizeof key, "clients_%u", run->producers);
            if (!bench_append_one(run, bench_report_object(of_size, key), &rates[i]))
                return false;
        }
        for (unsigned i = 1; i < BENCH_APPEND_COUNTS; i++) {
            snprintf(key, sizeof key, "bytes_%u_clients_%u_vs_%u", run->record_bytes,
                     bench_append_clients[i], bench_append_clients[i - 1]);
            bench_report_number(ratios, key, rates[i] / rates[i - 1]);
        }
    }
    bench_cluster_report(&run->cluster, run->bench->report);
    return true;
}

static bool bench_append_measure(struct bench_append *run)
{
    struct bench *bench = run->bench;
    struct gfs *fs;
    if (!bench_cluster_start(&run->cluster, bench, "append", (unsigned)bench->options.servers,
                             NULL))
        return false;
    bool ok =
        gfs_connect(run->cluster.master_addr, NULL, &fs) == GFS_OK || bench_fail_gfs("connect");
    if (ok) {
        ok = bench_files_begin(fs) && bench_append_all(run);
        ok = bench_files_end(fs) && ok;
        gfs_disconnect(fs);
    }
    bench_cluster_stop(&run->cluster);
    return ok;
}

bool bench_append_run(struct bench *bench)
{
    struct bench_append *run = calloc(1, sizeof *run);
    if (!run)
        return bench_fail("out of memory");
    run->bench = bench;
    bool ok = bench_append_measure(run);
    free(run);
    return ok;
}
