/*
 * namespace: the tree of files and directories, and which chunks each file has. Floor 5, pure: no
 * I/O, no clock; the master loop's thread only.
 *
 *   path --(parent, name) index--> inode --chunks by index--> chunk (chunkmap.h)
 *
 * Every mutating function takes `changes`: on success it has appended the key puts and deletes that
 * mirror what it did to memory (docs/disk-format.md); on failure neither memory nor changes have
 * changed. The caller hands the changes to journal_append, and replies when they are durable.
 * Call journal_full first: an operation that is done in memory must be journalled.
 *
 * struct inode pointers stay valid until the inode is removed; hold ids across events.
 * A file has one name at most (no hard links). Anonymous files have none; see ns_create.
 */
#ifndef MASTER_NAMESPACE_H
#define MASTER_NAMESPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"
#include "master/changes.h"
#include "master/chunkmap.h"
#include "master/path.h"

#define NS_ROOT_INODE      1u
#define NS_FILE_CHUNKS_MAX (1u << 20)
#define NS_LIST_MAX        1000u
/* Of one snapshot: what it walks and journals at once. */
#define NS_SNAPSHOT_INODES_MAX 100000u
#define NS_SNAPSHOT_CHUNKS_MAX 262144u

struct namespace;
struct inode;

enum inode_type { /* as FileType on the wire */
                  INODE_FILE = 1,
                  INODE_DIR = 2,
};

struct inode_attr {
    uint64_t inode;
    enum inode_type type;
    bool anonymous;
    uint64_t length_bytes;
    uint32_t goal;
    uint32_t chunk_size_bytes;
    int64_t mtime_ms;
    int64_t ctime_ms;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint32_t chunk_count; /* indexes in use: the highest + 1, holes included */
    uint32_t entry_count;
};

struct ns_options {
    uint64_t seed;             /* random: keeps hash chains out of a peer's control */
    uint32_t goal_default;     /* of the root when it is made; 0: GFS_GOAL_DEFAULT */
    uint32_t chunk_size_bytes; /* default of new files; 0: GFS_CHUNK_SIZE_DEFAULT_BYTES */
    uint64_t inodes_max;       /* 0: 2^31. More: BUSY */
    uint64_t chunks_max;       /* 0: 2^31 */
};

struct ns_counters {
    uint64_t files; /* anonymous ones too */
    uint64_t directories;
    uint64_t chunks;
    uint64_t length_bytes; /* of all files */
    uint64_t anonymous;
    uint64_t trash; /* removed trees waiting for ns_reap */
    uint64_t memory_bytes;
};

/* An empty namespace without even a root: ns_format makes it, or image_load (image.h) fills it. */
enum gfs_err ns_new(const struct ns_options *options, struct namespace **ret_ns) GFS_MUST_CHECK;
void ns_free(struct namespace *ns);
/* Makes the root of a new cluster. */
enum gfs_err ns_format(struct namespace *ns, const uint8_t cluster_id[GFS_UUID_BYTES],
                       int64_t now_ms, struct changes *changes) GFS_MUST_CHECK;
/* After image_load, instead of ns_format: claims a range of ids. Until this has been called
 * mutations answer STARTING. The changes must be durable before anything is served (of ns_format
 * too): ids that a crash made unknown are then never given out again. */
enum gfs_err ns_start(struct namespace *ns, struct changes *changes) GFS_MUST_CHECK;
void ns_cluster_id(const struct namespace *ns, uint8_t ret_id[GFS_UUID_BYTES]);
struct chunkmap *ns_chunkmap(struct namespace *ns);
void ns_counters(const struct namespace *ns, struct ns_counters *ret_counters);

/* ---- reading ------------------------------------------------------------------------------- */
/* NOT_FOUND, NOT_DIR (a file in mid-path), BAD_PATH, NAME_TOO_LONG. */
enum gfs_err ns_lookup(const struct namespace *ns, const void *path, size_t path_bytes,
                       struct inode **ret_inode) GFS_MUST_CHECK;
/* STALE_HANDLE: no such inode (any more). */
enum gfs_err ns_inode(const struct namespace *ns, uint64_t inode_id,
                      struct inode **ret_inode) GFS_MUST_CHECK;
void ns_attr(const struct namespace *ns, const struct inode *inode, struct inode_attr *ret_attr);
uint64_t inode_id(const struct inode *inode);

struct ns_entry {
    struct path_name name; /* valid until the next mutation */
    struct inode *inode;
};
/* Entries of a directory in byte order, those behind `after` (after_bytes 0: from the start), at
 * most max. Returns how many. NOT_DIR. */
enum gfs_err ns_list(const struct namespace *ns, const struct inode *dir, const void *after,
                     size_t after_bytes, struct ns_entry *ret_entries, size_t max,
                     size_t *ret_count, bool *ret_more) GFS_MUST_CHECK;

