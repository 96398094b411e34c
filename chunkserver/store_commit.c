/*
 * The committer: one thread that turns what waits into one synced batch after another.
 *
 *      gather -> stage (judge, write records) -> commit (sync) -> apply to the delta
 *             -> publish (index, table; under the publish lock) -> done callbacks
 *
 * Nothing is visible to readers before it is durable. When a commit fails nothing of it was
 * published, and its records are cut off by the name of the next database. When the index fails the
 * records are durable but unseen: the store fails and recovery brings them in.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "store_impl.h"

/* A delete of 64 MiB counts as a write of 256 KiB. */
#define STORE_DELETE_WEIGHT 256
/* What a record counts for the watermark beside its data, so that replay is bounded in records. */
#define STORE_RECORD_WEIGHT_BYTES 1024
/* After a small batch that was not alone the next one waits a moment for company: fewer syncs. */
#define STORE_GATHER_US    500u
#define STORE_GATHER_BYTES (128u << 10)

void store_counters_refresh(struct store *store)
{
    uint64_t used = 0;
    for (size_t i = 0; i < store->log.set->count; i++) {
        const struct store_db *db = store->log.set->dbs[i];
        int64_t live = (int64_t)__atomic_load_n(&db->live_bytes, __ATOMIC_RELAXED);
        int64_t total = (int64_t)__atomic_load_n(&db->total_bytes, __ATOMIC_RELAXED);
        /* What several chunks share is alive once for each of them, and there once. After a crash
         * the hint may be below zero. */
        used += (uint64_t)(live > total ? total : live > 0 ? live : 0);
    }
    store->used_bytes = used;
    store->chunk_count = store->table.count;
}

static bool batch_has_room(const struct store *store, uint64_t bytes)
{
    return store->item_count < STORE_BATCH_ITEMS_MAX &&
           store->record_count + STORE_PIECES_MAX <= STORE_BATCH_RECORDS_MAX &&
           (store->item_count == 0 || bytes < store->opts.batch_bytes);
}

/* Index entries are work too: about as long as writing this many bytes. */
static uint64_t delete_weight(const struct store *store, uint64_t handle)
{
    const struct store_entry *entry = store_table_find(&store->table, handle);
    return entry != NULL ? entry->length_bytes / STORE_DELETE_WEIGHT : 0;
}

/* A copy lists its source's extents, which change only when a batch is applied. */
static bool has_to_be_first(const struct store *store, const struct store_mutation *mutation)
{
    return mutation->op == STORE_OP_COPY && store->item_count > 0;
}

/*
 * The next thing to stage: tasks first, they are few. None behind a mutation of the same batch: a
 * rewrite compares extents, which change only when the batch is applied. False when nothing waits.
 */
static bool queue_take(struct store *store, struct store_item *ret_item, uint64_t *bytes)
{
    bool taken = true;
    bool tasks = store->item_count == 0 || store->items[store->item_count - 1].task != NULL;
    pthread_mutex_lock(&store->queue_lock);
    *ret_item = (struct store_item){0};
    if (store->task_first != NULL && tasks) {
        struct store_task *task = store->task_first;
        ret_item->task = task;
        store->task_first = task->next;
        if (store->task_first == NULL)
            store->task_tail = &store->task_first;
        *bytes += task->length_bytes;
    } else if (store->queue_first != NULL && !has_to_be_first(store, store->queue_first)) {
        struct store_mutation *mutation = store->queue_first;
        ret_item->mutation = mutation;
        store->queue_first = mutation->next;
        if (store->queue_first == NULL)
            store->queue_tail = &store->queue_first;
        if (mutation->op == STORE_OP_WRITE)
            *bytes += mutation->length_bytes;
        else if (mutation->op == STORE_OP_DELETE)
            *bytes += delete_weight(store, mutation->handle);
    } else {
        taken = false;
    }
    pthread_mutex_unlock(&store->queue_lock);
    return taken;
}

/* ---- merging of crowded blocks --------------------------------------------------------------- */

void store_crowd_add(void *arg, uint64_t handle, uint32_t block)
{
    struct store *store = arg;
    if (store->crowded_count < STORE_CROWDED_MAX)
        store->crowded[store->crowded_count++] =
            (struct store_crowd){.handle = handle, .block = block};
}

