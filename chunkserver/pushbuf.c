/* Pushed data waiting for its write. See the header. */
#include "chunkserver/pushbuf.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "crc.h"

struct pushbuf_data {
    uint8_t id[PUSHBUF_ID_BYTES];
    uint32_t total_bytes;
    uint32_t first_block_bytes;
    uint32_t missing; /* pieces */
    uint32_t pins;
    bool hashed; /* false: dropped while pinned */
    uint64_t used_ms;
    UT_hash_handle hh;
    struct pushbuf_data *prev, *next; /* in lru, unless pinned */
    struct buf **owners;              /* one a piece, NULL: not in yet */
    size_t piece_count;
    struct store_piece pieces[];
};

#define PUSHBUF_REFUSED_MAX 256u

/* A part that found no room. Those behind it are refused too. */
struct pushbuf_refused {
    uint8_t id[PUSHBUF_ID_BYTES];
    uint32_t offset_bytes;
    bool used;
};

struct pushbuf {
    struct pushbuf_limits limits; /* read-only */

    pthread_mutex_t lock; /* over all below */
    struct pushbuf_data *by_id;
    struct pushbuf_data *lru; /* unpinned ones, least recently used first */
    uint64_t bytes;
    uint64_t entries; /* dropped ones that are still pinned included */
    uint64_t pinned;
    struct pushbuf_refused refused[PUSHBUF_REFUSED_MAX]; /* a ring */
    size_t refused_next;
    size_t refused_count;
};

struct pushbuf *pushbuf_new(const struct pushbuf_limits *limits)
{
    struct pushbuf *pushbuf = calloc(1, sizeof *pushbuf);

    if (!pushbuf)
        return NULL;
    pushbuf->limits = *limits;
    pthread_mutex_init(&pushbuf->lock, NULL);
    return pushbuf;
}

/* The entry has left hash and list. */
static void entry_free(struct pushbuf *pushbuf, struct pushbuf_data *entry)
{
    pushbuf->bytes -= entry->total_bytes;
    pushbuf->entries--;
    for (size_t i = 0; i < entry->piece_count; i++)
        buf_unref(entry->owners[i]);
    free(entry->owners);
    free(entry);
}

static void entry_evict(struct pushbuf *pushbuf, struct pushbuf_data *entry)
{
    DL_DELETE(pushbuf->lru, entry);
    HASH_DEL(pushbuf->by_id, entry);
    entry_free(pushbuf, entry);
}

void pushbuf_free(struct pushbuf *pushbuf)
{
    if (!pushbuf)
        return;
    assert(pushbuf->pinned == 0);
    while (pushbuf->lru)
        entry_evict(pushbuf, pushbuf->lru);
    assert(pushbuf->entries == 0);
    pthread_mutex_destroy(&pushbuf->lock);
    free(pushbuf);
}

static size_t piece_total(uint32_t total_bytes, uint32_t first_block_bytes)
{
    if (total_bytes <= first_block_bytes)
        return 1;
    return 1 + (total_bytes - first_block_bytes + GFS_BLOCK_SIZE_BYTES - 1) / GFS_BLOCK_SIZE_BYTES;
}

static uint32_t piece_offset(const struct pushbuf_part *part, size_t piece)
{
    return piece ? part->first_block_bytes + (uint32_t)(piece - 1) * GFS_BLOCK_SIZE_BYTES : 0;
}

static uint32_t piece_end(const struct pushbuf_part *part, size_t piece)
{
    uint32_t end = part->first_block_bytes + (uint32_t)piece * GFS_BLOCK_SIZE_BYTES;

    return end < part->total_bytes ? end : part->total_bytes;
}

/* The part is a run of whole pieces: finds the first one. */
static enum gfs_err part_check(const struct pushbuf_part *part, size_t *ret_first)
{
    uint32_t offset = part->offset_bytes;
    size_t len, first = 0, count;

    if (!part->buf || part->total_bytes == 0 || part->total_bytes > GFS_RECORD_MAX_BYTES ||
        part->first_block_bytes == 0 || part->first_block_bytes > GFS_BLOCK_SIZE_BYTES)
        return GFS_ERR_INVAL;
    len = part->buf->len_bytes;
    if (len == 0 || offset >= part->total_bytes || len > part->total_bytes - offset)
        return GFS_ERR_INVAL;
    if (offset > 0) {
        if (offset < part->first_block_bytes ||
            (offset - part->first_block_bytes) % GFS_BLOCK_SIZE_BYTES != 0)
            return GFS_ERR_INVAL;
        first = 1 + (offset - part->first_block_bytes) / GFS_BLOCK_SIZE_BYTES;
    }
    count = part->crc_count;
    if (count == 0 || count > piece_total(part->total_bytes, part->first_block_bytes) - first ||
        piece_end(part, first + count - 1) != offset + len)
        return GFS_ERR_INVAL;
    *ret_first = first;
    return GFS_OK;
}

