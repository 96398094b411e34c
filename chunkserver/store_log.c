#include "store_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc.h"
#include "store_log_dir.h"

enum gfs_err store_dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return GFS_ERR_IO;
    int failed = fsync(fd);
    close(fd);
    return failed ? GFS_ERR_IO : GFS_OK;
}

void store_db_unref(struct store_db *db)
{
    if (__atomic_sub_fetch(&db->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    kv_close(db->kv);
    free(db);
}

void store_set_unref(struct store_set *set)
{
    if (set == NULL || __atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < set->count; i++)
        store_db_unref(set->dbs[i]);
    free(set);
}

struct store_set *store_log_pin(struct store_log *log)
{
    __atomic_add_fetch(&log->set->refs, 1, __ATOMIC_ACQ_REL);
    return log->set;
}

void store_log_publish(struct store_log *log, struct store_set *take_set)
{
    struct store_set *old = log->set;
    log->set = take_set;
    store_set_unref(old);
}

/* A copy of the set with room for one more. */
static struct store_set *set_copy(const struct store_set *set, const struct store_db *without)
{
    struct store_set *copy = malloc(sizeof(*copy) + (set->count + 1) * sizeof(copy->dbs[0]));
    if (copy == NULL)
        return NULL;
    copy->refs = 1;
    copy->count = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (set->dbs[i] == without)
            continue;
        __atomic_add_fetch(&set->dbs[i]->refs, 1, __ATOMIC_ACQ_REL);
        copy->dbs[copy->count++] = set->dbs[i];
    }
    return copy;
}

struct store_set *store_log_without(struct store_log *log, const struct store_db *db)
{
    return set_copy(log->set, db);
}

struct store_db *store_set_find(const struct store_set *set, uint64_t seq)
{
    size_t low = 0;
    size_t high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->dbs[middle]->first_seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || seq > __atomic_load_n(&set->dbs[low - 1]->upto_seq, __ATOMIC_ACQUIRE))
        return NULL;
    return set->dbs[low - 1];
}

bool store_set_has_older(const struct store_set *set, uint64_t seq)
{
    return set->count > 0 && __atomic_load_n(&set->dbs[0]->upto_seq, __ATOMIC_ACQUIRE) < seq;
}

enum gfs_err store_log_open(struct store_log *log, const char *path,
                            const struct store_log_options *opts)
{
    memset(log, 0, sizeof(*log));
    snprintf(log->path, sizeof(log->path), "%s", path);
    log->opts = *opts;
    log->batch = kv_batch_new();
    if (log->batch == NULL)
        return GFS_ERR_NO_MEMORY;
    return store_log_dir_load(log);
}

void store_log_release(struct store_log *log)
{
    store_set_unref(log->set);
    kv_batch_free(log->batch);
    log->set = NULL;
    log->batch = NULL;
}

void store_log_start(struct store_log *log, uint64_t next_seq, bool fresh)
{
    log->next_seq = log->staged_seq = next_seq;
    log->active = NULL;
    if (!fresh && log->set->count > 0)
        log->active = log->set->dbs[log->set->count - 1];
}

uint64_t store_log_stage(struct store_log *log, struct store_record *record, const void *data)
{
    uint8_t key[STORE_RECORD_KEY_BYTES];
    record->seq = log->staged_seq++;
    store_record_encode(record, key);
    kv_batch_put(log->batch, key, sizeof(key), data != NULL ? data : "", record->length_bytes);
    log->staged_bytes += record->length_bytes;
    return record->seq;
}

void store_log_unstage(struct store_log *log)
{
    kv_batch_clear(log->batch);
    log->staged_seq = log->next_seq;
    log->staged_bytes = 0;
}

enum gfs_err store_log_commit(struct store_log *log)
{
    if (log->staged_seq == log->next_seq)
        return GFS_OK;
    enum gfs_err err = kv_write(log->active->kv, log->batch, log->opts.sync);
    if (err != GFS_OK) {
        log->active = NULL;
        store_log_unstage(log);
        return err;
    }
    __atomic_add_fetch(&log->active->total_bytes, log->staged_bytes, __ATOMIC_RELAXED);
    log->next_seq = log->staged_seq;
    log->active->counted_seq = log->next_seq - 1;
    store_log_unstage(log);
    return GFS_OK;
}

