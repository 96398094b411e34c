/* daemon: the data directory's lock and stamp, and readiness. */
#include "daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define DAEMON_DETAIL_BYTES 256
#define DAEMON_STAMP_BYTES  1024
#define DAEMON_PATH_BYTES   (4096 + 16)
#define DAEMON_LOCK_NAME    "LOCK"
#define DAEMON_STAMP_NAME   "STAMP"
#define DAEMON_STAMP_TMP    "STAMP.tmp"

static enum gfs_err daemon_fail(enum gfs_err err, const char *what, const char *path,
                                char *ret_detail)
{
    snprintf(ret_detail, DAEMON_DETAIL_BYTES, "%s %.150s: %s", what, path, strerror(errno));
    return err;
}

static void daemon_path(const struct daemon_dir *dir, const char *name, char *ret_path)
{
    snprintf(ret_path, DAEMON_PATH_BYTES, "%s/%s", dir->path, name);
}

static int daemon_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : fsync(fd);

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Makes the directory; its entry in the parent is durable when this returns. */
static enum gfs_err daemon_make_dir(const char *path, char *ret_detail)
{
    char parent[4096];
    char *slash;
    struct stat st;

    if (mkdir(path, 0750) < 0) {
        if (errno != EEXIST || stat(path, &st) < 0)
            return daemon_fail(GFS_ERR_LOCAL, "cannot make directory", path, ret_detail);
        if (!S_ISDIR(st.st_mode)) {
            errno = ENOTDIR;
            return daemon_fail(GFS_ERR_LOCAL, "cannot use", path, ret_detail);
        }
        return GFS_OK;
    }
    snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash == parent)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    if (daemon_sync_dir(slash ? parent : ".") < 0)
        return daemon_fail(GFS_ERR_LOCAL, "cannot sync the directory above", path, ret_detail);
    return GFS_OK;
}

/* Whether the directory holds anything but what we, or mkfs, put into a fresh one. */
static bool daemon_is_foreign(const char *path)
{
    static const char *const ours[] = {
        ".", "..", "lost+found", DAEMON_LOCK_NAME, DAEMON_STAMP_NAME, DAEMON_STAMP_TMP};
    DIR *entries = opendir(path);
    const struct dirent *entry;
    bool foreign = false;

    if (!entries)
        return true;
    while (!foreign && (entry = readdir(entries))) {
        foreign = true;
        for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
            if (strcmp(entry->d_name, ours[i]) == 0)
                foreign = false;
    }
    closedir(entries);
    return foreign;
}

static enum gfs_err daemon_lock(struct daemon_dir *dir, char *ret_detail)
{
    char path[DAEMON_PATH_BYTES], pid[16] = "";
    ssize_t len;

    daemon_path(dir, DAEMON_LOCK_NAME, path);
    dir->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (dir->lock_fd < 0)
        return daemon_fail(GFS_ERR_LOCAL, "cannot open", path, ret_detail);
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return daemon_fail(GFS_ERR_LOCAL, "cannot lock", path, ret_detail);
        len = pread(dir->lock_fd, pid, sizeof(pid) - 1, 0);
        pid[len > 0 ? (size_t)len : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        snprintf(ret_detail, DAEMON_DETAIL_BYTES,
                 "data directory %.150s is in use by another process (pid %s)", dir->path,
                 pid[0] ? pid : "unknown");
        return GFS_ERR_LOCKED;
    }
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid()); /* for people only: failing is no matter */
    if (ftruncate(dir->lock_fd, 0) == 0) {
        len = pwrite(dir->lock_fd, pid, strlen(pid), 0);
        (void)len;
    }
    return GFS_OK;
}

/* One line "key=value" of the stamp, cut out of it. */
static bool daemon_stamp_get(const char *stamp, const char *key, char *ret_value,
                             size_t value_bytes)
{
    size_t key_len = strlen(key);

    for (const char *line = stamp; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, key_len) == 0 && line[key_len] == '=') {
            size_t len = strcspn(line + key_len + 1, "\n");

            if (len >= value_bytes)
                return false;
            memcpy(ret_value, line + key_len + 1, len);
            ret_value[len] = '\0';
            return true;
        }
    }
    return false;
}

static enum gfs_err daemon_parse_stamp(struct daemon_dir *dir, const char *stamp, const char *role,
                                       char *ret_detail)
{
    char value[64], want[16];

    snprintf(want, sizeof(want), "%u", DAEMON_FORMAT_VERSION);
    if (!daemon_stamp_get(stamp, "format", value, sizeof(value)) || strcmp(value, want) != 0) {
        snprintf(ret_detail, DAEMON_DETAIL_BYTES,
                 "data directory %.150s has a format this program does not know (it knows %s)",
                 dir->path, want);
        return GFS_ERR_BAD_FORMAT;
    }
    if (!daemon_stamp_get(stamp, "role", value, sizeof(value)) || strcmp(value, role) != 0) {
        snprintf(ret_detail, DAEMON_DETAIL_BYTES,
                 "data directory %.150s belongs to another kind of server, not a %s", dir->path,
                 role);
        return GFS_ERR_BAD_FORMAT;
    }
    if (!daemon_stamp_get(stamp, "cluster", value, sizeof(value)) ||
        !uuid_parse(value, dir->cluster_id) ||
        !daemon_stamp_get(stamp, "server", value, sizeof(value)) ||
        !uuid_parse(value, dir->server_id)) {
        snprintf(ret_detail, DAEMON_DETAIL_BYTES, "data directory %.150s has a damaged stamp",
                 dir->path);
        return GFS_ERR_BAD_FORMAT;
    }
    dir->has_stamp = true;
    return GFS_OK;
}

