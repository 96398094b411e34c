#include "retry.h"

void retry_init(struct retry *retry, uint64_t now_ms, uint32_t budget_ms)
{
    retry->deadline_ms = now_ms + budget_ms;
    retry->tries = 0;
}

uint32_t retry_backoff_ms(uint32_t tries, uint32_t hint_ms, uint32_t random)
{
    uint32_t wait_ms = RETRY_WAIT_MIN_MS;
    for (uint32_t i = 1; i < tries && wait_ms < RETRY_WAIT_MAX_MS; i++)
        wait_ms *= 2;
    if (wait_ms > RETRY_WAIT_MAX_MS)
        wait_ms = RETRY_WAIT_MAX_MS;
    wait_ms = wait_ms / 2 + random % (wait_ms / 2 + 1);
    return wait_ms < hint_ms ? hint_ms : wait_ms;
}

bool retry_next(struct retry *retry, enum gfs_err err, uint32_t hint_ms, uint32_t random,
                uint64_t now_ms, uint32_t *ret_wait_ms)
{
    if (gfs_err_class(err) != GFS_ERR_CLASS_RETRY)
        return false;
    retry->tries++;
    uint32_t wait_ms = retry_backoff_ms(retry->tries, hint_ms, random);
    if (now_ms + wait_ms >= retry->deadline_ms)
        return false;
    *ret_wait_ms = wait_ms;
    return true;
}

uint32_t retry_left_ms(const struct retry *retry, uint64_t now_ms)
{
    return now_ms >= retry->deadline_ms ? 1 : (uint32_t)(retry->deadline_ms - now_ms);
}
