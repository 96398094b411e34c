/*
 * path: walks over absolute byte paths. Floor 5, pure.
 *
 * Accepted: "/" and "/a/b". Repeated slashes and a trailing slash are ignored ("/a//b/" is
 * "/a/b"), as people expect of POSIX. Refused: empty or relative paths, "." and ".." components,
 * NUL bytes (BAD_PATH); components over 255 or paths over 4096 bytes (NAME_TOO_LONG).
 */
#ifndef MASTER_PATH_H
#define MASTER_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

struct path_name {
    const uint8_t *data; /* into the path; not NUL-terminated */
    uint32_t len_bytes;  /* 1..255 */
};

/* A checked path and where the walk stands. The bytes are borrowed. */
struct path {
    const uint8_t *data;
    size_t len_bytes;
    size_t at;
    uint32_t depth;        /* components in all; 0 is the root */
    struct path_name last; /* the last component; empty for the root */
};

enum gfs_err path_init(struct path *ret_path, const void *data, size_t len_bytes) GFS_MUST_CHECK;
/* The next component; false after the last. */
bool path_next(struct path *path, struct path_name *ret_name);
/* Like memcmp, a shorter name before the longer one it begins. */
int path_name_compare(const struct path_name *a, const struct path_name *b);

#endif
