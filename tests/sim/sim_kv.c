/* sim_kv: common/kv.h on a simulated disk. See sim_disk.h for what a crash leaves. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include "sim_disk.h"

#define KV_APPEND_MAX_US 40u
#define KV_SYNC_MIN_US   100u
#define KV_SYNC_MAX_US   4000u
#define KV_FLUSH_MAX_US  20000u
#define KV_OPEN_MAX_US   5000u
#define KV_READ_MAX_US   60u
#define KV_READ_1000     60u /* reads that go to the disk */

struct kv {
    struct sim_db *db;
    struct sim_disk *disk;
    pthread_mutex_t write_lock;
    bool failed; /* in the background, or a sync: for good */
    struct kv_text text;
};

struct kv_entry {
    uint8_t *key;
    size_t key_bytes;
    uint8_t *value; /* NULL: delete */
    size_t value_bytes;
};

struct kv_batch {
    struct kv_entry *entries;
    size_t count, capacity;
    size_t bytes;
};

struct kv_iter {
    struct sim_db *db;
    uint64_t number;
    struct sim_key *key; /* NULL: not valid */
    const struct sim_version *version;
};

/* ---- open and close -------------------------------------------------------------------------- */

static enum gfs_err fail(struct kv_text *ret_text, enum gfs_err err, const char *words)
{
    if (ret_text)
        snprintf(ret_text->text, sizeof(ret_text->text), "%s", words);
    return err;
}

enum gfs_err kv_open(const char *path, const struct kv_options *opts, struct kv **ret_kv,
                     struct kv_text *ret_text)
{
    struct sim_disk *disk = sim_disk_of_path(path);
    struct sim_db *db;
    struct kv *kv;

    sim_disk_wait(disk, 1, KV_OPEN_MAX_US);
    db = sim_db_find(disk, path);
    if (!db && !opts->create)
        return fail(ret_text, GFS_ERR_INVAL, "does not exist");
    if (db && opts->must_be_new)
        return fail(ret_text, GFS_ERR_INVAL, "exists");
    if (!db && sim_disk_is_full(disk, 1))
        return fail(ret_text, GFS_ERR_NO_SPACE, "no space");
    if (db && db->holder)
        return fail(ret_text, GFS_ERR_LOCKED, "locked");
    if (db && (db->damaged_manifest || (db->damaged_log && opts->paranoid)))
        return fail(ret_text, GFS_ERR_CORRUPT, "corruption");
    if (!db)
        db = sim_db_add(disk, path);
    if (db->damaged_log)
        sim_db_drop_record(db);
    db->damaged_log = false;
    kv = calloc(1, sizeof(*kv));
    assert(kv);
    kv->db = db;
    kv->disk = disk;
    pthread_mutex_init(&kv->write_lock, NULL);
    db->holder = kv;
    *ret_kv = kv;
    return GFS_OK;
}

void kv_close(struct kv *kv)
{
    if (!kv)
        return;
    assert(kv->db->holder == kv);
    kv->db->holder = NULL;
    kv->db->visible_number = kv->db->last_number;
    pthread_mutex_destroy(&kv->write_lock);
    free(kv);
}

enum gfs_err kv_destroy(const char *path, struct kv_text *ret_text)
{
    struct sim_disk *disk = sim_disk_of_path(path);
    struct sim_db *db = sim_db_find(disk, path);

    sim_disk_wait(disk, 1, KV_OPEN_MAX_US);
    if (db && db->holder)
        return fail(ret_text, GFS_ERR_LOCKED, "locked");
    sim_db_remove(disk, path);
    return GFS_OK;
}

void kv_last_text(struct kv *kv, struct kv_text *ret_text)
{
    *ret_text = kv->text;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct kv_batch *kv_batch_new(void)
{
    return calloc(1, sizeof(struct kv_batch));
}

void kv_batch_free(struct kv_batch *batch)
{
    if (!batch)
        return;
    kv_batch_clear(batch);
    free(batch->entries);
    free(batch);
}

void kv_batch_clear(struct kv_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        free(batch->entries[i].key);
        free(batch->entries[i].value);
    }
    batch->count = 0;
    batch->bytes = 0;
}

static void batch_add(struct kv_batch *batch, const struct kv_entry *entry)
{
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? 2 * batch->capacity : 16;
        batch->entries = realloc(batch->entries, batch->capacity * sizeof(*batch->entries));
        assert(batch->entries);
    }
    batch->entries[batch->count++] = *entry;
    batch->bytes += entry->key_bytes + entry->value_bytes;
}

