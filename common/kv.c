#include "kv.h"

#include <leveldb/c.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One batch of kv_delete_range. */
#define KV_DELETE_STEP 1000

struct kv {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_filterpolicy_t *filter;
    leveldb_cache_t *cache;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write_sync;
    leveldb_writeoptions_t *write_lazy;
    pthread_mutex_t lock; /* guards text */
    struct kv_text text;
};

struct kv_batch {
    leveldb_writebatch_t *batch;
    size_t count;
    size_t bytes;
};

/* Only the words tell the kinds of error apart in the C API. */
static enum gfs_err kv_error_kind(const char *words)
{
    if (strstr(words, "No space left") != NULL || strstr(words, "Disk quota") != NULL)
        return GFS_ERR_NO_SPACE;
    if (strncmp(words, "Corruption", 10) == 0)
        return GFS_ERR_CORRUPT;
    if (strncmp(words, "NotFound", 8) == 0)
        return GFS_ERR_NOT_FOUND;
    if (strncmp(words, "Invalid argument", 16) == 0)
        return GFS_ERR_INVAL;
    if (strncmp(words, "IO error", 8) == 0 && strstr(words, "lock ") != NULL)
        return GFS_ERR_LOCKED;
    return GFS_ERR_IO;
}

static enum gfs_err kv_error_take(char *take_words, struct kv_text *ret_text)
{
    if (take_words == NULL)
        return GFS_OK;
    enum gfs_err err = kv_error_kind(take_words);
    if (ret_text != NULL)
        snprintf(ret_text->text, sizeof(ret_text->text), "%s", take_words);
    leveldb_free(take_words);
    return err;
}

static enum gfs_err kv_error_keep(struct kv *kv, char *take_words)
{
    if (take_words == NULL)
        return GFS_OK;
    struct kv_text text;
    enum gfs_err err = kv_error_take(take_words, &text);
    pthread_mutex_lock(&kv->lock);
    kv->text = text;
    pthread_mutex_unlock(&kv->lock);
    return err;
}

static void kv_options_apply(struct kv *kv, const struct kv_options *opts)
{
    leveldb_options_set_compression(kv->options, leveldb_no_compression);
    leveldb_options_set_create_if_missing(kv->options, opts->create);
    leveldb_options_set_error_if_exists(kv->options, opts->must_be_new);
    leveldb_options_set_paranoid_checks(kv->options, opts->paranoid);
    if (opts->write_buffer_bytes != 0)
        leveldb_options_set_write_buffer_size(kv->options, opts->write_buffer_bytes);
    if (opts->max_file_bytes != 0)
        leveldb_options_set_max_file_size(kv->options, opts->max_file_bytes);
    if (opts->block_bytes != 0)
        leveldb_options_set_block_size(kv->options, opts->block_bytes);
    if (opts->max_open_files != 0)
        leveldb_options_set_max_open_files(kv->options, opts->max_open_files);
    if (opts->cache_bytes != 0) {
        kv->cache = leveldb_cache_create_lru(opts->cache_bytes);
        leveldb_options_set_cache(kv->options, kv->cache);
    }
    if (opts->bloom_bits != 0) {
        kv->filter = leveldb_filterpolicy_create_bloom(opts->bloom_bits);
        leveldb_options_set_filter_policy(kv->options, kv->filter);
    }
    leveldb_readoptions_set_verify_checksums(kv->read, opts->verify);
    leveldb_writeoptions_set_sync(kv->write_sync, 1);
    leveldb_writeoptions_set_sync(kv->write_lazy, 0);
}

enum gfs_err kv_open(const char *path, const struct kv_options *opts, struct kv **ret_kv,
                     struct kv_text *ret_text)
{
    struct kv *kv = calloc(1, sizeof(*kv));
    if (kv == NULL)
        return GFS_ERR_NO_MEMORY;
    pthread_mutex_init(&kv->lock, NULL);
    kv->options = leveldb_options_create();
    kv->read = leveldb_readoptions_create();
    kv->write_sync = leveldb_writeoptions_create();
    kv->write_lazy = leveldb_writeoptions_create();
    kv_options_apply(kv, opts);

