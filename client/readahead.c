#include "readahead.h"

#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "failure.h"

void readahead_init(struct readahead *ahead, struct reader *reader)
{
    memset(ahead, 0, sizeof(*ahead));
    ahead->reader = reader;
    read_group_init(&ahead->group);
}

void readahead_release(struct readahead *ahead)
{
    readahead_reset(ahead);
    for (size_t i = 0; ahead->ring != NULL && i < ahead->reader->fs->opts.read_window; i++)
        buf_unref(ahead->ring[i].buf);
    free(ahead->ring);
    read_group_release(&ahead->group);
}

static void head_drop(struct readahead *ahead)
{
    struct readahead_slot *head = &ahead->ring[ahead->head];
    if (!ahead->head_ready)
        read_slot_drop(&head->slot);
    ahead->head_ready = false;
    ahead->head = (ahead->head + 1) % ahead->reader->fs->opts.read_window;
    ahead->count--;
}

void readahead_reset(struct readahead *ahead)
{
    while (ahead->count > 0)
        head_drop(ahead);
    ahead->in_order = 0;
}

/* Keeps up to `most` requests in flight below the end of the file. */
static enum gfs_err ring_fill(struct readahead *ahead, size_t most, uint64_t size_bytes)
{
    const struct gfs_options *opts = &ahead->reader->fs->opts;
    if (ahead->ring == NULL)
        ahead->ring = calloc(opts->read_window, sizeof(ahead->ring[0]));
    if (ahead->ring == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "read %s: out of memory", ahead->reader->path);
    while (ahead->count < most && ahead->next_offset < size_bytes) {
        struct readahead_slot *slot =
            &ahead->ring[(ahead->head + ahead->count) % opts->read_window];
        if (slot->buf == NULL)
            slot->buf = buf_new(opts->request_bytes);
        if (slot->buf == NULL)
            return failure_set(GFS_ERR_NO_MEMORY, "read %s: out of memory", ahead->reader->path);
        struct read_piece piece =
            read_plan_cut(ahead->next_offset, size_bytes, ahead->reader->chunk_size_bytes,
                          opts->request_bytes);
        read_slot_start(&slot->slot, ahead->reader, &ahead->group, &piece, slot->buf->data);
        ahead->next_offset += piece.length_bytes;
        ahead->count++;
    }
    return GFS_OK;
}

/* Copies from the head what it has of [offset, end). */
static enum gfs_err head_copy(struct readahead *ahead, uint64_t offset, uint64_t end, uint8_t *dest,
                              size_t *ret_len_bytes)
{
    struct readahead_slot *head = &ahead->ring[ahead->head];
    if (!ahead->head_ready) {
        enum gfs_err err = read_slot_finish(&head->slot);
        ahead->head_ready = true; /* finished, whatever came */
        if (err != GFS_OK) {
            readahead_reset(ahead);
            return err;
        }
    }
    const struct read_piece *piece = &head->slot.piece;
    uint64_t piece_end = piece->file_offset + piece->length_bytes;
    uint64_t stop = piece_end < end ? piece_end : end;
    memcpy(dest, head->buf->data + (offset - piece->file_offset), stop - offset);
    *ret_len_bytes = stop - offset;
    if (stop == piece_end)
        head_drop(ahead);
    return GFS_OK;
}

static enum gfs_err read_in_order(struct readahead *ahead, uint64_t offset, uint64_t end,
                                  uint64_t size_bytes, uint8_t *dest)
{
    /* One request at first: a reader of a few bytes shall not cost a window of them. */
    size_t window = ahead->reader->fs->opts.read_window;
    size_t most = ahead->in_order > 1 ? window : 1;
    if (ahead->count == 0)
        ahead->next_offset = offset;
    while (offset < end) {
        enum gfs_err err = ring_fill(ahead, most, size_bytes);
        size_t copied_bytes = 0;
        if (err == GFS_OK)
            err = head_copy(ahead, offset, end, dest, &copied_bytes);
        if (err != GFS_OK)
            return err;
        offset += copied_bytes;
        dest += copied_bytes;
        most = window;
    }
    return ring_fill(ahead, ahead->in_order > 1 ? window : 1, size_bytes);
}

enum gfs_err readahead_read(struct readahead *ahead, uint64_t offset, uint8_t *dest,
                            size_t len_bytes, size_t *ret_len_bytes)
{
    const struct gfs_options *opts = &ahead->reader->fs->opts;
    uint64_t size_bytes;
    enum gfs_err err = reader_size_for(ahead->reader, offset + len_bytes, &size_bytes);
    if (err != GFS_OK)
        return err;
    uint64_t end = offset + len_bytes < size_bytes ? offset + len_bytes : size_bytes;
    if (offset >= end) {
        *ret_len_bytes = 0;
        return GFS_OK;
    }
    if (offset != ahead->expected)
        readahead_reset(ahead);
    ahead->in_order++;
    bool direct =
        ahead->count == 0 && (end - offset > (uint64_t)opts->read_window * opts->request_bytes ||
                              (offset != 0 && ahead->in_order == 1));
    err = direct ? reader_read(ahead->reader, offset, dest, end - offset)
                 : read_in_order(ahead, offset, end, size_bytes, dest);
    if (err != GFS_OK)
        return err;
    ahead->expected = end;
    *ret_len_bytes = end - offset;
    return GFS_OK;
}