static void crowd_done(struct store_task *task, enum gfs_err err)
{
    free(task->data);
    free(task->extents);
    free(task);
}

/* A task that rewrites the block, NULL when it cannot be read (the next reader will find that). */
static struct store_task *crowd_task(struct store *store, const struct store_crowd *crowd)
{
    const struct store_entry *entry = store_table_find(&store->table, crowd->handle);
    struct store_task *task = calloc(1, sizeof(*task));
    if (entry == NULL || task == NULL)
        goto fail;
    task->kind = STORE_TASK_REWRITE;
    task->handle = crowd->handle;
    task->block = crowd->block;
    task->done = crowd_done;
    const struct store_extent *extents;
    if (store_delta_block(&store->delta, crowd->handle, crowd->block, &extents,
                          &task->extent_count) != GFS_OK ||
        task->extent_count < 2)
        goto fail;
    task->extents = malloc(task->extent_count * sizeof(*extents));
    if (task->extents == NULL)
        goto fail;
    memcpy(task->extents, extents, task->extent_count * sizeof(*extents));
    if (store_block_assemble(store->log.set, entry->family, crowd->block, task->extents,
                             task->extent_count, &task->data, &task->start_bytes,
                             &task->length_bytes, &task->crc) != GFS_OK)
        goto fail;
    return task;
fail:
    if (task != NULL)
        crowd_done(task, GFS_ERR_CORRUPT);
    return NULL;
}

/* ---- one commit ------------------------------------------------------------------------------ */

static enum gfs_err batch_stage_one(struct store *store, struct store_item item)
{
    store->items[store->item_count] = item;
    return store_stage_item(store, &store->items[store->item_count++]);
}

/* Until the batch is big enough or nothing waits. */
static enum gfs_err batch_gather(struct store *store)
{
    uint64_t bytes = 0;
    while (store->crowded_count > 0 && !store->full && batch_has_room(store, bytes)) {
        struct store_task *task = crowd_task(store, &store->crowded[--store->crowded_count]);
        if (task == NULL)
            continue;
        bytes += task->length_bytes;
        enum gfs_err err = batch_stage_one(store, (struct store_item){.task = task});
        if (err != GFS_OK)
            return err;
    }
    struct store_item item;
    while (batch_has_room(store, bytes) && queue_take(store, &item, &bytes)) {
        enum gfs_err err = batch_stage_one(store, item);
        if (err != GFS_OK)
            return err;
    }
    return GFS_OK;
}

static enum gfs_err batch_apply(struct store *store)
{
    for (size_t i = 0; i < store->record_count; i++) {
        enum gfs_err err = store_delta_blocks(&store->delta, &store->records[i]);
        if (err != GFS_OK)
            return err;
    }
    uint64_t last_seq = store->log.next_seq - 1;
    pthread_rwlock_wrlock(&store->publish);
    enum gfs_err err = store_delta_write(&store->delta, last_seq);
    if (err == GFS_OK) {
        pthread_mutex_lock(&store->table_lock);
        err = store_delta_publish(&store->delta, &store->table);
        pthread_mutex_unlock(&store->table_lock);
    }
    store_counters_refresh(store);
    pthread_rwlock_unlock(&store->publish);
    if (err == GFS_OK)
        store->applied_seq = last_seq;
    return err;
}

/* A database to append to: the active one, or a new one when that is full or has failed. */
static enum gfs_err batch_prepare(struct store *store)
{
    struct store_db *before = store->log.active;
    struct store_set *set;
    enum gfs_err err = store_log_prepare(&store->log, &set);
    if (err != GFS_OK || set == NULL)
        return err;
    pthread_rwlock_wrlock(&store->publish);
    store_log_publish(&store->log, set);
    pthread_rwlock_unlock(&store->publish);
    pthread_mutex_lock(&store->queue_lock);
    if (before != NULL && store->sealed_db == NULL) {
        __atomic_add_fetch(&before->refs, 1, __ATOMIC_ACQ_REL);
        store->sealed_db = before;
        pthread_cond_signal(&store->keeper_wake);
    }
    pthread_mutex_unlock(&store->queue_lock);
    return GFS_OK;
}

