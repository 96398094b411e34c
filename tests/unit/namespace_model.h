/* A flat map of paths that a namespace is checked against. For one test program to include. */
#ifndef TESTS_UNIT_NAMESPACE_MODEL_H
#define TESTS_UNIT_NAMESPACE_MODEL_H

#include "namespace_fixture.h"

#define MODEL_MAX  4096u
#define TOKENS     3u /* of a file's first chunks */
#define PATH_BYTES 512u

struct model_node {
    char path[PATH_BYTES]; /* "" is the root */
    bool is_dir;
    uint32_t goal;
    uint64_t length_bytes;
    uint32_t tokens[TOKENS]; /* what was written last; 0: a hole */
};

struct model {
    struct model_node nodes[MODEL_MAX];
    size_t count;
};

static struct model_node *model_find(struct model *model, const char *path)
{
    for (size_t i = 0; i < model->count; i++) {
        if (strcmp(model->nodes[i].path, path) == 0) {
            return &model->nodes[i];
        }
    }
    return NULL;
}

static struct model_node *model_parent(struct model *model, const char *path)
{
    char parent[PATH_BYTES];
    strcpy(parent, path);
    *strrchr(parent, '/') = '\0';
    return model_find(model, parent);
}

/* OK when the parent is a directory. */
static enum gfs_err model_resolve(struct model *model, const char *path)
{
    char prefix[PATH_BYTES];
    for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        memcpy(prefix, path, (size_t)(slash - path));
        prefix[slash - path] = '\0';
        const struct model_node *node = model_find(model, prefix);
        if (node == NULL) {
            return GFS_ERR_NOT_FOUND;
        }
        if (!node->is_dir) {
            return GFS_ERR_NOT_DIR;
        }
    }
    return GFS_OK;
}

static enum gfs_err model_lookup(struct model *model, const char *path)
{
    enum gfs_err err = model_resolve(model, path);
    return err == GFS_OK && model_find(model, path) == NULL ? GFS_ERR_NOT_FOUND : err;
}

static bool model_below(const struct model_node *node, const char *path)
{
    size_t len = strlen(path);
    return strncmp(node->path, path, len) == 0 && node->path[len] == '/';
}

static size_t model_children(struct model *model, const char *path)
{
    size_t count = 0;
    for (size_t i = 0; i < model->count; i++) {
        count += model_below(&model->nodes[i], path);
    }
    return count;
}

static void model_add(struct model *model, const char *path, bool is_dir)
{
    assert_true(model->count < MODEL_MAX);
    struct model_node *node = &model->nodes[model->count];
    *node = (struct model_node){.is_dir = is_dir};
    strcpy(node->path, path);
    node->goal = path[0] == '\0' ? GFS_GOAL_DEFAULT : model_parent(model, path)->goal;
    model->count++;
}

static void model_remove(struct model *model, const char *path)
{
    for (size_t i = 0; i < model->count;) {
        if (strcmp(model->nodes[i].path, path) == 0 || model_below(&model->nodes[i], path)) {
            model->nodes[i] = model->nodes[--model->count];
        } else {
            i++;
        }
    }
}

/* May `from` be renamed to `to`? */
static enum gfs_err model_rename_check(struct model *model, const char *from, const char *to,
                                       bool no_replace)
{
    enum gfs_err want = model_lookup(model, from);
    want = want == GFS_OK ? model_resolve(model, to) : want;
    if (want != GFS_OK) {
        return want;
    }
    size_t len = strlen(from);
    if (strncmp(to, from, len) == 0 && to[len] == '/') {
        return GFS_ERR_LOOP;
    }
    const struct model_node *node = model_find(model, from);
    const struct model_node *there = model_find(model, to);
    if (there == NULL) {
        return GFS_OK;
    }
    if (no_replace) {
        return GFS_ERR_EXISTS;
    }
    if (there == node) {
        return GFS_OK;
    }
    if (there->is_dir != node->is_dir) {
        return there->is_dir ? GFS_ERR_IS_DIR : GFS_ERR_NOT_DIR;
    }
    return model_children(model, to) > 0 ? GFS_ERR_NOT_EMPTY : GFS_OK;
}

#endif
