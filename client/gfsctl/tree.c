/* tree: tree and du, the two walks that need a whole subtree, depth first. The depth is bounded by
 * the longest path. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"
#include "groups.h"
#include "out.h"

#define TREE_DEPTH_MAX (GFS_PATH_MAX_BYTES / 2)

struct tree_sum {
    uint64_t size_bytes;
    uint64_t stored_bytes; /* size times goal */
    uint64_t files;
    uint64_t directories;
};

struct tree_walk {
    const struct ctl *ctl;
    unsigned depth;
    bool last[TREE_DEPTH_MAX]; /* by depth: the entry was its directory's last */
    struct tree_sum sum;
};

static void tree_count(struct tree_walk *walk, const struct gfs_attr *attr)
{
    if (attr->type == GFS_TYPE_DIR) {
        walk->sum.directories++;
        return;
    }
    walk->sum.files++;
    walk->sum.size_bytes += attr->size_bytes;
    walk->sum.stored_bytes += attr->size_bytes * attr->goal;
}

static cJSON *tree_json_node(const char *name, const struct gfs_attr *attr)
{
    cJSON *node = out_object();
    out_add_text(node, "name", name);
    out_add(node, "type", cJSON_CreateString(out_type(attr->type)));
    out_add_u64(node, "size", attr->size_bytes);
    if (attr->type == GFS_TYPE_DIR)
        out_add(node, "children", out_array());
    return node;
}

static void tree_draw(const struct tree_walk *walk, const char *name)
{
    for (unsigned i = 0; i + 1 < walk->depth; i++)
        fputs(walk->last[i] ? "    " : "│   ", stdout);
    if (walk->depth)
        fputs(walk->last[walk->depth - 1] ? "└── " : "├── ", stdout);
    out_name(walk->ctl, name);
    putchar('\n');
}

static enum ctl_exit tree_visit(struct tree_walk *walk, const char *dir_path, cJSON *children);

/* An entry, whose name and path are the caller's, and all below it. children NULL: draw it. */
static enum ctl_exit tree_entry(struct tree_walk *walk, const char *dir_path, const char *name,
                                const struct gfs_attr *attr, cJSON *children)
{
    cJSON *node = NULL;
    tree_count(walk, attr);
    if (children) {
        node = tree_json_node(name, attr);
        out_append(children, node);
    } else {
        tree_draw(walk, name);
    }
    if (attr->type != GFS_TYPE_DIR)
        return CTL_OK;
    char *path = ctl_join(dir_path, name);
    enum ctl_exit result =
        tree_visit(walk, path, node ? cJSON_GetObjectItem(node, "children") : NULL);
    free(path);
    return result;
}

/* One entry is held back, since the last of a directory is drawn otherwise. */
static enum ctl_exit tree_visit(struct tree_walk *walk, const char *dir_path, cJSON *children)
{
    struct gfs_dir *dir;
    struct gfs_dirent entry;
    struct gfs_attr held_attr;
    char *held = NULL;
    enum ctl_exit result = CTL_OK;
    enum gfs_err err = gfs_opendir(walk->ctl->fs, dir_path, &dir);
    if (err != GFS_OK)
        return ctl_fail_gfs(walk->ctl, err, NULL);
    if (walk->depth + 1 >= TREE_DEPTH_MAX) {
        gfs_closedir(dir);
        return ctl_fail(walk->ctl, "%s: too deep", dir_path);
    }
    walk->depth++;
    for (bool more = true; more && result == CTL_OK && !ferror(stdout);) {
        err = gfs_readdir(dir, &entry);
        more = err == GFS_OK;
        if (!more && err != GFS_ERR_NOT_FOUND) {
            result = ctl_fail_gfs(walk->ctl, err, NULL);
            break;
        }
        walk->last[walk->depth - 1] = !more;
        if (held)
            result = tree_entry(walk, dir_path, held, &held_attr, children);
        free(held);
        held = more ? out_escape(entry.name, false) : NULL;
        if (more)
            held_attr = entry.attr;
    }
    walk->depth--;
    free(held);
    gfs_closedir(dir);
    return result;
}

enum ctl_exit tree_tree(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    struct tree_walk walk = {.ctl = ctl};
    struct gfs_attr attr;
    enum ctl_exit result = CTL_OK;
    enum gfs_err err = gfs_stat(ctl->fs, path, &attr);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (ctl->json) {
        cJSON *root = tree_json_node(path, &attr);
        if (attr.type == GFS_TYPE_DIR)
            result = tree_visit(&walk, path, cJSON_GetObjectItem(root, "children"));
        if (result == CTL_OK)
            out_json(root);
        else
            cJSON_Delete(root);
        return result;
    }
    tree_draw(&walk, path);
    if (attr.type != GFS_TYPE_DIR)
        return CTL_OK;
    result = tree_visit(&walk, path, NULL);
    if (result == CTL_OK)
        printf("\n%" PRIu64 " director%s, %" PRIu64 " file%s\n", walk.sum.directories,
               walk.sum.directories == 1 ? "y" : "ies", walk.sum.files,
               walk.sum.files == 1 ? "" : "s");
    return result;
}

/* Adds up a subtree; only the walk is shared with tree. */
static enum ctl_exit tree_sum(struct tree_walk *walk, const char *dir_path)
{
    struct gfs_dir *dir;
    struct gfs_dirent entry;
    enum ctl_exit result = CTL_OK;
    enum gfs_err err = gfs_opendir(walk->ctl->fs, dir_path, &dir);
    if (err != GFS_OK)
        return ctl_fail_gfs(walk->ctl, err, NULL);
    while (result == CTL_OK && (err = gfs_readdir(dir, &entry)) == GFS_OK) {
        tree_count(walk, &entry.attr);
        if (entry.attr.type != GFS_TYPE_DIR)
            continue;
        char *path = ctl_join(dir_path, entry.name);
        result = tree_sum(walk, path);
        free(path);
    }
    if (result == CTL_OK && err != GFS_ERR_NOT_FOUND)
        result = ctl_fail_gfs(walk->ctl, err, NULL);
    gfs_closedir(dir);
    return result;
}

enum ctl_exit tree_du(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    struct tree_walk walk = {.ctl = ctl};
    struct gfs_attr attr;
    enum gfs_err err = gfs_stat(ctl->fs, path, &attr);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    tree_count(&walk, &attr);
    if (attr.type == GFS_TYPE_DIR) {
        enum ctl_exit result = tree_sum(&walk, path);
        if (result != CTL_OK)
            return result;
    }
    const struct tree_sum *sum = &walk.sum;
    if (ctl->json) {
        cJSON *object = out_object();
        out_add_text(object, "path", path);
        out_add_u64(object, "size", sum->size_bytes);
        out_add_u64(object, "stored", sum->stored_bytes);
        out_add_u64(object, "files", sum->files);
        out_add_u64(object, "directories", sum->directories);
        out_json(object);
        return CTL_OK;
    }
    char size[OUT_SIZE_TEXT_BYTES], stored[OUT_SIZE_TEXT_BYTES];
    out_size(sum->size_bytes, size);
    out_size(sum->stored_bytes, stored);
    printf("%s in %" PRIu64 " files and %" PRIu64 " directories, %s with all replicas\t", size,
           sum->files, sum->directories, stored);
    out_name(ctl, path);
    putchar('\n');
    return CTL_OK;
}