/* ---- names --------------------------------------------------------------------------------- */
struct ns_create_args {
    const void *path; /* anonymous: where it will be published; only its directory is looked at */
    size_t path_bytes;
    uint32_t goal;             /* 0: the directory's; above GFS_GOAL_MAX: INVAL */
    uint32_t chunk_size_bytes; /* 0: default; not a power of two in limits: INVAL */
    uint32_t mode;             /* 0: 0644 */
    uint32_t uid;
    uint32_t gid;
    bool exclusive; /* EXISTS if it is there; else an existing file is returned unchanged */
    bool anonymous; /* no name until ns_publish */
};
/* IS_DIR, NOT_FOUND (no parent), EXISTS, BUSY, ... An anonymous file with `exclusive` fails early
 * with EXISTS when the name is taken already. */
enum gfs_err ns_create(struct namespace *ns, const struct ns_create_args *args, int64_t now_ms,
                       struct changes *changes, struct inode **ret_inode,
                       bool *ret_created) GFS_MUST_CHECK;
/* Gives an anonymous file its name, atomically. An existing file is replaced when `replace`, else
 * EXISTS; a directory there: IS_DIR. Not anonymous (any more): INVAL. A commit that belongs to it
 * is done before with ns_commit into the same changes: check with ns_publish_check first, so that
 * neither happens when the other cannot. */
enum gfs_err ns_publish(struct namespace *ns, struct inode *inode, const void *path,
                        size_t path_bytes, bool replace, int64_t now_ms,
                        struct changes *changes) GFS_MUST_CHECK;
enum gfs_err ns_publish_check(const struct namespace *ns, const struct inode *inode,
                              const void *path, size_t path_bytes, bool replace) GFS_MUST_CHECK;
/* Drops an anonymous file and its chunks. INVAL when it is not anonymous. */
enum gfs_err ns_abandon(struct namespace *ns, struct inode *inode, int64_t now_ms,
                        struct changes *changes) GFS_MUST_CHECK;
/* parents: as mkdir -p. The root or an existing directory is EXISTS without parents. mode 0: 0755
 */
struct ns_mkdir_args {
    const void *path;
    size_t path_bytes;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    bool parents;
};
enum gfs_err ns_mkdir(struct namespace *ns, const struct ns_mkdir_args *args, int64_t now_ms,
                      struct changes *changes, struct inode **ret_inode) GFS_MUST_CHECK;
/*
 * directory: the caller means a directory (a file: NOT_DIR); without it a directory is IS_DIR,
 * unless recursive. recursive: a file, or a directory with all below it; the tree disappears at
 * once and atomically, its inodes and chunks are given back by ns_reap in slices. The root: PERM.
 */
enum gfs_err ns_remove(struct namespace *ns, const void *path, size_t path_bytes, bool directory,
                       bool recursive, int64_t now_ms, struct changes *changes) GFS_MUST_CHECK;
/* Atomic. At `to`: a file is replaced by a file, an empty directory by a directory (as POSIX:
 * IS_DIR, NOT_DIR, NOT_EMPTY); no_replace: EXISTS. LOOP: `to` is inside `from`. Onto itself: OK. */
enum gfs_err ns_rename(struct namespace *ns, const void *from, size_t from_bytes, const void *to,
                       size_t to_bytes, bool no_replace, int64_t now_ms,
                       struct changes *changes) GFS_MUST_CHECK;
/* Gives back up to `max` inodes of removed trees. false: there is nothing left to reap. */
bool ns_reap(struct namespace *ns, uint32_t max, int64_t now_ms, struct changes *changes);

struct ns_setattr_args {
    bool set_goal;
    bool set_mtime;
    bool set_mode;
    bool recursive; /* goal of everything below, too */
    uint32_t goal;
    uint32_t mode;
    int64_t mtime_ms; /* 0: now */
};
/* ret_changed: inodes changed. */
enum gfs_err ns_setattr(struct namespace *ns, struct inode *inode,
                        const struct ns_setattr_args *args, int64_t now_ms, struct changes *changes,
                        uint64_t *ret_changed) GFS_MUST_CHECK;

/* ---- chunks of a file ---------------------------------------------------------------------- */
/* NULL: a hole. */
struct chunk *ns_chunk_at(const struct namespace *ns, const struct inode *inode, uint32_t index);
/*
 * A file that holds the chunk; NULL when it is released, and when that is not known: its maker is
 * gone and a snapshot has it. Whoever comes from a file says so with ns_chunk_claim. true: the
 * owner was another, or not known. Then the chunk is marked `truncating`: bytes that were written
 * for the other file, and not committed when the snapshot was made, must not come to light in this
 * one.
 */
struct inode *ns_chunk_owner(const struct namespace *ns, const struct chunk *chunk);
bool ns_chunk_claim(const struct namespace *ns, const struct inode *inode, struct chunk *chunk);
/* The handle that it was first copied from, its own if it was not. */
uint64_t ns_chunk_family(const struct namespace *ns, const struct chunk *chunk);
/* A fresh chunk (version 1, length 0, the file's goal) in a hole. EXISTS, TOO_LARGE, IS_DIR,
 * BUSY. */
