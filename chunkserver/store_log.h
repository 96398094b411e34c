/*
 * store_log: the data log, an append-only sequence of records on a medium. The narrow seam behind
 * which another medium than LevelDB could be measured: append, read, scan, roll, destroy. Floor 6.
 *
 *      data-0000000000000001/   data-000000000001f3a2/   data-000000000003e77c/
 *      [1 ................. ]   [0x1f3a2 ........... ]   [0x3e77c ... -> grows
 *      sealed, only read        sealed                   active
 *
 * One LevelDB a directory, named by its first sequence number; sequences have no gaps from one
 * database to the next until a sealed one is destroyed. Append, roll and remove belong to one
 * thread at a time (the committer); reads go through a pinned set from any thread.
 *
 * What can fail: an append. What LevelDB's log file holds after a failed one is unknown, so the
 * database is never appended to again: it keeps serving reads, and the next append starts a new
 * one whose name cuts off whatever the failed append left behind.
 */
#ifndef CHUNKSERVER_STORE_LOG_H
#define CHUNKSERVER_STORE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "kv.h"
#include "store_record.h"

#define STORE_PATH_MAX    4096
#define STORE_DATA_PREFIX "data-"

struct store_db {
    uint64_t first_seq;
    uint64_t upto_seq;    /* below the next database's first; UINT64_MAX while the last */
    struct kv *kv;        /* NULL: set aside, it did not open */
    int refs;             /* atomic */
    uint64_t live_bytes;  /* atomic; referenced by the index: a hint */
    uint64_t total_bytes; /* atomic; of data appended: a hint */
    uint64_t counted_seq; /* committer; records up to it are in total_bytes */
    bool touched;         /* committer; counters changed since they were last written */
    bool bad_before;      /* it was already set aside at an earlier open */
    bool suspect;         /* its log was damaged when it was opened */
    char path[STORE_PATH_MAX];
};

/* The databases at one moment, ordered. Immutable but for what is atomic in them. */
struct store_set {
    int refs; /* atomic */
    size_t count;
    struct store_db *dbs[];
};

struct store_log_options {
    uint64_t write_buffer_bytes;
    uint64_t db_max_bytes;
    bool sync;
};

struct store_log {
    char path[STORE_PATH_MAX]; /* the store's directory */
    struct store_log_options opts;
    struct store_set *set; /* swapped by the committer under the caller's publish lock */
    /* the committer's */
    struct store_db *active; /* NULL: the next append makes one */
    struct kv_batch *batch;
    uint64_t next_seq;
    uint64_t staged_seq; /* next_seq with what is staged */
    uint64_t staged_bytes;
};

/* A record read: the data stays valid until the pin is released. */
struct store_pin {
    struct store_record record;
    const uint8_t *data;
    struct kv_iter *iter;
};

/* Finds and opens the databases in path. Those that do not open stay in the set without a kv. */
enum gfs_err store_log_open(struct store_log *log, const char *path,
                            const struct store_log_options *opts) GFS_MUST_CHECK;
void store_log_release(struct store_log *log);
/* To be called once, after recovery: appending starts at next_seq, in the last database or, with
 * fresh, in a new one. */
void store_log_start(struct store_log *log, uint64_t next_seq, bool fresh);

/* Stages a record and returns its sequence number. Data is copied. */
uint64_t store_log_stage(struct store_log *log, struct store_record *record, const void *data);
void store_log_unstage(struct store_log *log);
/* Makes what is staged durable, as a whole or (on failure) as good as not at all. */
enum gfs_err store_log_commit(struct store_log *log) GFS_MUST_CHECK;
/* What has to happen before a stage: there is a database to append to. *ret_set is a new set to be
 * published with store_log_publish, or NULL when nothing changed. */
enum gfs_err store_log_prepare(struct store_log *log, struct store_set **ret_set) GFS_MUST_CHECK;
/* A set without the database; NULL when memory is out. */
struct store_set *store_log_without(struct store_log *log, const struct store_db *db);
/* Under the publish lock. */
void store_log_publish(struct store_log *log, struct store_set *take_set);

/* Under the publish lock (shared is enough). */
struct store_set *store_log_pin(struct store_log *log);
void store_set_unref(struct store_set *set);
/* The database that holds, or held, seq; NULL when it was destroyed. */
struct store_db *store_set_find(const struct store_set *set, uint64_t seq);
/* Is any database in the set older than seq's? */
bool store_set_has_older(const struct store_set *set, uint64_t seq);

/* Reads a record and verifies header and data CRC. CORRUPT when it is not there as it should. */
enum gfs_err store_log_read(const struct store_set *set, uint64_t seq,
                            struct store_pin *ret_pin) GFS_MUST_CHECK;
void store_pin_release(struct store_pin *pin);

/* The newest sequence in the database that can be read, below its first when there is none. */
uint64_t store_db_last_seq(const struct store_db *db);

/* Steps over the headers of a database from a sequence number on. */
struct store_scan {
    struct store_db *db;
    struct kv_iter *iter;
    bool stands; /* on the record given last */
};
enum gfs_err store_scan_start(struct store_scan *scan, struct store_db *db,
                              uint64_t from_seq) GFS_MUST_CHECK;
/* NOT_FOUND at the end. A damaged header is CORRUPT: the scan may go on behind it. A map is valid
 * until the next call; one that is damaged is NULL. */
enum gfs_err store_scan_next(struct store_scan *scan,
                             struct store_record *ret_record) GFS_MUST_CHECK;
void store_scan_release(struct store_scan *scan);

void store_db_unref(struct store_db *db);
/* Closes and removes a database of which the caller has the only reference. Long. */
enum gfs_err store_db_destroy(struct store_db *take_db) GFS_MUST_CHECK;
/* fsync of a directory. */
enum gfs_err store_dir_sync(const char *path) GFS_MUST_CHECK;

#endif
