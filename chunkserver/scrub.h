/*
 * scrub: which blocks to check next, and when. Floor 5: no I/O, no clock, no locks; one thread.
 *
 * Two passes over all chunks in the order of their handles. The slow one goes on for ever, at the
 * rate that the operator set, with a pause at the end. One that was asked for goes first, as fast
 * as is decent, while the slow one stands still.
 *
 *            scrub_delay_us -> scrub_at -> (the shell finds the chunk at or behind it)
 *      ^                                      |  none: scrub_end
 *      |                                      |  not to be checked: scrub_skip
 *      +------- scrub_checked <--- read ------+
 *
 * Nothing is remembered of a pass but how far it is: after a restart it begins anew.
 */
#ifndef CHUNKSERVER_SCRUB_H
#define CHUNKSERVER_SCRUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRUB_STEP_BLOCKS 16u /* checked by one job */
#define SCRUB_BAD_MAX     100u
#define SCRUB_NEVER       UINT64_MAX

struct scrub_options {
    uint64_t rate_bytes_s; /* of the slow pass; 0: none */
    uint64_t asked_rate_bytes_s;
    uint64_t pause_us; /* between two slow passes */
};

struct scrub_pass {
    uint64_t handle; /* where it stands */
    uint32_t block;
    uint64_t next_us;
    uint64_t chunks; /* when it began */
    uint64_t chunks_done;
    uint64_t bytes_done;
    uint64_t bad_chunks;
};

struct scrub {
    struct scrub_options options;
    struct scrub_pass slow;
    struct scrub_pass asked;
    bool is_asked;   /* the asked pass is under way */
    bool was_asked;  /* there has been one */
    bool asks_again; /* asked for once more meanwhile: chunks it has passed may be bad since */
    uint64_t passes; /* ended, of both kinds */
    uint64_t bad[SCRUB_BAD_MAX]; /* handles found by the pass asked for, or by the slow one */
    size_t bad_count;
};

void scrub_init(struct scrub *scrub, const struct scrub_options *options);
/* A pass over everything that is there from now on. */
void scrub_ask(struct scrub *scrub, uint64_t chunks, uint64_t now_us);
/* Until the next step; SCRUB_NEVER: there is nothing to do. */
uint64_t scrub_delay_us(const struct scrub *scrub, uint64_t now_us);
/* The next block to check is this one, or the first of the next chunk that is there. */
void scrub_at(const struct scrub *scrub, uint64_t *ret_handle, uint32_t *ret_block);
/* Blocks of the chunk were read, the last one of them when `ended`; or one was bad. */
void scrub_checked(struct scrub *scrub, uint64_t handle, uint32_t blocks, uint64_t bytes,
                   bool ended, uint64_t now_us);
/* Was bad, or is known to be: on with the next. */
void scrub_found_bad(struct scrub *scrub, uint64_t handle, uint64_t now_us);
/* It is in use, or gone. */
void scrub_skip(struct scrub *scrub, uint64_t handle);
/* No chunk is left. chunks: for the pass that follows. */
void scrub_end(struct scrub *scrub, uint64_t chunks, uint64_t now_us);
/* What to tell of: the pass asked for, while or after it; else the slow one. */
const struct scrub_pass *scrub_told(const struct scrub *scrub);

#endif
