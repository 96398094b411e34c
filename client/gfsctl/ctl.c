#include "ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "out.h"

/* Control bytes out of a path or a peer's text must not reach the terminal, nor break the line. */
static void ctl_print_line(const struct ctl_command *command, const char *text, const char *hint)
{
    char *clean = out_escape(text, true);
    fprintf(stderr, "gfsctl: %s%s%s%s%s\n", command ? command->name : "", command ? ": " : "",
            clean, hint ? "; " : "", hint ? hint : "");
    free(clean);
}

enum ctl_exit ctl_fail(const struct ctl *ctl, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int len = vasprintf(&text, fmt, args);
    va_end(args);
    ctl_print_line(ctl->command, len < 0 ? "out of memory" : text, NULL);
    if (len >= 0)
        free(text);
    return CTL_FAILED;
}

enum ctl_exit ctl_usage(const struct ctl *ctl, const char *fmt, ...)
{
    char text[512];
    char hint[64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(hint, sizeof hint, "see gfsctl %s%s--help", ctl->command ? ctl->command->name : "",
             ctl->command ? " " : "");
    ctl_print_line(ctl->command, text, hint);
    return CTL_USAGE;
}

static const char *ctl_hint(enum gfs_err err)
{
    switch (err) {
    case GFS_ERR_NOT_FOUND:
        return "check the name with gfsctl ls";
    case GFS_ERR_EXISTS:
        return "choose another name or remove it first";
    case GFS_ERR_NOT_DIR:
    case GFS_ERR_BAD_PATH:
    case GFS_ERR_NAME_TOO_LONG:
    case GFS_ERR_INVAL:
        return "correct it and try again";
    case GFS_ERR_IS_DIR:
        return "name a file";
    case GFS_ERR_PERM:
    case GFS_ERR_LOOP:
        return "choose another path";
    case GFS_ERR_NOT_EMPTY:
        return "empty it first, or use gfsctl rm -r";
    case GFS_ERR_CONN:
    case GFS_ERR_STARTING:
    case GFS_ERR_STOPPING:
        return "check that gfs-master runs, and --master or $GFS_MASTER";
    case GFS_ERR_TIMEOUT:
    case GFS_ERR_BUSY:
        return "try again, or allow more with --timeout";
    case GFS_ERR_NO_SERVERS:
    case GFS_ERR_NO_SPACE:
    case GFS_ERR_READ_ONLY:
        return "see gfsctl df and gfsctl servers, and add or free space";
    case GFS_ERR_NO_REPLICA:
    case GFS_ERR_REPLICA_FAILED:
    case GFS_ERR_CORRUPT:
    case GFS_ERR_SHORT:
    case GFS_ERR_IO:
        return "see gfsctl stat and gfsctl servers, and bring back a server that holds it";
    case GFS_ERR_BAD_RECORD:
        return "without --records its bytes are shown as they are";
    case GFS_ERR_TOO_LARGE:
        return "make it smaller";
    case GFS_ERR_UNSETTLED:
        return "it is being written; try again";
    case GFS_ERR_STALE_HANDLE:
        return "it was removed meanwhile; start over";
    case GFS_ERR_VERSION:
    case GFS_ERR_PROTO:
        return "check that client and servers are of one release";
    default:
        return "see the daemons' logs";
    }
}

enum ctl_exit ctl_fail_gfs(const struct ctl *ctl, enum gfs_err err, const char *hint)
{
    const char *text = gfs_last_error();
    /* libgfs knows more at times, and has said what to do behind a semicolon. */
    if (!hint && !strstr(text, "; "))
        hint = ctl_hint(err);
    ctl_print_line(NULL, text, hint); /* the text names the call */
    return CTL_FAILED;
}

void *ctl_alloc(size_t size_bytes)
{
    void *memory = malloc(size_bytes);
    if (!memory) {
        fputs("gfsctl: out of memory\n", stderr);
        exit(CTL_FAILED);
    }
    return memory;
}

const char *ctl_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *ctl_join(const char *dir, const char *name)
{
    size_t dir_len = strlen(dir);
    while (dir_len && dir[dir_len - 1] == '/')
        dir_len--;
    size_t name_len = strlen(name);
    char *path = ctl_alloc(dir_len + name_len + 2);
    memcpy(path, dir, dir_len);
    path[dir_len] = '/';
    memcpy(path + dir_len + 1, name, name_len + 1);
    return path;
}

/* Without the slashes at its end; "/" stays. */
static char *ctl_strip(const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    char *stripped = ctl_alloc(len + 1);
    memcpy(stripped, path, len);
    stripped[len] = 0;
    return stripped;
}

enum ctl_exit ctl_target(const struct ctl *ctl, const char *path, const char *name,
                         char **ret_target, struct gfs_attr *ret_attr)
{
    struct gfs_attr attr = {0};
    char *target = ctl_strip(path);
    bool must_be_dir = strlen(target) != strlen(path);
    enum gfs_err err = gfs_stat(ctl->fs, target, &attr);
    if (err == GFS_OK && attr.type == GFS_TYPE_DIR) {
        if (!*name) {
            ctl_fail(ctl, "%s: is a directory; name the file in it", target);
            free(target);
            return CTL_FAILED;
        }
        char *inside = ctl_join(target, name);
        free(target);
        target = inside;
        memset(&attr, 0, sizeof attr);
        err = gfs_stat(ctl->fs, target, &attr);
    } else if (must_be_dir && (err == GFS_OK || err == GFS_ERR_NOT_FOUND)) {
        ctl_fail(ctl, "%s: %s; make it with gfsctl mkdir, or leave out the slash", path,
                 err == GFS_OK ? "not a directory" : "no such directory");
        free(target);
        return CTL_FAILED;
    }
    if (err != GFS_OK && err != GFS_ERR_NOT_FOUND) {
        free(target);
        return ctl_fail_gfs(ctl, err, NULL);
    }
    *ret_target = target;
    *ret_attr = attr;
    return CTL_OK;
}
