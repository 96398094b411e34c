/*
 * store: replicated chunks on one disk, in LevelDB. DESIGN §6.
 *
 *        writers (any thread)                    readers (storage threads)
 *              | store_submit                        | store_read
 *        [ commit queue, bounded ]              index: (handle, block) -> data key
 *              | one committer thread               |
 *        data log: append-only LevelDBs, sync=1 <----+ pinned iterator values
 *              | after each commit
 *        index LevelDB, unsynced; rebuilt from the data log behind its watermark
 *
 * Ordering: mutations of one chunk become durable and visible in the order of store_submit.
 * Every completed submit is on stable storage. After an IO error of a sync the store fails for
 * good: every later submit gets GFS_ERR_IO. Thread-safe throughout unless said otherwise.
 */
#ifndef CHUNKSERVER_STORE_H
#define CHUNKSERVER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

struct store;

struct store_options {
    uint64_t queue_max_bytes;    /* commit queue; full means BUSY. 0: 64 MiB */
    uint64_t batch_bytes;        /* aim of one commit. 0: 1 MiB */
    uint64_t data_db_max_bytes;  /* a data database is sealed at this size. 0: 4 GiB */
    uint64_t write_buffer_bytes; /* LevelDB's, of a data database. 0: 64 MiB */
    uint64_t free_min_bytes;     /* below this much free space the store is read-only. 0: 1 GiB */
    uint64_t unsettled_ms;       /* see store_chunk. 0: 10 s */
    /* The watermark moves after so much: replay at the next open is bounded by it, and so are the
     * data logs' gaps to be explained. 0: 256 MiB */
    uint64_t replay_max_bytes;
    bool sync; /* false only in the power-cut rig, to show what is lost */
};

struct store_chunk {
    uint64_t handle;
    uint32_t version;
    uint32_t length_bytes;
    uint64_t serial; /* of the last mutation */
    bool corrupt;    /* a record of it is known to be gone or bad */
    bool appended;   /* it has an append window */
    /* Touched within unsettled_ms before the crash or stop, and no version set since the open:
     * whether every replica has its last mutations is not known. */
    bool unsettled;
};

struct store_stat {
    uint64_t capacity_bytes; /* of the file system */
    uint64_t free_bytes;
    uint64_t used_bytes; /* live chunk data */
    uint64_t chunk_count;
    uint64_t commits;    /* synced batches so far */
    uint64_t bytes_user; /* data submitted so far */
    bool read_only;      /* free space is below the watermark, or the store has failed */
    bool failed;
};

enum store_op {
    STORE_OP_WRITE,       /* data; creates the chunk at `version` when `create` */
    STORE_OP_SET_VERSION, /* version, with `truncate` also the length; creates when `create` */
    STORE_OP_DELETE,
    STORE_OP_SEAL,   /* length_bytes becomes the chunk's length, the new bytes are zeros; serial */
    STORE_OP_REPAIR, /* whole blocks (the last may be short) are replaced; the rest stays as it is
                      */
    /* Ends a repair: serial and length_bytes (what is behind it is cut) are taken over, and the
     * chunk is not corrupt any more. */
    STORE_OP_ADOPT,
    /* Makes the chunk at `version` of all of `source`, which must be at from_version: index entries
     * and append window, no data. There already, copied from it, at `version`: OK. result.serial is
     * the source's. */
    STORE_OP_COPY,
};

/* Appends that REPAIR and ADOPT add to the window; more take several mutations. */
#define STORE_WINDOW_MAX 256u

/* An append that the chunk knows: a retry of it gets the same offset. */
struct store_append {
    uint64_t producer;
    uint64_t sequence;
    uint32_t offset_bytes;
    uint32_t length_bytes;
};

/* One block's worth of a write: pieces never cross a 64 KiB block boundary of the chunk. */
struct store_piece {
    const void *data;
    uint32_t length_bytes;
    uint32_t crc; /* CRC-32C of these bytes, made by the writer; stored as it is for whole blocks */
};

/*
 * A mutation. Owned by the submitter; it and everything it points at stays valid and untouched
 * until `done` is called, exactly once, on the committer thread (which must not block in it).
 * A write to part of a block is kept as a fragment and merged on read, see disk-format.md.
 */
