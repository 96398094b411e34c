/*
 * put: a local file, or standard input, into the cluster. The file is written without a name and
 * gets it, complete and durable, in one step (GFS_OPEN_ATOMIC): whatever ends us before that leaves
 * nothing under the name.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "groups.h"
#include "interrupt.h"
#include "out.h"
#include "progress.h"

#define PUT_BUFFER_BYTES (4u << 20)

struct put_source {
    int fd;
    const char *name; /* for people */
    bool is_regular;
    uint64_t size_bytes; /* of a regular file when it was opened */
    uint32_t mode;
};

static enum ctl_exit put_open_source(const struct ctl *ctl, const char *local,
                                     struct put_source *ret_source)
{
    struct put_source source = {.fd = STDIN_FILENO, .name = "standard input"};
    struct stat st;
    if (strcmp(local, "-")) {
        source.name = local;
        source.fd = open(local, O_RDONLY | O_CLOEXEC);
        if (source.fd < 0)
            return ctl_fail(ctl, "%s: %s", local, strerror(errno));
    }
    if (fstat(source.fd, &st) < 0) {
        int saved_errno = errno;
        if (source.fd != STDIN_FILENO)
            close(source.fd);
        return ctl_fail(ctl, "%s: %s", source.name, strerror(saved_errno));
    }
    if (S_ISDIR(st.st_mode)) {
        if (source.fd != STDIN_FILENO)
            close(source.fd);
        return ctl_fail(ctl,
                        "%s: is a directory; put stores one file, so pack it: tar c %s | "
                        "gfsctl put - PATH",
                        source.name, local);
    }
    source.is_regular = S_ISREG(st.st_mode) && source.fd != STDIN_FILENO;
    source.size_bytes = source.is_regular ? (uint64_t)st.st_size : 0;
    source.mode = source.is_regular ? st.st_mode & 0777 : 0;
    *ret_source = source;
    return CTL_OK;
}

static enum ctl_exit put_copy(const struct ctl *ctl, const struct put_source *source,
                              struct gfs_file *file, struct progress *progress, uint64_t *ret_bytes)
{
    char *buffer = ctl_alloc(PUT_BUFFER_BYTES);
    enum ctl_exit result = CTL_OK;
    uint64_t total = 0;
    while (!interrupt_pending()) {
        ssize_t len = read(source->fd, buffer, PUT_BUFFER_BYTES);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0) {
            result = ctl_fail(ctl, "%s: %s; nothing was stored", source->name, strerror(errno));
            break;
        }
        if (len == 0)
            break;
        enum gfs_err err = gfs_write(file, buffer, (size_t)len);
        if (err != GFS_OK) {
            result = ctl_fail_gfs(ctl, err, NULL);
            break;
        }
        total += (uint64_t)len;
        progress_update(progress, total);
    }
    free(buffer);
    if (result == CTL_OK && !interrupt_pending() && total < source->size_bytes)
        result = ctl_fail(ctl,
                          "%s: shrank from %" PRIu64 " to %" PRIu64
                          " bytes while it was read; nothing was stored",
                          source->name, source->size_bytes, total);
    *ret_bytes = total;
    return result;
}

static enum ctl_exit put_store(const struct ctl *ctl, const struct put_source *source,
                               const char *target, uint64_t *ret_bytes)
{
    struct gfs_create_options opts = {
        .goal = ctl->goal,
        .chunk_size_bytes = ctl->chunk_size_bytes,
        .mode = source->mode,
    };
    int flags = GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_ATOMIC;
    if (!ctl_has(ctl, CTL_OPTION_FORCE))
        flags |= GFS_OPEN_EXCLUSIVE;
    struct gfs_file *file;
    enum gfs_err err = gfs_open(ctl->fs, target, flags, &opts, &file);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, err == GFS_ERR_NOT_FOUND ? CTL_HINT_NO_DIR : NULL);
    struct progress progress;
    uint64_t total = 0;
    progress_begin(&progress, ctl->err_is_terminal, ctl_basename(target),
                   source->is_regular ? source->size_bytes : UINT64_MAX);
    enum ctl_exit result = put_copy(ctl, source, file, &progress, &total);
    if (result != CTL_OK || interrupt_pending()) {
        progress_end(&progress, total, true);
        gfs_abandon(file);
        return CTL_FAILED;
    }
    err = gfs_close(file);
    progress_end(&progress, total, err != GFS_OK);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err,
                            err == GFS_ERR_EXISTS
                                ? "somebody made it meanwhile; use --force to replace it"
                                : NULL);
    *ret_bytes = total;
    return CTL_OK;
}

enum ctl_exit put_run(struct ctl *ctl)
{
    const char *local = ctl->args[0];
    struct put_source source = {.fd = -1};
    enum ctl_exit result = put_open_source(ctl, local, &source);
    if (result != CTL_OK)
        return result;
    char *target = NULL;
    struct gfs_attr attr;
    uint64_t total = 0;
    result = ctl_target(ctl, ctl->args[1], strcmp(local, "-") ? ctl_basename(local) : "", &target,
                        &attr);
    if (result != CTL_OK)
        goto out;
    if (attr.type == GFS_TYPE_DIR) {
        result = ctl_fail(ctl, "%s: is a directory; choose another name", target);
        goto out;
    }
    if (attr.type && !ctl_has(ctl, CTL_OPTION_FORCE)) {
        result = ctl_fail(ctl, "%s: already exists; use --force to replace it", target);
        goto out;
    }
    interrupt_install();
    result = put_store(ctl, &source, target, &total);
    if (result == CTL_OK && ctl->json) {
        cJSON *object = out_object();
        out_add_text(object, "path", target);
        out_add_u64(object, "size", total);
        out_json(object);
    }
out:
    free(target);
    if (source.fd != STDIN_FILENO)
        close(source.fd);
    return result;
}
