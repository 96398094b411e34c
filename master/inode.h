/*
 * inode: how inodes lie in memory; for namespace*.c, entries.c, inode_chunks.c, record.c and
 * image.c only. Floor 5.
 *
 * Ten million files must fit: an inode is one cache line, references are 32-bit slab numbers, names
 * live in slabs by size, and what is rarely needed shares space:
 *
 *   state      parent  name+name_next  left, right            first, count
 *   named      parent  name            treap of the directory file: chunk 0 or table, chunk count
 *   anonymous  0       seen_ms         list of anonymous      directory: treap root, entries
 *   trash      0       -               list of trash
 */
#ifndef MASTER_INODE_H
#define MASTER_INODE_H

#include "master/namespace.h"

#define NS_ID_MAX      ((1ull << 48) - 1)
#define NS_ID_RANGE    (1u << 20)
#define NS_LENGTH_MAX  ((1ull << 51) - 1)
#define NS_OWNERS_MAX  4096u
#define NS_NAME_SLABS  32u /* names of 1..8, 9..16, ... 249..256 bytes */
#define NS_SEGMENT     64u /* chunk indexes in a segment */
#define NS_TIME_MAX_MS ((1ll << 47) - 1)
#define NS_HANDLE_MAX  (UINT64_MAX - NS_ID_RANGE)

struct inode {
    uint64_t id : 48;
    uint64_t name_bytes : 8;
    uint64_t is_dir : 1;
    uint64_t anonymous : 1;
    uint64_t trash : 1;
    uint64_t has_table : 1; /* chunks are in a table, not just one */
    uint64_t spare : 4;
    uint64_t length_bytes : 51;
    uint64_t goal : 8;
    uint64_t chunk_shift : 5;
    int64_t mtime_ms : 48;
    uint64_t mode : 16;
    int64_t ctime_ms : 48;
    uint64_t owner : 16; /* index into the namespace's owners */
    union {
        struct {
            uint32_t name;
            uint32_t name_next; /* the name index's */
        };
        int64_t seen_ms;
    };
    uint32_t parent;
    uint32_t id_next; /* the id index's */
    uint32_t left;
    uint32_t right;
    uint32_t first;
    uint32_t count;
};

_Static_assert(sizeof(struct inode) == 64, "an inode is one cache line");

/* Chunk references of a file with more than chunk 0. */
struct chunk_table {
    uint32_t *segments; /* slab references of struct chunk_segment, 0: all holes */
    uint32_t segment_count;
    uint32_t spare;
};
struct chunk_segment {
    uint32_t chunks[NS_SEGMENT];
};

struct ns_owner {
    uint32_t uid;
    uint32_t gid;
};

struct ns_ids {
    uint64_t next;
    uint64_t limit; /* as the super record says; 0: not started */
};

struct ns_inode_list {
    uint32_t first;
    uint32_t last;
    uint64_t count;
};

struct namespace
{
    struct ns_options options;
    struct slab inodes;
    struct slab names[NS_NAME_SLABS];
    struct slab tables;
    struct slab segments;
    struct index by_id;
    struct index by_name;
    struct chunkmap chunkmap;
    struct ns_ids inode_ids;
    struct ns_ids handle_ids;
    uint32_t root;
    struct ns_inode_list anonymous; /* the longest silent first */
    struct ns_inode_list trash;
    uint64_t table_bytes; /* of chunk tables' segment arrays */
    uint64_t files;
    uint64_t directories;
    uint64_t length_bytes;
    uint8_t cluster_id[GFS_UUID_BYTES];
    struct ns_owner *owners;
    uint32_t owner_count;
};

static inline struct inode *inode_at(const struct namespace *ns, uint32_t ref)
{
    return ref != 0 ? slab_at(&ns->inodes, ref) : NULL;
}
static inline uint32_t inode_ref(const struct namespace *ns, const struct inode *inode)
{
    return slab_ref(&ns->inodes, inode);
}
struct inode *inode_find(const struct namespace *ns, uint64_t id);
uint32_t inode_type(const struct inode *inode);

