/*
 * storepool: the bounded pool of threads that may block on the store. Floor 6. Thread-safe.
 *
 * Jobs run in the order of submission, except that jobs of one key never take more than half of the
 * threads (at least one): a chunk whose disk is slow does not make the others wait. With one thread
 * it is the sequential server.
 */
#ifndef CHUNKSERVER_STOREPOOL_H
#define CHUNKSERVER_STOREPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define STOREPOOL_THREADS_MAX 64u

struct storepool;

struct storepool_job {
    void (*fn)(struct storepool_job *job); /* on a pool thread; the job is the caller's again */
    uint64_t key;                          /* 0: none */
    struct storepool_job *next;            /* the pool's */
};

enum gfs_err storepool_new(size_t thread_count, size_t queue_max,
                           struct storepool **ret_pool) GFS_MUST_CHECK;
/* Runs what is queued, joins the threads. NULL is fine. */
void storepool_free(struct storepool *pool);
/* BUSY: the queue is full; fn will not be called. */
enum gfs_err storepool_submit(struct storepool *pool, struct storepool_job *job) GFS_MUST_CHECK;

#endif
