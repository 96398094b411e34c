#include "master/path.h"

#include <string.h>

#include "gfs_limits.h"

bool path_next(struct path *path, struct path_name *ret_name)
{
    size_t at = path->at;
    while (at < path->len_bytes && path->data[at] == '/') {
        at++;
    }
    if (at == path->len_bytes) {
        path->at = at;
        return false;
    }
    const uint8_t *end = memchr(path->data + at, '/', path->len_bytes - at);
    size_t stop = end != NULL ? (size_t)(end - path->data) : path->len_bytes;
    *ret_name = (struct path_name){path->data + at, (uint32_t)(stop - at)};
    path->at = stop;
    return true;
}

static bool path_name_is_dots(const struct path_name *name)
{
    return name->data[0] == '.' &&
           (name->len_bytes == 1 || (name->len_bytes == 2 && name->data[1] == '.'));
}

enum gfs_err path_init(struct path *ret_path, const void *data, size_t len_bytes)
{
    struct path path = {.data = data, .len_bytes = len_bytes};
    if (len_bytes > GFS_PATH_MAX_BYTES) {
        return GFS_ERR_NAME_TOO_LONG;
    }
    if (len_bytes == 0 || path.data[0] != '/' || memchr(data, 0, len_bytes) != NULL) {
        return GFS_ERR_BAD_PATH;
    }
    struct path_name name;
    while (path_next(&path, &name)) {
        if (name.len_bytes > GFS_NAME_MAX_BYTES) {
            return GFS_ERR_NAME_TOO_LONG;
        }
        if (path_name_is_dots(&name)) {
            return GFS_ERR_BAD_PATH;
        }
        path.depth++;
        path.last = name;
    }
    path.at = 0;
    *ret_path = path;
    return GFS_OK;
}

int path_name_compare(const struct path_name *a, const struct path_name *b)
{
    uint32_t common = a->len_bytes < b->len_bytes ? a->len_bytes : b->len_bytes;
    int order = common > 0 ? memcmp(a->data, b->data, common) : 0;
    if (order != 0) {
        return order;
    }
    return a->len_bytes < b->len_bytes ? -1 : a->len_bytes > b->len_bytes;
}
