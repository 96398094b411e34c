/*
 * Reads: extents of the blocks from a moment of the index, records pinned by iterators, CRCs
 * verified. A block that one record covers is returned where LevelDB has it; one with several
 * fragments, or with holes among them, is merged into a buffer.
 */
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "store_impl.h"

/* Of one read: bounds its pins and buffers. */
#define STORE_READ_MAX_BYTES (64u << 20)

static const uint8_t STORE_ZEROS[GFS_BLOCK_SIZE_BYTES];

struct store_read {
    struct store_read_info info;
    struct store_set *set;
    struct store_piece *pieces; /* one a block */
    struct store_pin *pins;     /* likewise; unused ones are zero */
    void **buffers;             /* likewise */
    size_t block_count;
    uint64_t family;
};

/* A record as an extent's holder: it must be what the index says. */
static enum gfs_err extent_pin(const struct store_set *set, uint64_t family, uint32_t block,
                               const struct store_extent *extent, struct store_pin *ret_pin)
{
    struct store_pin pin;
    enum gfs_err err = store_log_read(set, extent->seq, &pin);
    if (err != GFS_OK)
        return err;
    const struct store_record *record = &pin.record;
    uint32_t start = record->offset_bytes % GFS_BLOCK_SIZE_BYTES;
    if (record->kind != STORE_RECORD_WRITE || record->family != family ||
        record->offset_bytes >> GFS_BLOCK_SHIFT != block || start > extent->start_bytes ||
        start + record->length_bytes < extent->start_bytes + extent->length_bytes) {
        store_pin_release(&pin);
        return GFS_ERR_CORRUPT;
    }
    *ret_pin = pin;
    return GFS_OK;
}

static uint32_t pin_start(const struct store_pin *pin)
{
    return pin->record.offset_bytes % GFS_BLOCK_SIZE_BYTES;
}

/* CRC of the bytes [from, to) of the block, which the pinned record holds. */
static uint32_t pin_crc(const struct store_pin *pin, uint32_t from, uint32_t to)
{
    uint32_t start = pin_start(pin);
    if (from == start && to == start + pin->record.length_bytes)
        return pin->record.data_crc;
    return crc32c(0, pin->data + (from - start), to - from);
}

/* Merges [from, to) of a block into buf. The CRC is made of the sources', before the copy. */
static enum gfs_err block_merge(const struct store_set *set, uint64_t family, uint32_t block,
                                const struct store_extent *extents, size_t count, uint32_t from,
                                uint32_t to, uint8_t *buf, uint32_t *ret_crc)
{
    uint32_t at = from;
    uint32_t crc = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t start = extents[i].start_bytes > from ? extents[i].start_bytes : from;
        uint32_t end = extents[i].start_bytes + extents[i].length_bytes;
        end = end < to ? end : to;
        if (start >= end)
            continue;
        memset(buf + (at - from), 0, start - at);
        crc = crc32c(crc, STORE_ZEROS, start - at);
        struct store_pin pin;
        enum gfs_err err = extent_pin(set, family, block, &extents[i], &pin);
        if (err != GFS_OK)
            return err;
        crc = crc32c_combine(crc, pin_crc(&pin, start, end), end - start);
        memcpy(buf + (start - from), pin.data + (start - pin_start(&pin)), end - start);
        store_pin_release(&pin);
        at = end;
    }
    memset(buf + (at - from), 0, to - at);
    *ret_crc = crc32c(crc, STORE_ZEROS, to - at);
    return GFS_OK;
}

enum gfs_err store_block_assemble(const struct store_set *set, uint64_t family, uint32_t block,
                                  const struct store_extent *extents, size_t count,
                                  uint8_t **ret_data, uint32_t *ret_start, uint32_t *ret_length,
                                  uint32_t *ret_crc)
{
    uint32_t from = extents[0].start_bytes;
    uint32_t to = extents[count - 1].start_bytes + extents[count - 1].length_bytes;
    uint8_t *data = malloc(to - from);
    if (data == NULL)
        return GFS_ERR_NO_MEMORY;
    uint32_t crc;
    enum gfs_err err = block_merge(set, family, block, extents, count, from, to, data, &crc);
    if (err != GFS_OK) {
        free(data);
        return err;
    }
    *ret_data = data;
    *ret_start = from;
    *ret_length = to - from;
    *ret_crc = crc;
    return GFS_OK;
}

