#include "store_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"

#define STORE_EXTENT_BYTES 16
#define STORE_CHUNK_BYTES  48
#define STORE_DB_BYTES     24

/* Keys: a letter, then big-endian numbers. */
#define KEY_BLOCK      'b' /* handle, block -> extents */
#define KEY_CHUNK      'c' /* handle -> chunk */
#define KEY_DB         'd' /* first sequence -> counters */
#define KEY_APPEND     'a' /* handle, producer, sequence -> offset, length */
#define KEY_WATERMARK  "mw"
#define KEY_SETTLED    "ms"
#define KEY_APPLIED    "ma"
#define KEY_MARK_BYTES 2

#define KEY_BLOCK_BYTES  13
#define KEY_CHUNK_BYTES  9
#define KEY_APPEND_BYTES 25

#define STORE_ENTRY_KEPT (STORE_ENTRY_CORRUPT | STORE_ENTRY_APPENDED)

struct store_index {
    struct kv *kv;
};

static void key_block(uint8_t ret_key[KEY_BLOCK_BYTES], uint64_t handle, uint32_t block)
{
    ret_key[0] = KEY_BLOCK;
    store_put_key64(ret_key + 1, handle);
    for (int i = 0; i < 4; i++)
        ret_key[9 + i] = (uint8_t)(block >> (24 - 8 * i));
}

static void key_u64(uint8_t ret_key[KEY_CHUNK_BYTES], char letter, uint64_t number)
{
    ret_key[0] = (uint8_t)letter;
    store_put_key64(ret_key + 1, number);
}

enum gfs_err store_index_open(const char *path, bool fresh, struct store_index **ret_index)
{
    if (fresh) {
        enum gfs_err err = kv_destroy(path, NULL);
        if (err != GFS_OK)
            return err;
    }
    struct store_index *index = calloc(1, sizeof(*index));
    if (index == NULL)
        return GFS_ERR_NO_MEMORY;
    struct kv_options opts = {
        .create = true,
        .paranoid = true,
        .verify = true,
        .write_buffer_bytes = 8u << 20,
        .cache_bytes = 8u << 20,
        .bloom_bits = 10,
    };
    enum gfs_err err = kv_open(path, &opts, &index->kv, NULL);
    if (err != GFS_OK) {
        free(index);
        return err;
    }
    *ret_index = index;
    return GFS_OK;
}

void store_index_close(struct store_index *index)
{
    if (index == NULL)
        return;
    kv_close(index->kv);
    free(index);
}

static enum gfs_err mark_get(struct store_index *index, const char *key, uint64_t *ret_seq)
{
    struct kv_value value;
    enum gfs_err err = kv_get(index->kv, key, KEY_MARK_BYTES, &value);
    if (err == GFS_ERR_NOT_FOUND) {
        *ret_seq = 0;
        return GFS_OK;
    }
    if (err != GFS_OK)
        return err;
    if (value.len_bytes == 8)
        *ret_seq = store_get_u64(value.data);
    else
        err = GFS_ERR_CORRUPT;
    kv_value_release(&value);
    return err;
}

enum gfs_err store_index_marks(struct store_index *index, struct store_index_marks *ret_marks)
{
    struct store_index_marks marks;
    enum gfs_err err = mark_get(index, KEY_WATERMARK, &marks.watermark_seq);
    if (err == GFS_OK)
        err = mark_get(index, KEY_APPLIED, &marks.applied_seq);
    if (err == GFS_OK)
        err = mark_get(index, KEY_SETTLED, &marks.settled_seq);
    if (err == GFS_OK)
        *ret_marks = marks;
    return err;
}

enum gfs_err store_index_advance(struct store_index *index, uint64_t seq)
{
    uint8_t value[8];
    store_put_u64(value, seq);
    kv_flush(index->kv);
    /* Had the flush failed, this would fail too. */
    return kv_put(index->kv, KEY_WATERMARK, KEY_MARK_BYTES, value, sizeof(value), true);
}

static enum gfs_err chunk_decode(const void *key, size_t key_bytes, const void *value,
                                 size_t value_bytes, struct store_entry *ret_entry)
{
    const uint8_t *at = value;
    if (key_bytes != KEY_CHUNK_BYTES || value_bytes != STORE_CHUNK_BYTES)
        return GFS_ERR_CORRUPT;
    *ret_entry = (struct store_entry){
        .handle = store_get_key64((const uint8_t *)key + 1),
        .serial = store_get_u64(at),
        .state_seq = store_get_u64(at + 8),
        .family = store_get_u64(at + 16),
        .version = store_get_u32(at + 24),
        .length_bytes = store_get_u32(at + 28),
        .flags = store_get_u32(at + 32) & STORE_ENTRY_KEPT,
    };
    return GFS_OK;
}

