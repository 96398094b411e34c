/* Threads that may block on the store. See the header. */
#include "chunkserver/storepool.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct storepool {
    size_t thread_max; /* read-only after start */
    size_t queue_max;
    size_t per_key_max;
    pthread_t threads[STOREPOOL_THREADS_MAX];

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t wake;
    struct storepool_job *first;
    struct storepool_job **last;
    size_t queued;
    size_t thread_count;
    uint64_t running[STOREPOOL_THREADS_MAX]; /* keys of the jobs being run */
    size_t running_count;
    bool stopping;
};

static bool key_may_run(const struct storepool *pool, uint64_t key)
{
    size_t same = 0;

    if (key == 0)
        return true;
    for (size_t i = 0; i < pool->running_count; i++)
        same += pool->running[i] == key;
    return same < pool->per_key_max;
}

/* The first job in the queue whose key has room. */
static struct storepool_job *job_take(struct storepool *pool)
{
    for (struct storepool_job **at = &pool->first; *at; at = &(*at)->next) {
        struct storepool_job *job = *at;

        if (!key_may_run(pool, job->key))
            continue;
        *at = job->next;
        if (!*at)
            pool->last = at;
        pool->queued--;
        pool->running[pool->running_count++] = job->key;
        return job;
    }
    return NULL;
}

static void key_done(struct storepool *pool, uint64_t key)
{
    for (size_t i = 0; i < pool->running_count; i++) {
        if (pool->running[i] == key) {
            pool->running[i] = pool->running[--pool->running_count];
            return;
        }
    }
}

static void *storepool_thread(void *arg)
{
    struct storepool *pool = arg;

    pthread_setname_np(pthread_self(), "gfs-store");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct storepool_job *job = job_take(pool);
        uint64_t key;

        if (!job) {
            if (pool->stopping && pool->queued == 0)
                break;
            pthread_cond_wait(&pool->wake, &pool->lock);
            continue;
        }
        key = job->key;
        pthread_mutex_unlock(&pool->lock);
        job->fn(job);
        pthread_mutex_lock(&pool->lock);
        key_done(pool, key);
    }
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

enum gfs_err storepool_new(size_t thread_count, size_t queue_max, struct storepool **ret_pool)
{
    struct storepool *pool;
    sigset_t all, old;
    int rc = 0;

    if (thread_count == 0 || thread_count > STOREPOOL_THREADS_MAX || queue_max == 0)
        return GFS_ERR_INVAL;
    pool = calloc(1, sizeof *pool);
    if (!pool)
        return GFS_ERR_NO_MEMORY;
    pool->thread_max = thread_count;
    pool->queue_max = queue_max;
    pool->per_key_max = (thread_count + 1) / 2;
    pool->last = &pool->first;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (rc == 0 && pool->thread_count < thread_count) {
        rc = pthread_create(&pool->threads[pool->thread_count], NULL, storepool_thread, pool);
        pool->thread_count += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        storepool_free(pool);
        return GFS_ERR_NO_MEMORY;
    }
    *ret_pool = pool;
    return GFS_OK;
}

void storepool_free(struct storepool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

enum gfs_err storepool_submit(struct storepool *pool, struct storepool_job *job)
{
    enum gfs_err err = GFS_OK;

    pthread_mutex_lock(&pool->lock);
    if (pool->queued >= pool->queue_max) {
        err = GFS_ERR_BUSY;
    } else {
        job->next = NULL;
        *pool->last = job;
        pool->last = &job->next;
        pool->queued++;
        pthread_cond_signal(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return err;
}