static enum gfs_err part_verify(const struct pushbuf_part *part, size_t first)
{
    for (size_t i = 0; i < part->crc_count; i++) {
        uint32_t from = piece_offset(part, first + i);
        uint32_t len = piece_end(part, first + i) - from;

        if (crc32c(0, part->buf->data + (from - part->offset_bytes), len) != part->crcs[i])
            return GFS_ERR_CORRUPT;
    }
    return GFS_OK;
}

/* The caller read its clock before it had the lock: the entry may be of a later time. */
static uint64_t idle_ms(const struct pushbuf_data *entry, uint64_t now_ms)
{
    return now_ms > entry->used_ms ? now_ms - entry->used_ms : 0;
}

static void expire_old(struct pushbuf *pushbuf, uint64_t now_ms)
{
    while (pushbuf->lru && idle_ms(pushbuf->lru, now_ms) >= pushbuf->limits.expire_ms)
        entry_evict(pushbuf, pushbuf->lru);
}

static struct pushbuf_refused *refused_find(struct pushbuf *pushbuf, const uint8_t *id)
{
    for (size_t i = 0; pushbuf->refused_count > 0 && i < PUSHBUF_REFUSED_MAX; i++)
        if (pushbuf->refused[i].used && memcmp(pushbuf->refused[i].id, id, PUSHBUF_ID_BYTES) == 0)
            return &pushbuf->refused[i];
    return NULL;
}

static void refused_clear(struct pushbuf *pushbuf, struct pushbuf_refused *refused)
{
    if (refused && refused->used) {
        refused->used = false;
        pushbuf->refused_count--;
    }
}

static void refused_note(struct pushbuf *pushbuf, const struct pushbuf_part *part)
{
    struct pushbuf_refused *refused = refused_find(pushbuf, part->id);

    if (!refused) {
        refused = &pushbuf->refused[pushbuf->refused_next++ % PUSHBUF_REFUSED_MAX];
        refused_clear(pushbuf, refused);
        memcpy(refused->id, part->id, sizeof refused->id);
        refused->used = true;
        pushbuf->refused_count++;
    }
    refused->offset_bytes = part->offset_bytes;
}

static uint64_t room_bytes(const struct pushbuf *pushbuf, uint32_t hops_left)
{
    uint64_t half = pushbuf->limits.bytes_max / 2;

    return half + half / (1 + (uint64_t)hops_left);
}

static bool make_room(struct pushbuf *pushbuf, const struct pushbuf_part *part, uint64_t now_ms)
{
    const struct pushbuf_limits *limits = &pushbuf->limits;
    uint64_t room = room_bytes(pushbuf, part->hops_left);
    struct pushbuf_refused *refused = refused_find(pushbuf, part->id);

    if (refused && part->offset_bytes > refused->offset_bytes)
        return false;
    while (pushbuf->bytes + part->total_bytes > room || pushbuf->entries >= limits->entries_max) {
        if (!pushbuf->lru || idle_ms(pushbuf->lru, now_ms) < limits->evict_ms) {
            refused_note(pushbuf, part);
            return false;
        }
        entry_evict(pushbuf, pushbuf->lru);
    }
    refused_clear(pushbuf, refused);
    return true;
}

static enum gfs_err entry_make(struct pushbuf *pushbuf, const struct pushbuf_part *part,
                               uint64_t now_ms, struct pushbuf_data **ret_entry)
{
    size_t count = piece_total(part->total_bytes, part->first_block_bytes);
    struct pushbuf_data *entry;

    if (!make_room(pushbuf, part, now_ms))
        return GFS_ERR_BUSY;
    entry = calloc(1, sizeof *entry + count * sizeof entry->pieces[0]);
    if (!entry)
        return GFS_ERR_NO_MEMORY;
    entry->owners = calloc(count, sizeof(struct buf *));
    if (!entry->owners) {
        free(entry);
        return GFS_ERR_NO_MEMORY;
    }
    memcpy(entry->id, part->id, sizeof entry->id);
    entry->total_bytes = part->total_bytes;
    entry->first_block_bytes = part->first_block_bytes;
    entry->piece_count = count;
    entry->missing = (uint32_t)count;
    entry->hashed = true;
    HASH_ADD(hh, pushbuf->by_id, id, PUSHBUF_ID_BYTES, entry);
    DL_APPEND(pushbuf->lru, entry);
    pushbuf->bytes += entry->total_bytes;
    pushbuf->entries++;
    *ret_entry = entry;
    return GFS_OK;
}

/* Pieces that are here already must be the same; a repeated push is harmless. */
static enum gfs_err entry_fill(struct pushbuf_data *entry, const struct pushbuf_part *part,
                               size_t first)
{
    if (entry->total_bytes != part->total_bytes ||
        entry->first_block_bytes != part->first_block_bytes)
        return GFS_ERR_INVAL;
    for (size_t i = 0; i < part->crc_count; i++)
        if (entry->owners[first + i] && entry->pieces[first + i].crc != part->crcs[i])
            return GFS_ERR_INVAL;
    for (size_t i = 0; i < part->crc_count; i++) {
        struct store_piece *piece = &entry->pieces[first + i];
        uint32_t from = piece_offset(part, first + i);

        if (entry->owners[first + i])
            continue;
        entry->owners[first + i] = buf_ref(part->buf);
        piece->data = part->buf->data + (from - part->offset_bytes);
        piece->length_bytes = piece_end(part, first + i) - from;
        piece->crc = part->crcs[i];
        entry->missing--;
    }
    return GFS_OK;
}

