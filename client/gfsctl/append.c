/*
 * append: standard input as one record, or one record a line, behind what is in a file. Lines go
 * out as they come: those that are there together are appended together.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "groups.h"
#include "out.h"

#define APPEND_READ_BYTES 65536u
#define APPEND_BATCH_MAX  256u

/* One run. The JSON is printed as it comes about, so that a long input needs no memory. */
struct append_run {
    const struct ctl *ctl;
    struct gfs_file *file;
    const char *path;
    char *buffer; /* of one record at most, and what was read behind it */
    size_t cap_bytes;
    size_t len_bytes;
    bool ended; /* standard input has */
    uint64_t records;
};

static enum ctl_exit append_read(struct append_run *run)
{
    size_t room = run->cap_bytes - run->len_bytes;
    ssize_t len;
    do
        len = read(STDIN_FILENO, run->buffer + run->len_bytes,
                   room < APPEND_READ_BYTES ? room : APPEND_READ_BYTES);
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return ctl_fail(run->ctl, "standard input: %s; records appended before: %" PRIu64,
                        strerror(errno), run->records);
    run->len_bytes += (size_t)len;
    run->ended = len == 0;
    return CTL_OK;
}

static void append_print(struct append_run *run, const uint64_t *offsets, size_t count)
{
    if (run->ctl->json) {
        for (size_t i = 0; i < count; i++)
            printf("%s%" PRIu64, run->records + i ? ", " : "", offsets[i]);
        fflush(stdout); /* who feeds line after line learns what is durable by now */
    }
    run->records += count;
}

static enum ctl_exit append_records(struct append_run *run, const struct gfs_record *records,
                                    size_t count)
{
    uint64_t offsets[APPEND_BATCH_MAX];
    size_t done = 0;
    if (count == 0)
        return CTL_OK;
    enum gfs_err err = gfs_append_many(run->file, records, count, offsets, &done);
    append_print(run, offsets, err == GFS_OK ? count : done);
    return err == GFS_OK ? CTL_OK : ctl_fail_gfs(run->ctl, err, NULL);
}

static enum ctl_exit append_too_large(const struct append_run *run, const char *what)
{
    return ctl_fail(run->ctl,
                    "%s: %s is larger than %zu bytes, the most that a record of this file may have "
                    "(a quarter of its chunk size); records appended before: %" PRIu64,
                    run->path, what, gfs_record_max(run->file), run->records);
}

/* The complete lines of the buffer, up to a batch; *ret_used bytes are done with then. */
static enum ctl_exit append_batch(struct append_run *run, size_t *ret_used)
{
    struct gfs_record records[APPEND_BATCH_MAX];
    size_t count = 0, used = 0;
    while (count < APPEND_BATCH_MAX) {
        const char *line = run->buffer + used;
        const char *end = memchr(line, '\n', run->len_bytes - used);
        size_t len = end ? (size_t)(end - line) : run->len_bytes - used;
        if (!end && (!run->ended || len == 0) && len <= gfs_record_max(run->file))
            break; /* not all of it is here yet */
        if (len > gfs_record_max(run->file)) {
            enum ctl_exit before = append_records(run, records, count);
            char what[48];
            snprintf(what, sizeof what, "line %" PRIu64, run->records + 1);
            return before == CTL_OK ? append_too_large(run, what) : before;
        }
        records[count++] = (struct gfs_record){line, len};
        used += len + (end != NULL);
    }
    *ret_used = used;
    return append_records(run, records, count);
}

static enum ctl_exit append_lines(struct append_run *run)
{
    enum ctl_exit result = CTL_OK;
    while (result == CTL_OK && !(run->ended && run->len_bytes == 0)) {
        size_t used = 0;
        if (!run->ended)
            result = append_read(run);
        do {
            used = 0;
            if (result == CTL_OK)
                result = append_batch(run, &used);
            run->len_bytes -= used;
            memmove(run->buffer, run->buffer + used, run->len_bytes);
        } while (used > 0 && result == CTL_OK);
    }
    return result;
}

static enum ctl_exit append_whole(struct append_run *run)
{
    enum ctl_exit result = CTL_OK;
    while (result == CTL_OK && !run->ended && run->len_bytes < run->cap_bytes)
        result = append_read(run);
    if (result == CTL_OK && run->len_bytes > gfs_record_max(run->file))
        result = append_too_large(run, "standard input");
    const struct gfs_record record = {run->buffer, run->len_bytes};
    return result == CTL_OK ? append_records(run, &record, 1) : result;
}

enum ctl_exit append_run(struct ctl *ctl)
{
    struct append_run run = {.ctl = ctl, .path = ctl->args[0]};
    enum gfs_err err = gfs_open(ctl->fs, run.path, GFS_OPEN_WRITE, NULL, &run.file);
    if (err == GFS_ERR_NOT_FOUND)
        return ctl_fail_gfs(ctl, err, "make it with gfsctl touch");
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    run.cap_bytes = gfs_record_max(run.file) + APPEND_READ_BYTES;
    run.buffer = ctl_alloc(run.cap_bytes);
    if (ctl->json)
        fputs("{\"offsets\": [", stdout);
    enum ctl_exit result = ctl_has(ctl, CTL_OPTION_LINES) ? append_lines(&run) : append_whole(&run);
    if (ctl->json)
        printf("], \"records\": %" PRIu64 "}\n", run.records);
    free(run.buffer);
    err = gfs_close(run.file);
    if (err != GFS_OK && result == CTL_OK)
        result = ctl_fail_gfs(ctl, err, NULL);
    return result;
}
