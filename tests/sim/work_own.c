/*
 * A file that only this worker uses, and of which it knows every byte: written anywhere, cut,
 * extended, moved, copied, published whole, removed. After a change whose outcome is not known the
 * file is given up and the next one begun. See work.h.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crc.h"
#include "sim_disk.h"
#include "tests/sim/work.h"

#define OWN_MAX_BYTES   (5u << 19)
#define OWN_WRITE_MAX   200000u
#define OWN_HOLE_MAX    150000u
#define OWN_PAUSE_US    (200 * SIM_MS)
#define OWN_AGAIN_US    (300 * SIM_MS)
#define OWN_STEPS_EACH  2u
#define OWN_ATOMIC_1000 400u

struct own {
    struct worker *worker;
    struct gfs_file *file; /* NULL: there is none */
    char path[WORK_PATH_BYTES];
    uint8_t *bytes;
    uint32_t size;
    bool synced;
    /* a copy that nobody writes */
    char copy_path[WORK_PATH_BYTES];
    uint8_t *copy_bytes;
    uint32_t copy_size;
};

static void path_new(char ret_path[WORK_PATH_BYTES], const char *name)
{
    snprintf(ret_path, WORK_PATH_BYTES, "/%s%llu", name, (unsigned long long)work_value());
}

static void give_up(struct own *own, enum gfs_err err, const char *what)
{
    work_judge(own->worker, err, what, own->path);
    gfs_abandon(own->file);
    own->file = NULL;
}

static void fill(uint8_t *bytes, uint32_t len)
{
    uint64_t state = work_value() * 0x9e3779b97f4a7c15u;

    for (uint32_t i = 0; i < len; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(state >> 56);
    }
}