    char *words = NULL;
    kv->db = leveldb_open(kv->options, path, &words);
    if (words != NULL) {
        enum gfs_err err = kv_error_take(words, ret_text);
        kv_close(kv);
        return err;
    }
    *ret_kv = kv;
    return GFS_OK;
}

void kv_close(struct kv *kv)
{
    if (kv == NULL)
        return;
    if (kv->db != NULL)
        leveldb_close(kv->db);
    leveldb_options_destroy(kv->options);
    leveldb_readoptions_destroy(kv->read);
    leveldb_writeoptions_destroy(kv->write_sync);
    leveldb_writeoptions_destroy(kv->write_lazy);
    if (kv->filter != NULL)
        leveldb_filterpolicy_destroy(kv->filter);
    if (kv->cache != NULL)
        leveldb_cache_destroy(kv->cache);
    pthread_mutex_destroy(&kv->lock);
    free(kv);
}

enum gfs_err kv_destroy(const char *path, struct kv_text *ret_text)
{
    leveldb_options_t *options = leveldb_options_create();
    char *words = NULL;
    leveldb_destroy_db(options, path, &words);
    leveldb_options_destroy(options);
    return kv_error_take(words, ret_text);
}

void kv_last_text(struct kv *kv, struct kv_text *ret_text)
{
    pthread_mutex_lock(&kv->lock);
    *ret_text = kv->text;
    pthread_mutex_unlock(&kv->lock);
}

struct kv_batch *kv_batch_new(void)
{
    struct kv_batch *batch = calloc(1, sizeof(*batch));
    if (batch != NULL)
        batch->batch = leveldb_writebatch_create();
    return batch;
}

void kv_batch_free(struct kv_batch *batch)
{
    if (batch == NULL)
        return;
    leveldb_writebatch_destroy(batch->batch);
    free(batch);
}

void kv_batch_clear(struct kv_batch *batch)
{
    leveldb_writebatch_clear(batch->batch);
    batch->count = 0;
    batch->bytes = 0;
}

void kv_batch_put(struct kv_batch *batch, const void *key, size_t key_bytes, const void *value,
                  size_t value_bytes)
{
    leveldb_writebatch_put(batch->batch, key, key_bytes, value, value_bytes);
    batch->count++;
    batch->bytes += key_bytes + value_bytes;
}

void kv_batch_delete(struct kv_batch *batch, const void *key, size_t key_bytes)
{
    leveldb_writebatch_delete(batch->batch, key, key_bytes);
    batch->count++;
    batch->bytes += key_bytes;
}

size_t kv_batch_count(const struct kv_batch *batch)
{
    return batch->count;
}

size_t kv_batch_bytes(const struct kv_batch *batch)
{
    return batch->bytes;
}

enum gfs_err kv_write(struct kv *kv, struct kv_batch *batch, bool sync)
{
    char *words = NULL;
    leveldb_write(kv->db, sync ? kv->write_sync : kv->write_lazy, batch->batch, &words);
    return kv_error_keep(kv, words);
}

enum gfs_err kv_put(struct kv *kv, const void *key, size_t key_bytes, const void *value,
                    size_t value_bytes, bool sync)
{
    char *words = NULL;
    leveldb_put(kv->db, sync ? kv->write_sync : kv->write_lazy, key, key_bytes, value, value_bytes,
                &words);
    return kv_error_keep(kv, words);
}

enum gfs_err kv_get(struct kv *kv, const void *key, size_t key_bytes, struct kv_value *ret_value)
{
    char *words = NULL;
    size_t len = 0;
    char *data = leveldb_get(kv->db, kv->read, key, key_bytes, &len, &words);
    if (words != NULL)
        return kv_error_keep(kv, words);
    if (data == NULL)
        return GFS_ERR_NOT_FOUND;
    ret_value->data = data;
    ret_value->len_bytes = len;
    return GFS_OK;
}

void kv_value_release(struct kv_value *value)
{
    leveldb_free(value->data);
    value->data = NULL;
    value->len_bytes = 0;
}

