/*
 * Snapshots of shared files and logs, one by one or their whole directory, while others write them.
 * A snapshot that was acknowledged is, for the history, a read of each of the source's registers
 * and a write of the copy's, between its call and its return: what it shows must have been there at
 * one moment in between. From then on the copy is one more file, or log, for everybody. See work.h.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"
#include "tests/sim/work.h"

#define COPY_PAUSE_US   (900 * SIM_MS)
#define COPY_AGAIN_US   (200 * SIM_MS)
#define COPY_TRIES      60u
#define COPY_TRIES_LOST 2u /* when replicas may be lost for good */

struct copy {
    char path[WORK_PATH_BYTES];
    uint64_t call_us, return_us;
};

static uint32_t tries_max(void)
{
    return sim_disk_damages(sim_server(0)->disk) > 0 ? COPY_TRIES_LOST : COPY_TRIES;
}

static void note(const struct worker *worker, const struct copy *copy, enum history_kind kind,
                 uint64_t object, uint64_t value)
{
    const struct history_op op = {.kind = kind,
                                  .proc = worker->proc,
                                  .call_us = copy->call_us,
                                  .return_us = copy->return_us,
                                  .object = object,
                                  .value = value};

    history_add(&sim->work->history, &op);
}

/* Nobody else knows the copy yet: it may be read at leisure. */
static void copy_of_file(struct worker *worker, const struct copy *copy, uint32_t source)
{
    struct work *work = sim->work;
    uint64_t values[WORK_REGIONS];
    struct gfs_file *file = NULL;
    uint32_t region = 0;

    for (uint32_t tries = 0; tries < tries_max() && region < WORK_REGIONS; tries++) {
        enum gfs_err err = GFS_OK;

        if (!file)
            file = work_open(worker, copy->path, GFS_OPEN_READ);
        while (file && err == GFS_OK && region < WORK_REGIONS) {
            err = work_region_read(file, region, &values[region]);
            region += err == GFS_OK;
        }
        work_judge(worker, err, "reading the copy", copy->path);
        if (region < WORK_REGIONS)
            sim_sleep_us(COPY_AGAIN_US);
    }
    gfs_abandon(file);
    if (region < WORK_REGIONS || work->file_count == WORK_FILES_MAX)
        return;
    for (region = 0; region < WORK_REGIONS; region++) {
        uint64_t to = (uint64_t)work->file_count * WORK_REGIONS + region;

        sim_trace("copy %s region %u value %llu", copy->path, region,
                  (unsigned long long)values[region]);
        note(worker, copy, HISTORY_READ, (uint64_t)source * WORK_REGIONS + region, values[region]);
        if (values[region])
            note(worker, copy, HISTORY_WRITE, to, values[region]);
    }
    snprintf(work->files[work->file_count++].path, WORK_PATH_BYTES, "%s", copy->path);
}

static const struct work_record *record_of(const struct work_record *records, size_t count,
                                           uint64_t value)
{
    for (size_t i = 0; i < count; i++)
        if (records[i].value == value)
            return &records[i];
    return NULL;
}

/* What was acknowledged before the call is in it, and nothing that began after the return. */
static void check_log(const struct copy *copy, uint32_t source, const struct work_record *records,
                      size_t count)
{
    const struct history *history = &sim->work->history;

    for (size_t i = 0; i < history->count; i++) {
        const struct history_op *op = &history->ops[i];
        const struct work_record *record;

        if (op->kind != HISTORY_APPEND || op->object != source)
            continue;
        record = record_of(records, count, op->value);
        if (!record && op->return_us < copy->call_us)
            sim_fail("record %llu was acknowledged before the snapshot %s and is not in it",
                     (unsigned long long)op->value, copy->path);
        if (record && op->call_us > copy->return_us)
            sim_fail("record %llu was appended after the snapshot %s and is in it",
                     (unsigned long long)op->value, copy->path);
    }
}