static enum gfs_err compare(struct gfs_file *file, const char *path, const uint8_t *bytes,
                            uint32_t size, uint32_t from, uint32_t len)
{
    uint8_t *got = malloc(len + 1);
    size_t got_len = 0;
    enum gfs_err err = gfs_pread(file, from, got, len, &got_len);
    uint32_t want = from >= size ? 0 : size - from < len ? size - from : len;

    if (err == GFS_OK && got_len != want)
        sim_fail("%s: read %u bytes at %u of %u gives %zu", path, len, from, size, got_len);
    for (uint32_t i = 0; err == GFS_OK && i < want; i++)
        if (got[i] != bytes[from + i])
            sim_fail("%s: byte %u of %u is %u, and was written as %u", path, from + i, size, got[i],
                     bytes[from + i]);
    free(got);
    return err;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* Published or not: there whole, or not there. */
static void atomic_check(struct own *own)
{
    struct gfs_file *file = NULL;
    enum gfs_err err = gfs_open(own->worker->fs, own->path, GFS_OPEN_READ, NULL, &file);

    if (err == GFS_OK)
        err = compare(file, own->path, own->bytes, own->size, 0, own->size + 1);
    if (err != GFS_ERR_NOT_FOUND)
        work_judge(own->worker, err, "reading what may have been published", own->path);
    gfs_abandon(file);
}

static void begin_atomic(struct own *own)
{
    struct gfs_create_options create = work_create_options();
    struct gfs_file *file = NULL;
    enum gfs_err err = gfs_open(own->worker->fs, own->path,
                                GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_ATOMIC, &create, &file);

    own->size = (uint32_t)work_draw(OWN_MAX_BYTES / 2);
    fill(own->bytes, own->size);
    if (err == GFS_OK && own->size > 0)
        err = gfs_pwrite(file, 0, own->bytes, own->size);
    if (err == GFS_OK)
        err = gfs_close(file);
    else
        gfs_abandon(file);
    sim_trace("published %s, %u bytes: %s", own->path, own->size, gfs_err_name(err));
    if (err != GFS_OK) {
        work_judge(own->worker, err, "publishing", own->path);
        atomic_check(own);
        return;
    }
    own->synced = true;
    own->file = work_open(own->worker, own->path, GFS_OPEN_READ | GFS_OPEN_WRITE);
}

static void begin(struct own *own)
{
    path_new(own->path, "own");
    memset(own->bytes, 0, OWN_MAX_BYTES);
    own->size = 0;
    own->synced = true;
    if (work_draw(1000) < OWN_ATOMIC_1000)
        begin_atomic(own);
    else
        own->file =
            work_open(own->worker, own->path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE);
}

static void end(struct own *own)
{
    enum gfs_err err;

    gfs_abandon(own->file);
    own->file = NULL;
    err = gfs_unlink(own->worker->fs, own->path);
    work_judge(own->worker, err, "unlink", own->path);
}

/* ---- changes --------------------------------------------------------------------------------- */

static void do_sync(struct own *own)
{
    enum gfs_err err = own->synced ? GFS_OK : gfs_sync(own->file);

    own->synced = true;
    if (err != GFS_OK)
        give_up(own, err, "sync");
}

static void do_write(struct own *own)
{
    uint32_t from = (uint32_t)work_draw(own->size + OWN_HOLE_MAX);
    uint32_t len = 1 + (uint32_t)work_draw(work_draw(2) ? OWN_WRITE_MAX : 5000);
    enum gfs_err err;

    if (from >= OWN_MAX_BYTES)
        from = (uint32_t)work_draw(OWN_MAX_BYTES);
    if (len > OWN_MAX_BYTES - from)
        len = OWN_MAX_BYTES - from;
    fill(own->bytes + from, len);
    if (from + len > own->size)
        own->size = from + len;
    sim_trace("%s: write %u at %u", own->path, len, from);
    own->synced = false;
    err = gfs_pwrite(own->file, from, own->bytes + from, len);
    if (err != GFS_OK)
        give_up(own, err, "write");
    else if (work_draw(2))
        do_sync(own);
}

static void do_truncate(struct own *own)
{
    uint32_t size = (uint32_t)work_draw(own->size + OWN_HOLE_MAX);
    enum gfs_err err;

    do_sync(own);
    if (!own->file)
        return;
    if (size > OWN_MAX_BYTES)
        size = OWN_MAX_BYTES;
    sim_trace("%s: truncate from %u to %u", own->path, own->size, size);
    err = gfs_truncate(own->worker->fs, own->path, size);
    if (size < own->size)
        memset(own->bytes + size, 0, own->size - size);
    own->size = size;
    if (err != GFS_OK) {
        give_up(own, err, "truncate");
        return;
    }
    /* As gfs.h says: not to be mixed with writing through a file that was open before. */
    gfs_abandon(own->file);
    own->file = work_open(own->worker, own->path, GFS_OPEN_READ | GFS_OPEN_WRITE);
}

static void do_rename(struct own *own)
{
    char to[WORK_PATH_BYTES];
    enum gfs_err err;

    path_new(to, "moved");
    err = gfs_rename(own->worker->fs, own->path, to);
    snprintf(own->path, WORK_PATH_BYTES, "%s", to);
    if (err != GFS_OK)
        give_up(own, err, "rename");
}

/* ---- looks ----------------------------------------------------------------------------------- */

static void do_read(struct own *own)
{
    uint32_t from = (uint32_t)work_draw(own->size + 1000);
    enum gfs_err err;

    do_sync(own);
    if (!own->file)
        return;
    err = compare(own->file, own->path, own->bytes, own->size, from,
                  1 + (uint32_t)work_draw(OWN_WRITE_MAX));
    work_judge(own->worker, err, "read", own->path);
}

static void do_checksum(struct own *own)
{
    uint64_t size;
    uint32_t crc;
    enum gfs_err err;

    do_sync(own);
    if (!own->file)
        return;
    err = gfs_checksum(own->worker->fs, own->path, &crc, &size);
    if (err == GFS_OK && (size != own->size || crc != crc32c(0, own->bytes, own->size)))
        sim_fail("the checksum of %s, %u bytes, is wrong: %08x of %llu bytes", own->path, own->size,
                 crc, (unsigned long long)size);
    work_judge(own->worker, err, "checksum", own->path);
}

static void do_scrub(struct own *own)
{
    uint64_t replicas, bad = 0;
    enum gfs_err err;

    do_sync(own);
    if (!own->file)
        return;
    err = gfs_scrub_file(own->worker->fs, own->path, &replicas, &bad);
    if (err == GFS_OK && bad > 0 && sim_disk_damages(sim_server(0)->disk) == 0)
        sim_fail("a scrub of %s finds %llu bad replicas, and nothing was damaged", own->path,
                 (unsigned long long)bad);
    work_judge(own->worker, err, "scrub", own->path);
}

static void copy_check(struct own *own)
{
    struct gfs_file *file = work_open(own->worker, own->copy_path, GFS_OPEN_READ);
    enum gfs_err err;

    if (!file)
        return;
    err = compare(file, own->copy_path, own->copy_bytes, own->copy_size, 0, own->copy_size + 1);
    work_judge(own->worker, err, "reading the snapshot", own->copy_path);
    gfs_abandon(file);
}

static void do_copy(struct own *own)
{
    enum gfs_err err;

    do_sync(own);
    if (!own->file)
        return;
    if (own->copy_path[0] && work_draw(3)) {
        copy_check(own);
        return;
    }
    path_new(own->copy_path, "owncopy");
    sim_trace("%s: snapshot %s", own->path, own->copy_path);
    err = gfs_snapshot(own->worker->fs, own->path, own->copy_path);
    own->copy_size = own->size;
    memcpy(own->copy_bytes, own->bytes, OWN_MAX_BYTES);
    if (err == GFS_OK) {
        copy_check(own);
        return;
    }
    own->copy_path[0] = 0;
    work_judge(own->worker, err, "snapshot", own->path);
}

void work_own_run(struct worker *worker)
{
    static void (*const steps[])(struct own * own) = {
        do_write, do_write,    do_write, do_write, do_read,     do_read,  do_sync,
        do_copy,  do_truncate, do_copy,  do_read,  do_checksum, do_scrub, do_rename,
    };
    struct own own = {.worker = worker,
                      .bytes = malloc(OWN_MAX_BYTES),
                      .copy_bytes = malloc(OWN_MAX_BYTES)};

    assert(own.bytes && own.copy_bytes);
    for (uint32_t left = OWN_STEPS_EACH * worker->left; left > 0; left--) {
        worker->left = (left + 1) / OWN_STEPS_EACH;
        if (!own.file)
            begin(&own);
        if (!own.file) {
            sim_sleep_us(OWN_AGAIN_US);
            continue;
        }
        steps[work_draw(sizeof(steps) / sizeof(steps[0]))](&own);
        if (own.file && work_draw(25) == 0)
            end(&own);
        if (work_draw(4) == 0)
            sim_sleep_us(work_draw(OWN_PAUSE_US));
    }
    if (own.file)
        do_read(&own);
    if (own.copy_path[0])
        copy_check(&own);
    gfs_abandon(own.file);
    free(own.bytes);
    free(own.copy_bytes);
    worker->left = 0;
}