/* A kv_iter is LevelDB's iterator itself: reads make one for each pinned value. */
static leveldb_iterator_t *kv_iter_inner(const struct kv_iter *iter)
{
    return (leveldb_iterator_t *)iter;
}

struct kv_iter *kv_iter_new(struct kv *kv)
{
    return (struct kv_iter *)leveldb_create_iterator(kv->db, kv->read);
}

void kv_iter_free(struct kv_iter *iter)
{
    if (iter != NULL)
        leveldb_iter_destroy(kv_iter_inner(iter));
}

void kv_iter_seek(struct kv_iter *iter, const void *key, size_t key_bytes)
{
    leveldb_iter_seek(kv_iter_inner(iter), key, key_bytes);
}

void kv_iter_seek_first(struct kv_iter *iter)
{
    leveldb_iter_seek_to_first(kv_iter_inner(iter));
}

void kv_iter_seek_last(struct kv_iter *iter)
{
    leveldb_iter_seek_to_last(kv_iter_inner(iter));
}

void kv_iter_next(struct kv_iter *iter)
{
    leveldb_iter_next(kv_iter_inner(iter));
}

void kv_iter_prev(struct kv_iter *iter)
{
    leveldb_iter_prev(kv_iter_inner(iter));
}

bool kv_iter_valid(const struct kv_iter *iter)
{
    return leveldb_iter_valid(kv_iter_inner(iter));
}

const void *kv_iter_key(const struct kv_iter *iter, size_t *ret_bytes)
{
    return leveldb_iter_key(kv_iter_inner(iter), ret_bytes);
}

const void *kv_iter_value(const struct kv_iter *iter, size_t *ret_bytes)
{
    return leveldb_iter_value(kv_iter_inner(iter), ret_bytes);
}

enum gfs_err kv_iter_err(const struct kv_iter *iter)
{
    char *words = NULL;
    leveldb_iter_get_error(kv_iter_inner(iter), &words);
    return kv_error_take(words, NULL);
}

static bool kv_key_below(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order < 0 || (order == 0 && a_bytes < b_bytes);
}

enum gfs_err kv_delete_range(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                             size_t to_bytes)
{
    enum gfs_err err = GFS_OK;
    struct kv_batch *batch = kv_batch_new();
    struct kv_iter *iter = kv_iter_new(kv);
    if (batch == NULL || iter == NULL) {
        err = GFS_ERR_NO_MEMORY;
        goto out;
    }
    for (kv_iter_seek(iter, from, from_bytes); kv_iter_valid(iter); kv_iter_next(iter)) {
        size_t len;
        const void *key = kv_iter_key(iter, &len);
        if (!kv_key_below(key, len, to, to_bytes))
            break;
        kv_batch_delete(batch, key, len);
        if (kv_batch_count(batch) < KV_DELETE_STEP)
            continue;
        err = kv_write(kv, batch, false);
        if (err != GFS_OK)
            goto out;
        kv_batch_clear(batch);
    }
    if (!kv_iter_valid(iter))
        err = kv_iter_err(iter);
    if (err == GFS_OK && kv_batch_count(batch) > 0)
        err = kv_write(kv, batch, false);
out:
    kv_iter_free(iter);
    kv_batch_free(batch);
    return err;
}

void kv_flush(struct kv *kv)
{
    /* Any manual compaction first writes the memtable out; this range holds nothing else. */
    static const char last[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    kv_compact(kv, last, sizeof(last), last, sizeof(last));
}

void kv_compact(struct kv *kv, const void *from, size_t from_bytes, const void *to, size_t to_bytes)
{
    leveldb_compact_range(kv->db, from, from_bytes, to, to_bytes);
}

uint64_t kv_approximate_bytes(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                              size_t to_bytes)
{
    const char *starts[1] = {from};
    const char *limits[1] = {to};
    uint64_t size = 0;
    leveldb_approximate_sizes(kv->db, 1, starts, &from_bytes, limits, &to_bytes, &size);
    return size;
}
