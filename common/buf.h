/*
 * buf: a reference-counted byte buffer, for payloads that several threads or connections share
 * (a pushed block is stored and forwarded from one copy). Floor 1. Thread-safe counts.
 * Freed buffers of the usual sizes are kept for reuse, up to a fixed total, since fresh memory
 * costs page faults.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

struct buf {
    uint8_t *data;
    size_t len_bytes; /* filled */
    size_t cap_bytes;
    int refs; /* atomic */
};

/* len_bytes is 0, the contents undefined. NULL when memory is out. */
struct buf *buf_new(size_t cap_bytes);
struct buf *buf_ref(struct buf *buf); /* returns buf */
void buf_unref(struct buf *take_buf); /* NULL is fine */

#endif