void kv_batch_put(struct kv_batch *batch, const void *key, size_t key_bytes, const void *value,
                  size_t value_bytes)
{
    struct kv_entry entry = {sim_copy(key, key_bytes), key_bytes, sim_copy(value, value_bytes),
                             value_bytes};

    batch_add(batch, &entry);
}

void kv_batch_delete(struct kv_batch *batch, const void *key, size_t key_bytes)
{
    struct kv_entry entry = {sim_copy(key, key_bytes), key_bytes, NULL, 0};

    batch_add(batch, &entry);
}

size_t kv_batch_count(const struct kv_batch *batch)
{
    return batch->count;
}

size_t kv_batch_bytes(const struct kv_batch *batch)
{
    return batch->bytes;
}

static enum gfs_err write_error(struct kv *kv, const struct kv_batch *batch)
{
    if (kv->failed)
        return GFS_ERR_IO;
    if (sim->current && sim_disk_is_full(kv->disk, batch->bytes)) {
        kv->disk->had_failure = true;
        return GFS_ERR_NO_SPACE;
    }
    return GFS_OK;
}

/* The sync of what was just appended. */
static enum gfs_err sync_log(struct kv *kv)
{
    struct sim_db *db = kv->db;
    uint64_t number = db->last_number, log = db->log;

    sim_disk_wait(kv->disk, KV_SYNC_MIN_US, KV_SYNC_MAX_US);
    if (sim->current && kv->disk->fails_next_sync) {
        kv->disk->fails_next_sync = false;
        kv->disk->had_failure = true;
        kv->failed = true;
        return GFS_ERR_IO;
    }
    sim_db_make_durable(db, number, log);
    return GFS_OK;
}

/*
 * With no space or a failed sync the batch may be there at the next open, but nobody sees it before
 * then: no write of this process succeeds any more (a sync failed), or it is not shown (no space).
 */
static enum gfs_err write_locked(struct kv *kv, const struct kv_batch *batch, bool sync)
{
    struct sim_db *db = kv->db;
    enum gfs_err err;

    sim_disk_wait(kv->disk, 0, KV_APPEND_MAX_US);
    err = write_error(kv, batch);
    if (err == GFS_ERR_IO || (err != GFS_OK && sim_chance(SIM_STREAM_DISK, 500)))
        return err;
    if (err == GFS_ERR_NO_SPACE) /* the log's end is torn: nothing goes behind it */
        kv->failed = true;
    db->last_number++;
    for (size_t i = 0; i < batch->count; i++) {
        const struct kv_entry *entry = &batch->entries[i];

        sim_db_apply(kv->disk, db, entry->key, entry->key_bytes, entry->value, entry->value_bytes);
    }
    sim_db_written(db);
    if (err == GFS_OK && sync)
        err = sync_log(kv);
    if (err == GFS_OK)
        db->visible_number = db->last_number;
    sim_db_maybe_retire(db);
    return err;
}

enum gfs_err kv_write(struct kv *kv, struct kv_batch *batch, bool sync)
{
    enum gfs_err err;

    pthread_mutex_lock(&kv->write_lock);
    err = write_locked(kv, batch, sync);
    if (err != GFS_OK)
        snprintf(kv->text.text, sizeof(kv->text.text), "%s", gfs_err_name(err));
    pthread_mutex_unlock(&kv->write_lock);
    return err;
}

enum gfs_err kv_put(struct kv *kv, const void *key, size_t key_bytes, const void *value,
                    size_t value_bytes, bool sync)
{
    struct kv_batch *batch = kv_batch_new();
    enum gfs_err err;

    assert(batch);
    kv_batch_put(batch, key, key_bytes, value, value_bytes);
    err = kv_write(kv, batch, sync);
    kv_batch_free(batch);
    return err;
}

enum gfs_err kv_delete_range(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                             size_t to_bytes)
{
    struct kv_batch *batch = kv_batch_new();
    struct kv_iter *iter = kv_iter_new(kv);
    enum gfs_err err;

    assert(batch && iter);
    for (kv_iter_seek(iter, from, from_bytes);
         kv_iter_valid(iter) && sim_key_order(iter->key, to, to_bytes) < 0; kv_iter_next(iter))
        kv_batch_delete(batch, iter->key->bytes, iter->key->len_bytes);
    err = kv_write(kv, batch, false);
    kv_iter_free(iter);
    kv_batch_free(batch);
    return err;
}

