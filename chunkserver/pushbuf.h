/*
 * pushbuf: data pushed by clients and not yet written, by data id. Floor 6. Thread-safe: one mutex,
 * held for the bookkeeping only, never over a CRC or I/O.
 *
 *   PUSH frame -> CRCs checked -> pieces of the entry point into the frame's buffer (a reference)
 *   WRITE/APPLY -> pushbuf_pin: the store and the network use the pieces in place -> pushbuf_unpin
 *
 * An entry is a row of block pieces; a part fills some of them, in any order, twice is harmless.
 * Room for the whole mutation is taken with its first part, so that what was let in can be
 * finished. Full: entries not used for evict_ms give way, oldest first; else BUSY. After expire_ms
 * unused an entry goes in any case. Pinned ones stay.
 */
#ifndef CHUNKSERVER_PUSHBUF_H
#define CHUNKSERVER_PUSHBUF_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "chunkserver/store.h"
#include "gfs_err.h"

#define PUSHBUF_ID_BYTES 16u

struct pushbuf;
struct pushbuf_data; /* a pinned entry */

struct pushbuf_limits {
    uint64_t bytes_max;   /* of data */
    uint32_t entries_max; /* mutations */
    uint64_t evict_ms;
    uint64_t expire_ms;
};

/* One PUSH frame. Offsets are within the mutation's data. */
struct pushbuf_part {
    uint8_t id[PUSHBUF_ID_BYTES];
    uint32_t offset_bytes;
    uint32_t total_bytes;
    uint32_t first_block_bytes; /* where the first block boundary falls, 1 .. 64 KiB */
    uint32_t hops_left;         /* servers it goes on to from here */
    const uint32_t *crcs;       /* of each block piece of buf */
    size_t crc_count;
    struct buf *buf;
};

struct pushbuf_stat {
    uint64_t bytes;
    uint64_t entries;
    uint64_t pinned;
};

/* NULL when memory is out. */
struct pushbuf *pushbuf_new(const struct pushbuf_limits *limits);
/* No entry may be pinned. NULL is fine. */
void pushbuf_free(struct pushbuf *pushbuf);

/* Checks and takes in one part. INVAL: sizes that do not fit; CORRUPT: a CRC; BUSY: full. */
enum gfs_err pushbuf_add(struct pushbuf *pushbuf, const struct pushbuf_part *part,
                         uint64_t now_ms) GFS_MUST_CHECK;
/* The push failed further on: it will come again, or not at all. Pinned data stays. */
void pushbuf_drop(struct pushbuf *pushbuf, const uint8_t id[PUSHBUF_ID_BYTES]);
/* NO_DATA when it is not here, or not all of it. Until pushbuf_unpin the pieces stay. */
enum gfs_err pushbuf_pin(struct pushbuf *pushbuf, const uint8_t id[PUSHBUF_ID_BYTES],
                         uint64_t now_ms, struct pushbuf_data **ret_data) GFS_MUST_CHECK;
void pushbuf_unpin(struct pushbuf *pushbuf, struct pushbuf_data *take_data, uint64_t now_ms);
/* Like pushbuf_unpin; the entry is written and not needed again. */
void pushbuf_done(struct pushbuf *pushbuf, struct pushbuf_data *take_data);

uint32_t pushbuf_data_bytes(const struct pushbuf_data *data);
const struct store_piece *pushbuf_data_pieces(const struct pushbuf_data *data, size_t *ret_count);
/* Do the block boundaries of the data fall right for a write at this chunk offset? */
bool pushbuf_data_fits(const struct pushbuf_data *data, uint32_t chunk_offset_bytes);

/* Drops what nobody has used for expire_ms. Every pushbuf_add does so too. */
void pushbuf_expire(struct pushbuf *pushbuf, uint64_t now_ms);
void pushbuf_stat(struct pushbuf *pushbuf, struct pushbuf_stat *ret_stat);

#endif
