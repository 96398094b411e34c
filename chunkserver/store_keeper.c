/* The keeper: a thread of low priority that looks after free space, the watermark and compaction.
 */
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "store_impl.h"

#define STORE_KEEPER_PERIOD_MS 1000
#define STORE_KEEPER_NICE      10

enum gfs_err store_space_refresh(struct store *store)
{
    struct statvfs fs;
    if (statvfs(store->path, &fs) != 0)
        return GFS_ERR_LOCAL;
    store->capacity_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    store->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    store->full = store->free_bytes < store->opts.free_min_bytes;
    return GFS_OK;
}

enum gfs_err store_watermark_advance(struct store *store)
{
    uint64_t seq = store->applied_seq;
    uint64_t bytes = store->bytes_logged;
    if (seq == store->watermark_seq)
        return GFS_OK;
    enum gfs_err err = store_index_advance(store->index, seq);
    if (err != GFS_OK)
        return err;
    store->watermark_seq = seq;
    store->watermark_bytes = bytes;
    return GFS_OK;
}

/* Waits for a second or until there is something to do. True when the thread is to end. */
static bool keeper_wait(struct store *store)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STORE_KEEPER_PERIOD_MS / 1000;
    pthread_mutex_lock(&store->queue_lock);
    int timed_out = 0;
    while (!store->keeper_stopping && store->sealed_db == NULL && timed_out == 0)
        timed_out = pthread_cond_timedwait(&store->keeper_wake, &store->queue_lock, &until);
    bool end = store->keeper_stopping;
    pthread_mutex_unlock(&store->queue_lock);
    return end;
}

/* A sealed database's write buffer is memory for nothing. */
static void sealed_flush(struct store *store)
{
    pthread_mutex_lock(&store->queue_lock);
    struct store_db *db = store->sealed_db;
    store->sealed_db = NULL;
    pthread_mutex_unlock(&store->queue_lock);
    if (db == NULL)
        return;
    kv_flush(db->kv);
    store_db_unref(db);
}

/* Notes how far the log had come unsettled_ms ago: after a crash, what lies behind it is in doubt.
 */
static enum gfs_err settled_note(struct store *store)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    uint64_t settled_seq = store->settled_seq;
    for (size_t i = 0; i < STORE_SETTLE_SLOTS; i++)
        if (store->settle_seq[i] > settled_seq &&
            now_ms - store->settle_ms[i] >= store->opts.unsettled_ms)
            settled_seq = store->settle_seq[i];
    /* The slots together must reach back far enough. */
    size_t last = (store->settle_next + STORE_SETTLE_SLOTS - 1) % STORE_SETTLE_SLOTS;
    if (now_ms - store->settle_ms[last] >= 2 * store->opts.unsettled_ms / STORE_SETTLE_SLOTS) {
        store->settle_ms[store->settle_next] = now_ms;
        store->settle_seq[store->settle_next] = store->applied_seq;
        store->settle_next = (store->settle_next + 1) % STORE_SETTLE_SLOTS;
    }
    if (settled_seq == store->settled_seq || store->settled_held)
        return GFS_OK;
    struct kv_batch *batch = kv_batch_new();
    if (batch == NULL)
        return GFS_OK; /* next time */
    store_index_put_settled(batch, settled_seq);
    enum gfs_err err = store_index_write(store->index, batch);
    kv_batch_free(batch);
    if (err == GFS_OK)
        store->settled_seq = settled_seq;
    return err;
}

void *store_keeper_main(void *arg)
{
    struct store *store = arg;
    /* On Linux a thread has a nice value of its own; without it all works, less evenly. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), STORE_KEEPER_NICE);
    while (!keeper_wait(store)) {
        sealed_flush(store);
        if (store->failed)
            continue;
        enum gfs_err err = store_space_refresh(store);
        if (err == GFS_OK)
            err = settled_note(store);
        if (err == GFS_OK &&
            store->bytes_logged - store->watermark_bytes >= store->opts.replay_max_bytes)
            err = store_watermark_advance(store);
        if (err != GFS_OK)
            store_fail_index(store, err);
        else
            while (store_compact_step(store))
                ;
    }
    return NULL;
}
