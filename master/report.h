/*
 * report: what a chunkserver's word about a chunk means. Floor 5, pure.
 */
#ifndef MASTER_REPORT_H
#define MASTER_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct report_chunk { /* as the master has it */
    bool known;
    bool released; /* no file holds it any more */
    bool leased;   /* it may be written now */
    uint32_t version;
    uint32_t length_bytes; /* committed */
};

struct report_replica { /* as the server has it */
    uint32_t version;
    uint32_t length_bytes;
    bool corrupt;
};

enum report_verdict {
    REPORT_OK,
    REPORT_STALE,
    REPORT_CORRUPT,
    REPORT_BELIEVE,  /* it knows a later version than this master can have given out: raise ours */
    REPORT_RELEASED, /* to be deleted with the other replicas */
    REPORT_UNKNOWN,  /* into quarantine */
    REPORT_EARLY,    /* from before what was just committed: it says nothing */
};

/*
 * epoch: of this start of the master (lease.h). A version above ours, but not from a later epoch,
 * comes from a round that granted nothing: nothing was written under it, the replica is as good as
 * those at our version.
 */
enum report_verdict report_judge(const struct report_chunk *chunk,
                                 const struct report_replica *replica, uint32_t epoch);

#endif
