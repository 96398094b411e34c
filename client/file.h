/*
 * file: an open file of gfs.h. Shared by file.c, append.c and records.c.
 */
#ifndef CLIENT_FILE_H
#define CLIENT_FILE_H

#include <pthread.h>

#include "append.h"
#include "readahead.h"
#include "reader.h"
#include "writer.h"

/* Bytes of the file that gfs_read_record has at hand; one thread at a time. */
struct record_buffer {
    uint8_t *data;
    size_t cap_bytes;
    uint64_t offset; /* of data in the file */
    size_t len_bytes;
};

struct gfs_file {
    /* set at open, then only read */
    struct gfs *fs;
    char *path;
    int flags;
    uint64_t inode;
    struct writer *writer; /* NULL: open for reading only */

    struct reader reader;

    pthread_mutex_t position_lock; /* of the rest; held through gfs_read and gfs_write */
    uint64_t position;
    struct readahead ahead;

    struct append append;
    struct record_buffer records;
};

#endif
