/* The scrub's order and pace; what a replica shows while it takes over another's bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/digest.h"
#include "chunkserver/mutation.h"
#include "chunkserver/scrub.h"

#define MIB    (1u << 20)
#define SECOND 1000000u

static const struct scrub_options options = {.rate_bytes_s = 8 * MIB,
                                             .asked_rate_bytes_s = 256 * MIB,
                                             .pause_us = 600ull * SECOND};

static uint64_t handle_at(const struct scrub *scrub)
{
    uint64_t handle;
    uint32_t block;

    scrub_at(scrub, &handle, &block);
    return handle;
}

static uint32_t block_at(const struct scrub *scrub)
{
    uint64_t handle;
    uint32_t block;

    scrub_at(scrub, &handle, &block);
    return block;
}

static void all_blocks_come_in_order(void **state)
{
    struct scrub scrub;

    scrub_init(&scrub, &options);
    assert_int_equal(handle_at(&scrub), 0);
    scrub_checked(&scrub, 7, 16, MIB, false, 0);
    assert_int_equal(handle_at(&scrub), 7);
    assert_int_equal(block_at(&scrub), 16);
    scrub_checked(&scrub, 7, 3, MIB, true, 0);
    assert_int_equal(handle_at(&scrub), 8);
    assert_int_equal(block_at(&scrub), 0);
    scrub_skip(&scrub, 9);
    scrub_checked(&scrub, 12, 16, MIB, false, 0);
    assert_int_equal(handle_at(&scrub), 12);
    assert_int_equal(block_at(&scrub), 16);
    /* Gone meanwhile: the next one is begun at its first block. */
    scrub_checked(&scrub, 13, 4, MIB, false, 0);
    assert_int_equal(handle_at(&scrub), 13);
    assert_int_equal(block_at(&scrub), 4);
    scrub_found_bad(&scrub, 13, 0);
    assert_int_equal(handle_at(&scrub), 14);
    assert_int_equal(scrub_told(&scrub)->chunks_done, 3);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 1);
    assert_int_equal(scrub.bad[0], 13);
}

static void the_rate_is_kept(void **state)
{
    struct scrub scrub;
    uint64_t now_us = 5 * SECOND;
    uint64_t bytes = 0;

    scrub_init(&scrub, &options);
    while (now_us < 15 * SECOND) {
        now_us += scrub_delay_us(&scrub, now_us);
        scrub_checked(&scrub, 1, 16, MIB, false, now_us);
        bytes += MIB;
        now_us += 20000; /* what a step takes is no pause more */
    }
    assert_in_range(bytes, 78 * MIB, 84 * MIB);
    /* Having stood still is not made up for by a burst. */
    now_us += 100 * SECOND;
    for (bytes = 0; scrub_delay_us(&scrub, now_us) == 0; bytes += MIB)
        scrub_checked(&scrub, 1, 16, MIB, false, now_us);
    assert_in_range(bytes, MIB, 3 * MIB);
}

static void no_rate_no_scrub(void **state)
{
    const struct scrub_options off = {.asked_rate_bytes_s = MIB};
    struct scrub scrub;

    scrub_init(&scrub, &off);
    assert_int_equal(scrub_delay_us(&scrub, 1), SCRUB_NEVER);
    scrub_ask(&scrub, 3, 1);
    assert_int_equal(scrub_delay_us(&scrub, 1), 0);
    scrub_end(&scrub, 3, 2);
    assert_int_equal(scrub_delay_us(&scrub, 2), SCRUB_NEVER);
}

static void a_pass_that_is_asked_for_goes_first(void **state)
{
    struct scrub scrub;

    scrub_init(&scrub, &options);
    scrub_found_bad(&scrub, 3, 0);
    scrub_checked(&scrub, 5, 16, MIB, false, 0);
    scrub_ask(&scrub, 2, 10);
    assert_int_equal(handle_at(&scrub), 0);
    assert_int_equal(scrub_delay_us(&scrub, 10), 0);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 0);
    scrub_checked(&scrub, 3, 1, 100, true, 10);
    scrub_found_bad(&scrub, 5, 10);
    assert_true(scrub.is_asked);
    scrub_end(&scrub, 2, 20);
    assert_false(scrub.is_asked);
    assert_int_equal(scrub.passes, 1);
    assert_int_equal(scrub_told(&scrub)->chunks_done, 2);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 1);
    assert_int_equal(scrub.bad_count, 1);
    /* The slow one is where it was, and what it finds changes nothing of what is told. */
    assert_int_equal(handle_at(&scrub), 5);
    assert_int_equal(block_at(&scrub), 16);
    scrub_found_bad(&scrub, 5, 20);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 1);
    scrub_end(&scrub, 2, 30);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 1);
    assert_int_equal(scrub_delay_us(&scrub, 30), options.pause_us);
}

