/*
 * Compaction: what still lives in a sealed database is appended to the log again, then the
 * database is removed whole.
 *
 *   1 pass over its headers: blocks with bytes in it are rewritten, through the committer like any
 *     mutation, unless they changed meanwhile; again, until a pass finds none
 *   2 records that older databases still need to be understood (deletions, truncations, copies) are
 *     carried on; chunks whose newest record is here get a new one
 *   3 the watermark passes all that: no replay will need the database
 *   4 the committer takes it out of the set; when the last reader has let go it is removed
 *
 * A crash anywhere leaves the database, or nothing that is needed. No new reference to it can
 * arise: writes refer to new records, and a copy only to what its source refers to; copies made
 * during a pass make it count as not clean.
 */
#include <stdlib.h>
#include <string.h>

#include "store_impl.h"

#define STORE_COMPACT_PASSES     16
#define STORE_COMPACT_WINDOW     4  /* rewrites in flight: paced by the commits they wait for */
#define STORE_COMPACT_WINDOW_LOW 16 /* when space is short */

struct store_member {
    uint64_t family;
    uint64_t handle;
};

struct store_compact {
    struct store *store;
    struct store_set *set;
    struct store_db *db;
    unsigned window;
    uint64_t submitted; /* in this pass */
    /* chunks that are copies, ordered by family */
    struct store_member *members;
    size_t member_count;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned inflight;
    enum gfs_err err; /* the first that means giving up */
};

static bool compact_stopped(struct store_compact *compact)
{
    struct store *store = compact->store;
    pthread_mutex_lock(&store->queue_lock);
    bool stop = store->keeper_stopping;
    pthread_mutex_unlock(&store->queue_lock);
    pthread_mutex_lock(&compact->lock);
    stop = stop || compact->err != GFS_OK;
    pthread_mutex_unlock(&compact->lock);
    return stop || store->failed;
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static void task_free(struct store_task *task)
{
    free(task->data);
    free(task->extents);
    free(task);
}

static void task_done(struct store_task *task, enum gfs_err err)
{
    struct store_compact *compact = task->arg;
    pthread_mutex_lock(&compact->lock);
    /* BUSY: the block changed meanwhile; the next pass looks again. */
    if (err != GFS_OK && err != GFS_ERR_BUSY && compact->err == GFS_OK)
        compact->err = err;
    compact->inflight--;
    pthread_cond_signal(&compact->wake);
    pthread_mutex_unlock(&compact->lock);
    task_free(task);
}

static void inflight_wait(struct store_compact *compact, unsigned below)
{
    pthread_mutex_lock(&compact->lock);
    while (compact->inflight >= below)
        pthread_cond_wait(&compact->wake, &compact->lock);
    pthread_mutex_unlock(&compact->lock);
}

static void task_send(struct store_compact *compact, struct store_task *take_task)
{
    take_task->done = task_done;
    take_task->arg = compact;
    inflight_wait(compact, compact->window);
    pthread_mutex_lock(&compact->lock);
    compact->inflight++;
    pthread_mutex_unlock(&compact->lock);
    compact->submitted++;
    store_task_submit(compact->store, take_task);
}

/* ---- moving of blocks ------------------------------------------------------------------------ */

static bool entry_find(struct store *store, uint64_t handle, struct store_entry *ret_entry)
{
    pthread_mutex_lock(&store->table_lock);
    const struct store_entry *entry = store_table_find(&store->table, handle);
    if (entry != NULL)
        *ret_entry = *entry;
    pthread_mutex_unlock(&store->table_lock);
    return entry != NULL;
}

static bool in_db(const struct store_compact *compact, uint64_t seq)
{
    return seq >= compact->db->first_seq && seq <= compact->db->upto_seq;
}

/* A corrupt chunk is not worth moving: it is repaired from elsewhere. */
static enum gfs_err block_move(struct store_compact *compact, uint64_t handle, uint32_t block)
{
    struct store *store = compact->store;
    struct store_entry entry;
    struct store_extent extents[STORE_EXTENTS_MAX];
    size_t count;
    if (!entry_find(store, handle, &entry) || (entry.flags & STORE_ENTRY_CORRUPT))
        return GFS_OK;
    enum gfs_err err = store_index_block(store->index, handle, block, extents, &count);
    if (err != GFS_OK) {
        store_fail_index(store, err);
        return err;
    }
    bool here = false;
    for (size_t i = 0; i < count; i++)
        here = here || in_db(compact, extents[i].seq);
    if (!here)
        return GFS_OK;
    struct store_task *task = calloc(1, sizeof(*task));
    if (task == NULL)
        return GFS_ERR_NO_MEMORY;
    task->kind = STORE_TASK_REWRITE;
    task->handle = handle;
    task->block = block;
    task->extent_count = count;
    task->extents = malloc(count * sizeof(*extents));
    if (task->extents == NULL) {
        task_free(task);
        return GFS_ERR_NO_MEMORY;
    }
    memcpy(task->extents, extents, count * sizeof(*extents));
    pthread_rwlock_rdlock(&store->publish);
    struct store_set *set = store_log_pin(&store->log);
    pthread_rwlock_unlock(&store->publish);
    err = store_block_assemble(set, entry.family, block, extents, count, &task->data,
                               &task->start_bytes, &task->length_bytes, &task->crc);
    store_set_unref(set);
    if (err == GFS_OK) {
        task_send(compact, task);
        return GFS_OK;
    }
    task_free(task);
    if (err == GFS_ERR_NO_MEMORY)
        return err;
    store_mark_corrupt(store, handle);
    return GFS_OK;
}

static int member_order(const void *a, const void *b)
{
    const struct store_member *left = a;
    const struct store_member *right = b;
    if (left->family != right->family)
        return left->family < right->family ? -1 : 1;
    return left->handle < right->handle ? -1 : left->handle > right->handle;
}

static enum gfs_err members_collect(struct store_compact *compact)
{
    struct store *store = compact->store;
    struct store_table *table = &store->table;
    free(compact->members);
    compact->member_count = 0;
    pthread_mutex_lock(&store->table_lock);
    size_t left = table->copy_count;
    compact->members = malloc((left + 1) * sizeof(*compact->members));
    const struct store_entry *entry = store_table_at_least(table, 0);
    while (compact->members != NULL && left > 0 && entry != NULL) {
        if (entry->family != entry->handle) {
            compact->members[compact->member_count++] =
                (struct store_member){.family = entry->family, .handle = entry->handle};
            left--;
        }
        entry = store_table_at_least(table, entry->handle + 1);
    }
    pthread_mutex_unlock(&store->table_lock);
    if (compact->members == NULL)
        return GFS_ERR_NO_MEMORY;
    qsort(compact->members, compact->member_count, sizeof(*compact->members), member_order);
    return GFS_OK;
}

/* The record may serve the chunk it was written for and every copy of it. */
static enum gfs_err record_move(struct store_compact *compact, const struct store_record *record)
{
    uint32_t block = record->offset_bytes >> GFS_BLOCK_SHIFT;
    enum gfs_err err = block_move(compact, record->family, block);
    size_t low = 0;
    size_t high = compact->member_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compact->members[middle].family < record->family)
            low = middle + 1;
        else
            high = middle;
    }
    for (; err == GFS_OK && low < compact->member_count &&
           compact->members[low].family == record->family;
         low++)
        err = block_move(compact, compact->members[low].handle, block);
    return err;
}

