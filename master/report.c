#include "master/report.h"

#include "master/lease.h"

enum report_verdict report_judge(const struct report_chunk *chunk,
                                 const struct report_replica *replica, uint32_t epoch)
{
    if (!chunk->known) {
        return REPORT_UNKNOWN;
    }
    if (chunk->released) {
        return REPORT_RELEASED;
    }
    if (replica->version < chunk->version) {
        return REPORT_STALE;
    }
    if (replica->corrupt) {
        return REPORT_CORRUPT;
    }
    if (replica->length_bytes < chunk->length_bytes) {
        return chunk->leased ? REPORT_EARLY : REPORT_CORRUPT;
    }
    if (replica->version > chunk->version && replica->version >> LEASE_EPOCH_SHIFT > epoch) {
        return REPORT_BELIEVE;
    }
    return REPORT_OK;
}
