#include "master/entries.h"

#include <assert.h>
#include <string.h>

/* A treap of 2^31 entries is deeper than this with a chance far below that of a broken machine. */
#define ENTRIES_DEPTH_MAX 512u

static uint64_t entries_hash(const struct namespace *ns, uint32_t parent,
                             const struct path_name *name)
{
    uint64_t seed = ns->options.seed ^ (parent * 0x9e3779b97f4a7c15u);
    return index_hash_bytes(seed, name->data, name->len_bytes);
}

uint32_t entries_name_class(uint32_t name_bytes)
{
    return (name_bytes - 1) / 8;
}

struct path_name entries_name(const struct namespace *ns, const struct inode *inode)
{
    if (inode->parent == 0) {
        return (struct path_name){0};
    }
    uint32_t class = entries_name_class(inode->name_bytes);
    return (struct path_name){slab_at(&ns->names[class], inode->name), inode->name_bytes};
}

uint64_t entries_hash_item(const void *arg, const void *item)
{
    const struct namespace *ns = arg;
    const struct inode *inode = item;
    struct path_name name = entries_name(ns, inode);
    return entries_hash(ns, inode->parent, &name);
}

static uint64_t entries_priority(const struct namespace *ns, const struct inode *inode)
{
    return index_mix(inode->id ^ ns->options.seed);
}

static int entries_compare(const struct namespace *ns, const struct path_name *name,
                           const struct inode *inode)
{
    struct path_name other = entries_name(ns, inode);
    return path_name_compare(name, &other);
}

struct inode *entries_find(const struct namespace *ns, const struct inode *dir,
                           const struct path_name *name)
{
    uint32_t parent = inode_ref(ns, dir);
    uint32_t ref = index_first(&ns->by_name, entries_hash(ns, parent, name));
    for (; ref != 0; ref = index_next(&ns->by_name, ref)) {
        struct inode *inode = inode_at(ns, ref);
        if (inode->parent == parent && inode->name_bytes == name->len_bytes &&
            memcmp(entries_name(ns, inode).data, name->data, name->len_bytes) == 0) {
            return inode;
        }
    }
    return NULL;
}

enum gfs_err entries_reserve(struct namespace *ns, uint32_t name_bytes, uint32_t count)
{
    enum gfs_err err = slab_reserve(&ns->names[entries_name_class(name_bytes)], count);
    return err == GFS_OK ? index_reserve(&ns->by_name, count) : err;
}

/* Splits the tree at `ref` into names below and above `name`. */
static void entries_split(struct namespace *ns, uint32_t ref, const struct path_name *name,
                          uint32_t *below, uint32_t *above)
{
    while (ref != 0) {
        struct inode *inode = inode_at(ns, ref);
        if (entries_compare(ns, name, inode) > 0) {
            *below = ref;
            below = &inode->right;
            ref = inode->right;
        } else {
            *above = ref;
            above = &inode->left;
            ref = inode->left;
        }
    }
    *below = 0;
    *above = 0;
}

/* Joins two trees, all of `below` before all of `above`. */
static void entries_join(struct namespace *ns, uint32_t below, uint32_t above, uint32_t *link)
{
    while (below != 0 && above != 0) {
        struct inode *low = inode_at(ns, below);
        struct inode *high = inode_at(ns, above);
        if (entries_priority(ns, low) > entries_priority(ns, high)) {
            *link = below;
            link = &low->right;
            below = low->right;
        } else {
            *link = above;
            link = &high->left;
            above = high->left;
        }
    }
    *link = below != 0 ? below : above;
}

void entries_insert(struct namespace *ns, struct inode *dir, const struct path_name *name,
                    struct inode *inode)
{
    assert(inode->parent == 0);
    struct slab *names = &ns->names[entries_name_class(name->len_bytes)];
    uint32_t ref = inode_ref(ns, inode);
    uint32_t name_ref = slab_alloc(names);
    memcpy(slab_at(names, name_ref), name->data, name->len_bytes);
    inode->name = name_ref;
    inode->name_bytes = name->len_bytes;
    inode->parent = inode_ref(ns, dir);
    index_insert(&ns->by_name, entries_hash(ns, inode->parent, name), ref);

    uint64_t priority = entries_priority(ns, inode);
    uint32_t *link = &dir->first;
    while (*link != 0) {
        struct inode *at = inode_at(ns, *link);
        if (entries_priority(ns, at) < priority) {
            break;
        }
        link = entries_compare(ns, name, at) < 0 ? &at->left : &at->right;
    }
    uint32_t below;
    uint32_t above;
    entries_split(ns, *link, name, &below, &above);
    inode->left = below;
    inode->right = above;
    *link = ref;
    dir->count++;
}

void entries_remove(struct namespace *ns, struct inode *inode)
{
    struct path_name name = entries_name(ns, inode);
    struct inode *dir = inode_at(ns, inode->parent);
    uint32_t ref = inode_ref(ns, inode);
    uint32_t *link = &dir->first;
    while (*link != ref) {
        assert(*link != 0);
        struct inode *at = inode_at(ns, *link);
        link = entries_compare(ns, &name, at) < 0 ? &at->left : &at->right;
    }
    entries_join(ns, inode->left, inode->right, link);
    index_remove(&ns->by_name, entries_hash(ns, inode->parent, &name), ref);
    slab_free(&ns->names[entries_name_class(inode->name_bytes)], inode->name);
    inode->left = inode->right = 0;
    inode->name = inode->name_next = 0;
    inode->name_bytes = 0;
    inode->parent = 0;
    dir->count--;
}

size_t entries_list(const struct namespace *ns, const struct inode *dir,
                    const struct path_name *after, struct inode **ret_inodes, size_t max)
{
    /* Entries that are still to be given out, each before its right subtree. */
    uint32_t stack[ENTRIES_DEPTH_MAX];
    uint32_t depth = 0;
    size_t count = 0;
    for (uint32_t ref = dir->first; ref != 0;) {
        const struct inode *at = inode_at(ns, ref);
        if (after != NULL && entries_compare(ns, after, at) >= 0) {
            ref = at->right;
        } else {
            assert(depth < ENTRIES_DEPTH_MAX);
            stack[depth++] = ref;
            ref = at->left;
        }
    }
    while (depth > 0 && count < max) {
        struct inode *at = inode_at(ns, stack[--depth]);
        ret_inodes[count++] = at;
        for (uint32_t ref = at->right; ref != 0; ref = inode_at(ns, ref)->left) {
            assert(depth < ENTRIES_DEPTH_MAX);
            stack[depth++] = ref;
        }
    }
    return count;
}

struct inode *entries_any(const struct namespace *ns, const struct inode *dir)
{
    return inode_at(ns, dir->first);
}
