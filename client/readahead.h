/*
 * readahead: gfs_read. While the reads of a file go on in order, the window's requests are kept in
 * flight ahead of them, into buffers of our own; the caller's bytes are copied out of those. Reads
 * out of order, and large ones with nothing read ahead, go straight to the caller's memory.
 *
 *   ring of slots:   [ consumed | head: being copied out | in flight ... | free ]
 *
 * Not thread-safe: the file's position lock is held.
 */
#ifndef CLIENT_READAHEAD_H
#define CLIENT_READAHEAD_H

#include "reader.h"

struct readahead_slot {
    struct read_slot slot;
    struct buf *buf;
};

struct readahead {
    struct reader *reader;
    struct read_group group;
    struct readahead_slot *ring; /* opts.read_window of them, made on first use */
    size_t head;
    size_t count;
    bool head_ready;      /* the head's bytes are in and verified */
    uint64_t next_offset; /* of the next request */
    uint64_t expected;    /* where the next read in order begins */
    uint32_t in_order;    /* reads so far */
};

void readahead_init(struct readahead *ahead, struct reader *reader);
void readahead_release(struct readahead *ahead);
/* Drops what was read ahead. */
void readahead_reset(struct readahead *ahead);
/* Sets the error text. */
enum gfs_err readahead_read(struct readahead *ahead, uint64_t offset, uint8_t *dest,
                            size_t len_bytes, size_t *ret_len_bytes) GFS_MUST_CHECK;

#endif
