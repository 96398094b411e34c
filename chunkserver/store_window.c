/*
 * Append windows: which appends a chunk knows. Each is a small key of the index, made by the record
 * that holds the append's data, or by an APPEND record; of a producer the last GFS_APPEND_WINDOW
 * sequences are kept: each new one deletes the one so far behind it, unseen.
 */
#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"
#include "store_impl.h"

struct store_append_key {
    uint64_t handle;
    uint64_t producer;
    uint64_t sequence;
};

struct store_delta_append {
    struct store_append_key key;
    uint32_t offset_bytes;
    uint32_t length_bytes;
    bool gone;
    UT_hash_handle hh;
};

static enum gfs_err delta_append(struct store_delta *delta, const struct store_append_key *key,
                                 struct store_delta_append **ret_append)
{
    struct store_delta_append *append;
    HASH_FIND(hh, delta->appends, key, sizeof(*key), append);
    if (append == NULL) {
        append = calloc(1, sizeof(*append));
        if (append == NULL)
            return GFS_ERR_NO_MEMORY;
        append->key = *key;
        HASH_ADD(hh, delta->appends, key, sizeof(append->key), append);
    }
    append->gone = false;
    *ret_append = append;
    return GFS_OK;
}

static enum gfs_err append_put(struct store_delta *delta, const struct store_index_append *put)
{
    struct store_append_key key = {put->handle, put->producer, put->sequence};
    struct store_delta_append *append;
    enum gfs_err err = delta_append(delta, &key, &append);
    if (err != GFS_OK)
        return err;
    append->offset_bytes = put->offset_bytes;
    append->length_bytes = put->length_bytes;
    if (put->sequence <= GFS_APPEND_WINDOW)
        return GFS_OK;
    key.sequence -= GFS_APPEND_WINDOW;
    err = delta_append(delta, &key, &append);
    if (err == GFS_OK)
        append->gone = true;
    return err;
}

struct each_append {
    struct store_delta *delta;
    uint64_t to_handle;  /* of a copy */
    uint32_t upto_bytes; /* likewise: in a replay the index may know of later appends. Of a cut:
                            where */
};

static enum gfs_err append_gone(void *arg, const struct store_index_append *append)
{
    struct each_append *each = arg;
    struct store_append_key key = {append->handle, append->producer, append->sequence};
    struct store_delta_append *found;
    enum gfs_err err = delta_append(each->delta, &key, &found);
    if (err == GFS_OK)
        found->gone = true;
    return err;
}

/* Not what the delta knows better. */
static enum gfs_err append_copied(void *arg, const struct store_index_append *append)
{
    struct each_append *each = arg;
    struct store_append_key key = {append->handle, append->producer, append->sequence};
    struct store_delta_append *newer;
    HASH_FIND(hh, each->delta->appends, &key, sizeof(key), newer);
    if (newer != NULL || append->offset_bytes >= each->upto_bytes)
        return GFS_OK;
    struct store_index_append copy = *append;
    copy.handle = each->to_handle;
    key.handle = each->to_handle;
    enum gfs_err err = delta_append(each->delta, &key, &newer);
    if (err != GFS_OK)
        return err;
    newer->offset_bytes = copy.offset_bytes;
    newer->length_bytes = copy.length_bytes;
    return GFS_OK;
}

static enum gfs_err window_delete(struct store_delta *delta, uint64_t handle)
{
    struct each_append each = {.delta = delta};
    struct store_delta_append *append, *next;
    HASH_ITER (hh, delta->appends, append, next)
        if (append->key.handle == handle)
            append->gone = true;
    return store_index_each_append(delta->index, handle, append_gone, &each);
}

static enum gfs_err append_cut(void *arg, const struct store_index_append *append)
{
    const struct each_append *each = arg;
    if ((uint64_t)append->offset_bytes + append->length_bytes <= each->upto_bytes)
        return GFS_OK;
    return append_gone(arg, append);
}

/* What has lost bytes is not known any more: a retry of it has to write them again. */
static enum gfs_err window_cut(struct store_delta *delta, uint64_t handle, uint32_t length_bytes)
{
    struct each_append each = {.delta = delta, .upto_bytes = length_bytes};
    struct store_delta_append *append, *next;
    enum gfs_err err = store_index_each_append(delta->index, handle, append_cut, &each);
    HASH_ITER (hh, delta->appends, append, next)
        if (append->key.handle == handle &&
            (uint64_t)append->offset_bytes + append->length_bytes > length_bytes)
            append->gone = true;
    return err;
}

