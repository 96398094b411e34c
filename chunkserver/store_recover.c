/*
 * Recovery, which is how every open goes: log and index are opened, the log's tail is replayed
 * (store_replay.c), then it is judged which chunks have lost something:
 *
 *   - a database that does not open is set aside; chunks with bytes in it are corrupt;
 *   - a break in a chunk's chain of records, or a claim of the index that did not come true;
 *   - a gap that the surviving index cannot explain (it ends before the gap does): every chunk
 *     without a record behind the gap may be concerned, so all of them are.
 *
 * A corrupt chunk is not served; the master learns of it and has it repaired from other replicas.
 * An index that is damaged is thrown away and made again from the whole log.
 */
#include "store_recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STORE_FORMAT_NAME "FORMAT"
#define STORE_FORMAT_TEXT "gfs-store 1\n"
#define STORE_INDEX_NAME  "index"

static void path_in(const struct store *store, const char *name, char ret_path[STORE_PATH_MAX + 16])
{
    snprintf(ret_path, STORE_PATH_MAX + 16, "%s/%s", store->path, name);
}

static enum gfs_err format_write(const struct store *store, const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == ENOSPC ? GFS_ERR_NO_SPACE : GFS_ERR_LOCAL;
    ssize_t size = (ssize_t)strlen(STORE_FORMAT_TEXT);
    bool good = write(fd, STORE_FORMAT_TEXT, (size_t)size) == size && fsync(fd) == 0;
    close(fd);
    return good ? store_dir_sync(store->path) : GFS_ERR_LOCAL;
}

