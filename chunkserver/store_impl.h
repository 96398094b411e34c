/*
 * store_impl: what the parts of the store share. Not for users of the store. Floor 6.
 *
 * Locks, in the order in which they are taken:
 *   publish  read-write: the index, the table and the set of databases change together under it; a
 *            reader holds it just long enough to take a chunk's state, an index iterator and the
 * set table    the table, for look-ups that must never wait for the disk; only the committer writes
 *   queue    the commit queue and what wakes the threads; innermost, nothing is taken under it
 */
#ifndef CHUNKSERVER_STORE_IMPL_H
#define CHUNKSERVER_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store.h"
#include "store_delta.h"
#include "store_index.h"
#include "store_log.h"
#include "store_table.h"

/* Its presence has the next open rebuild the index. */
#define STORE_REBUILD_NAME "rebuild"

#define STORE_PIECES_MAX        264u  /* records of one mutation: 16 MiB, not aligned */
#define STORE_BATCH_RECORDS_MAX 1024u /* of one commit */
#define STORE_BATCH_ITEMS_MAX   1024u /* mutations and tasks of one commit */
#define STORE_CROWDED_MAX       64u   /* blocks waiting to be merged */
#define STORE_MARKS_MAX         64u   /* chunks waiting to be marked corrupt */

enum store_task_kind {
    STORE_TASK_REWRITE, /* a block's bytes again, as one record, unless the block has changed */
    STORE_TASK_CARRY,   /* a record that must outlive its database */
    STORE_TASK_STATE,   /* a chunk's state again; with `corrupt` it is marked */
};

/* A mutation from inside. It belongs to its submitter until `done` is called on the committer. */
struct store_task {
    enum store_task_kind kind;
    uint64_t handle;
    /* REWRITE */
    uint32_t block;
    struct store_extent *extents; /* as they were read */
    size_t extent_count;
    uint8_t *data;
    uint32_t start_bytes;
    uint32_t length_bytes;
    uint32_t crc;
    /* CARRY */
    struct store_record record;
    /* STATE */
    bool corrupt;

    void (*done)(struct store_task *task, enum gfs_err err);
    void *arg;
    struct store_task *next;
};

struct store_item {
    struct store_mutation *mutation; /* or */
    struct store_task *task;
    enum gfs_err err;
};

struct store_crowd {
    uint64_t handle;
    uint32_t block;
};

struct store_doubt {
    uint64_t handle;
    uint32_t version;
};

#define STORE_SETTLE_SLOTS 16u

struct store {
    char path[STORE_PATH_MAX];
    struct store_options opts;
    struct store_index *index;
    /* handles, found by recovery to have lost something; until the threads start */
    uint64_t *recovered;
    size_t recovered_count;
    /* chunks whose last mutations may not be on every replica, ordered by handle; fixed after open
     */
    struct store_doubt *doubts;
    size_t doubt_count;

    pthread_rwlock_t publish;
    struct store_log log; /* ->set under publish; the rest is the committer's */

    pthread_mutex_t table_lock;
    struct store_table table;

    /* under queue_lock */
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_wake;  /* the committer */
    pthread_cond_t keeper_wake; /* the keeper */
    pthread_cond_t synced;      /* completed_count moved */
    struct store_mutation *queue_first;
    struct store_mutation **queue_tail;
    struct store_task *task_first;
    struct store_task **task_tail;
    uint64_t queue_bytes;
    uint64_t submitted_count;
    uint64_t completed_count;
    unsigned mark_count;
    bool stopping;
    bool keeper_stopping;
    struct store_db *drop_db; /* to be taken out of the set by the committer */
    enum gfs_err drop_err;
    struct store_db *sealed_db; /* with a reference: its buffer is to be written out */

    /* the committer's */
    pthread_t committer;
    struct store_delta delta;
    struct store_item items[STORE_BATCH_ITEMS_MAX];
    size_t item_count;
    struct store_record records[STORE_BATCH_RECORDS_MAX];
    size_t record_count;
    struct store_crowd crowded[STORE_CROWDED_MAX];
    size_t crowded_count;
    bool gathers; /* the last batch was small and shared */

    /* the keeper's: free space, watermark, compaction */
    pthread_t keeper;
    uint64_t watermark_seq;
    struct store_db *doomed_db; /* out of the set, to be removed when no reader holds it */
    uint64_t watermark_bytes;   /* bytes_logged when it last moved */
    uint64_t settle_ms[STORE_SETTLE_SLOTS]; /* when the log had reached ... */
    uint64_t settle_seq[STORE_SETTLE_SLOTS];
    size_t settle_next;
    uint64_t settled_seq; /* as it is in the index */

    /* any thread */
    _Atomic bool settled_held;
    _Atomic bool failed;
    _Atomic bool full; /* below the watermark of free space, or a commit met the end of it */
    _Atomic uint64_t applied_seq;
    _Atomic uint64_t copies; /* so far */
    _Atomic uint64_t commits;
    _Atomic uint64_t bytes_user;
    _Atomic uint64_t bytes_logged;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t chunk_count;
    _Atomic uint64_t capacity_bytes;
    _Atomic uint64_t free_bytes;
};

/* store.c */
void store_chunk_from_entry(const struct store_entry *entry, struct store_chunk *ret_chunk);
/* The store serves no more. With the index at fault it is rebuilt at the next open. */
void store_fail(struct store *store, enum gfs_err err);
void store_fail_index(struct store *store, enum gfs_err err);
void store_task_submit(struct store *store, struct store_task *task);
/* Has the committer write the mark down. Dropped when many wait: the next read finds it again. */
void store_mark_corrupt(struct store *store, uint64_t handle);

/* store_stage.c: judges a mutation or a task and stages its records. What is returned is the
 * fault of the batch as a whole; the item's own is in item->err. */
enum gfs_err store_stage_item(struct store *store, struct store_item *item) GFS_MUST_CHECK;

/* store_commit.c */
void *store_committer_main(void *arg);
/* Has a block merged before the next batch. arg is the store. On the committer. */
void store_crowd_add(void *arg, uint64_t handle, uint32_t block);
/* Copies the counters that store_stat gives. Under publish, or before the threads start. */
void store_counters_refresh(struct store *store);

/* store_read.c: the bytes of a block from its first extent to its last one, holes as zeros.
 * CORRUPT. ret_data is malloced. */
enum gfs_err store_block_assemble(const struct store_set *set, uint64_t family, uint32_t block,
                                  const struct store_extent *extents, size_t count,
                                  uint8_t **ret_data, uint32_t *ret_start, uint32_t *ret_length,
                                  uint32_t *ret_crc) GFS_MUST_CHECK;

/* store_read.c: one moment of a chunk, read block by block. corrupt: also of a corrupt chunk.
 * CORRUPT does not mark the chunk. */
enum gfs_err store_read_any(struct store *store, uint64_t handle, uint32_t min_version,
                            bool corrupt, uint32_t offset_bytes, uint32_t length_bytes,
                            struct store_read **ret_read) GFS_MUST_CHECK;

/* store_recover.c: opens index and log and brings the index up to the log's end. */
enum gfs_err store_recover(struct store *store) GFS_MUST_CHECK;

/* store_keeper.c */
void *store_keeper_main(void *arg);
enum gfs_err store_space_refresh(struct store *store) GFS_MUST_CHECK;
enum gfs_err store_watermark_advance(struct store *store) GFS_MUST_CHECK;

/* store_compact.c: one step of winning space back, if there is reason. True: something was done. */
bool store_compact_step(struct store *store);

#endif