/* Fills piece i with [from, to) of the block. */
static enum gfs_err piece_fill(struct store_read *read, size_t i, uint32_t block,
                               const struct store_extent *extents, size_t count, uint32_t from,
                               uint32_t to)
{
    struct store_piece *piece = &read->pieces[i];
    piece->length_bytes = to - from;
    size_t first = 0;
    while (first < count && extents[first].start_bytes + extents[first].length_bytes <= from)
        first++;
    if (first == count || extents[first].start_bytes >= to) {
        piece->data = STORE_ZEROS;
        piece->crc = crc32c(0, STORE_ZEROS, to - from);
        return GFS_OK;
    }
    const struct store_extent *extent = &extents[first];
    if (extent->start_bytes <= from && extent->start_bytes + extent->length_bytes >= to) {
        struct store_pin *pin = &read->pins[i];
        enum gfs_err err = extent_pin(read->set, read->family, block, extent, pin);
        if (err != GFS_OK)
            return err;
        piece->data = pin->data + (from - pin_start(pin));
        piece->crc = pin_crc(pin, from, to);
        return GFS_OK;
    }
    uint8_t *buf = malloc(to - from);
    if (buf == NULL)
        return GFS_ERR_NO_MEMORY;
    read->buffers[i] = buf;
    piece->data = buf;
    return block_merge(read->set, read->family, block, extents + first, count - first, from, to,
                       buf, &piece->crc);
}

static enum gfs_err read_blocks(struct store *store, struct store_read *read,
                                struct store_block_iter *iter, uint64_t handle, uint32_t offset,
                                uint32_t length)
{
    struct store_extent extents[STORE_EXTENTS_MAX];
    size_t count = 0;
    uint32_t block = offset >> GFS_BLOCK_SHIFT;
    uint64_t at_handle = 0;
    uint32_t at_block = 0;
    uint64_t end = (uint64_t)offset + length;
    store_block_iter_seek(iter, handle, block);
    enum gfs_err err = store_block_iter_next(iter, &at_handle, &at_block, extents, &count);
    for (size_t i = 0; i < read->block_count; i++, block++) {
        if (err != GFS_OK && err != GFS_ERR_NOT_FOUND) {
            store_fail_index(store, err);
            return GFS_ERR_IO;
        }
        bool found = err == GFS_OK && at_handle == handle && at_block == block;
        uint64_t start = (uint64_t)block << GFS_BLOCK_SHIFT;
        uint32_t from = offset > start ? offset - (uint32_t)start : 0;
        uint64_t to = end - start;
        to = to < GFS_BLOCK_SIZE_BYTES ? to : GFS_BLOCK_SIZE_BYTES;
        enum gfs_err piece_err =
            piece_fill(read, i, block, extents, found ? count : 0, from, (uint32_t)to);
        if (piece_err != GFS_OK)
            return piece_err == GFS_ERR_NO_MEMORY ? piece_err : GFS_ERR_CORRUPT;
        if (found)
            err = store_block_iter_next(iter, &at_handle, &at_block, extents, &count);
    }
    return GFS_OK;
}

static enum gfs_err read_new(uint32_t offset, uint32_t length, struct store_read **ret_read)
{
    struct store_read *read = calloc(1, sizeof(*read));
    if (read == NULL)
        return GFS_ERR_NO_MEMORY;
    uint64_t first = offset >> GFS_BLOCK_SHIFT;
    uint64_t last = ((uint64_t)offset + length - 1) >> GFS_BLOCK_SHIFT;
    read->block_count = length == 0 ? 0 : (size_t)(last - first + 1);
    read->pieces = calloc(read->block_count + 1, sizeof(*read->pieces));
    read->pins = calloc(read->block_count + 1, sizeof(*read->pins));
    read->buffers = calloc(read->block_count + 1, sizeof(*read->buffers));
    if (read->pieces == NULL || read->pins == NULL || read->buffers == NULL) {
        store_read_release(read);
        return GFS_ERR_NO_MEMORY;
    }
    *ret_read = read;
    return GFS_OK;
}