/* Compaction has emptied a database: nothing refers to it any more. */
static void db_drop(struct store *store)
{
    pthread_mutex_lock(&store->queue_lock);
    struct store_db *db = store->drop_db;
    pthread_mutex_unlock(&store->queue_lock);
    if (db == NULL)
        return;
    enum gfs_err err = store_index_forget_db(store->index, db->first_seq);
    struct store_set *set = err == GFS_OK ? store_log_without(&store->log, db) : NULL;
    if (err == GFS_OK && set == NULL)
        err = GFS_ERR_NO_MEMORY;
    if (err == GFS_OK) {
        pthread_rwlock_wrlock(&store->publish);
        store_log_publish(&store->log, set);
        pthread_rwlock_unlock(&store->publish);
    }
    pthread_mutex_lock(&store->queue_lock);
    store->drop_db = NULL;
    store->drop_err = err;
    pthread_cond_broadcast(&store->synced);
    pthread_mutex_unlock(&store->queue_lock);
}

static enum gfs_err batch_commit(struct store *store)
{
    if (store->failed)
        return GFS_ERR_IO;
    if (store->record_count == 0)
        return GFS_OK;
    uint64_t bytes = store->log.staged_bytes + store->record_count * STORE_RECORD_WEIGHT_BYTES;
    enum gfs_err err = store_log_commit(&store->log);
    if (err == GFS_ERR_NO_SPACE)
        store->full = true;
    else if (err != GFS_OK)
        store_fail(store, err);
    if (err != GFS_OK)
        return err == GFS_ERR_NO_SPACE ? err : GFS_ERR_IO;
    store->commits++;
    store->bytes_logged += bytes;
    err = batch_apply(store);
    if (err == GFS_OK) {
        store_delta_find_crowded(&store->delta, store_crowd_add, store);
        return GFS_OK;
    }
    store_fail_index(store, err);
    return GFS_ERR_IO;
}

static void batch_done(struct store *store, enum gfs_err err)
{
    uint64_t completed = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < store->item_count; i++) {
        struct store_item *item = &store->items[i];
        enum gfs_err item_err = err != GFS_OK ? err : item->err;
        if (item->task != NULL) {
            item->task->done(item->task, item_err);
            continue;
        }
        completed++;
        bytes += item->mutation->op == STORE_OP_WRITE || item->mutation->op == STORE_OP_REPAIR
                     ? item->mutation->length_bytes
                     : 0;
        bytes += sizeof(struct store_mutation);
        item->mutation->done(item->mutation, item_err);
    }
    store->gathers = completed > 1 && bytes < STORE_GATHER_BYTES;
    pthread_mutex_lock(&store->queue_lock);
    store->completed_count += completed;
    store->queue_bytes -= bytes;
    pthread_cond_broadcast(&store->synced);
    pthread_mutex_unlock(&store->queue_lock);
}

static void batch_run(struct store *store)
{
    store->item_count = 0;
    store->record_count = 0;
    db_drop(store);
    enum gfs_err err = store->failed ? GFS_ERR_IO : batch_prepare(store);
    if (err == GFS_ERR_NO_SPACE)
        store->full = true;
    else if (err != GFS_OK)
        store_fail(store, err);
    store_delta_clear(&store->delta, store->log.set);
    enum gfs_err stage_err = batch_gather(store);
    if (stage_err != GFS_OK && stage_err != GFS_ERR_NO_MEMORY)
        store_fail_index(store, stage_err);
    if (err == GFS_OK)
        err = stage_err;
    if (err == GFS_OK)
        err = batch_commit(store);
    else
        store_log_unstage(&store->log);
    batch_done(store, err);
}

void *store_committer_main(void *arg)
{
    struct store *store = arg;
    for (;;) {
        pthread_mutex_lock(&store->queue_lock);
        while (store->queue_first == NULL && store->task_first == NULL && store->drop_db == NULL &&
               !store->stopping && (store->crowded_count == 0 || store->failed || store->full))
            pthread_cond_wait(&store->queue_wake, &store->queue_lock);
        bool end = store->stopping && store->queue_first == NULL && store->task_first == NULL;
        pthread_mutex_unlock(&store->queue_lock);
        if (end)
            return NULL;
        if (store->gathers)
            clock_sleep_us(STORE_GATHER_US);
        batch_run(store);
    }
}
