/* sink: where get, cat and tail write what they read; records one a line. */
#ifndef GFSCTL_SINK_H
#define GFSCTL_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "ctl.h"

struct sink {
    int fd;
    const char *name; /* for people */
};

extern const struct sink sink_stdout;

/* Writes it all, or gives the errno; 0 is success. EINTR: interrupted by the user. */
int sink_write_all(int fd, const char *data, size_t len_bytes);
/* The line for a local failure. A reader of standard output that has gone ends the program. */
enum ctl_exit sink_fail(const struct ctl *ctl, const struct sink *sink, int error);
enum ctl_exit sink_write(const struct ctl *ctl, const struct sink *sink, const char *data,
                         size_t len_bytes);
/* Dies of SIGPIPE. */
void sink_reader_gone(void);
/* The payloads of the records from *offset to the end of the file to standard output, each followed
 * by a newline. *offset is behind the last that was printed. */
enum ctl_exit sink_records(const struct ctl *ctl, struct gfs_file *file, uint64_t *offset);

#endif
