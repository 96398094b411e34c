/* A namespace with its database in a temporary directory, for the tests of the master's state. */
#ifndef TESTS_UNIT_NAMESPACE_FIXTURE_H
#define TESTS_UNIT_NAMESPACE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kv.h"
#include "master/image.h"
#include "master/namespace.h"
#include "master/opwindow.h"

struct fixture {
    char path[64];
    struct kv *kv;
    struct namespace *ns;
    struct opwindow *window;
    struct changes changes;
    int64_t now_ms;
};

static inline void fixture_new_state(struct fixture *fx)
{
    struct ns_options options = {.seed = 12345};
    assert_int_equal(ns_new(&options, &fx->ns), GFS_OK);
    assert_int_equal(opwindow_new(12345, &fx->window), GFS_OK);
}

/* Writes the changes so far to the database. */
static inline void fixture_save(struct fixture *fx)
{
    struct kv_batch *batch = kv_batch_new();
    struct change change;
    size_t at = 0;
    while (changes_next(&fx->changes, &at, &change)) {
        if (change.put) {
            kv_batch_put(batch, change.key, change.key_bytes, change.value, change.value_bytes);
        } else {
            kv_batch_delete(batch, change.key, change.key_bytes);
        }
    }
    assert_int_equal(kv_write(fx->kv, batch, false), GFS_OK);
    kv_batch_free(batch);
    changes_clear(&fx->changes);
}

static inline void fixture_open(struct fixture *fx)
{
    *fx = (struct fixture){.now_ms = 1000000};
    strcpy(fx->path, "/tmp/gfs-namespace-XXXXXX");
    assert_non_null(mkdtemp(fx->path));
    struct kv_options options = {.create = true, .paranoid = true, .verify = true};
    assert_int_equal(kv_open(fx->path, &options, &fx->kv, NULL), GFS_OK);
    fixture_new_state(fx);
    changes_init(&fx->changes);
    uint8_t cluster_id[GFS_UUID_BYTES] = {1, 2, 3};
    assert_int_equal(ns_format(fx->ns, cluster_id, fx->now_ms, &fx->changes), GFS_OK);
    fixture_save(fx);
}

static inline void fixture_drop_state(struct fixture *fx)
{
    ns_free(fx->ns);
    opwindow_free(fx->window);
}

static inline void fixture_close(struct fixture *fx)
{
    fixture_drop_state(fx);
    changes_release(&fx->changes);
    kv_close(fx->kv);
    assert_int_equal(kv_destroy(fx->path, NULL), GFS_OK);
    rmdir(fx->path);
}

static inline enum gfs_err fixture_create(struct fixture *fx, const char *path, bool exclusive,
                                          bool anonymous, struct inode **ret_inode)
{
    struct ns_create_args args = {.path = path,
                                  .path_bytes = strlen(path),
                                  .chunk_size_bytes = GFS_CHUNK_SIZE_MIN_BYTES,
                                  .exclusive = exclusive,
                                  .anonymous = anonymous};
    bool created;
    return ns_create(fx->ns, &args, fx->now_ms, &fx->changes, ret_inode, &created);
}

static inline enum gfs_err fixture_mkdir(struct fixture *fx, const char *path, bool parents)
{
    struct ns_mkdir_args args = {.path = path, .path_bytes = strlen(path), .parents = parents};
    struct inode *inode;
    return ns_mkdir(fx->ns, &args, fx->now_ms, &fx->changes, &inode);
}

static inline enum gfs_err fixture_lookup(struct fixture *fx, const char *path,
                                          struct inode **ret_inode)
{
    return ns_lookup(fx->ns, path, strlen(path), ret_inode);
}

static inline enum gfs_err fixture_remove(struct fixture *fx, const char *path, bool directory,
                                          bool recursive)
{
    return ns_remove(fx->ns, path, strlen(path), directory, recursive, fx->now_ms, &fx->changes);
}

static inline enum gfs_err fixture_rename(struct fixture *fx, const char *from, const char *to,
                                          bool no_replace)
{
    return ns_rename(fx->ns, from, strlen(from), to, strlen(to), no_replace, fx->now_ms,
                     &fx->changes);
}

#endif
