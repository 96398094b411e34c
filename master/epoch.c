#include "master/epoch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "master/lease.h"

#define PATH_BYTES 4200
#define EPOCH_MAX  (UINT32_MAX >> LEASE_EPOCH_SHIFT)

static enum gfs_err read_epoch(const char *path, uint32_t *ret_epoch)
{
    char text[32] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno != ENOENT) {
            return GFS_ERR_IO;
        }
        *ret_epoch = 0;
        return GFS_OK;
    }
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len < 0) {
        return GFS_ERR_IO;
    }
    char *end;
    unsigned long epoch = strtoul(text, &end, 10);
    if (end == text || *end != '\n' || epoch > EPOCH_MAX) {
        return GFS_ERR_CORRUPT;
    }
    *ret_epoch = (uint32_t)epoch;
    return GFS_OK;
}

static enum gfs_err sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return GFS_ERR_IO;
    }
    int failed = fsync(fd);
    close(fd);
    return failed ? GFS_ERR_IO : GFS_OK;
}

static enum gfs_err write_epoch(const char *dir, const char *path, uint32_t epoch)
{
    char temporary[PATH_BYTES + 8];
    snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        return GFS_ERR_IO;
    }
    char text[32];
    int len = snprintf(text, sizeof(text), "%u\n", epoch);
    bool failed = write(fd, text, (size_t)len) != len || fsync(fd) != 0;
    failed = close(fd) != 0 || failed;
    if (failed || rename(temporary, path) != 0) {
        return GFS_ERR_IO;
    }
    return sync_dir(dir);
}

enum gfs_err epoch_next(const char *dir, uint32_t least, uint32_t *ret_epoch)
{
    char path[PATH_BYTES];
    int len = snprintf(path, sizeof(path), "%s/EPOCH", dir);
    if (len < 0 || (size_t)len >= sizeof(path)) {
        return GFS_ERR_NAME_TOO_LONG;
    }
    uint32_t epoch = 0;
    enum gfs_err err = read_epoch(path, &epoch);
    if (err != GFS_OK) {
        return err;
    }
    epoch = epoch > least ? epoch : least;
    if (epoch >= EPOCH_MAX) {
        return GFS_ERR_TOO_LARGE;
    }
    err = write_epoch(dir, path, epoch + 1);
    if (err == GFS_OK) {
        *ret_epoch = epoch + 1;
    }
    return err;
}
