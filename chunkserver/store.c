/* The store's face: opening, submitting, asking. What happens behind it: store_commit.c (writes),
 * store_read.c, store_recover.c (opening), store_keeper.c (space, watermark, compaction). */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store_impl.h"

void store_chunk_from_entry(const struct store_entry *entry, struct store_chunk *ret_chunk)
{
    *ret_chunk = (struct store_chunk){
        .handle = entry->handle,
        .version = entry->version,
        .length_bytes = entry->length_bytes,
        .serial = entry->serial,
        .corrupt = entry->flags & STORE_ENTRY_CORRUPT,
        .appended = entry->flags & STORE_ENTRY_APPENDED,
    };
}

/* ---- failing --------------------------------------------------------------------------------- */

void store_fail(struct store *store, enum gfs_err err)
{
    if (err != GFS_OK)
        store->failed = true;
}

void store_fail_index(struct store *store, enum gfs_err err)
{
    store_fail(store, err);
    if (err != GFS_ERR_CORRUPT)
        return;
    char path[STORE_PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/" STORE_REBUILD_NAME, store->path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
}

/* ---- queue ----------------------------------------------------------------------------------- */

static enum gfs_err mutation_check(const struct store_mutation *mutation)
{
    if (mutation->op == STORE_OP_SET_VERSION && mutation->truncate &&
        mutation->length_bytes > GFS_CHUNK_SIZE_MAX_BYTES)
        return GFS_ERR_INVAL;
    if (mutation->op == STORE_OP_SEAL || mutation->op == STORE_OP_ADOPT)
        return mutation->length_bytes <= GFS_CHUNK_SIZE_MAX_BYTES &&
                       mutation->window_count <= STORE_WINDOW_MAX
                   ? GFS_OK
                   : GFS_ERR_INVAL;
    if (mutation->op == STORE_OP_REPAIR && mutation->piece_count == 0)
        return mutation->window_count <= STORE_WINDOW_MAX ? GFS_OK : GFS_ERR_INVAL;
    if (mutation->op != STORE_OP_WRITE && mutation->op != STORE_OP_REPAIR)
        return GFS_OK;
    uint64_t end = (uint64_t)mutation->offset_bytes + mutation->length_bytes;
    if (mutation->piece_count == 0 ||
        mutation->piece_count + mutation->window_count > STORE_PIECES_MAX ||
        end > GFS_CHUNK_SIZE_MAX_BYTES)
        return GFS_ERR_INVAL;
    uint64_t at = mutation->offset_bytes;
    for (size_t i = 0; i < mutation->piece_count; i++) {
        uint32_t length = mutation->pieces[i].length_bytes;
        if (length == 0 || length > GFS_BLOCK_SIZE_BYTES - at % GFS_BLOCK_SIZE_BYTES)
            return GFS_ERR_INVAL;
        at += length;
    }
    return at == end ? GFS_OK : GFS_ERR_INVAL;
}

enum gfs_err store_submit(struct store *store, struct store_mutation *mutation)
{
    enum gfs_err err = mutation_check(mutation);
    if (err != GFS_OK)
        return err;
    bool write = mutation->op == STORE_OP_WRITE || mutation->op == STORE_OP_REPAIR;
    if (store->failed)
        return GFS_ERR_IO;
    if (write && store->full)
        return GFS_ERR_READ_ONLY;
    uint64_t bytes = (write ? mutation->length_bytes : 0) + sizeof(*mutation);
    mutation->next = NULL;
    pthread_mutex_lock(&store->queue_lock);
    if (store->queue_bytes > 0 && store->queue_bytes + bytes > store->opts.queue_max_bytes) {
        pthread_mutex_unlock(&store->queue_lock);
        return GFS_ERR_BUSY;
    }
    store->queue_bytes += bytes;
    store->submitted_count++;
    *store->queue_tail = mutation;
    store->queue_tail = &mutation->next;
    pthread_cond_signal(&store->queue_wake);
    pthread_mutex_unlock(&store->queue_lock);
    if (write)
        store->bytes_user += mutation->length_bytes;
    return GFS_OK;
}

void store_task_submit(struct store *store, struct store_task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&store->queue_lock);
    *store->task_tail = task;
    store->task_tail = &task->next;
    pthread_cond_signal(&store->queue_wake);
    pthread_mutex_unlock(&store->queue_lock);
}