struct store_mutation {
    enum store_op op;
    uint64_t handle;
    uint32_t version;      /* WRITE: must equal the chunk's version, else STALE_VERSION */
    uint32_t from_version; /* SET_VERSION: the version it must have (or already `version`) */
    uint64_t serial;       /* WRITE, SEAL, ADOPT */
    uint64_t
        producer; /* WRITE: of an append, 0: none. Kept in the chunk's append window with the */
    uint64_t sequence; /* data, in one commit; of a producer the last GFS_APPEND_WINDOW are kept */
    bool once;         /* WRITE with a producer: no append, only to be known in a retry */
    uint64_t source;   /* COPY: the handle it is made of */
    const struct store_append *window; /* REPAIR, which then may have no pieces, and ADOPT */
    size_t window_count;
    bool create; /* the chunk may be missing: it is made */
    bool truncate;
    uint32_t offset_bytes; /* WRITE: in the chunk */
    uint32_t length_bytes; /* WRITE: sum of the pieces; truncate: new length */
    const struct store_piece *pieces;
    size_t piece_count;

    void (*done)(struct store_mutation *mutation, enum gfs_err err);
    void *arg;
    struct store_mutation *next; /* the store's, while submitted */
    struct store_chunk result;   /* the chunk after it, on success */
};

/* Opens (or makes) the store in directory `path`, replays the tail of its log, starts its thread.
 * opts may be NULL. */
enum gfs_err store_open(const char *path, const struct store_options *opts,
                        struct store **ret_store) GFS_MUST_CHECK;
/* Completes what is queued, stops the thread, closes. NULL is fine. */
void store_close(struct store *store);

/* GFS_OK: `done` will be called. BUSY, READ_ONLY, IO (failed store): it will not. Never blocks on
 * the disk: callable from event loops. */
enum gfs_err store_submit(struct store *store, struct store_mutation *mutation) GFS_MUST_CHECK;

/*
 * A read result: pieces in order, each within one block, pointing at memory that stays valid
 * (pinned LevelDB values, or a static zero block for holes) until store_read_release.
 */
struct store_read;
struct store_read_info {
    uint32_t version;
    uint32_t chunk_length_bytes;
    uint32_t length_bytes; /* what was read */
    size_t piece_count;
    const struct store_piece *pieces; /* crc holds for the piece's bytes, verified just now */
};
/*
 * Reads [offset, offset + length) of a chunk. Blocks: storage threads only. SHORT when the range
 * passes the chunk's length, NO_CHUNK, STALE_VERSION when the replica's version is below
 * min_version, CORRUPT when a CRC fails or a record is gone (the chunk is then marked corrupt).
 */
enum gfs_err store_read(struct store *store, uint64_t handle, uint32_t min_version,
                        uint32_t offset_bytes, uint32_t length_bytes,
                        struct store_read **ret_read) GFS_MUST_CHECK;
const struct store_read_info *store_read_info(const struct store_read *read);
void store_read_release(struct store_read *read);

/* State of one chunk, from memory: never blocks. NO_CHUNK. */
enum gfs_err store_chunk_get(struct store *store, uint64_t handle,
                             struct store_chunk *ret_chunk) GFS_MUST_CHECK;
/* Up to max chunks with a handle >= from, in order. Returns how many. Never blocks. */
size_t store_list(struct store *store, uint64_t from, struct store_chunk *ret_chunks, size_t max);
/* From memory (free space is refreshed about once a second): never blocks. */
void store_stat(struct store *store, struct store_stat *ret_stat);
/* While held, all that has been written since is in doubt after a crash, however long ago: there
 * are mutations of which the caller does not know whether every replica has them. Never blocks. */
void store_hold_settled(struct store *store, bool hold);
/* Waits until everything submitted before is durable. Blocks. */
enum gfs_err store_sync(struct store *store) GFS_MUST_CHECK;
/* The append window of a chunk, at most GFS_APPEND_ENTRIES_MAX entries, by producer and sequence.
 * *ret_entries is malloc'd, NULL when there are none. Blocks: storage threads only. NO_CHUNK. */
enum gfs_err store_window(struct store *store, uint64_t handle, struct store_append **ret_entries,
                          size_t *ret_count) GFS_MUST_CHECK;

struct store_digest {
    struct store_chunk chunk;
    uint32_t first_block;
    uint32_t count;
    uint32_t bad_block; /* with CORRUPT: the first one */
    uint32_t *crcs; /* malloc'd: of each block's bytes below the chunk's length, holes as zeros */
};
/*
 * CRC-32C of each block from first_block, at most count (0: all), of a chunk of at least
 * min_version. From the records where a block is stored whole, else read. verify: every byte is
 * read and checked. CORRUPT: a block's record is gone or bad; the chunk is then marked corrupt and
 * ret_digest->bad_block set, crcs NULL. Without verify a bad block that would have to be read gets
 * the CRC ~0 and is no error. BUSY: it is cut again and again meanwhile. Blocks: storage threads
 * only.
 */
enum gfs_err store_digest(struct store *store, uint64_t handle, uint32_t min_version,
                          uint32_t first_block, uint32_t count, bool verify,
                          struct store_digest *ret_digest) GFS_MUST_CHECK;

#endif