enum gfs_err store_index_load(struct store_index *index, struct store_table *table)
{
    struct kv_iter *iter = kv_iter_new(index->kv);
    if (iter == NULL)
        return GFS_ERR_NO_MEMORY;
    enum gfs_err err = GFS_OK;
    uint8_t from[] = {KEY_CHUNK};
    for (kv_iter_seek(iter, from, sizeof(from)); kv_iter_valid(iter); kv_iter_next(iter)) {
        size_t key_bytes;
        size_t value_bytes;
        const uint8_t *key = kv_iter_key(iter, &key_bytes);
        if (key_bytes == 0 || key[0] != KEY_CHUNK)
            break;
        const void *value = kv_iter_value(iter, &value_bytes);
        struct store_entry entry;
        err = chunk_decode(key, key_bytes, value, value_bytes, &entry);
        if (err == GFS_OK)
            err = store_table_put(table, &entry);
        if (err != GFS_OK)
            goto out;
    }
    if (!kv_iter_valid(iter))
        err = kv_iter_err(iter);
out:
    kv_iter_free(iter);
    return err;
}

enum gfs_err store_index_load_db(struct store_index *index, struct store_db *db)
{
    uint8_t key[KEY_CHUNK_BYTES];
    key_u64(key, KEY_DB, db->first_seq);
    struct kv_value value;
    enum gfs_err err = kv_get(index->kv, key, sizeof(key), &value);
    if (err == GFS_ERR_NOT_FOUND)
        return GFS_OK;
    if (err != GFS_OK)
        return err;
    if (value.len_bytes == STORE_DB_BYTES) {
        const uint8_t *at = value.data;
        db->live_bytes = store_get_u64(at);
        db->total_bytes = store_get_u64(at + 8);
        db->counted_seq = store_get_u64(at + 16);
    } else {
        err = GFS_ERR_CORRUPT;
    }
    kv_value_release(&value);
    return err;
}

enum gfs_err store_index_forget_db(struct store_index *index, uint64_t first_seq)
{
    uint8_t key[KEY_CHUNK_BYTES];
    key_u64(key, KEY_DB, first_seq);
    struct kv_batch *batch = kv_batch_new();
    if (batch == NULL)
        return GFS_ERR_NO_MEMORY;
    kv_batch_delete(batch, key, sizeof(key));
    enum gfs_err err = kv_write(index->kv, batch, false);
    kv_batch_free(batch);
    return err;
}

enum gfs_err store_block_iter_start(struct store_index *index, struct store_block_iter *iter)
{
    iter->iter = kv_iter_new(index->kv);
    return iter->iter != NULL ? GFS_OK : GFS_ERR_NO_MEMORY;
}

void store_block_iter_seek(struct store_block_iter *iter, uint64_t handle, uint32_t block)
{
    uint8_t key[KEY_BLOCK_BYTES];
    key_block(key, handle, block);
    kv_iter_seek(iter->iter, key, sizeof(key));
}

/* Checks all that the users of extents rely on. */
static enum gfs_err extents_decode(const uint8_t *at, size_t len_bytes,
                                   struct store_extent *ret_extents, size_t *ret_count)
{
    size_t count = len_bytes / STORE_EXTENT_BYTES;
    if (len_bytes % STORE_EXTENT_BYTES != 0 || count > STORE_EXTENTS_MAX)
        return GFS_ERR_CORRUPT;
    uint32_t end = 0;
    for (size_t i = 0; i < count; i++, at += STORE_EXTENT_BYTES) {
        struct store_extent extent = {
            .seq = store_get_u64(at),
            .start_bytes = store_get_u32(at + 8),
            .length_bytes = store_get_u32(at + 12),
        };
        if (extent.start_bytes < end || extent.start_bytes >= GFS_BLOCK_SIZE_BYTES ||
            extent.length_bytes == 0 ||
            extent.length_bytes > GFS_BLOCK_SIZE_BYTES - extent.start_bytes)
            return GFS_ERR_CORRUPT;
        end = extent.start_bytes + extent.length_bytes;
        ret_extents[i] = extent;
    }
    *ret_count = count;
    return GFS_OK;
}

