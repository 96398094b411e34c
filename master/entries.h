/*
 * entries: the names in directories. Floor 5, pure.
 *
 * Lookup goes through one hash index over (parent, name). For listing in byte order each directory
 * also has a treap of its entries, linked through the inodes: 8 bytes an entry, priorities from the
 * ids, so that its shape is random whatever the order of names.
 */
#ifndef MASTER_ENTRIES_H
#define MASTER_ENTRIES_H

#include "master/inode.h"

/* For index_init. */
uint64_t entries_hash_item(const void *ns, const void *inode);
/* NULL: no such entry. */
struct inode *entries_find(const struct namespace *ns, const struct inode *dir,
                           const struct path_name *name);
/* Makes sure that `count` inserts of names of this length succeed. */
enum gfs_err entries_reserve(struct namespace *ns, uint32_t name_bytes,
                             uint32_t count) GFS_MUST_CHECK;
/* Gives a nameless inode this name. It must not be taken; after entries_reserve. */
void entries_insert(struct namespace *ns, struct inode *dir, const struct path_name *name,
                    struct inode *inode);
/* Takes the inode's name away. */
void entries_remove(struct namespace *ns, struct inode *inode);
struct path_name entries_name(const struct namespace *ns, const struct inode *inode);
/* Fills up to max entries in order, behind `after` (NULL: all). Returns how many. */
size_t entries_list(const struct namespace *ns, const struct inode *dir,
                    const struct path_name *after, struct inode **ret_inodes, size_t max);
/* Any entry of the directory, NULL when it is empty. */
struct inode *entries_any(const struct namespace *ns, const struct inode *dir);
uint32_t entries_name_class(uint32_t name_bytes);

#endif