static void mark_done(struct store_task *task, enum gfs_err err)
{
    struct store *store = task->arg;
    pthread_mutex_lock(&store->queue_lock);
    store->mark_count--;
    pthread_mutex_unlock(&store->queue_lock);
    free(task);
}

void store_mark_corrupt(struct store *store, uint64_t handle)
{
    pthread_mutex_lock(&store->queue_lock);
    bool room = store->mark_count < STORE_MARKS_MAX && !store->stopping;
    store->mark_count += room;
    pthread_mutex_unlock(&store->queue_lock);
    if (!room)
        return;
    struct store_task *task = calloc(1, sizeof(*task));
    if (task == NULL) {
        pthread_mutex_lock(&store->queue_lock);
        store->mark_count--;
        pthread_mutex_unlock(&store->queue_lock);
        return;
    }
    task->kind = STORE_TASK_STATE;
    task->handle = handle;
    task->corrupt = true;
    task->done = mark_done;
    task->arg = store;
    store_task_submit(store, task);
}

void store_hold_settled(struct store *store, bool hold)
{
    store->settled_held = hold;
}

enum gfs_err store_sync(struct store *store)
{
    pthread_mutex_lock(&store->queue_lock);
    uint64_t upto = store->submitted_count;
    while (store->completed_count < upto)
        pthread_cond_wait(&store->synced, &store->queue_lock);
    pthread_mutex_unlock(&store->queue_lock);
    return store->failed ? GFS_ERR_IO : GFS_OK;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int doubt_order(const void *key, const void *element)
{
    uint64_t handle = *(const uint64_t *)key;
    const struct store_doubt *doubt = element;
    return handle < doubt->handle ? -1 : handle > doubt->handle;
}

/* A version set since ends the doubt: the replicas were reconciled. */
static bool is_unsettled(const struct store *store, const struct store_entry *entry)
{
    const struct store_doubt *doubt =
        store->doubt_count > 0 ? bsearch(&entry->handle, store->doubts, store->doubt_count,
                                         sizeof(*store->doubts), doubt_order)
                               : NULL;
    return doubt != NULL && doubt->version == entry->version;
}

enum gfs_err store_chunk_get(struct store *store, uint64_t handle, struct store_chunk *ret_chunk)
{
    pthread_mutex_lock(&store->table_lock);
    const struct store_entry *entry = store_table_find(&store->table, handle);
    if (entry != NULL) {
        store_chunk_from_entry(entry, ret_chunk);
        ret_chunk->unsettled = is_unsettled(store, entry);
    }
    pthread_mutex_unlock(&store->table_lock);
    return entry != NULL ? GFS_OK : GFS_ERR_NO_CHUNK;
}

size_t store_list(struct store *store, uint64_t from, struct store_chunk *ret_chunks, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&store->table_lock);
    while (count < max) {
        const struct store_entry *entry = store_table_at_least(&store->table, from);
        if (entry == NULL)
            break;
        store_chunk_from_entry(entry, &ret_chunks[count]);
        ret_chunks[count++].unsettled = is_unsettled(store, entry);
        if (entry->handle == UINT64_MAX)
            break;
        from = entry->handle + 1;
    }
    pthread_mutex_unlock(&store->table_lock);
    return count;
}

void store_stat(struct store *store, struct store_stat *ret_stat)
{
    bool failed = store->failed;
    *ret_stat = (struct store_stat){
        .capacity_bytes = store->capacity_bytes,
        .free_bytes = store->free_bytes,
        .used_bytes = store->used_bytes,
        .chunk_count = store->chunk_count,
        .commits = store->commits,
        .bytes_user = store->bytes_user,
        .read_only = failed || store->full,
        .failed = failed,
    };
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct store *store_new(const char *path, const struct store_options *opts)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return NULL;
    snprintf(store->path, sizeof(store->path), "%s", path);
    store->opts = opts != NULL ? *opts : (struct store_options){.sync = true};
    struct store_options *o = &store->opts;
    o->queue_max_bytes = o->queue_max_bytes != 0 ? o->queue_max_bytes : 64u << 20;
    o->batch_bytes = o->batch_bytes != 0 ? o->batch_bytes : 1u << 20;
    o->data_db_max_bytes = o->data_db_max_bytes != 0 ? o->data_db_max_bytes : 4ull << 30;
    o->write_buffer_bytes = o->write_buffer_bytes != 0 ? o->write_buffer_bytes : 64u << 20;
    o->replay_max_bytes = o->replay_max_bytes != 0 ? o->replay_max_bytes : 256u << 20;
    o->unsettled_ms = o->unsettled_ms != 0 ? o->unsettled_ms : 10000;
    o->free_min_bytes = o->free_min_bytes != 0 ? o->free_min_bytes : 1ull << 30;

    /* Readers come all the time; the committer must not starve. */
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->publish, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&store->table_lock, NULL);
    pthread_mutex_init(&store->queue_lock, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&store->queue_wake, NULL);
    pthread_cond_init(&store->keeper_wake, &clock);
    pthread_condattr_destroy(&clock);
    pthread_cond_init(&store->synced, NULL);
    store->queue_tail = &store->queue_first;
    store->task_tail = &store->task_first;
    store_table_init(&store->table);
    return store;
}

