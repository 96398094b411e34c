#include "bench_stores.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/store.h"
#include "crc.h"

#define BENCH_STORES_CHUNK_BYTES    GFS_CHUNK_SIZE_DEFAULT_BYTES
#define BENCH_STORES_MUTATION_BYTES (256u << 10)
#define BENCH_STORES_PIECES         (BENCH_STORES_MUTATION_BYTES / GFS_BLOCK_SIZE_BYTES)
#define BENCH_STORES_IN_FLIGHT_MIN  16 /* mutations; 4 MiB, as one client keeps */
#define BENCH_STORES_PER_STREAM     2

struct bench_stores;

struct bench_stores_stream {
    uint64_t handle;
    uint64_t serial;
    uint32_t offset_bytes;
};

struct bench_stores_write {
    struct store_mutation mutation;
    struct bench_stores *run;
    double submitted_s;
    struct bench_stores_write *next; /* in the free list */
};

struct bench_stores {
    struct store *store;
    struct store_piece pieces[BENCH_STORES_PIECES]; /* all mutations carry the same bytes */
    struct bench_stores_stream *streams;
    unsigned stream_count;
    uint64_t next_handle;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t freed;
    struct bench_stores_write *free;
    unsigned in_flight;
    enum gfs_err err;
    struct bench_samples samples;
};

static void bench_stores_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct bench_stores_write *write = mutation->arg;
    struct bench_stores *run = write->run;
    double took_s = bench_now_s() - write->submitted_s;
    pthread_mutex_lock(&run->lock);
    bench_samples_add(&run->samples, took_s);
    if (err != GFS_OK)
        run->err = err;
    write->next = run->free;
    run->free = write;
    run->in_flight--;
    pthread_cond_signal(&run->freed);
    pthread_mutex_unlock(&run->lock);
}

static void bench_stores_prepare(struct bench_stores *run, struct bench_stores_write *write,
                                 struct bench_stores_stream *stream)
{
    if (!stream->handle || stream->offset_bytes == BENCH_STORES_CHUNK_BYTES)
        *stream = (struct bench_stores_stream){.handle = run->next_handle++};
    write->mutation = (struct store_mutation){
        .op = STORE_OP_WRITE,
        .handle = stream->handle,
        .version = 1,
        .serial = ++stream->serial,
        .create = stream->offset_bytes == 0,
        .offset_bytes = stream->offset_bytes,
        .length_bytes = BENCH_STORES_MUTATION_BYTES,
        .pieces = run->pieces,
        .piece_count = BENCH_STORES_PIECES,
        .done = bench_stores_done,
        .arg = write,
    };
    stream->offset_bytes += BENCH_STORES_MUTATION_BYTES;
}

/* Waits for a free write; NULL after an error. */
static struct bench_stores_write *bench_stores_take(struct bench_stores *run)
{
    struct bench_stores_write *write = NULL;
    pthread_mutex_lock(&run->lock);
    while (run->err == GFS_OK && !run->free)
        pthread_cond_wait(&run->freed, &run->lock);
    if (run->err == GFS_OK) {
        write = run->free;
        run->free = write->next;
        run->in_flight++;
    }
    pthread_mutex_unlock(&run->lock);
    return write;
}

static void bench_stores_drain(struct bench_stores *run)
{
    pthread_mutex_lock(&run->lock);
    while (run->in_flight)
        pthread_cond_wait(&run->freed, &run->lock);
    pthread_mutex_unlock(&run->lock);
}

/* The streams take turns. */
static bool bench_stores_write_all(struct bench_stores *run, uint64_t bytes)
{
    uint64_t count = bytes / BENCH_STORES_MUTATION_BYTES;
    for (uint64_t i = 0; i < count; i++) {
        struct bench_stores_write *write = bench_stores_take(run);
        if (!write)
            break;
        bench_stores_prepare(run, write, &run->streams[i % run->stream_count]);
        write->submitted_s = bench_now_s();
        enum gfs_err err = store_submit(run->store, &write->mutation);
        if (err != GFS_OK)
            bench_stores_done(&write->mutation, err);
    }
    bench_stores_drain(run);
    return run->err == GFS_OK || bench_fail("store: %s", gfs_err_text(run->err));
}

/* Bytes this process has given to write(2). */
static uint64_t bench_stores_written(void)
{
    unsigned long long bytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/io", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "wchar: %llu", &bytes) == 1)
            break;
    if (file)
        fclose(file);
    return bytes;
}

static bool bench_stores_run_open(struct bench_stores *run, const char *dir, uint64_t bytes,
                                  struct bench_stores_result *result)
{
    struct store_options opts = {.sync = true};
    uint64_t written_before = bench_stores_written();
    enum gfs_err err = store_open(dir, &opts, &run->store);
    if (err != GFS_OK)
        return bench_fail("store: %s: %s", dir, gfs_err_text(err));
    double begun_s = bench_now_s();
    bool ok = bench_stores_write_all(run, bytes);
    result->mb_per_s = (double)bytes / 1e6 / (bench_now_s() - begun_s);
    store_close(run->store); /* waits for the merging under way */
    result->written_ratio = (double)(bench_stores_written() - written_before) / (double)bytes;
    return ok;
}

bool bench_stores_feed(const char *dir, unsigned streams, uint64_t bytes,
                       struct bench_stores_result *ret_result)
{
    unsigned slots = streams * BENCH_STORES_PER_STREAM;
    slots = slots < BENCH_STORES_IN_FLIGHT_MIN ? BENCH_STORES_IN_FLIGHT_MIN : slots;
    struct bench_stores run = {.stream_count = streams, .next_handle = 1};
    struct bench_stores_write *writes = calloc(slots, sizeof *writes);
    char *block = malloc(GFS_BLOCK_SIZE_BYTES);
    bool ok = false;
    run.streams = calloc(streams, sizeof *run.streams);
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.freed, NULL);
    if (!writes || !block || !run.streams) {
        bench_fail("out of memory");
        goto out;
    }
    bench_fill(block, GFS_BLOCK_SIZE_BYTES, 6);
    for (unsigned i = 0; i < BENCH_STORES_PIECES; i++)
        run.pieces[i] = (struct store_piece){block, GFS_BLOCK_SIZE_BYTES,
                                             crc32c(0, block, GFS_BLOCK_SIZE_BYTES)};
    for (unsigned i = 0; i < slots; i++) {
        writes[i] = (struct bench_stores_write){.run = &run, .next = run.free};
        run.free = &writes[i];
    }
    ok = bench_stores_run_open(&run, dir, bytes, ret_result);
    ret_result->samples = run.samples;
    if (!ok)
        bench_samples_release(&ret_result->samples);
out:
    pthread_cond_destroy(&run.freed);
    pthread_mutex_destroy(&run.lock);
    free(run.streams);
    free(writes);
    free(block);
    return ok;
}
