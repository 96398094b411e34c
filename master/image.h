/*
 * image: fills memory from the master's database at start-up. Floor 6.
 *
 * One forward pass: the key letters are chosen so that what is referred to comes before what
 * refers to it (docs/disk-format.md). What does not fit together is CORRUPT, with a detail that
 * names the key; nothing on disk can make the load crash.
 */
#ifndef MASTER_IMAGE_H
#define MASTER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "master/namespace.h"
#include "master/opwindow.h"

struct kv;

#define IMAGE_DETAIL_BYTES 256u

struct image_stat {
    uint64_t keys;
    uint64_t inodes;
    uint64_t chunks;
    uint64_t entries;
};

/* ns and window are new and empty. NOT_FOUND: the database is empty (a new cluster: ns_format).
 * now_ms: when anonymous files count as last heard of. ret_detail: IMAGE_DETAIL_BYTES, set on
 * CORRUPT. ret_stat may be NULL. */
enum gfs_err image_load(struct kv *kv, struct namespace *ns, struct opwindow *window,
                        int64_t now_ms, char *ret_detail,
                        struct image_stat *ret_stat) GFS_MUST_CHECK;

#endif