enum gfs_err store_block_iter_next(struct store_block_iter *iter, uint64_t *ret_handle,
                                   uint32_t *ret_block, struct store_extent *ret_extents,
                                   size_t *ret_count)
{
    if (!kv_iter_valid(iter->iter)) {
        enum gfs_err err = kv_iter_err(iter->iter);
        return err != GFS_OK ? err : GFS_ERR_NOT_FOUND;
    }
    size_t key_bytes;
    size_t value_bytes;
    const uint8_t *key = kv_iter_key(iter->iter, &key_bytes);
    if (key_bytes == 0 || key[0] != KEY_BLOCK)
        return GFS_ERR_NOT_FOUND;
    if (key_bytes != KEY_BLOCK_BYTES)
        return GFS_ERR_CORRUPT;
    const uint8_t *value = kv_iter_value(iter->iter, &value_bytes);
    enum gfs_err err = extents_decode(value, value_bytes, ret_extents, ret_count);
    if (err != GFS_OK)
        return err;
    *ret_handle = store_get_key64(key + 1);
    *ret_block =
        (uint32_t)key[9] << 24 | (uint32_t)key[10] << 16 | (uint32_t)key[11] << 8 | key[12];
    kv_iter_next(iter->iter);
    return GFS_OK;
}

void store_block_iter_release(struct store_block_iter *iter)
{
    kv_iter_free(iter->iter);
    iter->iter = NULL;
}

enum gfs_err store_index_block(struct store_index *index, uint64_t handle, uint32_t block,
                               struct store_extent *ret_extents, size_t *ret_count)
{
    uint8_t key[KEY_BLOCK_BYTES];
    key_block(key, handle, block);
    struct kv_value value;
    enum gfs_err err = kv_get(index->kv, key, sizeof(key), &value);
    if (err == GFS_ERR_NOT_FOUND) {
        *ret_count = 0;
        return GFS_OK;
    }
    if (err != GFS_OK)
        return err;
    err = extents_decode(value.data, value.len_bytes, ret_extents, ret_count);
    kv_value_release(&value);
    return err;
}

size_t store_extents_cut(struct store_extent *extents, size_t count, uint32_t from_bytes,
                         uint64_t before_seq)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct store_extent extent = extents[i];
        uint32_t end = extent.start_bytes + extent.length_bytes;
        if (extent.seq < before_seq && end > from_bytes) {
            if (extent.start_bytes >= from_bytes)
                continue;
            extent.length_bytes = from_bytes - extent.start_bytes;
        }
        extents[kept++] = extent;
    }
    return kept;
}

size_t store_extents_overlay(struct store_extent *extents, size_t count, struct store_extent add)
{
    if (count + 2 > STORE_EXTENTS_MAX)
        return 0;
    uint32_t add_end = add.start_bytes + add.length_bytes;
    /* Those wholly before, then the new one, then those behind: at most one of them is split. */
    size_t before = 0;
    while (before < count && extents[before].start_bytes < add.start_bytes)
        before++;
    size_t behind = before;
    struct store_extent rest = {0};
    if (before > 0) {
        struct store_extent *left = &extents[before - 1];
        uint32_t left_end = left->start_bytes + left->length_bytes;
        if (left_end > add_end)
            rest = (struct store_extent){left->seq, add_end, left_end - add_end};
        if (left_end > add.start_bytes)
            left->length_bytes = add.start_bytes - left->start_bytes;
    }
    while (behind < count && extents[behind].start_bytes < add_end) {
        uint32_t end = extents[behind].start_bytes + extents[behind].length_bytes;
        if (end > add_end)
            rest = (struct store_extent){extents[behind].seq, add_end, end - add_end};
        behind++;
    }
    size_t added = rest.length_bytes != 0 ? 2 : 1;
    memmove(&extents[before + added], &extents[behind], (count - behind) * sizeof(*extents));
    extents[before] = add;
    if (rest.length_bytes != 0)
        extents[before + 1] = rest;
    return count - (behind - before) + added;
}

void store_index_put_block(struct kv_batch *batch, uint64_t handle, uint32_t block,
                           const struct store_extent *extents, size_t count)
{
    uint8_t key[KEY_BLOCK_BYTES];
    key_block(key, handle, block);
    if (count == 0) {
        kv_batch_delete(batch, key, sizeof(key));
        return;
    }
    uint8_t value[STORE_EXTENTS_MAX * STORE_EXTENT_BYTES];
    uint8_t *at = value;
    for (size_t i = 0; i < count; i++, at += STORE_EXTENT_BYTES) {
        store_put_u64(at, extents[i].seq);
        store_put_u32(at + 8, extents[i].start_bytes);
        store_put_u32(at + 12, extents[i].length_bytes);
    }
    kv_batch_put(batch, key, sizeof(key), value, (size_t)(at - value));
}

void store_index_put_chunk(struct kv_batch *batch, const struct store_entry *entry)
{
    uint8_t key[KEY_CHUNK_BYTES];
    uint8_t value[STORE_CHUNK_BYTES] = {0};
    key_u64(key, KEY_CHUNK, entry->handle);
    store_put_u64(value, entry->serial);
    store_put_u64(value + 8, entry->state_seq);
    store_put_u64(value + 16, entry->family);
    store_put_u32(value + 24, entry->version);
    store_put_u32(value + 28, entry->length_bytes);
    store_put_u32(value + 32, entry->flags & STORE_ENTRY_KEPT);
    kv_batch_put(batch, key, sizeof(key), value, sizeof(value));
}

