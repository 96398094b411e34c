/* See the header. */
#include "chunkserver/scrub.h"

#include <string.h>

#define SCRUB_SECOND_US 1000000u
/* Time that was not used is made up for, but not more than so much. */
#define SCRUB_BURST_US 100000u

void scrub_init(struct scrub *scrub, const struct scrub_options *options)
{
    memset(scrub, 0, sizeof *scrub);
    scrub->options = *options;
}

static struct scrub_pass *current(struct scrub *scrub)
{
    return scrub->is_asked ? &scrub->asked : &scrub->slow;
}

static uint64_t rate(const struct scrub *scrub)
{
    return scrub->is_asked ? scrub->options.asked_rate_bytes_s : scrub->options.rate_bytes_s;
}

static void pass_begin(struct scrub_pass *pass, uint64_t chunks, uint64_t now_us)
{
    memset(pass, 0, sizeof *pass);
    pass->chunks = chunks;
    pass->next_us = now_us;
}

void scrub_ask(struct scrub *scrub, uint64_t chunks, uint64_t now_us)
{
    if (scrub->is_asked) {
        scrub->asks_again = true;
        return;
    }
    scrub->is_asked = true;
    scrub->was_asked = true;
    scrub->bad_count = 0;
    pass_begin(&scrub->asked, chunks, now_us);
}

uint64_t scrub_delay_us(const struct scrub *scrub, uint64_t now_us)
{
    const struct scrub_pass *pass = scrub->is_asked ? &scrub->asked : &scrub->slow;

    if (rate(scrub) == 0)
        return SCRUB_NEVER;
    return pass->next_us > now_us ? pass->next_us - now_us : 0;
}

void scrub_at(const struct scrub *scrub, uint64_t *ret_handle, uint32_t *ret_block)
{
    const struct scrub_pass *pass = scrub->is_asked ? &scrub->asked : &scrub->slow;

    *ret_handle = pass->handle;
    *ret_block = pass->block;
}

static void pass_pay(struct scrub *scrub, uint64_t bytes, uint64_t now_us)
{
    struct scrub_pass *pass = current(scrub);
    uint64_t earliest_us = now_us > SCRUB_BURST_US ? now_us - SCRUB_BURST_US : 0;

    if (pass->next_us < earliest_us)
        pass->next_us = earliest_us;
    pass->next_us += bytes * SCRUB_SECOND_US / rate(scrub);
}

static void pass_next_chunk(struct scrub_pass *pass, uint64_t handle)
{
    pass->handle = handle + 1; /* of UINT64_MAX: no such handle is given out */
    pass->block = 0;
    pass->chunks_done++;
    if (pass->chunks < pass->chunks_done)
        pass->chunks = pass->chunks_done;
}

void scrub_checked(struct scrub *scrub, uint64_t handle, uint32_t blocks, uint64_t bytes,
                   bool ended, uint64_t now_us)
{
    struct scrub_pass *pass = current(scrub);

    if (pass->handle != handle) {
        pass->handle = handle;
        pass->block = 0;
    }
    pass->bytes_done += bytes;
    pass_pay(scrub, bytes, now_us);
    if (ended)
        pass_next_chunk(pass, handle);
    else
        pass->block += blocks;
}

void scrub_found_bad(struct scrub *scrub, uint64_t handle, uint64_t now_us)
{
    struct scrub_pass *pass = current(scrub);
    bool told = scrub->is_asked || !scrub->was_asked;

    pass->bad_chunks++;
    if (told && scrub->bad_count < SCRUB_BAD_MAX)
        scrub->bad[scrub->bad_count++] = handle;
    pass_pay(scrub, 0, now_us);
    pass_next_chunk(pass, handle);
}

void scrub_skip(struct scrub *scrub, uint64_t handle)
{
    pass_next_chunk(current(scrub), handle);
}

void scrub_end(struct scrub *scrub, uint64_t chunks, uint64_t now_us)
{
    scrub->passes++;
    if (!scrub->is_asked) {
        pass_begin(&scrub->slow, chunks, now_us + scrub->options.pause_us);
        if (!scrub->was_asked)
            scrub->bad_count = 0;
    } else if (scrub->asks_again) {
        scrub->asks_again = false;
        scrub->asked.handle = 0;
        scrub->asked.chunks += chunks;
    } else {
        scrub->is_asked = false;
    }
}

const struct scrub_pass *scrub_told(const struct scrub *scrub)
{
    return scrub->was_asked ? &scrub->asked : &scrub->slow;
}
