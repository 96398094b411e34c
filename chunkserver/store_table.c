#include "store_table.h"

#include <stdlib.h>
#include <string.h>

#define STORE_LEAF_MAX 256

struct store_leaf {
    size_t count; /* never 0 while in the table */
    struct store_entry entries[STORE_LEAF_MAX];
};

void store_table_init(struct store_table *table)
{
    memset(table, 0, sizeof(*table));
}

void store_table_release(struct store_table *table)
{
    for (size_t i = 0; i < table->leaf_count; i++)
        free(table->leaves[i]);
    free(table->leaves);
    memset(table, 0, sizeof(*table));
}

/* The last leaf whose first handle is <= handle; 0 when there is none. */
static size_t leaf_for(const struct store_table *table, uint64_t handle)
{
    size_t low = 0;
    size_t high = table->leaf_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (table->leaves[middle]->entries[0].handle <= handle)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The first place in the leaf whose handle is >= handle. */
static size_t place_in(const struct store_leaf *leaf, uint64_t handle)
{
    size_t low = 0;
    size_t high = leaf->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (leaf->entries[middle].handle < handle)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct store_entry *store_table_at_least(const struct store_table *table, uint64_t from)
{
    if (table->leaf_count == 0)
        return NULL;
    size_t at = leaf_for(table, from);
    size_t place = place_in(table->leaves[at], from);
    if (place == table->leaves[at]->count) {
        if (++at == table->leaf_count)
            return NULL;
        place = 0;
    }
    return &table->leaves[at]->entries[place];
}

struct store_entry *store_table_find(const struct store_table *table, uint64_t handle)
{
    struct store_entry *entry = store_table_at_least(table, handle);
    return entry != NULL && entry->handle == handle ? entry : NULL;
}

static enum gfs_err leaf_insert(struct store_table *table, size_t at, struct store_leaf **ret_leaf)
{
    if (table->leaf_count == table->leaf_cap) {
        size_t cap = table->leaf_cap != 0 ? 2 * table->leaf_cap : 16;
        struct store_leaf **grown = realloc(table->leaves, cap * sizeof(*grown));
        if (grown == NULL)
            return GFS_ERR_NO_MEMORY;
        table->leaves = grown;
        table->leaf_cap = cap;
    }
    struct store_leaf *leaf = malloc(sizeof(*leaf));
    if (leaf == NULL)
        return GFS_ERR_NO_MEMORY;
    leaf->count = 0;
    memmove(&table->leaves[at + 1], &table->leaves[at],
            (table->leaf_count - at) * sizeof(*table->leaves));
    table->leaves[at] = leaf;
    table->leaf_count++;
    *ret_leaf = leaf;
    return GFS_OK;
}

/* Makes room in a full leaf. The caller looks its place up again. */
static enum gfs_err leaf_split(struct store_table *table, size_t at, uint64_t handle)
{
    struct store_leaf *full = table->leaves[at];
    struct store_leaf *right;
    enum gfs_err err = leaf_insert(table, at + 1, &right);
    if (err != GFS_OK)
        return err;
    bool grows = handle > full->entries[full->count - 1].handle;
    size_t keep = grows ? full->count - 1 : full->count / 2;
    right->count = full->count - keep;
    memcpy(right->entries, &full->entries[keep], right->count * sizeof(*right->entries));
    full->count = keep;
    return GFS_OK;
}

enum gfs_err store_table_put(struct store_table *table, const struct store_entry *entry)
{
    struct store_entry *old = store_table_find(table, entry->handle);
    if (old != NULL) {
        table->copy_count -= old->family != old->handle;
        table->copy_count += entry->family != entry->handle;
        *old = *entry;
        return GFS_OK;
    }
    enum gfs_err err;
    struct store_leaf *leaf;
    if (table->leaf_count == 0) {
        err = leaf_insert(table, 0, &leaf);
        if (err != GFS_OK)
            return err;
    }
    size_t at = leaf_for(table, entry->handle);
    if (table->leaves[at]->count == STORE_LEAF_MAX) {
        err = leaf_split(table, at, entry->handle);
        if (err != GFS_OK)
            return err;
        at = leaf_for(table, entry->handle);
    }
    leaf = table->leaves[at];
    size_t place = place_in(leaf, entry->handle);
    memmove(&leaf->entries[place + 1], &leaf->entries[place],
            (leaf->count - place) * sizeof(*leaf->entries));
    leaf->entries[place] = *entry;
    leaf->count++;
    table->count++;
    table->copy_count += entry->family != entry->handle;
    return GFS_OK;
}

void store_table_remove(struct store_table *table, uint64_t handle)
{
    if (store_table_find(table, handle) == NULL)
        return;
    size_t at = leaf_for(table, handle);
    struct store_leaf *leaf = table->leaves[at];
    size_t place = place_in(leaf, handle);
    table->copy_count -= leaf->entries[place].family != handle;
    leaf->count--;
    table->count--;
    memmove(&leaf->entries[place], &leaf->entries[place + 1],
            (leaf->count - place) * sizeof(*leaf->entries));
    if (leaf->count > 0)
        return;
    free(leaf);
    table->leaf_count--;
    memmove(&table->leaves[at], &table->leaves[at + 1],
            (table->leaf_count - at) * sizeof(*table->leaves));
}
