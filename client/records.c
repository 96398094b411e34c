/* Reading a file record by record, and waiting for more. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "crc.h"
#include "failure.h"
#include "file.h"
#include "record.h"

#define RECORDS_AHEAD_BYTES (1u << 20)
#define RECORDS_WAIT_MS     20000u /* of one WAIT: the master answers by then */
#define RECORDS_SPARE_MS    5000u

/* Makes [offset, offset + need) be at hand; *ret_have may be less at the file's end. */
static enum gfs_err buffer_fill(struct gfs_file *file, uint64_t offset, size_t need,
                                size_t *ret_have)
{
    struct record_buffer *buffer = &file->records;
    if (offset >= buffer->offset && offset - buffer->offset + need <= buffer->len_bytes) {
        *ret_have = buffer->len_bytes - (size_t)(offset - buffer->offset);
        return GFS_OK;
    }
    size_t want = need > RECORDS_AHEAD_BYTES ? need : RECORDS_AHEAD_BYTES;
    if (want > buffer->cap_bytes) {
        uint8_t *data = realloc(buffer->data, want);
        if (data == NULL)
            return failure_set(GFS_ERR_NO_MEMORY, "read %s: out of memory", file->path);
        buffer->data = data;
        buffer->cap_bytes = want;
    }
    buffer->len_bytes = 0;
    size_t got = 0;
    enum gfs_err err = gfs_pread(file, offset, buffer->data, want, &got);
    if (err != GFS_OK)
        return err;
    buffer->offset = offset;
    buffer->len_bytes = got;
    *ret_have = got;
    return GFS_OK;
}

static const uint8_t *buffer_at(const struct gfs_file *file, uint64_t offset)
{
    return file->records.data + (offset - file->records.offset);
}

static enum gfs_err bad_record(const struct gfs_file *file, uint64_t offset)
{
    return failure_set(GFS_ERR_BAD_RECORD,
                       "read %s: no record at offset %" PRIu64
                       ": was the file written by other means than append?",
                       file->path, offset);
}

enum gfs_err gfs_read_record(struct gfs_file *file, uint64_t *offset, const void **ret_record,
                             size_t *ret_len_bytes)
{
    uint64_t at = *offset;
    uint32_t chunk_bytes = file->reader.chunk_size_bytes;
    for (;;) {
        struct record_header header;
        size_t have = 0;
        uint64_t room = chunk_bytes - at % chunk_bytes;
        if (room < GFS_RECORD_HEADER_BYTES) {
            at += room;
            continue;
        }
        enum gfs_err err = buffer_fill(file, at, GFS_RECORD_HEADER_BYTES, &have);
        if (err != GFS_OK)
            return err;
        if (have == 0) {
            *offset = at;
            *ret_record = NULL;
            *ret_len_bytes = 0;
            return GFS_OK;
        }
        if (have < GFS_RECORD_HEADER_BYTES)
            return bad_record(file, at);
        enum record_kind kind = record_decode(buffer_at(file, at), room, &header);
        if (kind == RECORD_BAD)
            return bad_record(file, at);
        if (kind == RECORD_PADDING) {
            at += room;
            continue;
        }
        size_t total = GFS_RECORD_HEADER_BYTES + header.length_bytes;
        err = buffer_fill(file, at, total, &have);
        if (err != GFS_OK)
            return err;
        const uint8_t *payload = buffer_at(file, at) + GFS_RECORD_HEADER_BYTES;
        if (have < total || crc32c(0, payload, header.length_bytes) != header.crc)
            return bad_record(file, at);
        *offset = at + total;
        *ret_record = payload;
        *ret_len_bytes = header.length_bytes;
        return GFS_OK;
    }
}

static enum gfs_err wait_take(void *arg, const ProtobufCMessage *msg)
{
    return attr_take(((const Gfs__WaitReply *)msg)->attr, arg);
}

enum gfs_err gfs_wait(struct gfs_file *file, uint64_t offset, uint32_t timeout_ms,
                      uint64_t *ret_size_bytes)
{
    uint64_t until_ms = loop_now_ms() + timeout_ms;
    for (;;) {
        uint64_t now_ms = loop_now_ms();
        uint64_t left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
        Gfs__WaitRequest msg = GFS__WAIT_REQUEST__INIT;
        struct gfs_attr attr = {0};
        struct call call = {.type = GFS_MSG_WAIT,
                            .msg = &msg.base,
                            .take = wait_take,
                            .arg = &attr,
                            .what = "wait for",
                            .path = file->path};
        msg.inode = file->inode;
        msg.offset = offset;
        msg.timeout_ms = left_ms < RECORDS_WAIT_MS ? (uint32_t)left_ms : RECORDS_WAIT_MS;
        call.budget_ms = msg.timeout_ms + RECORDS_SPARE_MS;
        enum gfs_err err = call_master(file->fs, &call);
        if (err == GFS_OK && attr.size_bytes > offset) {
            *ret_size_bytes = attr.size_bytes;
            return GFS_OK;
        }
        /* The master may be away for a while: that is no reason to give up waiting. */
        if (err != GFS_OK && gfs_err_class(err) == GFS_ERR_CLASS_FINAL)
            return err;
        if (loop_now_ms() >= until_ms)
            return failure_set(GFS_ERR_TIMEOUT,
                               "wait for %s: no bytes behind offset %" PRIu64 " within %u ms",
                               file->path, offset, timeout_ms);
    }
}