void kv_flush(struct kv *kv)
{
    uint64_t number = kv->db->visible_number;

    sim_disk_wait(kv->disk, KV_SYNC_MIN_US, KV_FLUSH_MAX_US);
    if (sim->current && sim_disk_is_full(kv->disk, 0)) {
        kv->failed = true;
        kv->disk->had_failure = true;
        return;
    }
    sim_db_make_durable(kv->db, number, UINT64_MAX);
}

void kv_compact(struct kv *kv, const void *from, size_t from_bytes, const void *to, size_t to_bytes)
{
    kv_flush(kv);
}

uint64_t kv_approximate_bytes(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                              size_t to_bytes)
{
    return 0; /* all is in memory */
}

/* ---- reading --------------------------------------------------------------------------------- */

static void read_wait(struct sim_disk *disk)
{
    if (sim->current && sim_chance(SIM_STREAM_DISK, KV_READ_1000))
        sim_disk_wait(disk, 1, KV_READ_MAX_US);
    else
        sim_disk_wait(disk, 0, 0);
}

enum gfs_err kv_get(struct kv *kv, const void *key, size_t key_bytes, struct kv_value *ret_value)
{
    const struct sim_version *version = NULL;
    struct sim_key *found;

    read_wait(kv->disk);
    found = sim_key_before(kv->db, key, key_bytes, NULL)->next[0];
    if (found && sim_key_order(found, key, key_bytes) == 0)
        version = sim_version_at(found, kv->db->visible_number);
    if (!version)
        return GFS_ERR_NOT_FOUND;
    ret_value->data = sim_copy(version->bytes, version->len_bytes);
    ret_value->len_bytes = version->len_bytes;
    return GFS_OK;
}

void kv_value_release(struct kv_value *value)
{
    free(value->data);
    value->data = NULL;
    value->len_bytes = 0;
}

struct kv_iter *kv_iter_new(struct kv *kv)
{
    struct kv_iter *iter = calloc(1, sizeof(*iter));

    assert(iter);
    read_wait(kv->disk);
    iter->db = kv->db;
    iter->number = kv->db->visible_number;
    return iter;
}

void kv_iter_free(struct kv_iter *iter)
{
    free(iter);
}

static void iter_forward(struct kv_iter *iter, struct sim_key *from)
{
    for (iter->key = from; iter->key; iter->key = iter->key->next[0])
        if ((iter->version = sim_version_at(iter->key, iter->number)))
            return;
}

static void iter_back(struct kv_iter *iter, struct sim_key *from)
{
    for (iter->key = from; iter->key != &iter->db->head;
         iter->key = sim_key_before(iter->db, iter->key->bytes, iter->key->len_bytes, NULL))
        if ((iter->version = sim_version_at(iter->key, iter->number)))
            return;
    iter->key = NULL;
}

void kv_iter_seek(struct kv_iter *iter, const void *key, size_t key_bytes)
{
    iter_forward(iter, sim_key_before(iter->db, key, key_bytes, NULL)->next[0]);
}

void kv_iter_seek_first(struct kv_iter *iter)
{
    iter_forward(iter, iter->db->head.next[0]);
}

void kv_iter_seek_last(struct kv_iter *iter)
{
    struct sim_key *at = &iter->db->head;

    for (uint32_t level = SIM_KEY_LEVELS; level-- > 0;)
        while (at->next[level])
            at = at->next[level];
    iter_back(iter, at);
}

void kv_iter_next(struct kv_iter *iter)
{
    assert(iter->key);
    iter_forward(iter, iter->key->next[0]);
}

void kv_iter_prev(struct kv_iter *iter)
{
    assert(iter->key);
    iter_back(iter, sim_key_before(iter->db, iter->key->bytes, iter->key->len_bytes, NULL));
}

bool kv_iter_valid(const struct kv_iter *iter)
{
    return iter->key;
}

const void *kv_iter_key(const struct kv_iter *iter, size_t *ret_bytes)
{
    *ret_bytes = iter->key->len_bytes;
    return iter->key->bytes;
}

const void *kv_iter_value(const struct kv_iter *iter, size_t *ret_bytes)
{
    *ret_bytes = iter->version->len_bytes;
    return iter->version->bytes;
}

enum gfs_err kv_iter_err(const struct kv_iter *iter)
{
    return GFS_OK;
}