static enum gfs_err format_check(const struct store *store)
{
    char path[STORE_PATH_MAX + 16];
    char text[64] = "";
    path_in(store, STORE_FORMAT_NAME, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? format_write(store, path) : GFS_ERR_LOCAL;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (size < 0)
        return GFS_ERR_LOCAL;
    /* A crash may have cut off its first writing: nothing else was there then. */
    if (size == 0)
        return unlink(path) == 0 ? format_write(store, path) : GFS_ERR_LOCAL;
    return strcmp(text, STORE_FORMAT_TEXT) == 0 ? GFS_OK : GFS_ERR_BAD_FORMAT;
}

/* With watermark 0 nothing in the index can be relied on, not even that it is all there. */
static enum gfs_err index_open(struct store *store, bool fresh, struct store_replay *replay)
{
    char path[STORE_PATH_MAX + 16];
    path_in(store, STORE_INDEX_NAME, path);
    enum gfs_err err = store_index_open(path, fresh, &store->index);
    if (err == GFS_OK)
        err = store_index_marks(store->index, &replay->marks);
    if (err == GFS_OK)
        err = store_index_load(store->index, &store->table);
    replay->rebuild = replay->marks.watermark_seq == 0;
    return err;
}

/* ---- what was lost --------------------------------------------------------------------------- */

static enum gfs_err claims_collect(struct store_replay *replay)
{
    const struct store_table *table = &replay->store->table;
    for (const struct store_entry *entry = store_table_at_least(table, 0); entry != NULL;
         entry = entry->handle == UINT64_MAX ? NULL
                                             : store_table_at_least(table, entry->handle + 1)) {
        if (entry->state_seq <= replay->marks.watermark_seq)
            continue;
        if (replay->claim_count == replay->claim_cap) {
            size_t cap = replay->claim_cap != 0 ? 2 * replay->claim_cap : 64;
            struct store_claim *grown = realloc(replay->claims, cap * sizeof(*grown));
            if (grown == NULL)
                return GFS_ERR_NO_MEMORY;
            replay->claims = grown;
            replay->claim_cap = cap;
        }
        replay->claims[replay->claim_count++] =
            (struct store_claim){.handle = entry->handle, .seq = entry->state_seq};
    }
    return GFS_OK;
}

static void claims_judge(struct store_replay *replay)
{
    for (size_t i = 0; i < replay->claim_count; i++) {
        struct store_entry *entry =
            store_table_find(&replay->store->table, replay->claims[i].handle);
        if (entry != NULL &&
            (entry->state_seq < replay->claims[i].seq || !(entry->flags & STORE_ENTRY_REPLAYED)))
            entry->flags |= STORE_ENTRY_CORRUPT;
    }
}

/* Chunks with bytes in a database that has just been set aside. */
static enum gfs_err aside_judge(struct store_replay *replay)
{
    struct store *store = replay->store;
    const struct store_set *set = store->log.set;
    bool any = false;
    for (size_t i = 0; i < set->count; i++)
        any = any || (set->dbs[i]->kv == NULL && !set->dbs[i]->bad_before);
    if (!any)
        return GFS_OK;
    struct store_block_iter iter;
    enum gfs_err err = store_block_iter_start(store->index, &iter);
    if (err != GFS_OK)
        return err;
    struct store_extent extents[STORE_EXTENTS_MAX];
    uint64_t handle;
    uint32_t block;
    size_t count;
    store_block_iter_seek(&iter, 0, 0);
    while ((err = store_block_iter_next(&iter, &handle, &block, extents, &count)) == GFS_OK) {
        struct store_entry *entry = store_table_find(&store->table, handle);
        for (size_t i = 0; i < count && entry != NULL; i++) {
            const struct store_db *db = store_set_find(set, extents[i].seq);
            if (db == NULL || db->kv == NULL)
                entry->flags |= STORE_ENTRY_CORRUPT;
        }
    }
    store_block_iter_release(&iter);
    return err == GFS_ERR_NOT_FOUND ? GFS_OK : err;
}

/* Marks go to the index now and, once the threads run, to the log. */
static enum gfs_err marks_keep(struct store_replay *replay, const struct store_table *table)
{
    struct store *store = replay->store;
    struct kv_batch *batch = kv_batch_new();
    store->recovered = malloc((table->count + 1) * sizeof(*store->recovered));
    enum gfs_err err = batch != NULL && store->recovered != NULL ? GFS_OK : GFS_ERR_NO_MEMORY;
    bool unexplained = replay->gap && replay->marks.applied_seq < replay->gap_last;
    for (struct store_entry *entry = store_table_at_least(table, 0); entry != NULL && err == GFS_OK;
         entry = entry->handle == UINT64_MAX ? NULL
                                             : store_table_at_least(table, entry->handle + 1)) {
        if (unexplained && entry->state_seq < replay->gap_last)
            entry->flags |= STORE_ENTRY_CORRUPT;
        if (entry->state_seq > replay->last_seq)
            entry->flags |= STORE_ENTRY_CORRUPT;
        entry->flags &= ~(uint32_t)STORE_ENTRY_REPLAYED;
        if (!(entry->flags & STORE_ENTRY_CORRUPT))
            continue;
        store_index_put_chunk(batch, entry);
        if (replay->gap || replay->aside)
            store->recovered[store->recovered_count++] = entry->handle;
    }
    if (err == GFS_OK && kv_batch_count(batch) > 0)
        err = store_index_write(store->index, batch);
    kv_batch_free(batch);
    return err;
}

/* Chunks that were being written shortly before the end. */
static enum gfs_err doubts_collect(struct store *store, uint64_t settled_seq)
{
    const struct store_table *table = &store->table;
    size_t cap = 0;
    for (const struct store_entry *entry = store_table_at_least(table, 0); entry != NULL;
         entry = entry->handle == UINT64_MAX ? NULL
                                             : store_table_at_least(table, entry->handle + 1)) {
        /* A version set since proves nothing: its round may have been given up. */
        if (entry->state_seq <= settled_seq || (uint32_t)entry->serial == 0)
            continue;
        if (store->doubt_count == cap) {
            cap = cap != 0 ? 2 * cap : 64;
            struct store_doubt *grown = realloc(store->doubts, cap * sizeof(*grown));
            if (grown == NULL)
                return GFS_ERR_NO_MEMORY;
            store->doubts = grown;
        }
        store->doubts[store->doubt_count++] =
            (struct store_doubt){.handle = entry->handle, .version = entry->version};
    }
    return GFS_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum gfs_err log_open(struct store *store, struct store_replay *replay)
{
    struct store_log_options opts = {
        .write_buffer_bytes = store->opts.write_buffer_bytes,
        .db_max_bytes = store->opts.data_db_max_bytes,
        .sync = store->opts.sync,
    };
    enum gfs_err err = store_log_open(&store->log, store->path, &opts);
    for (size_t i = 0; err == GFS_OK && i < store->log.set->count; i++) {
        struct store_db *db = store->log.set->dbs[i];
        replay->aside = replay->aside || (db->kv == NULL && !db->bad_before);
        if (!replay->rebuild)
            err = store_index_load_db(store->index, db);
    }
    return err;
}

/* The index now knows of every gap there is: the next open need not explain them again. */
static enum gfs_err applied_put(struct store *store, uint64_t seq)
{
    struct kv_batch *batch = kv_batch_new();
    if (batch == NULL)
        return GFS_ERR_NO_MEMORY;
    store_index_put_applied(batch, seq);
    enum gfs_err err = store_index_write(store->index, batch);
    kv_batch_free(batch);
    return err;
}

static enum gfs_err recover_finish(struct store *store, struct store_replay *replay)
{
    const struct store_set *set = store->log.set;
    uint64_t last = replay->last_seq;
    if (replay->gap && replay->gap_last > last)
        last = replay->gap_last;
    const struct store_db *end = set->count > 0 ? set->dbs[set->count - 1] : NULL;
    bool fresh = end == NULL || end->kv == NULL || end->suspect || replay->gap;
    /* An empty last database has a first sequence of its own to begin with. */
    if (end != NULL && last < end->first_seq - 1)
        last = end->first_seq - 1;
    if (fresh && end != NULL && last < end->first_seq)
        last = end->first_seq;
    store_log_start(&store->log, last + 1, fresh);
    store->applied_seq = last;
    enum gfs_err err = applied_put(store, last);
    if (err == GFS_OK)
        err = store_index_advance(store->index, last);
    if (err != GFS_OK)
        return err;
    store->watermark_seq = last;
    char marker[STORE_PATH_MAX + 16];
    path_in(store, STORE_REBUILD_NAME, marker);
    if (unlink(marker) != 0 && errno != ENOENT)
        return GFS_ERR_LOCAL;
    store_counters_refresh(store);
    return GFS_OK;
}

static enum gfs_err recover_once(struct store *store, bool fresh)
{
    struct store_replay replay = {.store = store};
    enum gfs_err err = index_open(store, fresh, &replay);
    if (err == GFS_OK)
        err = log_open(store, &replay);
    if (err == GFS_OK)
        err = store_delta_init(&store->delta, store->index, &store->table, store->log.set);
    if (err == GFS_OK)
        err = claims_collect(&replay);
    if (err == GFS_OK)
        err = store_replay_run(&replay);
    if (err != GFS_OK)
        goto out;
    claims_judge(&replay);
    err = aside_judge(&replay);
    if (err == GFS_OK)
        err = marks_keep(&replay, &store->table);
    if (err == GFS_OK)
        err = doubts_collect(store, replay.marks.settled_seq);
    if (err == GFS_OK)
        err = recover_finish(store, &replay);
out:
    free(replay.claims);
    free(replay.carried);
    return err;
}

/* Back to where recovery began. */
static void recover_undo(struct store *store)
{
    store_delta_release(&store->delta);
    store_log_release(&store->log);
    store_index_close(store->index);
    store->index = NULL;
    store_table_release(&store->table);
    free(store->recovered);
    store->recovered = NULL;
    store->recovered_count = 0;
    free(store->doubts);
    store->doubts = NULL;
    store->doubt_count = 0;
}

/* Damage in the data log is no error here: only the index makes recovery fail in these ways. */
static bool index_is_bad(enum gfs_err err)
{
    return err == GFS_ERR_CORRUPT || err == GFS_ERR_IO || err == GFS_ERR_INVAL;
}

enum gfs_err store_recover(struct store *store)
{
    char marker[STORE_PATH_MAX + 16];
    path_in(store, STORE_REBUILD_NAME, marker);
    enum gfs_err err = format_check(store);
    if (err != GFS_OK)
        return err;
    bool fresh = access(marker, F_OK) == 0;
    err = recover_once(store, fresh);
    if (!index_is_bad(err) || fresh)
        return err;
    recover_undo(store);
    return recover_once(store, true);
}
