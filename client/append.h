/*
 * append: records at the end of a file, exactly once (GFS paper 3.3; decision 12).
 *
 *   user's thread: frame -> [lease of the tail] -> PUSH (or none) -> APPEND -> offset
 *                              ^                                      |
 *                              +-- NO_LEASE, a server failed, silence-+   same chunk index again
 *                              +-- CHUNK_FULL -------------------------   the next chunk
 *
 * An append that was sent stays with its chunk index until the answer is definite: only a chunk
 * that is sealed without it lets it go. Several are in flight at once, never more than the server's
 * window remembers of a producer.
 */
#ifndef CLIENT_APPEND_H
#define CLIENT_APPEND_H

#include <pthread.h>

#include "fs.h"
#include "write_window.h"

struct append {
    pthread_mutex_t lock; /* held through an append */
    uint64_t producer;
    uint64_t sequence; /* the last one used */
    bool leased;
    uint32_t index; /* of the lease's chunk */
    struct write_lease lease;
    /* for the next lease */
    uint8_t failed[GFS_GOAL_MAX][GFS_UUID_BYTES];
    uint32_t failed_count;
    uint32_t failed_version;
    uint32_t silences; /* timeouts in a row */
};

void append_init(struct append *append, struct gfs *fs);
void append_release(struct append *append);

#endif
