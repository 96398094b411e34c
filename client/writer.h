/*
 * writer: the bytes written to one open file, on their way to the chunkservers.
 *
 *   user threads                            any thread, under `lock`      loop thread
 *   write -> filling (one mutation,         write_window: what is         answers, timers
 *   block-aligned, copied, CRCs made) ----> in flight, leases   <-------> PUSH, WRITE, LEASE, PING
 *   sync: wait for all, COMMIT              writer_pump sends             writer_rpc.c
 *
 * User threads that write are serialized by user_lock; it is held while waiting for room or for
 * sync, `lock` never while waiting for anything but `changed`. Order: user_lock, then lock.
 * A writer lives until the user let go of it and the last answer is in (refs).
 */
#ifndef CLIENT_WRITER_H
#define CLIENT_WRITER_H

#include <pthread.h>

#include "block_crc.h"
#include "buf.h"
#include "fs.h"
#include "master.pb-c.h"
#include "write_window.h"

struct writer;

struct writer_mutation {
    struct write_mutation core; /* first */
    uint32_t chunk_index;
    struct buf *data;
    size_t crc_count;
    uint32_t crcs[BLOCK_CRC_MAX];

    /* under the writer's lock */
    int refs;                /* the window's or the filling user's, and one a call in flight */
    uint8_t id[FS_ID_BYTES]; /* of the bytes pushed by the current attempt */
    uint64_t sequence;       /* the writer's number for it, over all attempts */
    bool sent;               /* a WRITE of it was sent: another is a retry */
};

struct writer {
    /* set when made, then only read */
    struct gfs *fs;
    char *path; /* for error texts */
    uint64_t inode;
    uint32_t chunk_size_bytes;
    bool anonymous;    /* the master forgets the file unless it hears of it */
    uint64_t producer; /* with a mutation's sequence: a retry is known by it */

    /* user threads, under user_lock */
    pthread_mutex_t user_lock;
    struct writer_mutation *filling;
    uint32_t filling_max_bytes;
    uint64_t end_bytes;           /* of what was written: the least length of the file */
    uint64_t committed_end_bytes; /* of it, what the master knows */

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct write_window window;
    uint64_t sequence; /* the last one given */
    int refs;
    bool abandoned;
    bool task_posted;
    char detail[256]; /* what went wrong last, for the error text */

    /* loop thread */
    struct loop_task task;
    struct loop_task free_task;
    struct loop_timer timer;
    struct loop_timer keep_timer;
    bool timers_made;
};

/* lease: of chunk 0, as CREATE gave it, or NULL. */
enum gfs_err writer_new(struct gfs *fs, const char *path, uint64_t inode, uint32_t chunk_size_bytes,
                        bool anonymous, const struct write_lease *lease,
                        struct writer **ret_writer) GFS_MUST_CHECK;
/* Lets go: what is not acknowledged may or may not be written. NULL is fine. */
void writer_free(struct writer *writer);

enum gfs_err writer_write(struct writer *writer, uint64_t offset, const void *data,
                          size_t len_bytes) GFS_MUST_CHECK;
/* Waits until all is durable, then COMMIT. */
enum gfs_err writer_sync(struct writer *writer) GFS_MUST_CHECK;
/* Waits until all is durable, then PUBLISH under the writer's path. */
enum gfs_err writer_publish(struct writer *writer, bool replace) GFS_MUST_CHECK;
/* Whether something was written that the master was not told of. */
bool writer_is_dirty(struct writer *writer);

/* ---- between writer*.c --------------------------------------------------------------------- */

/* Sends whatever is due. Lock held. */
void writer_pump(struct writer *writer);
void writer_ref(struct writer *writer);        /* lock held */
void writer_unlock_unref(struct writer *take); /* lock held: unlocks, and frees with the last */
void writer_mutation_unref(struct writer_mutation *take); /* lock held */
struct write_moment writer_moment(struct writer *writer);
/* Sets the error text from the window's error. Lock held. Returns the error. */
enum gfs_err writer_failed(struct writer *writer);
/* Says in the detail how acknowledged bytes came to be lost. Lock held. */
void writer_note_lost(struct writer *writer, enum gfs_err err);
/* The RPCs of effects, lock held. */
void writer_send_lease(struct writer *writer, struct write_chunk *chunk);
void writer_send_probe(struct writer *writer, struct write_chunk *chunk);
void writer_send_push(struct writer *writer, struct writer_mutation *mutation);
void writer_send_write(struct writer *writer, struct writer_mutation *mutation);
void writer_send_keep_alive(struct writer *writer);
/* Who of the lease is at fault when its primary answered so; bit i: replica i. */
uint32_t writer_blame(const struct write_lease *lease, const struct rpc_answer *answer);
/* PROTO when it makes no sense. */
enum gfs_err writer_take_lease(const Gfs__Lease *msg, uint32_t chunk_size_bytes,
                               struct write_lease *ret_lease) GFS_MUST_CHECK;
enum gfs_err writer_take_replicas(Gfs__Replica *const *msgs, size_t count,
                                  struct write_lease *ret_lease) GFS_MUST_CHECK;
/* Tells the master of chunks that are done, user_lock held: COMMIT, or PUBLISH with `publish`. */
struct writer_commit_args {
    uint64_t length_bytes; /* of the file, 0: what the chunks make */
    const Gfs__PublishRequest *publish;
};
enum gfs_err writer_commit(struct writer *writer,
                           const struct writer_commit_args *args) GFS_MUST_CHECK;

#endif