typedef enum gfs_err (*store_compact_each)(struct store_compact *compact,
                                           const struct store_record *record);

static enum gfs_err scan_each(struct store_compact *compact, store_compact_each each)
{
    struct store_scan scan;
    struct store_record record;
    enum gfs_err err = store_scan_start(&scan, compact->db, 0);
    if (err != GFS_OK)
        return err;
    while ((err = store_scan_next(&scan, &record)) == GFS_OK || err == GFS_ERR_CORRUPT) {
        if (err == GFS_ERR_CORRUPT)
            continue; /* its block fails to be read, if it lives */
        err = each(compact, &record);
        if (err == GFS_OK && compact_stopped(compact))
            err = GFS_ERR_CANCELLED;
        if (err != GFS_OK)
            break;
    }
    store_scan_release(&scan);
    inflight_wait(compact, 1);
    if (err == GFS_ERR_NOT_FOUND)
        err = GFS_OK;
    return err != GFS_OK ? err : compact->err;
}

static enum gfs_err write_each(struct store_compact *compact, const struct store_record *record)
{
    return record->kind == STORE_RECORD_WRITE ? record_move(compact, record) : GFS_OK;
}

static enum gfs_err blocks_move(struct store_compact *compact)
{
    for (int pass = 0; pass < STORE_COMPACT_PASSES; pass++) {
        uint64_t copies = compact->store->copies;
        enum gfs_err err = members_collect(compact);
        compact->submitted = 0;
        if (err == GFS_OK)
            err = scan_each(compact, write_each);
        if (err != GFS_OK)
            return err;
        if (compact->submitted == 0 && copies == compact->store->copies)
            return GFS_OK;
    }
    return GFS_ERR_BUSY;
}

/* ---- what is not data ------------------------------------------------------------------------ */

/* The data goes on elsewhere; what must outlive the database is that the append is known. */
static void append_only(struct store_record *record)
{
    if (record->kind == STORE_RECORD_WRITE)
        record->data_crc = record->chunk_length - record->offset_bytes;
    record->kind = STORE_RECORD_APPEND;
    record->length_bytes = 0;
}

