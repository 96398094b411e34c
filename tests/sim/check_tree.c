/* Promise: the namespace is what its journal says: loaded anew it is the same. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "master/image.h"
#include "master/namespace.h"
#include "master/opwindow.h"
#include "master/service_op.h"
#include "tests/sim/check.h"

#define TREE_PATH_BYTES 256u

static void check_same_chunks(struct namespace *one, const struct inode *a, struct namespace *other,
                              const struct inode *b, uint32_t count, const char *path)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct chunk *x = ns_chunk_at(one, a, i), *y = ns_chunk_at(other, b, i);

        if (!x != !y || (x && (x->handle != y->handle || x->version != y->version ||
                               x->length_bytes != y->length_bytes || x->goal != y->goal ||
                               x->references != y->references || x->cuts != y->cuts ||
                               ns_chunk_family(one, x) != ns_chunk_family(other, y))))
            sim_fail("chunk %u of %s is not what the journal says", i, path);
    }
}

static void check_same_inode(struct namespace *one, struct inode *a, struct namespace *other,
                             struct inode *b, const char *path)
{
    struct inode_attr x, y;

    ns_attr(one, a, &x);
    ns_attr(other, b, &y);
    if (x.inode != y.inode || x.type != y.type || x.length_bytes != y.length_bytes ||
        x.goal != y.goal || x.chunk_size_bytes != y.chunk_size_bytes || x.mtime_ms != y.mtime_ms ||
        x.ctime_ms != y.ctime_ms || x.mode != y.mode || x.chunk_count != y.chunk_count ||
        x.entry_count != y.entry_count)
        sim_fail("%s is not what the journal says", path);
    check_same_chunks(one, a, other, b, x.chunk_count, path);
}

static void check_same_directory(struct namespace *one, struct inode *a, struct namespace *other,
                                 struct inode *b, const char *path)
{
    struct ns_entry x, y;
    char name[TREE_PATH_BYTES] = "", below[TREE_PATH_BYTES];
    struct inode_attr attr;
    size_t count, other_count;
    bool more = true, other_more;

    check_same_inode(one, a, other, b, path);
    while (more) {
        size_t after = strlen(name);

        if (ns_list(one, a, name, after, &x, 1, &count, &more) != GFS_OK ||
            ns_list(other, b, name, after, &y, 1, &other_count, &other_more) != GFS_OK ||
            count != other_count || more != other_more)
            sim_fail("the journal has other names than the namespace, in %s behind %s", path, name);
        if (count == 0)
            break;
        if (x.name.len_bytes != y.name.len_bytes ||
            memcmp(x.name.data, y.name.data, x.name.len_bytes) != 0)
            sim_fail("the journal has other names than the namespace, in %s behind %s", path, name);
        snprintf(name, sizeof(name), "%.*s", (int)x.name.len_bytes, (const char *)x.name.data);
        snprintf(below, sizeof(below), "%.120s/%.120s", path, name);
        ns_attr(one, x.inode, &attr);
        if (attr.type == INODE_DIR)
            check_same_directory(one, x.inode, other, y.inode, below);
        else
            check_same_inode(one, x.inode, other, y.inode, below);
    }
}

void check_same_tree(struct namespace *one, struct namespace *other)
{
    struct inode *a, *b;

    if (ns_lookup(one, "/", 1, &a) != GFS_OK || ns_lookup(other, "/", 1, &b) != GFS_OK)
        sim_fail("there is no root");
    check_same_directory(one, a, other, b, "");
}

void check_namespace(void)
{
    struct namespace *ns = sim_namespace_of(sim_master()), *loaded;
    struct ns_options options = {.seed = 1,
                                 .goal_default = sim_service_of(sim_master())->parts.options->goal,
                                 .chunk_size_bytes = 1u << 20};
    struct opwindow *window;
    char detail[IMAGE_DETAIL_BYTES] = "";
    struct ns_counters a, b;
    enum gfs_err err = ns_new(&options, &loaded);

    assert(err == GFS_OK);
    err = opwindow_new(1, &window);
    assert(err == GFS_OK);
    err = image_load(sim_kv_of(sim_master()), loaded, window, sim->now_us / SIM_MS, detail, NULL);
    if (err != GFS_OK)
        sim_fail("the journal cannot be loaded: %s %s", gfs_err_name(err), detail);
    ns_counters(ns, &a);
    ns_counters(loaded, &b);
    if (a.files != b.files || a.directories != b.directories || a.chunks != b.chunks ||
        a.length_bytes != b.length_bytes || a.anonymous != b.anonymous)
        sim_fail("the journal counts other files, chunks or bytes than the namespace");
    check_same_tree(ns, loaded);
}
