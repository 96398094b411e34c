/*
 * Limits that both ends of a boundary must agree on. Floor 0. Units are in the names.
 */
#ifndef GFS_LIMITS_H
#define GFS_LIMITS_H

#define GFS_PROTO_MAGIC   0x31534647u /* "GFS1", little-endian */
#define GFS_PROTO_VERSION 1u

#define GFS_BLOCK_SIZE_BYTES 65536u /* the unit of checksum */
#define GFS_BLOCK_SHIFT      16

#define GFS_CHUNK_SIZE_MIN_BYTES     (1u << 20)
#define GFS_CHUNK_SIZE_MAX_BYTES     (1u << 30)
#define GFS_CHUNK_SIZE_DEFAULT_BYTES (64u << 20)

#define GFS_MESSAGE_MAX_BYTES      (1u << 20)  /* protobuf part of a frame */
#define GFS_PAYLOAD_MAX_BYTES      (4u << 20)  /* raw part of a frame */
#define GFS_MUTATION_MAX_BYTES     (4u << 20)  /* data of one write */
#define GFS_READ_MAX_BYTES         (4u << 20)  /* data of one read reply */
#define GFS_WRITE_INLINE_MAX_BYTES (16u << 10) /* data that WRITE and APPLY carry themselves */

/* Record append. A record in a file is a header, then its bytes; it never crosses a chunk's end. */
#define GFS_RECORD_MAGIC        0x43525347u /* "GSRC", little-endian */
#define GFS_RECORD_HEADER_BYTES 32u
#define GFS_RECORD_MAX_BYTES    (16u << 20) /* with its header; also at most 1/4 of the chunk */
#define GFS_APPEND_WINDOW       16u /* a producer's appends in flight; what is kept to know retries */
#define GFS_APPEND_ENTRIES_MAX  65536u /* known appends of one chunk; more seal it */

#define GFS_NAME_MAX_BYTES 255u  /* one path component */
#define GFS_PATH_MAX_BYTES 4096u /* a whole path */

#define GFS_GOAL_MAX     16u
#define GFS_GOAL_DEFAULT 3u

#define GFS_UUID_BYTES 16u

#define GFS_PORT_MASTER_DEFAULT 7400

#endif