void store_read_release(struct store_read *read)
{
    if (read == NULL)
        return;
    for (size_t i = 0; i < read->block_count && read->pins != NULL; i++)
        store_pin_release(&read->pins[i]);
    for (size_t i = 0; i < read->block_count && read->buffers != NULL; i++)
        free(read->buffers[i]);
    store_set_unref(read->set);
    free(read->pieces);
    free(read->pins);
    free(read->buffers);
    free(read);
}

const struct store_read_info *store_read_info(const struct store_read *read)
{
    return &read->info;
}

static enum gfs_err state_check(const struct store_chunk *chunk, uint32_t min_version,
                                uint32_t offset, uint32_t length)
{
    if (chunk->version < min_version)
        return GFS_ERR_STALE_VERSION;
    if (chunk->corrupt)
        return GFS_ERR_CORRUPT;
    if ((uint64_t)offset + length > chunk->length_bytes)
        return GFS_ERR_SHORT;
    return GFS_OK;
}

/* One moment: the chunk's state, its extents and the databases that hold them. */
static enum gfs_err moment_take(struct store *store, uint64_t handle, struct store_read *read,
                                struct store_block_iter *ret_iter, struct store_chunk *ret_chunk)
{
    pthread_rwlock_rdlock(&store->publish);
    pthread_mutex_lock(&store->table_lock);
    const struct store_entry *entry = store_table_find(&store->table, handle);
    if (entry != NULL) {
        store_chunk_from_entry(entry, ret_chunk);
        read->family = entry->family;
    }
    pthread_mutex_unlock(&store->table_lock);
    enum gfs_err err = GFS_ERR_NO_CHUNK;
    if (entry != NULL) {
        read->set = store_log_pin(&store->log);
        err = store_block_iter_start(store->index, ret_iter);
    }
    pthread_rwlock_unlock(&store->publish);
    return err;
}

enum gfs_err store_read_any(struct store *store, uint64_t handle, uint32_t min_version,
                            bool corrupt, uint32_t offset_bytes, uint32_t length_bytes,
                            struct store_read **ret_read)
{
    if (length_bytes > STORE_READ_MAX_BYTES)
        return GFS_ERR_INVAL;
    struct store_read *read;
    struct store_block_iter iter = {0};
    struct store_chunk chunk;
    enum gfs_err err = read_new(offset_bytes, length_bytes, &read);
    if (err != GFS_OK)
        return err;
    err = moment_take(store, handle, read, &iter, &chunk);
    if (corrupt)
        chunk.corrupt = false;
    if (err == GFS_OK)
        err = state_check(&chunk, min_version, offset_bytes, length_bytes);
    if (err != GFS_OK)
        goto out;
    err = read_blocks(store, read, &iter, handle, offset_bytes, length_bytes);
    if (err != GFS_OK)
        goto out;
    read->info = (struct store_read_info){
        .version = chunk.version,
        .chunk_length_bytes = chunk.length_bytes,
        .length_bytes = length_bytes,
        .piece_count = read->block_count,
        .pieces = read->pieces,
    };
    *ret_read = read;
    read = NULL;
out:
    store_block_iter_release(&iter);
    store_read_release(read);
    return err;
}

enum gfs_err store_read(struct store *store, uint64_t handle, uint32_t min_version,
                        uint32_t offset_bytes, uint32_t length_bytes, struct store_read **ret_read)
{
    struct store_chunk chunk;
    enum gfs_err err =
        store_read_any(store, handle, min_version, false, offset_bytes, length_bytes, ret_read);
    if (err == GFS_ERR_CORRUPT && store_chunk_get(store, handle, &chunk) == GFS_OK &&
        !chunk.corrupt)
        store_mark_corrupt(store, handle);
    return err;
}
