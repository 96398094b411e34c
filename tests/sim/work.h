/*
 * work: what the clients of a simulated cluster do, through include/gfs.h, and what they saw.
 *
 *   worker (a coroutine on a client's node)
 *     region   writes and reads registers in files that all share          work_region.c
 *     append   appends records to logs that all share, follows them        work_append.c
 *     name     makes, moves, removes and looks up a few names              work_name.c
 *     own      does everything to a file of its own, and knows each byte   work_own.c
 *     copy     takes snapshots; what is copied is shared with the others   work_copy.c
 *
 * Every operation is in the history (history.h) with its call and its return; one that was under
 * way when its client was killed, or that failed in a way that tells nothing, stays open. At the
 * end, without faults, everything is read once more and the history is checked (work_final.c).
 * What is kept here belongs to the simulator: it survives every node.
 */
#ifndef TESTS_SIM_WORK_H
#define TESTS_SIM_WORK_H

#include "gfs.h"
#include "sim.h"
#include "tests/sim/history.h"

#define WORK_FILES_MAX   12u /* shared ones, copies included */
#define WORK_LOGS_MAX    8u
#define WORK_REGIONS     12u
#define WORK_WORKERS_MAX 24u
#define WORK_PENDING_MAX 4u
#define WORK_PATH_BYTES  40u
#define WORK_TIMEOUT_MS  15000u
#define WORK_SHARED      "/shared" /* the directory of the first shared files and logs */

enum work_kind {
    WORK_REGION,
    WORK_APPEND,
    WORK_NAME,
    WORK_OWN,
    WORK_COPY,
    WORK_KINDS,
};

struct work_region {
    uint64_t offset;
    uint32_t len_bytes; /* a multiple of 8, within one chunk */
};
extern const struct work_region work_regions[WORK_REGIONS];

struct worker {
    enum work_kind kind;
    struct sim_node *node;
    uint32_t proc;  /* new with every life */
    uint32_t index; /* for ever */
    uint32_t left;  /* operations */
    bool over;
    struct gfs *fs;
    struct history_op pending[WORK_PENDING_MAX];
    uint32_t pending_count;
    uint32_t lives;
};

struct work_record {
    uint64_t value, offset;
    uint64_t len_bytes; /* in the file */
};

/* A record that somebody has read: at the end it is there, at its place. */
struct work_sight {
    uint32_t log;
    struct work_record record;
};

/* A file that everybody knows. */
struct work_file {
    char path[WORK_PATH_BYTES];
};

struct work {
    struct history history;
    struct work_file files[WORK_FILES_MAX]; /* of regions; object = index * WORK_REGIONS + region */
    uint32_t file_count;
    struct work_file logs[WORK_LOGS_MAX]; /* object = WORK_LOG_OBJECTS + index */
    uint32_t log_count;
    struct work_sight *sights;
    size_t sight_count;
    struct worker workers[WORK_WORKERS_MAX];
    uint32_t worker_count;
    uint32_t procs;
    uint64_t values;
    uint32_t goal;
    uint64_t done; /* operations that succeeded, by kind for the line at the end */
    uint64_t failed;
    bool final_begun, final_over;
};

/* ---- work.c ---- */
/* Never 0, never twice. */
uint64_t work_value(void);
uint64_t work_draw(uint64_t below);
struct gfs_create_options work_create_options(void);
/* The operation begins now: it is pending until work_end, or stays open when its client is killed.
 * Returns its place. */
uint32_t work_call(struct worker *worker, const struct history_op *op);
struct history_op *work_pending(struct worker *worker, uint32_t place);
/* All that is pending ends now. done false: with open outcome. */
void work_end(struct worker *worker, bool done);
/* What is pending did surely not happen. */
void work_drop(struct worker *worker);
/* Is this an error that the cluster may give now? Else the seed fails. what: for the message. */
void work_judge(const struct worker *worker, enum gfs_err err, const char *what, const char *path);
void work_seen(uint32_t log, const struct work_record *record);
/* NULL: not now. */
struct gfs_file *work_open(struct worker *worker, const char *path, int flags);

/* ---- one of each kind ---- */
void work_region_run(struct worker *worker);
void work_append_run(struct worker *worker);
void work_name_run(struct worker *worker);
void work_own_run(struct worker *worker);
void work_copy_run(struct worker *worker);

/* work_region.c: reads all of a register's file; the value, 0 where nothing was written. GFS_OK
 * only. */
enum gfs_err work_region_read(struct gfs_file *file, uint32_t region,
                              uint64_t *ret_value) GFS_MUST_CHECK;
/* work_append.c */
/* All records of a log; *ret_records is malloc'd. Fails the seed on bytes that are none. */
enum gfs_err work_log_read(struct worker *worker, struct gfs_file *file, uint64_t *offset,
                           struct work_record **ret_records, size_t *ret_count) GFS_MUST_CHECK;

/* work_final.c: a coroutine that reads and checks everything. */
void work_final_run(void *arg);

#endif
