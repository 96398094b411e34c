#include "sink.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gfs_limits.h"
#include "interrupt.h"

#define SINK_BUFFER_BYTES (256u << 10) /* small records go out together */

const struct sink sink_stdout = {STDOUT_FILENO, "standard output"};

int sink_write_all(int fd, const char *data, size_t len_bytes)
{
    while (len_bytes) {
        ssize_t written = write(fd, data, len_bytes);
        if (written < 0 && errno == EINTR && !interrupt_pending())
            continue;
        if (written < 0)
            return errno;
        data += written;
        len_bytes -= (size_t)written;
    }
    return 0;
}

void sink_reader_gone(void)
{
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
}

enum ctl_exit sink_fail(const struct ctl *ctl, const struct sink *sink, int error)
{
    if (interrupt_pending())
        return CTL_FAILED;
    if (error == EPIPE && sink->fd == STDOUT_FILENO)
        sink_reader_gone();
    const char *hint = error == ENOSPC || error == EDQUOT || error == EFBIG
                           ? "; the local disk is full: free space or choose another place"
                           : "";
    return ctl_fail(ctl, "%s: %s%s", sink->name, strerror(error), hint);
}

enum ctl_exit sink_write(const struct ctl *ctl, const struct sink *sink, const char *data,
                         size_t len_bytes)
{
    int error = interrupt_pending() ? EINTR : sink_write_all(sink->fd, data, len_bytes);
    return error ? sink_fail(ctl, sink, error) : CTL_OK;
}

/* Gathers, so that a million small records are not a million writes. */
struct sink_lines {
    const struct ctl *ctl;
    char *buffer;
    size_t len_bytes;
};

static enum ctl_exit sink_flush(struct sink_lines *lines)
{
    size_t len = lines->len_bytes;
    lines->len_bytes = 0;
    return len ? sink_write(lines->ctl, &sink_stdout, lines->buffer, len) : CTL_OK;
}

static enum ctl_exit sink_line(struct sink_lines *lines, const void *record, size_t len_bytes)
{
    enum ctl_exit result = CTL_OK;
    if (lines->len_bytes + len_bytes + 1 > SINK_BUFFER_BYTES)
        result = sink_flush(lines);
    if (result == CTL_OK && len_bytes + 1 > SINK_BUFFER_BYTES) {
        result = sink_write(lines->ctl, &sink_stdout, record, len_bytes);
        len_bytes = 0;
    }
    if (result != CTL_OK)
        return result;
    memcpy(lines->buffer + lines->len_bytes, record, len_bytes);
    lines->len_bytes += len_bytes;
    lines->buffer[lines->len_bytes++] = '\n';
    return CTL_OK;
}

enum ctl_exit sink_records(const struct ctl *ctl, struct gfs_file *file, uint64_t *offset)
{
    struct sink_lines lines = {.ctl = ctl, .buffer = ctl_alloc(SINK_BUFFER_BYTES)};
    enum ctl_exit result = CTL_OK;
    enum gfs_err err = GFS_OK;
    while (result == CTL_OK) {
        const void *record;
        size_t len;
        err = gfs_read_record(file, offset, &record, &len);
        if (err != GFS_OK || !record)
            break;
        result = sink_line(&lines, record, len);
    }
    /* What is good is printed, whatever comes behind it. */
    if (result == CTL_OK)
        result = sink_flush(&lines);
    if (result == CTL_OK && err != GFS_OK)
        result = ctl_fail_gfs(ctl, err, NULL);
    free(lines.buffer);
    return result;
}