static enum gfs_err window_copy(struct store_delta *delta, const struct store_record *record)
{
    uint64_t from_handle = record->source, to_handle = record->handle;
    struct each_append each = {.delta = delta,
                               .to_handle = to_handle,
                               .upto_bytes = record->chunk_length};
    struct store_delta_append *append, *next, *copy;
    enum gfs_err err = store_index_each_append(delta->index, from_handle, append_copied, &each);
    HASH_ITER (hh, delta->appends, append, next) {
        struct store_append_key key = append->key;
        if (err != GFS_OK)
            return err;
        if (key.handle != from_handle || append->gone || append->offset_bytes >= each.upto_bytes)
            continue;
        key.handle = to_handle;
        err = delta_append(delta, &key, &copy);
        if (err != GFS_OK)
            return err;
        copy->offset_bytes = append->offset_bytes;
        copy->length_bytes = append->length_bytes;
    }
    return err;
}

enum gfs_err store_delta_window(struct store_delta *delta, const struct store_record *record)
{
    if (record->kind == STORE_RECORD_DELETE)
        return window_delete(delta, record->handle);
    if (record->kind == STORE_RECORD_TRUNCATE)
        return window_cut(delta, record->handle, record->chunk_length);
    if (record->kind == STORE_RECORD_COPY)
        return window_copy(delta, record);
    if (!store_record_is_append(record))
        return GFS_OK;
    const struct store_index_append append = {
        .handle = record->handle,
        .producer = record->source,
        .sequence = record->sequence,
        .offset_bytes = record->offset_bytes,
        /* An append ends the chunk as it is after it. */
        .length_bytes = record->kind == STORE_RECORD_APPEND ? record->data_crc
                        : record->flags & STORE_RECORD_ONCE
                            ? record->length_bytes
                            : record->chunk_length - record->offset_bytes,
    };
    return append_put(delta, &append);
}

void store_delta_window_write(struct store_delta *delta)
{
    struct store_delta_append *append, *next;
    HASH_ITER (hh, delta->appends, append, next) {
        const struct store_index_append put = {
            .handle = append->key.handle,
            .producer = append->key.producer,
            .sequence = append->key.sequence,
            .offset_bytes = append->offset_bytes,
            .length_bytes = append->length_bytes,
        };
        if (append->gone)
            store_index_delete_append(delta->batch, &put);
        else
            store_index_put_append(delta->batch, &put);
    }
}

void store_delta_window_clear(struct store_delta *delta)
{
    struct store_delta_append *append, *next;
    HASH_ITER (hh, delta->appends, append, next) {
        HASH_DEL(delta->appends, append);
        free(append);
    }
}

/* ---- reading ------------------------------------------------------------------------------- */

struct window_list {
    struct store_append *entries;
    size_t count;
    size_t cap;
};

static enum gfs_err list_add(void *arg, const struct store_index_append *append)
{
    struct window_list *list = arg;
    if (list->count >= GFS_APPEND_ENTRIES_MAX)
        return GFS_OK; /* the chunk is sealed */
    if (list->count == list->cap) {
        size_t cap = list->cap != 0 ? 2 * list->cap : 64;
        struct store_append *grown = realloc(list->entries, cap * sizeof(*grown));
        if (grown == NULL)
            return GFS_ERR_NO_MEMORY;
        list->entries = grown;
        list->cap = cap;
    }
    list->entries[list->count++] = (struct store_append){
        .producer = append->producer,
        .sequence = append->sequence,
        .offset_bytes = append->offset_bytes,
        .length_bytes = append->length_bytes,
    };
    return GFS_OK;
}

enum gfs_err store_window(struct store *store, uint64_t handle, struct store_append **ret_entries,
                          size_t *ret_count)
{
    struct window_list list = {0};
    struct store_chunk chunk;
    enum gfs_err err = store_chunk_get(store, handle, &chunk);
    if (err == GFS_OK) {
        pthread_rwlock_rdlock(&store->publish);
        err = store_index_each_append(store->index, handle, list_add, &list);
        pthread_rwlock_unlock(&store->publish);
    }
    if (err != GFS_OK) {
        free(list.entries);
        return err;
    }
    *ret_entries = list.entries;
    *ret_count = list.count;
    return GFS_OK;
}