static void touch(struct pushbuf *pushbuf, struct pushbuf_data *entry, uint64_t now_ms)
{
    entry->used_ms = now_ms;
    if (entry->pins == 0) {
        DL_DELETE(pushbuf->lru, entry);
        DL_APPEND(pushbuf->lru, entry);
    }
}

enum gfs_err pushbuf_add(struct pushbuf *pushbuf, const struct pushbuf_part *part, uint64_t now_ms)
{
    struct pushbuf_data *entry;
    size_t first;
    enum gfs_err err = part_check(part, &first);

    if (err == GFS_OK)
        err = part_verify(part, first);
    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&pushbuf->lock);
    expire_old(pushbuf, now_ms);
    HASH_FIND(hh, pushbuf->by_id, part->id, PUSHBUF_ID_BYTES, entry);
    if (!entry)
        err = entry_make(pushbuf, part, now_ms, &entry);
    if (err == GFS_OK)
        err = entry_fill(entry, part, first);
    if (err == GFS_OK)
        touch(pushbuf, entry, now_ms);
    pthread_mutex_unlock(&pushbuf->lock);
    return err;
}

void pushbuf_drop(struct pushbuf *pushbuf, const uint8_t id[PUSHBUF_ID_BYTES])
{
    struct pushbuf_data *entry;

    pthread_mutex_lock(&pushbuf->lock);
    HASH_FIND(hh, pushbuf->by_id, id, PUSHBUF_ID_BYTES, entry);
    if (entry && entry->pins == 0)
        entry_evict(pushbuf, entry);
    pthread_mutex_unlock(&pushbuf->lock);
}

enum gfs_err pushbuf_pin(struct pushbuf *pushbuf, const uint8_t id[PUSHBUF_ID_BYTES],
                         uint64_t now_ms, struct pushbuf_data **ret_data)
{
    struct pushbuf_data *entry;
    enum gfs_err err = GFS_ERR_NO_DATA;

    pthread_mutex_lock(&pushbuf->lock);
    HASH_FIND(hh, pushbuf->by_id, id, PUSHBUF_ID_BYTES, entry);
    if (entry && entry->missing == 0) {
        if (entry->pins++ == 0) {
            DL_DELETE(pushbuf->lru, entry);
            pushbuf->pinned++;
        }
        entry->used_ms = now_ms;
        *ret_data = entry;
        err = GFS_OK;
    }
    pthread_mutex_unlock(&pushbuf->lock);
    return err;
}

static void unpin(struct pushbuf *pushbuf, struct pushbuf_data *entry)
{
    assert(entry->pins > 0);
    if (--entry->pins > 0)
        return;
    pushbuf->pinned--;
    if (entry->hashed)
        DL_APPEND(pushbuf->lru, entry);
    else
        entry_free(pushbuf, entry);
}

void pushbuf_unpin(struct pushbuf *pushbuf, struct pushbuf_data *take_data, uint64_t now_ms)
{
    pthread_mutex_lock(&pushbuf->lock);
    take_data->used_ms = now_ms;
    unpin(pushbuf, take_data);
    pthread_mutex_unlock(&pushbuf->lock);
}

void pushbuf_done(struct pushbuf *pushbuf, struct pushbuf_data *take_data)
{
    pthread_mutex_lock(&pushbuf->lock);
    if (take_data->hashed) {
        HASH_DEL(pushbuf->by_id, take_data);
        take_data->hashed = false;
    }
    unpin(pushbuf, take_data);
    pthread_mutex_unlock(&pushbuf->lock);
}

uint32_t pushbuf_data_bytes(const struct pushbuf_data *data)
{
    return data->total_bytes;
}

const struct store_piece *pushbuf_data_pieces(const struct pushbuf_data *data, size_t *ret_count)
{
    *ret_count = data->piece_count;
    return data->pieces;
}

bool pushbuf_data_fits(const struct pushbuf_data *data, uint32_t chunk_offset_bytes)
{
    uint32_t to_boundary = GFS_BLOCK_SIZE_BYTES - chunk_offset_bytes % GFS_BLOCK_SIZE_BYTES;

    if (data->total_bytes <= to_boundary)
        return data->piece_count == 1;
    return data->first_block_bytes == to_boundary;
}

void pushbuf_expire(struct pushbuf *pushbuf, uint64_t now_ms)
{
    pthread_mutex_lock(&pushbuf->lock);
    expire_old(pushbuf, now_ms);
    pthread_mutex_unlock(&pushbuf->lock);
}

void pushbuf_stat(struct pushbuf *pushbuf, struct pushbuf_stat *ret_stat)
{
    pthread_mutex_lock(&pushbuf->lock);
    ret_stat->bytes = pushbuf->bytes;
    ret_stat->entries = pushbuf->entries;
    ret_stat->pinned = pushbuf->pinned;
    pthread_mutex_unlock(&pushbuf->lock);
}