/* Of a producer only the last ones are known. */
static bool is_known_append(struct store *store, const struct store_record *record)
{
    const struct store_index_append append = {.handle = record->handle,
                                              .producer = record->source,
                                              .sequence = record->sequence};
    /* A write's retry comes within minutes: not worth keeping. */
    return store_record_is_append(record) && !(record->flags & STORE_RECORD_ONCE) &&
           store_index_has_append(store->index, &append);
}

static enum gfs_err meta_each(struct store_compact *compact, const struct store_record *record)
{
    bool append = is_known_append(compact->store, record);
    bool lasting = record->kind == STORE_RECORD_DELETE || record->kind == STORE_RECORD_TRUNCATE ||
                   record->kind == STORE_RECORD_COPY || append;
    uint64_t as_of = record->flags & STORE_RECORD_CARRIED ? record->as_of : record->seq;
    struct store_task *task;
    if (append || (lasting && store_set_has_older(compact->set, as_of))) {
        task = calloc(1, sizeof(*task));
        if (task == NULL)
            return GFS_ERR_NO_MEMORY;
        task->kind = STORE_TASK_CARRY;
        task->handle = record->handle;
        task->record = *record;
        if (append)
            append_only(&task->record);
        task_send(compact, task);
    }
    struct store_entry entry;
    if (!entry_find(compact->store, record->handle, &entry) || !in_db(compact, entry.state_seq))
        return GFS_OK;
    task = calloc(1, sizeof(*task));
    if (task == NULL)
        return GFS_ERR_NO_MEMORY;
    task->kind = STORE_TASK_STATE;
    task->handle = record->handle;
    task_send(compact, task);
    return GFS_OK;
}

/* Has the committer take the database out of the set, and waits for that. */
static enum gfs_err db_drop(struct store_compact *compact)
{
    struct store *store = compact->store;
    pthread_mutex_lock(&store->queue_lock);
    store->drop_db = compact->db;
    pthread_cond_signal(&store->queue_wake);
    while (store->drop_db != NULL)
        pthread_cond_wait(&store->synced, &store->queue_lock);
    enum gfs_err err = store->drop_err;
    pthread_mutex_unlock(&store->queue_lock);
    return err;
}

static enum gfs_err compact_run(struct store_compact *compact)
{
    struct store *store = compact->store;
    enum gfs_err err = blocks_move(compact);
    if (err == GFS_OK)
        err = scan_each(compact, meta_each);
    if (err == GFS_OK)
        err = store_watermark_advance(store);
    if (err != GFS_OK)
        return err;
    return db_drop(compact);
}

/* ---- choice ---------------------------------------------------------------------------------- */

static bool is_low(const struct store *store)
{
    return store->free_bytes < 2 * store->opts.free_min_bytes;
}

/* The emptiest sealed database, if it is empty enough. */
static struct store_db *victim_pick(const struct store *store, const struct store_set *set)
{
    struct store_db *best = NULL;
    double best_share = is_low(store) ? 0.9 : 0.5;
    for (size_t i = 0; i + 1 < set->count; i++) {
        struct store_db *db = set->dbs[i];
        /* A hint may be off after a crash, even below zero. */
        double live = (double)(int64_t)__atomic_load_n(&db->live_bytes, __ATOMIC_RELAXED);
        double total = (double)__atomic_load_n(&db->total_bytes, __ATOMIC_RELAXED);
        double share = total > 0 ? live / total : 0;
        if (db->kv == NULL || share > best_share)
            continue;
        best = db;
        best_share = share;
    }
    return best;
}

/* Removes the database dropped last, once no reader holds it. */
static bool doomed_destroy(struct store *store)
{
    struct store_db *db = store->doomed_db;
    if (db == NULL)
        return true;
    if (__atomic_load_n(&db->refs, __ATOMIC_ACQUIRE) > 1)
        return false;
    store->doomed_db = NULL;
    /* When this fails the next open finds it with nothing alive in it, and tries again. */
    (void)(store_db_destroy(db) != GFS_OK);
    return true;
}

bool store_compact_step(struct store *store)
{
    if (!doomed_destroy(store))
        return false;
    pthread_rwlock_rdlock(&store->publish);
    struct store_set *set = store_log_pin(&store->log);
    pthread_rwlock_unlock(&store->publish);
    struct store_compact compact = {
        .store = store,
        .set = set,
        .db = victim_pick(store, set),
        .window = is_low(store) ? STORE_COMPACT_WINDOW_LOW : STORE_COMPACT_WINDOW,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .wake = PTHREAD_COND_INITIALIZER,
    };
    bool dropped = false;
    if (compact.db != NULL) {
        __atomic_add_fetch(&compact.db->refs, 1, __ATOMIC_ACQ_REL);
        dropped = compact_run(&compact) == GFS_OK;
    }
    store_set_unref(set);
    free(compact.members);
    if (dropped)
        store->doomed_db = compact.db;
    else if (compact.db != NULL)
        store_db_unref(compact.db);
    return dropped && doomed_destroy(store);
}