static void copy_of_log(struct worker *worker, const struct copy *copy, uint32_t source)
{
    struct work *work = sim->work;
    struct work_record *records = NULL;
    struct gfs_file *file = NULL;
    size_t count = 0;
    enum gfs_err err = GFS_ERR_BUSY;

    for (uint32_t tries = 0; tries < tries_max() && err != GFS_OK; tries++) {
        uint64_t offset = 0;

        if (tries > 0)
            sim_sleep_us(COPY_AGAIN_US);
        if (!file)
            file = work_open(worker, copy->path, GFS_OPEN_READ);
        if (!file)
            continue;
        err = work_log_read(worker, file, &offset, &records, &count);
        work_judge(worker, err, "reading the copy", copy->path);
    }
    gfs_abandon(file);
    if (err == GFS_OK)
        check_log(copy, source, records, count);
    if (err == GFS_OK && work->log_count < WORK_LOGS_MAX) {
        for (size_t i = 0; i < count; i++) {
            const struct history_op op = {.kind = HISTORY_APPEND,
                                          .proc = worker->proc,
                                          .call_us = copy->call_us,
                                          .return_us = copy->return_us,
                                          .object = work->log_count,
                                          .value = records[i].value,
                                          .offset_bytes = records[i].offset,
                                          .length_bytes = records[i].len_bytes};

            history_add(&work->history, &op);
        }
        snprintf(work->logs[work->log_count++].path, WORK_PATH_BYTES, "%s", copy->path);
    }
    free(records);
}

/* false: not there, as far as can be told. */
static bool is_there(struct worker *worker, const char *path, bool *ret_told)
{
    enum gfs_err err = GFS_ERR_BUSY;

    for (uint32_t tries = 0; tries < COPY_TRIES; tries++) {
        struct gfs_attr attr;

        err = gfs_stat(worker->fs, path, &attr);
        if (err == GFS_OK || err == GFS_ERR_NOT_FOUND)
            break;
        work_judge(worker, err, "stat", path);
        sim_sleep_us(COPY_AGAIN_US);
    }
    *ret_told = err == GFS_OK || err == GFS_ERR_NOT_FOUND;
    return err == GFS_OK;
}

/* The path in a copy of the directory; false: it is not below it. */
static bool path_in(const struct copy *tree, const char *path, struct copy *ret_part)
{
    const size_t len = strlen(WORK_SHARED);

    if (strncmp(path, WORK_SHARED "/", len + 1) != 0)
        return false;
    *ret_part = *tree;
    snprintf(ret_part->path + strlen(tree->path), sizeof(tree->path) - strlen(tree->path), "%s",
             path + len);
    return true;
}

/* What is not in it was not yet made: a file without bytes. */
static void copy_of_tree(struct worker *worker, const struct copy *tree)
{
    const struct work *work = sim->work;
    const uint32_t files = work->file_count, logs = work->log_count;
    struct copy part;
    bool told;

    for (uint32_t i = 0; i < files; i++) {
        if (!path_in(tree, work->files[i].path, &part))
            continue;
        if (is_there(worker, part.path, &told))
            copy_of_file(worker, &part, i);
        else if (told)
            for (uint32_t region = 0; region < WORK_REGIONS; region++)
                note(worker, &part, HISTORY_READ, (uint64_t)i * WORK_REGIONS + region, 0);
    }
    for (uint32_t i = 0; i < logs; i++) {
        if (!path_in(tree, work->logs[i].path, &part))
            continue;
        if (is_there(worker, part.path, &told))
            copy_of_log(worker, &part, i);
        else if (told)
            check_log(&part, i, NULL, 0);
    }
}

void work_copy_run(struct worker *worker)
{
    struct work *work = sim->work;

    for (worker->left = worker->left < 5 ? worker->left : 5; worker->left > 0; worker->left--) {
        bool of_log = work_draw(3) == 0, of_tree = work_draw(3) == 0;
        uint32_t source = (uint32_t)work_draw(of_log ? work->log_count : work->file_count);
        struct copy copy = {.call_us = sim->now_us};
        const char *path = of_tree  ? WORK_SHARED
                           : of_log ? work->logs[source].path
                                    : work->files[source].path;
        enum gfs_err err;

        snprintf(copy.path, sizeof(copy.path), "/copy%llu", (unsigned long long)work_value());
        sim_trace("snapshot %s to %s", path, copy.path);
        err = gfs_snapshot(worker->fs, path, copy.path);
        copy.return_us = sim->now_us;
        sim_trace("snapshot %s: %s", copy.path, gfs_err_name(err));
        if (err != GFS_ERR_NOT_FOUND) /* nobody has made it yet */
            work_judge(worker, err, "snapshot", copy.path);
        if (err == GFS_OK && of_tree)
            copy_of_tree(worker, &copy);
        else if (err == GFS_OK && of_log)
            copy_of_log(worker, &copy, source);
        else if (err == GFS_OK)
            copy_of_file(worker, &copy, source);
        sim_sleep_us(work_draw(COPY_PAUSE_US));
    }
}