void store_index_delete_chunk(struct kv_batch *batch, uint64_t handle)
{
    uint8_t key[KEY_CHUNK_BYTES];
    key_u64(key, KEY_CHUNK, handle);
    kv_batch_delete(batch, key, sizeof(key));
}

void store_index_put_db(struct kv_batch *batch, const struct store_db *db)
{
    uint8_t key[KEY_CHUNK_BYTES];
    uint8_t value[STORE_DB_BYTES];
    key_u64(key, KEY_DB, db->first_seq);
    store_put_u64(value, __atomic_load_n(&db->live_bytes, __ATOMIC_RELAXED));
    store_put_u64(value + 8, __atomic_load_n(&db->total_bytes, __ATOMIC_RELAXED));
    store_put_u64(value + 16, db->counted_seq);
    kv_batch_put(batch, key, sizeof(key), value, sizeof(value));
}

void store_index_put_settled(struct kv_batch *batch, uint64_t seq)
{
    uint8_t value[8];
    store_put_u64(value, seq);
    kv_batch_put(batch, KEY_SETTLED, KEY_MARK_BYTES, value, sizeof(value));
}

static void key_append(uint8_t ret_key[KEY_APPEND_BYTES], const struct store_index_append *append)
{
    ret_key[0] = KEY_APPEND;
    store_put_key64(ret_key + 1, append->handle);
    store_put_key64(ret_key + 9, append->producer);
    store_put_key64(ret_key + 17, append->sequence);
}

void store_index_put_append(struct kv_batch *batch, const struct store_index_append *append)
{
    uint8_t key[KEY_APPEND_BYTES];
    uint8_t value[8];
    key_append(key, append);
    store_put_u32(value, append->offset_bytes);
    store_put_u32(value + 4, append->length_bytes);
    kv_batch_put(batch, key, sizeof(key), value, sizeof(value));
}

void store_index_delete_append(struct kv_batch *batch, const struct store_index_append *append)
{
    uint8_t key[KEY_APPEND_BYTES];
    key_append(key, append);
    kv_batch_delete(batch, key, sizeof(key));
}

bool store_index_has_append(struct store_index *index, const struct store_index_append *append)
{
    uint8_t key[KEY_APPEND_BYTES];
    struct kv_value value;
    key_append(key, append);
    enum gfs_err err = kv_get(index->kv, key, sizeof(key), &value);
    if (err == GFS_OK)
        kv_value_release(&value);
    return err != GFS_ERR_NOT_FOUND; /* in doubt it is kept */
}

enum gfs_err store_index_each_append(struct store_index *index, uint64_t handle,
                                     enum gfs_err (*each)(void *arg,
                                                          const struct store_index_append *append),
                                     void *arg)
{
    struct kv_iter *iter = kv_iter_new(index->kv);
    struct store_index_append append = {.handle = handle};
    uint8_t from[KEY_APPEND_BYTES];
    enum gfs_err err = GFS_OK;
    if (iter == NULL)
        return GFS_ERR_NO_MEMORY;
    key_append(from, &append);
    for (kv_iter_seek(iter, from, sizeof(from)); kv_iter_valid(iter); kv_iter_next(iter)) {
        size_t key_bytes, value_bytes;
        const uint8_t *key = kv_iter_key(iter, &key_bytes);
        const uint8_t *value = kv_iter_value(iter, &value_bytes);
        if (key_bytes < 9 || memcmp(key, from, 9) != 0)
            break;
        err = key_bytes == KEY_APPEND_BYTES && value_bytes == 8 ? GFS_OK : GFS_ERR_CORRUPT;
        if (err != GFS_OK)
            break;
        append.producer = store_get_key64(key + 9);
        append.sequence = store_get_key64(key + 17);
        append.offset_bytes = store_get_u32(value);
        append.length_bytes = store_get_u32(value + 4);
        err = each(arg, &append);
        if (err != GFS_OK)
            break;
    }
    if (err == GFS_OK && !kv_iter_valid(iter))
        err = kv_iter_err(iter);
    kv_iter_free(iter);
    return err;
}

void store_index_put_applied(struct kv_batch *batch, uint64_t seq)
{
    uint8_t value[8];
    store_put_u64(value, seq);
    kv_batch_put(batch, KEY_APPLIED, KEY_MARK_BYTES, value, sizeof(value));
}

enum gfs_err store_index_write(struct store_index *index, struct kv_batch *batch)
{
    return kv_write(index->kv, batch, false);
}
