/* Registers in shared files: written and read by everybody. See work.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/work.h"

#define REGION_PAUSE_US (300 * SIM_MS)
#define REGION_HOT      2u
#define REGION_WORDS    (131072u / 8)
#define REGION_TORN     UINT64_MAX /* a value that nobody writes */

struct region_files {
    struct gfs_file *open[WORK_FILES_MAX]; /* for writing */
};

/* Some are read and written much more often than others: that is where orders matter. */
static uint32_t draw_region(void)
{
    return (uint32_t)work_draw(work_draw(10) < 6 ? REGION_HOT : WORK_REGIONS);
}

enum gfs_err work_region_read(struct gfs_file *file, uint32_t region, uint64_t *ret_value)
{
    uint32_t len = work_regions[region].len_bytes;
    uint64_t *words = calloc(REGION_WORDS, sizeof(*words));
    uint64_t value;
    size_t got = 0;
    enum gfs_err err = gfs_pread(file, work_regions[region].offset, words, len, &got);

    if (err == GFS_OK) {
        /* What lies behind the file's end was not written. */
        memset((char *)words + got, 0, len - got);
        value = words[0];
        for (uint32_t i = 1; i < len / 8; i++)
            if (words[i] != words[0])
                value = REGION_TORN;
        *ret_value = value;
    }
    free(words);
    return err;
}

static struct history_op op_of(enum history_kind kind, uint32_t file, uint32_t region,
                               uint64_t value)
{
    return (struct history_op){.kind = kind,
                               .object = (uint64_t)file * WORK_REGIONS + region,
                               .value = value};
}

static enum gfs_err region_put(struct gfs_file *file, uint32_t region, uint64_t value)
{
    uint32_t len = work_regions[region].len_bytes;
    uint64_t *words = malloc(len);
    enum gfs_err err;

    for (uint32_t i = 0; i < len / 8; i++)
        words[i] = value;
    err = gfs_pwrite(file, work_regions[region].offset, words, len);
    free(words);
    return err;
}

/* One or several regions, then one sync for all. */
static void region_write(struct worker *worker, struct region_files *files, uint32_t file)
{
    const char *path = sim->work->files[file].path;
    uint32_t count = work_draw(3) > 0 ? 1 : 1 + (uint32_t)work_draw(WORK_PENDING_MAX - 1);
    uint32_t region = draw_region();
    enum gfs_err err = GFS_OK;

    if (!files->open[file])
        files->open[file] =
            work_open(worker, path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE);
    if (!files->open[file])
        return;
    for (uint32_t i = 0; i < count && err == GFS_OK; i++) {
        uint32_t at = (region + 5 * i) % WORK_REGIONS;
        uint64_t value = work_value();
        struct history_op op = op_of(HISTORY_WRITE, file, at, value);

        work_call(worker, &op);
        sim_trace("write %s region %u value %llu", path, at, (unsigned long long)value);
        err = region_put(files->open[file], at, value);
    }
    if (err == GFS_OK)
        err = gfs_sync(files->open[file]);
    sim_trace("written %s: %s", path, gfs_err_name(err));
    work_end(worker, err == GFS_OK);
    if (err == GFS_OK)
        return;
    work_judge(worker, err, "write", path);
    gfs_abandon(files->open[file]);
    files->open[file] = NULL;
}

static void region_read(struct worker *worker, struct region_files *files, uint32_t file)
{
    const char *path = sim->work->files[file].path;
    uint32_t region = draw_region();
    struct gfs_file *reader = files->open[file];
    struct history_op op = op_of(HISTORY_READ, file, region, 0);
    uint64_t value;
    enum gfs_err err;

    if (!reader || work_draw(2) == 0)
        reader = work_open(worker, path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE);
    if (!reader)
        return;
    work_call(worker, &op);
    err = work_region_read(reader, region, &value);
    if (err == GFS_OK) {
        sim_trace("read %s region %u value %llu", path, region, (unsigned long long)value);
        work_pending(worker, 0)->value = value;
        work_end(worker, true);
    } else {
        work_drop(worker);
        work_judge(worker, err, "read", path);
    }
    if (reader != files->open[file])
        gfs_abandon(reader);
}

void work_region_run(struct worker *worker)
{
    struct region_files files = {{NULL}};

    for (; worker->left > 0; worker->left--) {
        uint32_t file = (uint32_t)work_draw(sim->work->file_count);

        if (work_draw(100) < 55)
            region_write(worker, &files, file);
        else
            region_read(worker, &files, file);
        if (work_draw(3) == 0)
            sim_sleep_us(work_draw(REGION_PAUSE_US));
    }
    for (uint32_t i = 0; i < WORK_FILES_MAX; i++)
        gfs_abandon(files.open[i]);
}