static void asked_for_during_a_pass_it_looks_at_all_again(void **state)
{
    struct scrub scrub;

    scrub_init(&scrub, &options);
    scrub_ask(&scrub, 2, 0);
    scrub_checked(&scrub, 1, 1, 1, true, 0);
    scrub_ask(&scrub, 2, 0);
    assert_int_equal(handle_at(&scrub), 2);
    scrub_found_bad(&scrub, 2, 0);
    scrub_end(&scrub, 2, 0);
    assert_true(scrub.is_asked);
    assert_int_equal(handle_at(&scrub), 0);
    scrub_found_bad(&scrub, 1, 0);
    scrub_end(&scrub, 2, 0);
    assert_false(scrub.is_asked);
    assert_int_equal(scrub_told(&scrub)->chunks, 4);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 2);
}

static void bad_handles_are_bounded(void **state)
{
    struct scrub scrub;

    scrub_init(&scrub, &options);
    scrub_ask(&scrub, 1000, 0);
    for (uint64_t handle = 1; handle <= 1000; handle++)
        scrub_found_bad(&scrub, handle, 0);
    assert_int_equal(scrub.bad_count, SCRUB_BAD_MAX);
    assert_int_equal(scrub_told(&scrub)->bad_chunks, 1000);
}

/* ---- replicas that are brought up to date ---- */

static void windows_cross_the_wire(void **state)
{
    const struct store_append in = {0x0102030405060708, 0x1112131415161718, 0x21222324, 0x31323334};
    struct store_append out;
    uint8_t bytes[DIGEST_WINDOW_ENTRY_BYTES];

    digest_window_put(bytes, &in);
    digest_window_get(bytes, &out);
    assert_memory_equal(&in, &out, sizeof in);
    assert_int_equal(bytes[0], 8); /* little-endian */
}

static const struct mutation_limits limits = {.chunks_max = 2,
                                              .window_max = 8,
                                              .hold_max = 8,
                                              .gap_ms = 100,
                                              .idle_ms = 1000,
                                              .unsettled_ms = 5000};
static const struct mutation_have have = {.exists = true,
                                          .version = 5,
                                          .length_bytes = 1000,
                                          .serial = (4ull << 32) + 7};

static void what_is_being_taken_over_is_not_shown(void **state)
{
    struct mutation_core *core = mutation_new(&limits);

    assert_int_equal(mutation_mixed(core, 1, &have, 0), GFS_OK);
    assert_int_equal(mutation_mixed(core, 1, &have, 10), GFS_OK); /* the master asked again */
    assert_false(mutation_can_read(core, 1, 0, 1));
    assert_false(mutation_can_read(core, 1, 999, 1));
    assert_true(mutation_can_read(core, 2, 0, 1));
    assert_int_equal(mutation_unsettled_count(core), 1);
    mutation_tick(core, 100000); /* it is not forgotten */
    assert_false(mutation_can_read(core, 1, 0, 1));
    /* Nobody granted it: the master is told. */
    assert_false(mutation_is_stuck(core, 1, 4000));
    assert_true(mutation_is_stuck(core, 1, 6000));
    /* What was granted before says nothing. */
    mutation_settle(core, 1, 4, (4ull << 32) + 9, &have, 10);
    assert_false(mutation_can_read(core, 1, 0, 1));
    /* The primary of the version that it was done for says that all is well. */
    mutation_settle(core, 1, 5, 5ull << 32, &have, 10);
    assert_true(mutation_can_read(core, 1, 0, 1));
    assert_int_equal(mutation_unsettled_count(core), 0);
    mutation_tick(core, UINT64_MAX);
    mutation_free(core);
}

static void a_grant_settles_what_was_taken_over(void **state)
{
    struct mutation_core *core = mutation_new(&limits);
    const struct mutation_lease lease = {.handle = 1,
                                         .version = 5,
                                         .chunk_size_bytes = MIB,
                                         .expires_ms = 1000};
    const struct mutation_have adopted = {.exists = true,
                                          .version = 5,
                                          .length_bytes = 2000,
                                          .serial = (4ull << 32) + 9};

    mutation_fence(core, 1, 5);
    assert_int_equal(mutation_mixed(core, 1, &have, 0), GFS_OK);
    assert_int_equal(mutation_grant(core, &lease, &adopted, NULL, 10), GFS_OK);
    assert_true(mutation_can_read(core, 1, 0, 2000));
    mutation_tick(core, UINT64_MAX);
    mutation_free(core);
}

static void too_many_are_refused(void **state)
{
    struct mutation_core *core = mutation_new(&limits);

    for (uint64_t handle = 1; handle <= limits.chunks_max; handle++)
        assert_int_equal(mutation_mixed(core, handle, &have, 0), GFS_OK);
    assert_int_equal(mutation_mixed(core, 99, &have, 0), GFS_ERR_BUSY);
    mutation_tick(core, UINT64_MAX);
    mutation_free(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_blocks_come_in_order),
        cmocka_unit_test(the_rate_is_kept),
        cmocka_unit_test(no_rate_no_scrub),
        cmocka_unit_test(a_pass_that_is_asked_for_goes_first),
        cmocka_unit_test(asked_for_during_a_pass_it_looks_at_all_again),
        cmocka_unit_test(bad_handles_are_bounded),
        cmocka_unit_test(windows_cross_the_wire),
        cmocka_unit_test(what_is_being_taken_over_is_not_shown),
        cmocka_unit_test(a_grant_settles_what_was_taken_over),
        cmocka_unit_test(too_many_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
