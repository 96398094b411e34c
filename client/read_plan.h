/*
 * read_plan: how a read is cut into requests and which replica each is sent to. Pure.
 *
 *   file range -> pieces, each within one chunk and, but for the first, beginning at a multiple of
 *   the request size, so that whole blocks are asked for and carry the writer's own CRC.
 *
 *   a piece:  |<-------- real -------->|<-- zeros -->|     real: below the chunk's committed length
 *
 * Replicas: near ones first, else from a random one on round the list; those under suspicion last;
 * each once a round. When all have failed the locations are asked for again.
 */
#ifndef CLIENT_READ_PLAN_H
#define CLIENT_READ_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"
#include "location.h"
#include "suspect.h"

struct read_piece {
    uint64_t file_offset;
    uint32_t chunk_index;
    uint32_t chunk_offset;
    uint32_t length_bytes;
};

/* The piece that begins at offset, offset < end. request_bytes: a multiple of the block size. */
struct read_piece read_plan_cut(uint64_t offset, uint64_t end, uint32_t chunk_size_bytes,
                                uint32_t request_bytes);
/* How many of the piece's first bytes are stored; the rest reads as zeros. */
uint32_t read_plan_real_bytes(const struct read_piece *piece, const struct location *location);
/* True when the location was told before the file grew to a size under which the piece may hold
 * more bytes than the location knows of. */
bool read_plan_outdated(const struct read_piece *piece, const struct location *location,
                        uint64_t file_size_bytes);

/* Which replicas a piece has been asked of in this round. Zero it for each new location. */
struct read_tries {
    uint32_t asked; /* bit i: replica i */
};
/* The replica to ask next, or -1: all were asked. */
int read_plan_pick(const struct read_tries *tries, const struct location *location,
                   const struct suspect_list *suspects, uint32_t random, uint64_t now_ms);
/* Whether a reader that got err of a replica should tell the master. */
bool read_plan_is_bad_replica(enum gfs_err err);
/* For how long a server that answered err is asked last, 0: not at all. */
uint32_t read_plan_suspect_ms(enum gfs_err err);
/* Whether asking the master again may help when no replica served and the last error was err. */
bool read_plan_may_heal(enum gfs_err err);

#endif
