/*
 * tail: the end of a file, and what is added to it. The master tells when there is more (gfs_wait);
 * nothing is polled. SIGINT ends it at once: there is nothing to tidy up.
 *
 * Where the last N begin: lines are counted backwards from the end, block by block; records cannot
 * be, but each chunk begins with one, so they are counted chunk by chunk, the last chunk first.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gfs_limits.h"
#include "groups.h"
#include "out.h"
#include "sink.h"

#define TAIL_DEFAULT     10
#define TAIL_BLOCK_BYTES (64u << 10)
#define TAIL_COPY_BYTES  (1u << 20)
/* Between two looks at whether the file was cut, or our reader has gone. */
#define TAIL_WAIT_MS 5000

struct tail {
    const struct ctl *ctl;
    struct gfs_file *file;
    const char *path;
    char *buffer; /* TAIL_COPY_BYTES */
    uint64_t at;  /* printed up to here */
    uint64_t size_bytes;
    uint32_t chunk_size_bytes;
};

/* ---- where to begin ---- */

/* tail->at = behind the newline before the last `count` lines, which may lack their last newline.
 */
static enum ctl_exit tail_find_lines(struct tail *tail, uint64_t count)
{
    uint64_t end = tail->size_bytes;
    tail->at = end;
    if (count == 0)
        return CTL_OK;
    for (uint64_t left = count; end > 0;) {
        uint64_t start = end > TAIL_BLOCK_BYTES ? end - TAIL_BLOCK_BYTES : 0;
        size_t len = 0;
        enum gfs_err err = gfs_pread(tail->file, start, tail->buffer, (size_t)(end - start), &len);
        if (err != GFS_OK)
            return ctl_fail_gfs(tail->ctl, err, NULL);
        for (size_t i = len; i-- > 0;) {
            bool is_last = start + i + 1 == tail->size_bytes;
            if (tail->buffer[i] == '\n' && !is_last && --left == 0) {
                tail->at = start + i + 1;
                return CTL_OK;
            }
        }
        end = start;
    }
    tail->at = 0;
    return CTL_OK;
}

/* Goes over records from *offset; *ret_count of them begin below `end`, `max` at most. *offset is
 * behind them. */
static enum gfs_err tail_count(struct tail *tail, uint64_t *offset, uint64_t end, uint64_t max,
                               uint64_t *ret_count)
{
    uint64_t count = 0;
    while (count < max) {
        const void *record;
        size_t len;
        uint64_t next = *offset;
        enum gfs_err err = gfs_read_record(tail->file, &next, &record, &len);
        if (err != GFS_OK)
            return err;
        if (!record || next - len - GFS_RECORD_HEADER_BYTES >= end)
            break;
        *offset = next;
        count++;
    }
    *ret_count = count;
    return GFS_OK;
}

static enum ctl_exit tail_find_records(struct tail *tail, uint64_t count)
{
    uint64_t end = tail->size_bytes;
    tail->at = end;
    for (uint64_t left = count; left > 0 && end > 0;) {
        uint64_t start = (end - 1) / tail->chunk_size_bytes * tail->chunk_size_bytes;
        uint64_t at = start, found = 0, skipped = 0;
        enum gfs_err err = tail_count(tail, &at, end, UINT64_MAX, &found);
        if (err == GFS_OK && found >= left) {
            at = start;
            err = tail_count(tail, &at, end, found - left, &skipped);
        }
        if (err != GFS_OK)
            return ctl_fail_gfs(tail->ctl, err, NULL);
        tail->at = found >= left ? at : start;
        left -= found >= left ? left : found;
        end = start;
    }
    return CTL_OK;
}

/* ---- printing ---- */

static enum ctl_exit tail_bytes(struct tail *tail)
{
    for (;;) {
        size_t len = 0;
        enum gfs_err err = gfs_pread(tail->file, tail->at, tail->buffer, TAIL_COPY_BYTES, &len);
        if (err != GFS_OK)
            return ctl_fail_gfs(tail->ctl, err, NULL);
        if (len == 0)
            return CTL_OK;
        enum ctl_exit result = sink_write(tail->ctl, &sink_stdout, tail->buffer, len);
        if (result != CTL_OK)
            return result;
        tail->at += len;
    }
}

static enum ctl_exit tail_print(struct tail *tail)
{
    if (ctl_has(tail->ctl, CTL_OPTION_RECORDS))
        return sink_records(tail->ctl, tail->file, &tail->at);
    return tail_bytes(tail);
}

/* ---- following ---- */

static void tail_check_reader(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    if (poll(&out, 1, 0) > 0 && (out.revents & POLLERR))
        sink_reader_gone();
}

/* After a while without news: a file that is shorter now goes on from its new end. */
static enum ctl_exit tail_check_cut(struct tail *tail)
{
    struct gfs_attr attr;
    enum gfs_err err = gfs_fstat(tail->file, &attr);
    if (err == GFS_ERR_STALE_HANDLE)
        return ctl_fail_gfs(tail->ctl, err, NULL);
    if (err != GFS_OK || attr.size_bytes >= tail->at) /* the master may be away for a while */
        return CTL_OK;
    (void)ctl_fail(tail->ctl, "%s: was cut to %" PRIu64 " bytes; going on from there", tail->path,
                   attr.size_bytes);
    tail->at = attr.size_bytes;
    return CTL_OK;
}

static enum ctl_exit tail_follow(struct tail *tail)
{
    enum ctl_exit result = CTL_OK;
    while (result == CTL_OK) {
        uint64_t size;
        enum gfs_err err = gfs_wait(tail->file, tail->at, TAIL_WAIT_MS, &size);
        tail_check_reader();
        if (err == GFS_OK)
            result = tail_print(tail);
        else if (err == GFS_ERR_TIMEOUT)
            result = tail_check_cut(tail);
        else
            result = ctl_fail_gfs(tail->ctl, err, NULL);
    }
    return result;
}

enum ctl_exit tail_run(struct ctl *ctl)
{
    struct tail tail = {.ctl = ctl, .path = ctl->args[0]};
    uint64_t count = ctl_has(ctl, CTL_OPTION_LAST) ? ctl->last : TAIL_DEFAULT;
    struct gfs_attr attr;
    enum gfs_err err = gfs_open(ctl->fs, tail.path, GFS_OPEN_READ, NULL, &tail.file);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    tail.buffer = ctl_alloc(TAIL_COPY_BYTES);
    enum ctl_exit result = CTL_OK;
    err = gfs_fstat(tail.file, &attr);
    if (err != GFS_OK) {
        result = ctl_fail_gfs(ctl, err, NULL);
    } else {
        tail.size_bytes = attr.size_bytes;
        tail.chunk_size_bytes = attr.chunk_size_bytes;
        result = ctl_has(ctl, CTL_OPTION_RECORDS) ? tail_find_records(&tail, count)
                                                  : tail_find_lines(&tail, count);
    }
    if (result == CTL_OK)
        result = tail_print(&tail);
    if (result == CTL_OK && ctl_has(ctl, CTL_OPTION_FOLLOW))
        result = tail_follow(&tail);
    free(tail.buffer);
    gfs_abandon(tail.file);
    return result;
}