static void store_free(struct store *store)
{
    if (store->sealed_db != NULL)
        store_db_unref(store->sealed_db);
    if (store->doomed_db != NULL)
        store_db_unref(store->doomed_db);
    store_delta_release(&store->delta);
    store_log_release(&store->log);
    store_index_close(store->index);
    store_table_release(&store->table);
    free(store->doubts);
    pthread_rwlock_destroy(&store->publish);
    pthread_mutex_destroy(&store->table_lock);
    pthread_mutex_destroy(&store->queue_lock);
    pthread_cond_destroy(&store->queue_wake);
    pthread_cond_destroy(&store->keeper_wake);
    pthread_cond_destroy(&store->synced);
    free(store);
}

static void committer_stop(struct store *store)
{
    pthread_mutex_lock(&store->queue_lock);
    store->stopping = true;
    pthread_cond_signal(&store->queue_wake);
    pthread_mutex_unlock(&store->queue_lock);
    pthread_join(store->committer, NULL);
}

static void keeper_stop(struct store *store)
{
    pthread_mutex_lock(&store->queue_lock);
    store->keeper_stopping = true;
    pthread_cond_signal(&store->keeper_wake);
    pthread_mutex_unlock(&store->queue_lock);
    pthread_join(store->keeper, NULL);
}

/* Chunks that recovery found to have lost something are marked in the log too. */
static void marks_write_down(struct store *store)
{
    for (size_t i = 0; i < store->recovered_count; i++) {
        struct store_task *task = calloc(1, sizeof(*task));
        if (task == NULL)
            break; /* recovery finds them again as long as the index says so */
        task->kind = STORE_TASK_STATE;
        task->handle = store->recovered[i];
        task->corrupt = true;
        task->done = mark_done;
        task->arg = store;
        store->mark_count++;
        *store->task_tail = task;
        store->task_tail = &task->next;
    }
    free(store->recovered);
    store->recovered = NULL;
    store->recovered_count = 0;
}

enum gfs_err store_open(const char *path, const struct store_options *opts,
                        struct store **ret_store)
{
    if (strlen(path) + 64 > STORE_PATH_MAX)
        return GFS_ERR_NAME_TOO_LONG;
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return errno == ENOSPC ? GFS_ERR_NO_SPACE : GFS_ERR_LOCAL;
    struct store *store = store_new(path, opts);
    if (store == NULL)
        return GFS_ERR_NO_MEMORY;
    enum gfs_err err = store_recover(store);
    if (err == GFS_OK)
        err = store_space_refresh(store);
    if (err != GFS_OK)
        goto out;
    marks_write_down(store);
    if (pthread_create(&store->committer, NULL, store_committer_main, store) != 0) {
        err = GFS_ERR_NO_MEMORY;
        goto out;
    }
    if (pthread_create(&store->keeper, NULL, store_keeper_main, store) != 0) {
        committer_stop(store);
        err = GFS_ERR_NO_MEMORY;
        goto out;
    }
    *ret_store = store;
    return GFS_OK;
out:
    free(store->recovered);
    store->recovered = NULL;
    store_free(store);
    return err;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    /* The keeper waits for its tasks: it ends while the committer still runs. */
    keeper_stop(store);
    committer_stop(store);
    /* So that the next open has nothing to replay; when it fails, it has. */
    if (!store->failed && store_watermark_advance(store) != GFS_OK)
        store_fail(store, GFS_ERR_IO);
    store_free(store);
}
