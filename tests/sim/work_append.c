/* Records in shared logs: appended, one by one or many at once, and followed. See work.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/work.h"

#define APPEND_PAUSE_US  (200 * SIM_MS)
#define APPEND_SMALL_MAX 3000u
#define APPEND_BIG_MAX   ((1u << 18) - GFS_RECORD_HEADER_BYTES)
#define APPEND_WAIT_MS   1500u

static size_t draw_len(void)
{
    if (work_draw(6) == 0)
        return 8 + work_draw(APPEND_BIG_MAX - 8);
    return 8 + work_draw(APPEND_SMALL_MAX);
}

/* The value, then bytes that follow from it and their place. */
static uint8_t byte_at(uint64_t value, size_t i)
{
    return (uint8_t)(value * 31 + i * 7 + (i >> 8));
}

static void *record_make(uint64_t value, size_t len)
{
    uint8_t *bytes = malloc(len);

    assert(bytes && len >= sizeof(value));
    memcpy(bytes, &value, sizeof(value));
    for (size_t i = sizeof(value); i < len; i++)
        bytes[i] = byte_at(value, i);
    return bytes;
}

enum gfs_err work_log_read(struct worker *worker, struct gfs_file *file, uint64_t *offset,
                           struct work_record **ret_records, size_t *ret_count)
{
    struct work_record *records = NULL;
    size_t count = 0;

    for (;;) {
        const uint8_t *bytes;
        uint64_t value;
        size_t len;
        uint64_t before = *offset;
        enum gfs_err err = gfs_read_record(file, offset, (const void **)&bytes, &len);

        if (err != GFS_OK) {
            free(records);
            return err;
        }
        if (!bytes)
            break;
        if (len < sizeof(value))
            sim_fail("a record of %zu bytes is there that nobody appended", len);
        memcpy(&value, bytes, sizeof(value));
        for (size_t i = sizeof(value); i < len; i++)
            if (bytes[i] != byte_at(value, i))
                sim_fail("record %llu near %llu has a wrong byte %zu", (unsigned long long)value,
                         (unsigned long long)before, i);
        records = realloc(records, (count + 1) * sizeof(*records));
        assert(records);
        records[count++] = (struct work_record){.value = value,
                                                .offset = *offset - len - GFS_RECORD_HEADER_BYTES,
                                                .len_bytes = len + GFS_RECORD_HEADER_BYTES};
    }
    *ret_records = records;
    *ret_count = count;
    return GFS_OK;
}

static struct history_op op_of(uint32_t log, uint64_t value, size_t len)
{
    return (struct history_op){.kind = HISTORY_APPEND,
                               .object = log,
                               .value = value,
                               .length_bytes = len + GFS_RECORD_HEADER_BYTES};
}

static enum gfs_err append_one(struct worker *worker, struct gfs_file *file, uint32_t log)
{
    size_t len = draw_len();
    uint64_t value = work_value(), offset = 0;
    void *record = record_make(value, len);
    struct history_op op = op_of(log, value, len);
    enum gfs_err err;

    work_call(worker, &op);
    sim_trace("append value %llu, %zu bytes to log %u", (unsigned long long)value, len, log);
    err = gfs_append(file, record, len, &offset);
    sim_trace("appended value %llu: %s at %llu", (unsigned long long)value, gfs_err_name(err),
              (unsigned long long)offset);
    work_pending(worker, 0)->offset_bytes = offset;
    work_end(worker, err == GFS_OK);
    free(record);
    return err;
}

/* Of those that surely went in the offsets are known, of the others nothing. */
static enum gfs_err append_many(struct worker *worker, struct gfs_file *file, uint32_t log)
{
    struct gfs_record records[WORK_PENDING_MAX];
    uint64_t offsets[WORK_PENDING_MAX] = {0};
    size_t done = 0;
    enum gfs_err err;

    for (uint32_t i = 0; i < WORK_PENDING_MAX; i++) {
        size_t len = draw_len();
        uint64_t value = work_value();
        struct history_op op = op_of(log, value, len);

        work_call(worker, &op);
        records[i] = (struct gfs_record){record_make(value, len), len};
    }
    err = gfs_append_many(file, records, WORK_PENDING_MAX, offsets, &done);
    if (err == GFS_OK && done != WORK_PENDING_MAX)
        sim_fail("gfs_append_many says OK and %zu of %u", done, WORK_PENDING_MAX);
    for (uint32_t i = 0; i < WORK_PENDING_MAX; i++) {
        work_pending(worker, i)->offset_bytes = offsets[i];
        if (i < done)
            work_pending(worker, i)->return_us = sim->now_us;
        free((void *)records[i].data);
    }
    work_end(worker, err == GFS_OK);
    return err;
}

/* What was read once stays, at its place: at the end all must be found there. */
struct follower {
    struct gfs_file *file;
    uint64_t offset;
};

static enum gfs_err follow(struct worker *worker, struct follower *follower, uint32_t log)
{
    struct work_record *records = NULL;
    uint64_t size;
    size_t count = 0;
    enum gfs_err err = gfs_wait(follower->file, follower->offset, APPEND_WAIT_MS, &size);

    if (err == GFS_ERR_TIMEOUT)
        return GFS_OK;
    if (err == GFS_OK && size <= follower->offset)
        sim_fail("gfs_wait for more than %llu says %llu", (unsigned long long)follower->offset,
                 (unsigned long long)size);
    if (err == GFS_OK)
        err = work_log_read(worker, follower->file, &follower->offset, &records, &count);
    for (size_t i = 0; i < count; i++)
        work_seen(log, &records[i]);
    free(records);
    return err;
}

void work_append_run(struct worker *worker)
{
    uint32_t log = (uint32_t)work_draw(sim->work->log_count);
    bool follows = work_draw(4) == 0;
    struct follower follower = {NULL, 0};

    for (; worker->left > 0; worker->left--) {
        const char *path = sim->work->logs[log].path;
        enum gfs_err err;

        if (!follower.file)
            follower.file =
                work_open(worker, path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE);
        if (!follower.file)
            continue;
        if (follows)
            err = follow(worker, &follower, log);
        else if (work_draw(5) == 0)
            err = append_many(worker, follower.file, log);
        else
            err = append_one(worker, follower.file, log);
        if (err != GFS_OK) {
            work_judge(worker, err, follows ? "reading records" : "append", path);
            gfs_abandon(follower.file);
            follower.file = NULL;
            if (!follows)
                log = (uint32_t)work_draw(sim->work->log_count);
        }
        if (work_draw(4) == 0)
            sim_sleep_us(work_draw(APPEND_PAUSE_US));
    }
    gfs_abandon(follower.file);
}
