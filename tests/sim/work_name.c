/* A few names: made, moved, removed and looked up by everybody. See work.h. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/work.h"

#define NAME_COUNT    5u
#define NAME_PAUSE_US (150 * SIM_MS)

static void name_path(uint32_t name, char ret_path[WORK_PATH_BYTES])
{
    snprintf(ret_path, WORK_PATH_BYTES, "/name%u", name);
}

static enum gfs_err name_do(struct worker *worker, enum history_kind kind, uint32_t name,
                            uint32_t other)
{
    struct gfs_create_options create = work_create_options();
    char path[WORK_PATH_BYTES], other_path[WORK_PATH_BYTES];
    struct gfs_attr attr;
    struct gfs_file *file;
    enum gfs_err err;

    name_path(name, path);
    name_path(other, other_path);
    switch (kind) {
    case HISTORY_CREATE:
        err = gfs_open(worker->fs, path, GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_EXCLUSIVE,
                       &create, &file);
        if (err == GFS_OK)
            gfs_abandon(file);
        return err;
    case HISTORY_REMOVE:
        return gfs_unlink(worker->fs, path);
    case HISTORY_RENAME:
        return gfs_rename(worker->fs, path, other_path);
    default:
        return gfs_stat(worker->fs, path, &attr);
    }
}

void work_name_run(struct worker *worker)
{
    static const enum history_kind kinds[] = {HISTORY_CREATE, HISTORY_REMOVE, HISTORY_RENAME,
                                              HISTORY_STAT};

    for (uint32_t left = 2 * worker->left; left > 0; left--) {
        enum history_kind kind = kinds[work_draw(4)];
        enum gfs_err no = kind == HISTORY_CREATE ? GFS_ERR_EXISTS : GFS_ERR_NOT_FOUND;
        uint32_t name = (uint32_t)work_draw(NAME_COUNT);
        uint32_t other = (name + 1 + (uint32_t)work_draw(NAME_COUNT - 1)) % NAME_COUNT;
        struct history_op op = {.kind = kind, .object = name, .value = other};
        enum gfs_err err;

        worker->left = (left + 1) / 2;
        work_call(worker, &op);
        err = name_do(worker, kind, name, other);
        sim_trace("name op %u of %u, %u: %s", kind, name, other, gfs_err_name(err));
        work_pending(worker, 0)->done = err == GFS_OK;
        work_end(worker, err == GFS_OK || err == no);
        /* A retry that finds its first try, and the file removed since, tells just that. */
        if (err != no && !(kind == HISTORY_CREATE && err == GFS_ERR_STALE_HANDLE))
            work_judge(worker, err, "an operation on names", "/name*");
        if (work_draw(4) == 0)
            sim_sleep_us(work_draw(NAME_PAUSE_US));
    }
    worker->left = 0;
}
