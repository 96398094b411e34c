/* client/read_plan, location, suspect, block_crc, retry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/block_crc.h"
#include "client/read_plan.h"
#include "client/retry.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static void pieces_cover_a_range_once_within_chunks_and_on_request_boundaries(void **state)
{
    const uint32_t chunk = 4 * MIB;
    const uint32_t request = MIB;
    const uint64_t offset = 3 * (uint64_t)MIB + 700 * KIB;
    const uint64_t end = 9 * (uint64_t)MIB + 5;
    uint64_t at = offset;
    int pieces = 0;
    while (at < end) {
        struct read_piece piece = read_plan_cut(at, end, chunk, request);
        assert_int_equal(piece.file_offset, at);
        assert_int_equal((uint64_t)piece.chunk_index * chunk + piece.chunk_offset, at);
        assert_true(piece.length_bytes > 0);
        assert_true(piece.chunk_offset + piece.length_bytes <= chunk);
        assert_true(pieces == 0 || piece.chunk_offset % request == 0);
        at += piece.length_bytes;
        pieces++;
    }
    assert_int_equal(at, end);
    assert_int_equal(pieces, 7);
}

static void what_lies_behind_the_committed_length_is_zeros(void **state)
{
    struct location *location = location_new(1);
    location->handle = 5;
    location->length_bytes = 100;
    struct read_piece before = {.chunk_offset = 0, .length_bytes = 100};
    struct read_piece across = {.chunk_offset = 60, .length_bytes = 100};
    struct read_piece behind = {.chunk_offset = 100, .length_bytes = 1};
    assert_int_equal(read_plan_real_bytes(&before, location), 100);
    assert_int_equal(read_plan_real_bytes(&across, location), 40);
    assert_int_equal(read_plan_real_bytes(&behind, location), 0);
    location->file_size_bytes = 100;
    assert_false(read_plan_outdated(&across, location, 100));
    assert_true(read_plan_outdated(&across, location, 200));
    assert_false(read_plan_outdated(&before, location, 200));
    location->handle = 0;
    assert_int_equal(read_plan_real_bytes(&before, location), 0);
    location_unref(location);
}

static void each_replica_is_asked_once_a_round_suspects_last(void **state)
{
    for (uint32_t random = 0; random < 7; random++) {
        struct location *location = location_new(3);
        for (int i = 0; i < 3; i++)
            location->replicas[i].server[0] = (uint8_t)(i + 1);
        struct suspect_list suspects = {0};
        suspect_add(&suspects, location->replicas[1].server, 1000);
        struct read_tries tries = {0};
        int order[3];
        for (int i = 0; i < 3; i++) {
            order[i] = read_plan_pick(&tries, location, &suspects, random, 999);
            assert_in_range(order[i], 0, 2);
            assert_false(tries.asked & (1u << order[i]));
            tries.asked |= 1u << order[i];
        }
        assert_int_equal(order[2], 1);
        assert_int_equal(read_plan_pick(&tries, location, &suspects, random, 999), -1);
        location_unref(location);
    }
}

static void the_first_replica_is_spread_and_a_near_one_preferred(void **state)
{
    struct location *location = location_new(3);
    for (int i = 0; i < 3; i++)
        location->replicas[i].server[0] = (uint8_t)(i + 1);
    struct suspect_list suspects = {0};
    struct read_tries tries = {0};
    int seen = 0;
    for (uint32_t random = 0; random < 3; random++)
        seen |= 1 << read_plan_pick(&tries, location, &suspects, random, 1);
    assert_int_equal(seen, 7);
    location->replicas[2].near = true;
    for (uint32_t random = 0; random < 3; random++)
        assert_int_equal(read_plan_pick(&tries, location, &suspects, random, 1), 2);
    location_unref(location);
}

static void suspicion_passes(void **state)
{
    struct suspect_list suspects = {0};
    uint8_t server[GFS_UUID_BYTES] = {7};
    suspect_add(&suspects, server, 100);
    assert_true(suspect_has(&suspects, server, 99));
    assert_false(suspect_has(&suspects, server, 100));
    suspect_add(&suspects, server, 200);
    assert_true(suspect_has(&suspects, server, 150));
    suspect_clear(&suspects, server);
    assert_false(suspect_has(&suspects, server, 150));
    for (int i = 0; i < 3 * SUSPECT_MAX; i++) {
        uint8_t other[GFS_UUID_BYTES] = {1, (uint8_t)i};
        suspect_add(&suspects, other, 1000 + (uint64_t)i);
        assert_true(suspect_has(&suspects, other, 999));
    }
}

static void the_cache_is_bounded_and_only_what_was_seen_is_dropped(void **state)
{
    static struct location_cache cache;
    for (uint32_t i = 0; i < 3 * LOCATION_SLOTS; i++) {
        struct location *location = location_new(0);
        location->index = i;
        location_cache_put(&cache, location);
    }
    assert_null(location_cache_get(&cache, 0));
    struct location *seen = location_cache_get(&cache, 2 * LOCATION_SLOTS);
    assert_int_equal(seen->index, 2 * LOCATION_SLOTS);
    struct location *newer = location_new(0);
    newer->index = seen->index;
    location_cache_put(&cache, newer);
    location_cache_drop(&cache, seen);
    struct location *again = location_cache_get(&cache, seen->index);
    assert_ptr_equal(again, newer);
    location_cache_drop(&cache, newer);
    assert_null(location_cache_get(&cache, seen->index));
    location_unref(again);
    location_unref(seen);
    location_cache_release(&cache);
}

static void block_crcs_find_flipped_bits_and_a_wrong_count(void **state)
{
    static uint8_t data[200 * KIB];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 + i / 251);
    const uint32_t offset = 64 * KIB - 10;
    uint32_t crcs[BLOCK_CRC_MAX];
    size_t count = block_crc_make(data, offset, sizeof(data), crcs);
    assert_int_equal(count, 5);
    assert_int_equal(count, block_crc_count(offset, sizeof(data)));
    assert_int_equal(block_crc_verify(data, offset, sizeof(data), crcs, count), GFS_OK);
    static const size_t places[] = {0, 9, 10, 64 * KIB, 200 * KIB - 1};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        data[places[i]] ^= 0x10;
        assert_int_equal(block_crc_verify(data, offset, sizeof(data), crcs, count),
                         GFS_ERR_CORRUPT);
        data[places[i]] ^= 0x10;
    }
    assert_int_equal(block_crc_verify(data, offset, sizeof(data), crcs, count - 1), GFS_ERR_PROTO);
    assert_int_equal(block_crc_count(0, 0), 0);
    assert_int_equal(block_crc_count(0, 64 * KIB), 1);
    assert_int_equal(block_crc_count(1, 64 * KIB), 2);
}

static void backoff_doubles_with_jitter_up_to_a_maximum_and_obeys_hints(void **state)
{
    for (uint32_t tries = 1; tries < 40; tries++) {
        uint32_t full = tries > 6 ? RETRY_WAIT_MAX_MS : RETRY_WAIT_MIN_MS << (tries - 1);
        for (uint32_t random = 0; random < 5000; random += 37) {
            uint32_t wait_ms = retry_backoff_ms(tries, 0, random);
            assert_in_range(wait_ms, full / 2, full);
        }
    }
    assert_int_equal(retry_backoff_ms(1, 700, 3), 700);
}

static void a_retry_ends_at_the_deadline_and_at_once_for_final_errors(void **state)
{
    struct retry retry;
    uint32_t wait_ms = 0;
    retry_init(&retry, 1000, 5000);
    assert_false(retry_next(&retry, GFS_ERR_NOT_FOUND, 0, 1, 1000, &wait_ms));
    assert_false(retry_next(&retry, GFS_ERR_CORRUPT, 0, 1, 1000, &wait_ms));
    uint64_t now_ms = 1000;
    while (retry_next(&retry, GFS_ERR_CONN, 0, 1, now_ms, &wait_ms))
        now_ms += wait_ms;
    assert_in_range(now_ms, 5000, 6000);
    assert_int_equal(retry_left_ms(&retry, 5999), 1);
    assert_int_equal(retry_left_ms(&retry, 7000), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_cover_a_range_once_within_chunks_and_on_request_boundaries),
        cmocka_unit_test(what_lies_behind_the_committed_length_is_zeros),
        cmocka_unit_test(each_replica_is_asked_once_a_round_suspects_last),
        cmocka_unit_test(the_first_replica_is_spread_and_a_near_one_preferred),
        cmocka_unit_test(suspicion_passes),
        cmocka_unit_test(the_cache_is_bounded_and_only_what_was_seen_is_dropped),
        cmocka_unit_test(block_crcs_find_flipped_bits_and_a_wrong_count),
        cmocka_unit_test(backoff_doubles_with_jitter_up_to_a_maximum_and_obeys_hints),
        cmocka_unit_test(a_retry_ends_at_the_deadline_and_at_once_for_final_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
