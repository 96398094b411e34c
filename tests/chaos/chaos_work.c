/*
 * What the chaos clients do: threads that write and read regions, append records, and make, move
 * and remove names, each operation noted with its call, its return and what it saw. An operation
 * that failed for a reason that leaves its outcome open is noted as such.
 */
#include <stdlib.h>
#include <string.h>

#include "chaos_client.h"

#define WORK_REGION_THREADS 3
#define WORK_APPEND_THREADS 2
#define WORK_NAME_THREADS   1
#define WORK_THREADS        (WORK_REGION_THREADS + WORK_APPEND_THREADS + WORK_NAME_THREADS)
#define WORK_RECORD_MAX     3000u

struct worker {
    struct chaos *chaos;
    uint32_t thread; /* unique over all clients */
    uint64_t random;
    uint64_t count; /* of values made */
    uint64_t ends_us;
    struct gfs_file *files[CHAOS_FILES]; /* open for writing, NULL after a failure */
    pthread_t id;
};

static uint32_t draw(struct worker *worker, uint32_t below)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return (uint32_t)((worker->random >> 16) % below);
}

/* Never 0, never twice in a round. */
static uint64_t new_value(struct worker *worker)
{
    return (uint64_t)(worker->thread + 1) << 32 | ++worker->count;
}

/* ---- regions ------------------------------------------------------------------------------- */

static void region_write(struct worker *worker, uint32_t file, uint32_t region)
{
    uint64_t words[CHAOS_REGION_BYTES / 8];
    uint64_t value = new_value(worker);
    char path[CHAOS_PATH_BYTES];
    enum gfs_err err = GFS_OK;
    uint64_t called_us = chaos_now_us();
    for (size_t i = 0; i < CHAOS_REGION_BYTES / 8; i++)
        words[i] = value;
    chaos_region_path(worker->chaos, file, path);
    if (worker->files[file] == NULL)
        err = gfs_open(worker->chaos->fs, path, GFS_OPEN_READ | GFS_OPEN_WRITE, NULL,
                       &worker->files[file]);
    if (err != GFS_OK)
        return; /* nothing was sent */
    err = gfs_pwrite(worker->files[file], (uint64_t)region * CHAOS_REGION_STRIDE, words,
                     sizeof(words));
    if (err == GFS_OK)
        err = gfs_sync(worker->files[file]);
    chaos_note_write(&worker->chaos->log, worker->thread, called_us, err == GFS_OK, file, region,
                     value);
    if (err != GFS_OK) {
        gfs_abandon(worker->files[file]);
        worker->files[file] = NULL;
    }
}

static void region_read(struct worker *worker, uint32_t file, uint32_t region)
{
    char path[CHAOS_PATH_BYTES];
    struct gfs_file *reader;
    chaos_region_path(worker->chaos, file, path);
    if (gfs_open(worker->chaos->fs, path, GFS_OPEN_READ, NULL, &reader) != GFS_OK)
        return;
    chaos_read_region(worker->chaos, worker->thread, reader, file, region);
    gfs_abandon(reader);
}

static void *region_run(void *arg)
{
    struct worker *worker = arg;
    while (chaos_now_us() < worker->ends_us) {
        uint32_t file = draw(worker, CHAOS_FILES), region = draw(worker, CHAOS_REGIONS);
        if (draw(worker, 2) == 0)
            region_write(worker, file, region);
        else
            region_read(worker, file, region);
    }
    for (uint32_t i = 0; i < CHAOS_FILES; i++)
        gfs_abandon(worker->files[i]);
    return NULL;
}

/* ---- records ------------------------------------------------------------------------------- */

static void *append_run(void *arg)
{
    struct worker *worker = arg;
    struct gfs_file *log = NULL;
    char path[CHAOS_PATH_BYTES];
    uint64_t words[WORK_RECORD_MAX / 8 + 1];
    chaos_log_path(worker->chaos, path);
    while (chaos_now_us() < worker->ends_us) {
        size_t len = 8 * (1 + draw(worker, WORK_RECORD_MAX / 8));
        uint64_t value = new_value(worker), offset = 0, called_us = chaos_now_us();
        for (size_t i = 0; i < len / 8; i++)
            words[i] = value;
        if (log == NULL &&
            gfs_open(worker->chaos->fs, path, GFS_OPEN_READ | GFS_OPEN_WRITE, NULL, &log) != GFS_OK)
            continue;
        enum gfs_err err = gfs_append(log, words, len, &offset);
        chaos_note_append(&worker->chaos->log, worker->thread, called_us, err == GFS_OK, value,
                          offset, len);
        if (err != GFS_OK) {
            gfs_abandon(log);
            log = NULL;
        }
    }
    gfs_abandon(log);
    return NULL;
}

