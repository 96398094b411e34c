/* store_recover: what its two files share. store_replay.c reads the log, store_recover.c does the
 * rest. Floor 6. */
#ifndef CHUNKSERVER_STORE_RECOVER_H
#define CHUNKSERVER_STORE_RECOVER_H

#include "store_impl.h"

struct store_claim {
    uint64_t handle;
    uint64_t seq;
};

struct store_replay {
    struct store *store;
    struct store_index_marks marks;
    bool aside;        /* a database was set aside just now */
    bool rebuild;      /* nothing is known of the index: replay all there is */
    uint64_t last_seq; /* the newest record met */
    uint64_t pending;  /* records in the delta */
    /* missing sequences: the hull of all stretches */
    bool gap;
    uint64_t gap_first;
    uint64_t gap_last;
    /* what the index, ahead of the watermark, says of chunks; checked at the end */
    struct store_claim *claims;
    size_t claim_count;
    size_t claim_cap;
    /* rebuild: records that stand for older ones, by as_of */
    struct store_record *carried;
    size_t carried_count;
    size_t carried_cap;
    size_t carried_next;
};

/* Applies every record behind the watermark to index and table. */
enum gfs_err store_replay_run(struct store_replay *replay) GFS_MUST_CHECK;

#endif