enum gfs_err store_log_prepare(struct store_log *log, struct store_set **ret_set)
{
    *ret_set = NULL;
    if (log->active != NULL &&
        __atomic_load_n(&log->active->total_bytes, __ATOMIC_RELAXED) < log->opts.db_max_bytes)
        return GFS_OK;
    struct store_set *set = set_copy(log->set, NULL);
    if (set == NULL)
        return GFS_ERR_NO_MEMORY;
    struct store_db *db;
    enum gfs_err err = store_log_dir_make(log, log->next_seq, &db);
    if (err != GFS_OK) {
        store_set_unref(set);
        log->active = NULL;
        return err;
    }
    if (set->count > 0)
        __atomic_store_n(&set->dbs[set->count - 1]->upto_seq, log->next_seq - 1, __ATOMIC_RELEASE);
    set->dbs[set->count++] = db;
    log->active = db;
    log->next_seq++;
    log->staged_seq = log->next_seq;
    *ret_set = set;
    return GFS_OK;
}

enum gfs_err store_log_read(const struct store_set *set, uint64_t seq, struct store_pin *ret_pin)
{
    struct store_db *db = store_set_find(set, seq);
    if (db == NULL || db->kv == NULL)
        return GFS_ERR_CORRUPT;
    struct store_pin pin = {.iter = kv_iter_new(db->kv)};
    if (pin.iter == NULL)
        return GFS_ERR_NO_MEMORY;
    uint8_t from[STORE_RECORD_SEQ_BYTES];
    store_put_key64(from, seq);
    kv_iter_seek(pin.iter, from, sizeof(from));
    enum gfs_err err = GFS_ERR_CORRUPT;
    if (!kv_iter_valid(pin.iter)) {
        enum gfs_err iter_err = kv_iter_err(pin.iter);
        err = iter_err != GFS_OK ? iter_err : GFS_ERR_CORRUPT;
        goto out;
    }
    size_t len;
    const void *key = kv_iter_key(pin.iter, &len);
    if (store_record_decode(key, len, &pin.record) != GFS_OK || pin.record.seq != seq)
        goto out;
    pin.data = kv_iter_value(pin.iter, &len);
    if (len != pin.record.length_bytes || crc32c(0, pin.data, len) != pin.record.data_crc)
        goto out;
    *ret_pin = pin;
    return GFS_OK;
out:
    kv_iter_free(pin.iter);
    return err;
}

void store_pin_release(struct store_pin *pin)
{
    kv_iter_free(pin->iter);
    pin->iter = NULL;
}

uint64_t store_db_last_seq(const struct store_db *db)
{
    uint64_t last = db->first_seq - 1;
    struct kv_iter *iter = db->kv != NULL ? kv_iter_new(db->kv) : NULL;
    if (iter == NULL)
        return last;
    struct store_record record;
    for (kv_iter_seek_last(iter); kv_iter_valid(iter); kv_iter_prev(iter)) {
        size_t len;
        const void *key = kv_iter_key(iter, &len);
        if (store_record_decode(key, len, &record) != GFS_OK || record.seq > db->upto_seq)
            continue;
        last = record.seq;
        break;
    }
    kv_iter_free(iter);
    return last;
}

enum gfs_err store_scan_start(struct store_scan *scan, struct store_db *db, uint64_t from_seq)
{
    scan->db = db;
    scan->stands = false;
    scan->iter = kv_iter_new(db->kv);
    if (scan->iter == NULL)
        return GFS_ERR_NO_MEMORY;
    uint8_t from[STORE_RECORD_SEQ_BYTES];
    store_put_key64(from, from_seq > db->first_seq ? from_seq : db->first_seq);
    kv_iter_seek(scan->iter, from, sizeof(from));
    return GFS_OK;
}

enum gfs_err store_scan_next(struct store_scan *scan, struct store_record *ret_record)
{
    if (scan->stands)
        kv_iter_next(scan->iter);
    scan->stands = false;
    if (!kv_iter_valid(scan->iter)) {
        enum gfs_err err = kv_iter_err(scan->iter);
        return err != GFS_OK ? GFS_ERR_IO : GFS_ERR_NOT_FOUND;
    }
    size_t len;
    const void *key = kv_iter_key(scan->iter, &len);
    enum gfs_err err = store_record_decode(key, len, ret_record);
    scan->stands = true;
    if (err == GFS_OK && (ret_record->flags & STORE_RECORD_MAPPED)) {
        ret_record->map = kv_iter_value(scan->iter, &len);
        if (len != ret_record->length_bytes ||
            crc32c(0, ret_record->map, len) != ret_record->data_crc)
            ret_record->map = NULL;
    }
    if (err == GFS_OK && ret_record->seq > __atomic_load_n(&scan->db->upto_seq, __ATOMIC_ACQUIRE))
        return GFS_ERR_NOT_FOUND;
    return err;
}

void store_scan_release(struct store_scan *scan)
{
    kv_iter_free(scan->iter);
    scan->iter = NULL;
}
