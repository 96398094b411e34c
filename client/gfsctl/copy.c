/* copy: cp within the cluster. The bytes pass through this process; the copy gets its name when it
 * is complete. It has the goal, the chunk size and the mode of what it was copied from. */
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "interrupt.h"
#include "progress.h"

#define COPY_BUFFER_BYTES (8u << 20)

static enum ctl_exit copy_bytes(const struct ctl *ctl, struct gfs_file *from, struct gfs_file *to,
                                struct progress *progress, uint64_t *ret_bytes)
{
    char *buffer = ctl_alloc(COPY_BUFFER_BYTES);
    enum gfs_err err = GFS_OK;
    uint64_t total = 0;
    while (!interrupt_pending()) {
        size_t len = 0;
        err = gfs_read(from, buffer, COPY_BUFFER_BYTES, &len);
        if (err != GFS_OK || len == 0)
            break;
        err = gfs_write(to, buffer, len);
        if (err != GFS_OK)
            break;
        total += len;
        progress_update(progress, total);
    }
    free(buffer);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    *ret_bytes = total;
    return interrupt_pending() ? CTL_FAILED : CTL_OK;
}

static enum ctl_exit copy_file(const struct ctl *ctl, struct gfs_file *from,
                               const struct gfs_attr *attr, const char *target)
{
    struct gfs_create_options opts = {
        .goal = attr->goal,
        .chunk_size_bytes = attr->chunk_size_bytes,
        .mode = attr->mode,
    };
    struct gfs_file *to;
    struct progress progress;
    uint64_t total = 0;
    enum gfs_err err =
        gfs_open(ctl->fs, target, GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_ATOMIC, &opts, &to);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, err == GFS_ERR_NOT_FOUND ? CTL_HINT_NO_DIR : NULL);
    progress_begin(&progress, ctl->err_is_terminal, ctl_basename(target), attr->size_bytes);
    enum ctl_exit result = copy_bytes(ctl, from, to, &progress, &total);
    if (result != CTL_OK) {
        progress_end(&progress, total, true);
        gfs_abandon(to);
        return result;
    }
    err = gfs_close(to);
    progress_end(&progress, total, err != GFS_OK);
    return err == GFS_OK ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
}

enum ctl_exit copy_run(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    struct gfs_file *from;
    struct gfs_attr from_attr, to_attr;
    char *target = NULL;
    enum gfs_err err = gfs_open(ctl->fs, path, GFS_OPEN_READ, NULL, &from);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, err == GFS_ERR_IS_DIR ? "cp copies one file" : NULL);
    enum ctl_exit result;
    err = gfs_fstat(from, &from_attr);
    if (err != GFS_OK) {
        result = ctl_fail_gfs(ctl, err, NULL);
        goto out;
    }
    result = ctl_target(ctl, ctl->args[1], ctl_basename(path), &target, &to_attr);
    if (result != CTL_OK)
        goto out;
    if (to_attr.type && to_attr.inode == from_attr.inode)
        result = ctl_fail(ctl, "%s and %s are the same file", path, target);
    else if (to_attr.type == GFS_TYPE_DIR)
        result = ctl_fail(ctl, "%s: is a directory; choose another name", target);
    if (result != CTL_OK)
        goto out;
    interrupt_install();
    result = copy_file(ctl, from, &from_attr, target);
out:
    gfs_abandon(from);
    free(target);
    return result;
}
