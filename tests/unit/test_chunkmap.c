#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/chunkmap.h"

#define CHUNKS 5000u

static struct chunk *add(struct chunkmap *map, uint64_t handle)
{
    assert_int_equal(chunkmap_reserve(map), GFS_OK);
    struct chunk *chunk = chunkmap_add(map, handle);
    chunkmap_hold(map, chunk, 1);
    return chunk;
}

static void test_chunks_are_found_while_the_map_grows(void **state)
{
    struct chunkmap map;
    chunkmap_init(&map, 42);
    assert_null(chunkmap_find(&map, 1));
    for (uint64_t i = 1; i <= CHUNKS; i++) {
        struct chunk *chunk = add(&map, i * 7);
        assert_ptr_equal(chunkmap_find(&map, i * 7), chunk);
    }
    for (uint64_t i = 1; i <= CHUNKS; i++) {
        assert_int_equal(chunkmap_find(&map, i * 7)->handle, i * 7);
        assert_null(chunkmap_find(&map, i * 7 + 1));
    }
    uint32_t at = 0;
    uint32_t seen = 0;
    while (chunkmap_walk(&map, &at) != NULL) {
        seen++;
    }
    assert_int_equal(seen, CHUNKS);
    assert_null(chunkmap_walk(&map, &at));
    chunkmap_release(&map);
}

static void test_released_chunks_queue_in_order(void **state)
{
    struct chunkmap map;
    chunkmap_init(&map, 42);
    for (uint64_t i = 1; i <= 3; i++) {
        add(&map, i);
    }
    chunkmap_hold(&map, chunkmap_find(&map, 3), 2);
    assert_true(chunkmap_let_go(&map, chunkmap_find(&map, 2), 1, 5000));
    assert_false(chunkmap_let_go(&map, chunkmap_find(&map, 3), 2, 6000));
    assert_true(chunkmap_let_go(&map, chunkmap_find(&map, 3), 1, 6000));
    assert_int_equal(map.released_count, 2);
    assert_int_equal(map.live_count, 1);
    struct chunk *first = chunkmap_released_first(&map);
    assert_int_equal(first->handle, 2);
    assert_int_equal(first->released_s, 5);
    assert_true(chunk_released(first));
    chunkmap_drop(&map, first);
    assert_null(chunkmap_find(&map, 2));
    first = chunkmap_released_first(&map);
    assert_int_equal(first->handle, 3);
    chunkmap_drop(&map, first);
    assert_null(chunkmap_released_first(&map));
    assert_true(chunkmap_let_go(&map, chunkmap_find(&map, 1), 1, 7000));
    assert_int_equal(chunkmap_released_first(&map)->handle, 1);
    chunkmap_release(&map);
}

/* Locations against a plain array, over the border between inline and overflow. */
static void test_locations_are_kept_past_the_inline_ones(void **state)
{
    struct chunkmap map;
    chunkmap_init(&map, 42);
    struct chunk *chunk = add(&map, 9);
    int want[64];
    for (int i = 0; i < 64; i++) {
        want[i] = -1;
    }
    uint64_t random = 7;
    uint32_t count = 0;
    for (int step = 0; step < 20000; step++) {
        random = index_mix(random + 1);
        /* Wander up and down, so that the border is crossed often. */
        uint16_t server = (uint16_t)(random % (step / 1000 % 2 == 0 ? 6 : 64));
        enum chunk_location_state to = (random >> 20) % 3;
        if ((random >> 30) % 2 == 0) {
            enum gfs_err err = chunk_add_location(&map, chunk, server, to);
            if (want[server] < 0 && count == CHUNK_LOCATIONS_MAX) {
                assert_int_equal(err, GFS_ERR_BUSY);
                continue;
            }
            assert_int_equal(err, GFS_OK);
            count += want[server] < 0;
            want[server] = (int)to;
        } else {
            assert_int_equal(chunk_remove_location(&map, chunk, server), want[server] >= 0);
            count -= want[server] >= 0;
            want[server] = -1;
        }
        assert_int_equal(chunk->location_count, count);
        for (uint16_t i = 0; i < 64; i++) {
            enum chunk_location_state got;
            bool there = chunk_find_location(&map, chunk, i, &got);
            assert_int_equal(there, want[i] >= 0);
            assert_true(!there || (int)got == want[i]);
        }
    }
    chunk_clear_locations(&map, chunk);
    assert_int_equal(chunk_count_locations(&map, chunk, CHUNK_LOCATION_OK), 0);
    assert_int_equal(map.overflows.used_count, 0);
    chunkmap_release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_are_found_while_the_map_grows),
        cmocka_unit_test(test_released_chunks_queue_in_order),
        cmocka_unit_test(test_locations_are_kept_past_the_inline_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
