/*
 * get, cat: bytes out of the cluster. get writes .NAME.gfsget.PID beside the name asked for, syncs
 * it and renames it, so that the name never holds a short file; a failure removes the temporary.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "groups.h"
#include "interrupt.h"
#include "out.h"
#include "progress.h"
#include "sink.h"

#define GET_BUFFER_BYTES (8u << 20)

/* Copies an open file to the sink. */
static enum ctl_exit get_copy(const struct ctl *ctl, struct gfs_file *file, const struct sink *sink,
                              struct progress *progress)
{
    char *buffer = ctl_alloc(GET_BUFFER_BYTES);
    enum ctl_exit result = CTL_OK;
    uint64_t total = 0;
    while (result == CTL_OK) {
        size_t len = 0;
        enum gfs_err err = gfs_read(file, buffer, GET_BUFFER_BYTES, &len);
        if (err != GFS_OK) {
            progress_end(progress, total, true);
            result = ctl_fail_gfs(ctl, err, NULL);
            break;
        }
        if (len == 0)
            break;
        int error = interrupt_pending() ? EINTR : sink_write_all(sink->fd, buffer, len);
        if (error) {
            progress_end(progress, total, true);
            result = sink_fail(ctl, sink, error);
        }
        total += len;
        progress_update(progress, total);
    }
    free(buffer);
    if (result == CTL_OK)
        progress_end(progress, total, false);
    return result;
}

/* Opens `path` and streams it. */
static enum ctl_exit get_stream(const struct ctl *ctl, const char *path, const struct sink *sink,
                                bool show_progress)
{
    struct gfs_file *file;
    struct gfs_attr attr;
    enum gfs_err err = gfs_open(ctl->fs, path, GFS_OPEN_READ, NULL, &file);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    err = gfs_fstat(file, &attr);
    if (err != GFS_OK) {
        enum ctl_exit failed = ctl_fail_gfs(ctl, err, NULL);
        gfs_abandon(file);
        return failed;
    }
    struct progress progress;
    progress_begin(&progress, show_progress && ctl->err_is_terminal, ctl_basename(path),
                   attr.size_bytes);
    enum ctl_exit result = get_copy(ctl, file, sink, &progress);
    gfs_abandon(file);
    return result;
}

static enum ctl_exit get_records(const struct ctl *ctl, const char *path)
{
    struct gfs_file *file;
    uint64_t offset = 0;
    enum gfs_err err = gfs_open(ctl->fs, path, GFS_OPEN_READ, NULL, &file);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    enum ctl_exit result = sink_records(ctl, file, &offset);
    gfs_abandon(file);
    return result;
}

enum ctl_exit cat_run(struct ctl *ctl)
{
    enum ctl_exit result = CTL_OK;
    interrupt_install();
    for (int i = 0; i < ctl->arg_count && result == CTL_OK; i++)
        result = ctl_has(ctl, CTL_OPTION_RECORDS)
                     ? get_records(ctl, ctl->args[i])
                     : get_stream(ctl, ctl->args[i], &sink_stdout, false);
    return result;
}

/* Makes the new name itself durable. */
static int get_sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = fsync(fd) < 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return error;
}

static int get_finish(int fd, const char *temporary, const char *local, const char *dir)
{
    if (fsync(fd) < 0 || rename(temporary, local) < 0)
        return errno;
    interrupt_set_temporary(NULL);
    return get_sync_dir(dir);
}

static enum ctl_exit get_to_file(struct ctl *ctl, const char *path, const char *local)
{
    char *dir_copy = out_escape(local, false);
    const char *dir = dirname(dir_copy);
    char *temporary = NULL;
    enum ctl_exit result;
    if (asprintf(&temporary, "%s/.%.200s.gfsget.%d", dir, ctl_basename(local), (int)getpid()) < 0)
        temporary = NULL;
    struct sink sink = {-1, local};
    if (temporary)
        sink.fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (sink.fd < 0) {
        result = ctl_fail(ctl, "%s: %s", local, strerror(temporary ? errno : ENOMEM));
        goto out;
    }
    interrupt_set_temporary(temporary);
    result = get_stream(ctl, path, &sink, true);
    if (result == CTL_OK && interrupt_pending())
        result = CTL_FAILED;
    if (result == CTL_OK) {
        int error = get_finish(sink.fd, temporary, local, dir);
        if (error)
            result = sink_fail(ctl, &sink, error);
    }
    close(sink.fd);
    if (result != CTL_OK) {
        interrupt_set_temporary(NULL);
        unlink(temporary);
    }
out:
    free(temporary);
    free(dir_copy);
    return result;
}

enum ctl_exit get_run(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    const char *local = ctl->args[1];
    interrupt_install();
    if (!strcmp(local, "-"))
        return get_stream(ctl, path, &sink_stdout, true);
    struct stat st;
    size_t len = strlen(local);
    bool is_dir = !stat(local, &st) && S_ISDIR(st.st_mode);
    if (!is_dir && (!len || local[len - 1] == '/'))
        return ctl_fail(ctl, "%s: no such local directory", local);
    if (!is_dir && !access(local, F_OK) && !S_ISREG(st.st_mode))
        return ctl_fail(ctl, "%s: is not a regular file; use - and redirect", local);
    const char *name = ctl_basename(path);
    if (is_dir && !*name)
        return ctl_fail(ctl, "%s: is a local directory; name the file in it", local);
    char *target = is_dir ? ctl_join(local, name) : out_escape(local, false);
    enum ctl_exit result = get_to_file(ctl, path, target);
    free(target);
    return result;
}