/* ---- names --------------------------------------------------------------------------------- */

static void name_path(const struct worker *worker, uint32_t name, char ret_path[CHAOS_PATH_BYTES])
{
    snprintf(ret_path, CHAOS_PATH_BYTES, "%s/name%u", worker->chaos->options->folder, name);
}

static void name_create(struct worker *worker, uint32_t name)
{
    char path[CHAOS_PATH_BYTES];
    struct gfs_file *file;
    uint64_t called_us = chaos_now_us();
    name_path(worker, name, path);
    enum gfs_err err = gfs_open(worker->chaos->fs, path,
                                GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_EXCLUSIVE, NULL, &file);
    chaos_note_name(&worker->chaos->log, worker->thread, called_us, CHAOS_CREATE, name, name, err);
    if (err == GFS_OK)
        gfs_abandon(file);
}

static void name_stat(struct worker *worker, uint32_t name)
{
    char path[CHAOS_PATH_BYTES];
    struct gfs_attr attr;
    uint64_t called_us = chaos_now_us();
    name_path(worker, name, path);
    enum gfs_err err = gfs_stat(worker->chaos->fs, path, &attr);
    chaos_note_name(&worker->chaos->log, worker->thread, called_us, CHAOS_STAT, name, name, err);
}

static void name_remove(struct worker *worker, uint32_t name)
{
    char path[CHAOS_PATH_BYTES];
    uint64_t called_us = chaos_now_us();
    name_path(worker, name, path);
    enum gfs_err err = gfs_unlink(worker->chaos->fs, path);
    chaos_note_name(&worker->chaos->log, worker->thread, called_us, CHAOS_REMOVE, name, name, err);
}

static void name_rename(struct worker *worker, uint32_t from, uint32_t to)
{
    char from_path[CHAOS_PATH_BYTES], to_path[CHAOS_PATH_BYTES];
    uint64_t called_us = chaos_now_us();
    name_path(worker, from, from_path);
    name_path(worker, to, to_path);
    enum gfs_err err = gfs_rename(worker->chaos->fs, from_path, to_path);
    chaos_note_name(&worker->chaos->log, worker->thread, called_us, CHAOS_RENAME, from, to, err);
}

static void *name_run(void *arg)
{
    struct worker *worker = arg;
    while (chaos_now_us() < worker->ends_us) {
        uint32_t name = draw(worker, CHAOS_NAMES);
        uint32_t other = (name + 1 + draw(worker, CHAOS_NAMES - 1)) % CHAOS_NAMES;
        switch (draw(worker, 4)) {
        case 0:
            name_create(worker, name);
            break;
        case 1:
            name_remove(worker, name);
            break;
        case 2:
            name_rename(worker, name, other);
            break;
        default:
            name_stat(worker, name);
        }
    }
    return NULL;
}

int chaos_work(struct chaos *chaos)
{
    struct worker workers[WORK_THREADS] = {{0}};
    uint64_t ends_us = chaos_now_us() + chaos->options->seconds * 1000000ull;
    uint32_t started = 0;
    for (; started < WORK_THREADS; started++) {
        struct worker *worker = &workers[started];
        void *(*run)(void *) = started < WORK_REGION_THREADS                         ? region_run
                               : started < WORK_REGION_THREADS + WORK_APPEND_THREADS ? append_run
                                                                                     : name_run;
        worker->chaos = chaos;
        worker->thread = chaos->options->client * WORK_THREADS + started;
        worker->random = (chaos->options->seed + started) * 0x9e3779b97f4a7c15u | 1;
        worker->ends_us = ends_us;
        if (pthread_create(&worker->id, NULL, run, worker) != 0)
            break;
    }
    for (uint32_t i = 0; i < started; i++)
        pthread_join(workers[i].id, NULL);
    return started == WORK_THREADS ? 0 : 1;
}