/* Room for `count` inodes with their ids. STARTING, BUSY, NO_MEMORY. */
enum gfs_err ns_reserve_inodes(struct namespace *ns, uint32_t count) GFS_MUST_CHECK;
enum gfs_err ns_intern_owner(struct namespace *ns, uint32_t uid, uint32_t gid,
                             uint16_t *ret_owner) GFS_MUST_CHECK;
/* A file or directory with this id, in the id index and the counters. After ns_reserve_inodes. */
struct inode *ns_add_inode(struct namespace *ns, uint64_t id, bool is_dir);
/* The next id; moves the persisted limit when half of the range is used. Room for RECORD_SUPER. */
uint64_t ns_take_id(struct namespace *ns, struct ns_ids *ids, struct changes *changes);
/* Out of the id index and the counters, memory freed: no name, no chunks, in no list. */
void ns_drop_inode(struct namespace *ns, struct inode *inode);

/* Linked through left and right. */
void ns_list_append(struct namespace *ns, struct ns_inode_list *list, struct inode *inode);
void ns_list_remove(struct namespace *ns, struct ns_inode_list *list, struct inode *inode);

/* Releases the chunk at the index, which becomes a hole. Room for RECORD_CHUNK. */
void ns_release_chunk(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                      int64_t now_ms, struct changes *changes);
/* The inode after `at` in a walk of the tree under `top`, parents first; NULL at its end. */
struct inode *ns_walk_next(const struct namespace *ns, const struct inode *top, struct inode *at);
/* Its times move with its names; written when they did. Room for RECORD_INODE. */
void ns_dir_changed(struct namespace *ns, struct inode *dir, int64_t now_ms,
                    struct changes *changes);
/* Puts a chunk with a new handle into the hole, with one reference, not yet in the changes. After
 * chunkmap_reserve and inode_chunks_reserve. */
struct chunk *ns_add_chunk(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                           uint64_t handle);
/* Writes what names the chunk at this index. Room for RECORD_INODE + RECORD_SEGMENT. */
void ns_put_place(struct namespace *ns, const struct inode *file, uint32_t chunk_index,
                  struct changes *changes);
/* Releases a nameless file's chunk and drops it; with a table: hands it to the trash. Room for
 * RECORD_INODE + RECORD_CHUNK. */
void ns_discard_file(struct namespace *ns, struct inode *file, int64_t now_ms,
                     struct changes *changes);
/* To the trash, with all that is in it. Room for RECORD_INODE. */
void ns_discard_tree(struct namespace *ns, struct inode *inode, struct changes *changes);

void ns_set_length(struct namespace *ns, struct inode *file, uint64_t length_bytes);
int64_t ns_clamp_time(int64_t time_ms);
/* The directory that holds the path's last component, which must exist. */
enum gfs_err ns_resolve_parent(const struct namespace *ns, const struct path *path,
                               struct inode **ret_parent) GFS_MUST_CHECK;

/* ---- inode_chunks.c ------------------------------------------------------------------------ */
uint32_t inode_chunk_ref(const struct namespace *ns, const struct inode *file,
                         uint32_t chunk_index);
/* Makes room for a chunk at this index: the set after it cannot fail. */
enum gfs_err inode_chunks_reserve(struct namespace *ns, struct inode *file,
                                  uint32_t chunk_index) GFS_MUST_CHECK;
void inode_chunk_set(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                     uint32_t chunk_ref);
/* Cuts the count: what lies behind must be holes already; gives memory back. */
void inode_chunks_cut(struct namespace *ns, struct inode *file, uint32_t count);
uint32_t inode_chunk_count(const struct inode *file);
/* Segments of the file's table; 0: it has none. */
uint32_t inode_table_segments(const struct namespace *ns, const struct inode *file);
/* Gives a file without chunks those of another: their references are the caller's. take_segments:
 * memory for inode_table_segments of them, NULL for 0. After slab_reserve of a table, and of as
 * many segments. */
void inode_chunks_share(struct namespace *ns, struct inode *file, const struct inode *from,
                        uint32_t *take_segments);

#endif
