/* Errors and deadlines along a push chain. See the header. */
#include "chunkserver/chain.h"

#include <stdio.h>

#define CHAIN_MARGIN_MAX_MS 500u

enum gfs_err chain_failure(const char *next_addr, enum gfs_err err, const char *detail,
                           char *ret_detail, size_t detail_bytes)
{
    /* It is only passing on what one behind it said. */
    if (err == GFS_ERR_REPLICA_FAILED) {
        snprintf(ret_detail, detail_bytes, "%s", detail);
        return err;
    }
    /* Full for a moment, there or further down: then its detail names who already. */
    if (err == GFS_ERR_BUSY) {
        if (detail[0])
            snprintf(ret_detail, detail_bytes, "%s", detail);
        else
            snprintf(ret_detail, detail_bytes, "%s: %s", next_addr, gfs_err_name(err));
        return err;
    }
    snprintf(ret_detail, detail_bytes, "%s: %s%s%s", next_addr, gfs_err_name(err),
             detail[0] ? ": " : "", detail);
    return GFS_ERR_REPLICA_FAILED;
}

uint32_t chain_timeout_ms(uint64_t now_ms, uint64_t deadline_ms)
{
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    uint64_t margin_ms = left_ms / 8;

    if (margin_ms > CHAIN_MARGIN_MAX_MS)
        margin_ms = CHAIN_MARGIN_MAX_MS;
    left_ms -= margin_ms;
    if (left_ms > UINT32_MAX)
        return UINT32_MAX;
    return left_ms ? (uint32_t)left_ms : 1;
}
