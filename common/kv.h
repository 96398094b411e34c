/*
 * kv: a thin, checked wrapper over LevelDB's C API. Floor 4. The only face of LevelDB here.
 *
 * Thread-safe as LevelDB is: any thread may read and write; a batch or an iterator belongs to one
 * thread at a time. Every call may block on the disk: never on an event loop. Errors map to
 * IO, NO_SPACE, CORRUPT, LOCKED, NOT_FOUND, INVAL; the words are in struct kv_text.
 *
 * What was measured of LevelDB and must be kept in mind (DESIGN §6):
 *   - an unsynced write may survive a power cut while an older unsynced one is gone; a later synced
 *     write does not cover earlier unsynced ones;
 *   - without `paranoid` a flipped bit in the log silently drops records at the next open; with it
 *     the database refuses to open (CORRUPT);
 *   - reads do not verify block checksums unless `verify` is set;
 *   - a write error in the background fails every later write, never an earlier compaction call:
 *     after kv_flush a synced write tells whether it worked.
 */
#ifndef COMMON_KV_H
#define COMMON_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

struct kv;
struct kv_batch;
struct kv_iter;

#define KV_TEXT_MAX_BYTES 256

/* LevelDB's words for the last error, for messages. */
struct kv_text {
    char text[KV_TEXT_MAX_BYTES];
};

/* Zero means LevelDB's default. Nothing is compressed. */
struct kv_options {
    size_t write_buffer_bytes; /* 4 MiB; up to two of them are in memory */
    size_t max_file_bytes;     /* 2 MiB; of tables made by merging */
    size_t block_bytes;        /* 4 KiB */
    size_t cache_bytes;        /* 8 MiB; of blocks that are not memory-mapped */
    int max_open_files;        /* 1000 */
    int bloom_bits;            /* 0: no filter; must not change in a database's life */
    bool create;               /* make it when missing; otherwise INVAL */
    bool must_be_new;          /* INVAL when it exists */
    bool paranoid;             /* refuse to open a database with a damaged log */
    bool verify;               /* verify block checksums on every read */
};

/* ret_text may be NULL; it is set on failure. LOCKED when another process has it open. */
enum gfs_err kv_open(const char *path, const struct kv_options *opts, struct kv **ret_kv,
                     struct kv_text *ret_text) GFS_MUST_CHECK;
/* All iterators must be gone. NULL is fine. */
void kv_close(struct kv *kv);
/* Removes a database that nobody has open. */
enum gfs_err kv_destroy(const char *path, struct kv_text *ret_text) GFS_MUST_CHECK;
/* The words for the last failure of a call on kv, "" if there was none. */
void kv_last_text(struct kv *kv, struct kv_text *ret_text);

/* NULL when memory is out. */
struct kv_batch *kv_batch_new(void);
void kv_batch_free(struct kv_batch *batch);
void kv_batch_clear(struct kv_batch *batch);
/* Both copy what they are given. Later entries of a batch win over earlier ones. */
void kv_batch_put(struct kv_batch *batch, const void *key, size_t key_bytes, const void *value,
                  size_t value_bytes);
void kv_batch_delete(struct kv_batch *batch, const void *key, size_t key_bytes);
size_t kv_batch_count(const struct kv_batch *batch);
size_t kv_batch_bytes(const struct kv_batch *batch); /* keys and values put */

/* Atomic. With sync it is on stable storage on return. An error may leave it applied or not. */
enum gfs_err kv_write(struct kv *kv, struct kv_batch *batch, bool sync) GFS_MUST_CHECK;
enum gfs_err kv_put(struct kv *kv, const void *key, size_t key_bytes, const void *value,
                    size_t value_bytes, bool sync) GFS_MUST_CHECK;

struct kv_value {
    void *data; /* free with kv_value_release */
    size_t len_bytes;
};
/* NOT_FOUND when there is no such key. */
enum gfs_err kv_get(struct kv *kv, const void *key, size_t key_bytes,
                    struct kv_value *ret_value) GFS_MUST_CHECK;
void kv_value_release(struct kv_value *value);

/*
 * An iterator sees the database as it was when it was made. Key and value stay valid, without a
 * copy, until the iterator moves or is freed: keep an iterator to pin a value. NULL: no memory.
 */
struct kv_iter *kv_iter_new(struct kv *kv);
void kv_iter_free(struct kv_iter *iter);
void kv_iter_seek(struct kv_iter *iter, const void *key, size_t key_bytes); /* first key >= key */
void kv_iter_seek_first(struct kv_iter *iter);
void kv_iter_seek_last(struct kv_iter *iter);
void kv_iter_next(struct kv_iter *iter); /* valid ones only */
void kv_iter_prev(struct kv_iter *iter);
bool kv_iter_valid(const struct kv_iter *iter);
const void *kv_iter_key(const struct kv_iter *iter, size_t *ret_bytes);
const void *kv_iter_value(const struct kv_iter *iter, size_t *ret_bytes);
/* To be asked when an iterator is no longer valid: the end, or an error? */
enum gfs_err kv_iter_err(const struct kv_iter *iter) GFS_MUST_CHECK;

/* Deletes every key in [from, to), in several unsynced batches: not atomic. */
enum gfs_err kv_delete_range(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                             size_t to_bytes) GFS_MUST_CHECK;
/* Writes what is in memory into synced tables. Its failure shows at the next write. */
void kv_flush(struct kv *kv);
/* Merges [from, to); NULL is an end. Long. Its failure shows at the next write. */
void kv_compact(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                size_t to_bytes);
/* Bytes of tables for [from, to), without what is in memory. */
uint64_t kv_approximate_bytes(struct kv *kv, const void *from, size_t from_bytes, const void *to,
                              size_t to_bytes);

#endif