enum gfs_err ns_chunk_create(struct namespace *ns, struct inode *inode, uint32_t index,
                             struct changes *changes, struct chunk **ret_chunk) GFS_MUST_CHECK;
/* Releases the chunk there, on which nothing was committed (else INVAL), and puts a fresh one in
 * its place. */
enum gfs_err ns_chunk_renew(struct namespace *ns, struct inode *inode, uint32_t index,
                            int64_t now_ms, struct changes *changes,
                            struct chunk **ret_chunk) GFS_MUST_CHECK;
/* Versions only grow: INVAL otherwise. Clears `truncating`. */
enum gfs_err ns_chunk_set_version(struct namespace *ns, struct chunk *chunk, uint32_t version,
                                  struct changes *changes) GFS_MUST_CHECK;

struct ns_commit_chunk {
    uint32_t index;
    uint64_t handle;
    uint32_t version;
    uint32_t length_bytes;
};
/*
 * What is on stable storage on every replica: chunk lengths and the file's length only grow.
 * STALE_VERSION: a chunk has another handle or version by now, or is being truncated (nothing is
 * applied), or is shared with a snapshot and would grow. length 0 and no chunks: OK, no changes.
 */
enum gfs_err ns_commit(struct namespace *ns, struct inode *inode, uint64_t length_bytes,
                       const struct ns_commit_chunk *chunks, size_t chunk_count, int64_t now_ms,
                       struct changes *changes) GFS_MUST_CHECK;
enum gfs_err ns_commit_check(const struct namespace *ns, const struct inode *inode,
                             uint64_t length_bytes, const struct ns_commit_chunk *chunks,
                             size_t chunk_count) GFS_MUST_CHECK;
/*
 * Sets the file's length. Chunks wholly past it are released. *ret_cut is the last chunk when its
 * committed bytes were cut: it is marked `truncating` until the service, having cut the replicas
 * with a new version, calls ns_chunk_set_version; NULL when nothing must be cut on replicas. BUSY:
 * that chunk is shared with a snapshot: ns_chunk_replace it first.
 */
enum gfs_err ns_truncate(struct namespace *ns, struct inode *inode, uint64_t length_bytes,
                         int64_t now_ms, struct changes *changes,
                         struct chunk **ret_cut) GFS_MUST_CHECK;

/* ---- snapshots (namespace_snapshot.c) ------------------------------------------------------ */
/*
 * Makes `to` a copy of the file or directory `from`, with all below it, that shares its chunks. The
 * goal of a shared chunk only rises until it is its file's own again. EXISTS, LOOP (`to` inside
 * `from`), TOO_LARGE (more than NS_SNAPSHOT_*_MAX), and as ns_lookup.
 */
enum gfs_err ns_snapshot(struct namespace *ns, const void *from, size_t from_bytes, const void *to,
                         size_t to_bytes, int64_t now_ms, struct changes *changes) GFS_MUST_CHECK;
/* What ns_snapshot would say, memory aside. */
enum gfs_err ns_snapshot_check(const struct namespace *ns, const void *from, size_t from_bytes,
                               const void *to, size_t to_bytes,
                               struct inode **ret_from) GFS_MUST_CHECK;
/* Every chunk of the files below (and of) the inode, shared ones perhaps more than once. */
void ns_visit_chunks(const struct namespace *ns, struct inode *top,
                     void (*visit)(void *arg, struct chunk *chunk), void *arg);
/* Is it that inode, or below it? */
bool ns_is_below(const struct namespace *ns, const struct inode *inode, uint64_t above_id);
/* It, or a directory above it, was removed: its parts are being given back. */
bool ns_is_removed(const struct namespace *ns, const struct inode *inode);
/* A handle for a copy of a chunk, never given out again. BUSY, STARTING. */
enum gfs_err ns_take_handle(struct namespace *ns, struct changes *changes,
                            uint64_t *ret_handle) GFS_MUST_CHECK;
/*
 * The file lets go of the shared chunk at the index and gets a copy of it instead, under a handle
 * from ns_take_handle: version 1, the file's goal, the rest as the old one's; `truncating`, as by
 * ns_chunk_claim, when another file was its owner. INVAL: not shared.
 */
enum gfs_err ns_chunk_replace(struct namespace *ns, struct inode *inode, uint32_t index,
                              uint64_t handle, int64_t now_ms, struct changes *changes,
                              struct chunk **ret_chunk) GFS_MUST_CHECK;

/* ---- anonymous files ----------------------------------------------------------------------- */
/* Notes that the client of an anonymous file lives; nothing for others. */
void ns_anonymous_touch(struct namespace *ns, struct inode *inode, int64_t now_ms);
/* The anonymous file silent for longest, with when it was last heard of; NULL: none. */
struct inode *ns_anonymous_oldest(const struct namespace *ns, int64_t *ret_seen_ms);

#endif
