/*
 * reader: the bytes of one file, read by user threads. Many threads may use one reader.
 *
 *   user thread:  cut -> locations -> READ to a replica ....... wait -> verify CRC -> next
 *   loop thread:                        `-> socket -> dest, note the CRCs -> wake --^
 *
 * Payload goes from the socket straight to where the caller wants it; the CRCs are checked by the
 * user's thread, so that receiving and checking go on side by side. What fails, on a replica or in
 * the check, is read again from another replica into the same place by the user's thread.
 */
#ifndef CLIENT_READER_H
#define CLIENT_READER_H

#include <pthread.h>

#include "block_crc.h"
#include "fs.h"
#include "location.h"
#include "read_plan.h"

struct reader {
    /* set at open, then only read */
    struct gfs *fs;
    const char *path; /* the file's, for error texts */
    uint64_t inode;
    uint32_t chunk_size_bytes;

    pthread_mutex_t lock; /* of the rest */
    struct location_cache cache;
    uint64_t size_bytes; /* of the file, as last told */
};

/* Requests under way on behalf of one thread. */
struct read_group {
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

struct read_slot {
    /* the user's thread */
    struct reader *reader;
    struct read_group *group;
    struct read_piece piece;
    uint8_t *dest;
    struct location *location;
    uint32_t real_bytes;
    struct read_tries tries;
    int replica;            /* asked last, -1: none */
    enum gfs_err start_err; /* the location could not be had */
    bool unsettled;         /* take what is there, settled or not */

    /* under the group's lock; written by the loop's thread until done */
    bool done;
    enum gfs_err err;
    uint32_t version; /* of the chunk that was read */
    size_t crc_count;
    uint32_t crcs[BLOCK_CRC_MAX];
    char detail[160];
};

enum gfs_err reader_init(struct reader *reader, struct gfs *fs, const char *path, uint64_t inode,
                         uint32_t chunk_size_bytes, uint64_t size_bytes) GFS_MUST_CHECK;
void reader_release(struct reader *reader);
void read_group_init(struct read_group *group);
void read_group_release(struct read_group *group);

/* As last told by the master. */
uint64_t reader_size(struct reader *reader);
/* Asks the master for the attributes; what was known of locations stays. */
enum gfs_err reader_stat(struct reader *reader, struct gfs_attr *ret_attr) GFS_MUST_CHECK;
/* Forgets all locations: the file was written by us. */
void reader_forget(struct reader *reader);
/* Forgets what is known and asks the master: for a read that must not be older than its call. */
enum gfs_err reader_refresh(struct reader *reader, uint64_t offset) GFS_MUST_CHECK;
/* The size for a read up to `end`: asked again of the master when end is behind what is known. */
enum gfs_err reader_size_for(struct reader *reader, uint64_t end,
                             uint64_t *ret_size_bytes) GFS_MUST_CHECK;

/* Sends the request for the piece; dest is the library's until read_slot_finish. */
void read_slot_start(struct read_slot *slot, struct reader *reader, struct read_group *group,
                     const struct read_piece *piece, uint8_t *dest);
/* Waits for the bytes, verified, trying other replicas until the deadline. This or
 * read_slot_drop must be called for each slot started. Sets the error text. */
enum gfs_err read_slot_finish(struct read_slot *slot) GFS_MUST_CHECK;
/* Waits until dest is the caller's again; the bytes are not wanted. */
void read_slot_drop(struct read_slot *slot);

/* Reads [offset, offset + len) with the window's requests in flight; size known to reach so far. */
enum gfs_err reader_read(struct reader *reader, uint64_t offset, uint8_t *dest,
                         uint64_t len_bytes) GFS_MUST_CHECK;

#endif
