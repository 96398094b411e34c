/*
 * store_record: what one record of the data log looks like. Pure. docs/disk-format.md. Floor 5.
 *
 * A record is one LevelDB entry. Its header is the key (sequence number first, so that keys only
 * grow) and its data is the value, bare: building a batch then copies data once, a pinned value is
 * the data itself, and a scan of headers touches no data pages.
 */
#ifndef CHUNKSERVER_STORE_RECORD_H
#define CHUNKSERVER_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define STORE_RECORD_KEY_BYTES 92
#define STORE_RECORD_SEQ_BYTES 8

enum store_record_kind {
    STORE_RECORD_HEAD = 1,     /* first of a database; as_of: first sequence of the one before */
    STORE_RECORD_WRITE = 2,    /* data: at most one block, within one block */
    STORE_RECORD_STATE = 3,    /* the chunk exists, with this state */
    STORE_RECORD_TRUNCATE = 4, /* state, and bytes at and behind chunk_length are zeros */
    STORE_RECORD_DELETE = 5,   /* the chunk is gone */
    STORE_RECORD_COPY = 6,     /* the chunk is made from the blocks of `source` */
    STORE_RECORD_APPEND = 7,   /* state, and an append that the chunk knows */
};

enum {
    STORE_RECORD_MOVED = 1,   /* a rewrite of bytes already in the chunk */
    STORE_RECORD_CORRUPT = 2, /* state: the chunk has lost something */
    STORE_RECORD_WHOLE = 8,   /* state: what was lost has been repaired */
    STORE_RECORD_ONCE = 16,   /* WRITE: not an append, but its retry is to be known */
    STORE_RECORD_CARRIED = 4, /* stands for a record at as_of whose database was destroyed */
    STORE_RECORD_MAPPED = 32, /* COPY: the value lists what the blocks are made of, store_map.h */
};

struct store_record {
    uint64_t seq;
    enum store_record_kind kind;
    uint32_t flags;
    uint64_t handle;
    uint64_t serial;
    uint64_t prev_seq; /* of the record before it of the same chunk, 0 for its first */
    uint64_t as_of;
    uint64_t family;       /* chunks copied from each other share it */
    uint64_t source;       /* COPY: of what; WRITE, APPEND: the producer, 0: no append */
    uint64_t sequence;     /* WRITE, APPEND: the producer's */
    uint32_t version;      /* of the chunk, after the record */
    uint32_t chunk_length; /* likewise */
    uint32_t offset_bytes; /* WRITE, APPEND: in the chunk */
    uint32_t length_bytes; /* WRITE: of the data */
    uint32_t data_crc;     /* APPEND: the length of what was appended */
    const uint8_t *map;    /* not in the key. MAPPED: the value, while the caller's; or NULL */
};

void store_record_encode(const struct store_record *record,
                         uint8_t ret_key[STORE_RECORD_KEY_BYTES]);
/* CORRUPT unless the key is whole and its CRC holds. */
enum gfs_err store_record_decode(const void *key, size_t key_bytes,
                                 struct store_record *ret_record) GFS_MUST_CHECK;

/* It tells of an append, which the chunk's window is to know. */
static inline bool store_record_is_append(const struct store_record *record)
{
    return (record->kind == STORE_RECORD_WRITE || record->kind == STORE_RECORD_APPEND) &&
           record->source != 0;
}

static inline void store_put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline void store_put_u64(uint8_t *at, uint64_t value)
{
    store_put_u32(at, (uint32_t)value);
    store_put_u32(at + 4, (uint32_t)(value >> 32));
}

static inline uint32_t store_get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t store_get_u64(const uint8_t *at)
{
    return store_get_u32(at) | (uint64_t)store_get_u32(at + 4) << 32;
}

/* Big-endian, for keys that must sort. */
static inline void store_put_key64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (56 - 8 * i));
}

static inline uint64_t store_get_key64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

#endif