static enum gfs_err daemon_read_stamp(struct daemon_dir *dir, const char *role, char *ret_detail)
{
    char path[DAEMON_PATH_BYTES], stamp[DAEMON_STAMP_BYTES];
    ssize_t len;
    int fd;

    daemon_path(dir, DAEMON_STAMP_NAME, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        uuid_make(dir->server_id);
        return GFS_OK;
    }
    if (fd < 0)
        return daemon_fail(GFS_ERR_LOCAL, "cannot open", path, ret_detail);
    len = read(fd, stamp, sizeof(stamp) - 1);
    close(fd);
    if (len < 0)
        return daemon_fail(GFS_ERR_LOCAL, "cannot read", path, ret_detail);
    stamp[len] = '\0';
    return daemon_parse_stamp(dir, stamp, role, ret_detail);
}

static bool daemon_has(const struct daemon_dir *dir, const char *name)
{
    char path[DAEMON_PATH_BYTES];

    daemon_path(dir, name, path);
    return access(path, F_OK) == 0;
}

static enum gfs_err daemon_check_fresh(const struct daemon_dir *dir, char *ret_detail)
{
    if (daemon_has(dir, DAEMON_STAMP_NAME) || !daemon_is_foreign(dir->path))
        return GFS_OK;
    snprintf(ret_detail, DAEMON_DETAIL_BYTES,
             "directory %.150s holds other files and no stamp: give an empty one", dir->path);
    return GFS_ERR_BAD_FORMAT;
}

enum gfs_err daemon_dir_open(struct daemon_dir *dir, const char *path, const char *role,
                             char *ret_detail)
{
    enum gfs_err err;

    memset(dir, 0, sizeof(*dir));
    dir->lock_fd = -1;
    if (path[0] == '\0' || strlen(path) >= sizeof(dir->path)) {
        snprintf(ret_detail, DAEMON_DETAIL_BYTES, "the data directory's path is empty or too long");
        return GFS_ERR_INVAL;
    }
    strcpy(dir->path, path);
    err = daemon_make_dir(path, ret_detail);
    if (!err)
        err = daemon_check_fresh(dir, ret_detail); /* before our LOCK lands among others' files */
    if (!err)
        err = daemon_lock(dir, ret_detail);
    if (!err)
        err = daemon_check_fresh(dir, ret_detail);
    if (!err)
        err = daemon_read_stamp(dir, role, ret_detail);
    if (err)
        daemon_dir_release(dir);
    return err;
}

static bool daemon_write_all(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t put = write(fd, text, len);

        if (put <= 0)
            return false;
        text += put;
        len -= (size_t)put;
    }
    return true;
}

enum gfs_err daemon_dir_stamp(struct daemon_dir *dir, const char *role)
{
    char path[DAEMON_PATH_BYTES], tmp[DAEMON_PATH_BYTES], stamp[DAEMON_STAMP_BYTES];
    char cluster[37], server[37];
    bool ok;
    int fd;

    uuid_format(dir->cluster_id, cluster);
    uuid_format(dir->server_id, server);
    snprintf(stamp, sizeof(stamp), "format=%u\nrole=%s\ncluster=%s\nserver=%s\n",
             DAEMON_FORMAT_VERSION, role, cluster, server);
    daemon_path(dir, DAEMON_STAMP_TMP, tmp);
    daemon_path(dir, DAEMON_STAMP_NAME, path);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return GFS_ERR_LOCAL;
    ok = daemon_write_all(fd, stamp) && fsync(fd) == 0;
    close(fd);
    if (!ok || rename(tmp, path) < 0 || daemon_sync_dir(dir->path) < 0) {
        unlink(tmp);
        return GFS_ERR_LOCAL;
    }
    dir->has_stamp = true;
    return GFS_OK;
}

void daemon_dir_release(struct daemon_dir *dir)
{
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    dir->lock_fd = -1;
}

static void mask_signals(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(how, &set, NULL);
}

void daemon_hold_signals(void)
{
    mask_signals(SIG_BLOCK);
}

void daemon_let_signals(void)
{
    mask_signals(SIG_UNBLOCK);
}

void daemon_ready(const char *addr)
{
    printf("listening on %s\n", addr);
    fflush(stdout);
    sd_notifyf(0, "READY=1\nSTATUS=serving on %s", addr);
}

void daemon_stopping(void)
{
    sd_notify(0, "STOPPING=1\nSTATUS=draining");
}
