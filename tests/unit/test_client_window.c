/* client/write_window: event by event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/write_window.h"

#define TIMEOUT_MS 30000
#define MIB        (1u << 20)

static const struct write_result ok = {.err = GFS_OK};

static struct write_moment at(uint64_t now_ms)
{
    return (struct write_moment){.now_ms = now_ms, .random = 7};
}

/* Servers first..first+count-1, numbered by their id's first byte; they are on port 1000 + n. */
static struct write_lease lease_of(uint64_t handle, uint32_t version, int first, int count)
{
    struct write_lease lease = {.handle = handle,
                                .version = version,
                                .replica_count = (uint32_t)count,
                                .expires_ms = UINT64_MAX};
    for (int i = 0; i < count; i++)
        lease.replicas[i].server[0] = (uint8_t)(first + i);
    return lease;
}

static struct write_mutation mutation_of(uint32_t offset_bytes, uint32_t length_bytes)
{
    return (struct write_mutation){.offset_bytes = offset_bytes, .length_bytes = length_bytes};
}

static struct write_effect expect(struct write_window *window, uint64_t now_ms,
                                  enum write_effect_kind kind)
{
    struct write_effect effect;
    assert_true(write_window_next(window, now_ms, &effect));
    assert_int_equal(effect.kind, kind);
    return effect;
}

static void expect_nothing(struct write_window *window, uint64_t now_ms)
{
    struct write_effect effect;
    assert_false(write_window_next(window, now_ms, &effect));
}

/* A window whose chunk 0 is leased at version 1 on servers 1, 2, 3, with mutations under way as
 * far as the PUSH effect. */
static struct write_chunk *leased(struct write_window *window, struct write_mutation *mutations,
                                  int count)
{
    write_window_init(window, 8, TIMEOUT_MS);
    for (int i = 0; i < count; i++)
        assert_int_equal(write_window_add(window, &mutations[i], 0), GFS_OK);
    struct write_chunk *chunk = expect(window, 1, WRITE_EFFECT_LEASE).chunk;
    struct write_lease lease = lease_of(9, 1, 1, 3);
    write_window_leased(window, chunk, &lease, at(2));
    for (int i = 0; i < count; i++)
        assert_ptr_equal(expect(window, 2, WRITE_EFFECT_PUSH).mutation, &mutations[i]);
    expect_nothing(window, 2);
    return chunk;
}

static void a_mutation_is_leased_pushed_written_and_committed(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    leased(&window, &m, 1);
    write_window_pushed(&window, &m, m.attempt, &ok, at(3));
    assert_ptr_equal(expect(&window, 3, WRITE_EFFECT_WRITE).mutation, &m);
    struct write_commit list[4];
    assert_int_equal(write_window_commit_list(&window, list, 4), 0);
    assert_true(write_window_written(&window, &m, m.attempt, &ok, at(4)));
    assert_int_equal(window.mutation_count, 0);
    assert_int_equal(write_window_commit_list(&window, list, 4), 1);
    assert_int_equal(list[0].handle, 9);
    assert_int_equal(list[0].version, 1);
    assert_int_equal(list[0].length_bytes, MIB);
    write_window_committed(&window, list, 1);
    assert_int_equal(write_window_commit_list(&window, list, 4), 0);
    write_window_release(&window);
}

static void the_window_is_bounded(void **state)
{
    struct write_window window;
    write_window_init(&window, 2, TIMEOUT_MS);
    struct write_mutation m[3] = {mutation_of(0, 1), mutation_of(1, 1), mutation_of(2, 1)};
    assert_int_equal(write_window_add(&window, &m[0], 0), GFS_OK);
    assert_int_equal(write_window_add(&window, &m[1], 1), GFS_OK);
    assert_false(write_window_has_room(&window, 0));
    assert_int_equal(write_window_add(&window, &m[2], 0), GFS_ERR_BUSY);
    write_window_release(&window);
}

static void uncommitted_chunks_are_bounded_and_a_commit_makes_room(void **state)
{
    struct write_window window;
    write_window_init(&window, 1, TIMEOUT_MS);
    for (uint32_t i = 0; i < WRITE_WINDOW_CHUNKS_MAX; i++) {
        struct write_mutation m = mutation_of(0, 1);
        assert_false(write_window_crowded(&window, i));
        assert_int_equal(write_window_add(&window, &m, i), GFS_OK);
        struct write_chunk *chunk = expect(&window, 1, WRITE_EFFECT_LEASE).chunk;
        struct write_lease lease = lease_of(100 + i, 1, 1, 3);
        write_window_leased(&window, chunk, &lease, at(1));
        expect(&window, 1, WRITE_EFFECT_PUSH);
        write_window_pushed(&window, &m, m.attempt, &ok, at(1));
        expect(&window, 1, WRITE_EFFECT_WRITE);
        assert_true(write_window_written(&window, &m, m.attempt, &ok, at(1)));
    }
    assert_true(write_window_crowded(&window, WRITE_WINDOW_CHUNKS_MAX));
    assert_false(write_window_crowded(&window, 0));
    struct write_commit list[WRITE_WINDOW_CHUNKS_MAX];
    size_t count = write_window_commit_list(&window, list, WRITE_WINDOW_CHUNKS_MAX);
    assert_int_equal(count, WRITE_WINDOW_CHUNKS_MAX);
    write_window_committed(&window, list, count);
    assert_false(write_window_crowded(&window, WRITE_WINDOW_CHUNKS_MAX));
    write_window_release(&window);
}

static void a_failed_server_is_named_and_all_is_pushed_again(void **state)
{
    struct write_window window;
    struct write_mutation m[2] = {mutation_of(0, MIB), mutation_of(MIB, MIB)};
    struct write_chunk *chunk = leased(&window, m, 2);
    write_window_pushed(&window, &m[0], m[0].attempt, &ok, at(3));
    expect(&window, 3, WRITE_EFFECT_WRITE);
    uint32_t old_attempt = m[0].attempt;
    struct write_result failed = {.err = GFS_ERR_REPLICA_FAILED, .blamed = 1u << 1};
    assert_false(write_window_written(&window, &m[0], old_attempt, &failed, at(4)));
    expect(&window, 4, WRITE_EFFECT_LEASE);
    assert_int_equal(chunk->failed_count, 1);
    assert_int_equal(chunk->failed[0][0], 2);
    struct write_lease lease = lease_of(9, 2, 1, 1);
    write_window_leased(&window, chunk, &lease, at(5));
    assert_int_equal(chunk->failed_count, 0);
    assert_ptr_equal(expect(&window, 5, WRITE_EFFECT_PUSH).mutation, &m[0]);
    assert_ptr_equal(expect(&window, 5, WRITE_EFFECT_PUSH).mutation, &m[1]);
    /* what answers the older attempts changes nothing */
    assert_false(write_window_written(&window, &m[0], old_attempt, &ok, at(6)));
    write_window_pushed(&window, &m[1], 1, &ok, at(6));
    expect_nothing(&window, 6);
    write_window_pushed(&window, &m[1], m[1].attempt, &ok, at(6));
    assert_ptr_equal(expect(&window, 6, WRITE_EFFECT_WRITE).mutation, &m[1]);
    write_window_release(&window);
}

static void a_failure_learned_while_asking_is_asked_about_again(void **state)
{
    struct write_window window;
    struct write_mutation m[2] = {mutation_of(0, MIB), mutation_of(MIB, MIB)};
    struct write_chunk *chunk = leased(&window, m, 2);
    for (int i = 0; i < 2; i++) {
        write_window_pushed(&window, &m[i], m[i].attempt, &ok, at(3));
        expect(&window, 3, WRITE_EFFECT_WRITE);
    }
    struct write_result no_lease = {.err = GFS_ERR_NO_LEASE};
    struct write_result failed = {.err = GFS_ERR_REPLICA_FAILED, .blamed = 1u << 2};
    write_window_written(&window, &m[1], m[1].attempt, &no_lease, at(4));
    expect(&window, 4, WRITE_EFFECT_LEASE);
    write_window_written(&window, &m[0], m[0].attempt, &failed, at(5));
    struct write_lease same = lease_of(9, 1, 1, 3);
    write_window_leased(&window, chunk, &same, at(6));
    expect_nothing(&window, 6);
    assert_true(window.wake_ms > 6);
    expect(&window, window.wake_ms, WRITE_EFFECT_LEASE);
    assert_int_equal(chunk->failed_count, 1);
    assert_int_equal(chunk->failed[0][0], 3);
    write_window_release(&window);
}

static void overlapping_mutations_are_written_in_order(void **state)
{
    struct write_window window;
    struct write_mutation m[3] = {mutation_of(0, 100), mutation_of(50, 100), mutation_of(150, 5)};
    write_window_init(&window, 8, TIMEOUT_MS);
    struct write_lease lease = lease_of(9, 1, 1, 3);
    assert_int_equal(write_window_seed(&window, 0, &lease), GFS_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(write_window_add(&window, &m[i], 0), GFS_OK);
    assert_ptr_equal(expect(&window, 1, WRITE_EFFECT_PUSH).mutation, &m[0]);
    assert_ptr_equal(expect(&window, 1, WRITE_EFFECT_PUSH).mutation, &m[2]);
    expect_nothing(&window, 1);
    write_window_pushed(&window, &m[0], m[0].attempt, &ok, at(2));
    expect(&window, 2, WRITE_EFFECT_WRITE);
    expect_nothing(&window, 2);
    assert_true(write_window_written(&window, &m[0], m[0].attempt, &ok, at(3)));
    assert_ptr_equal(expect(&window, 3, WRITE_EFFECT_PUSH).mutation, &m[1]);
    write_window_release(&window);
}

static void busy_waits_at_least_the_hint_and_repeats_the_same_step(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    leased(&window, &m, 1);
    write_window_pushed(&window, &m, m.attempt, &ok, at(3));
    expect(&window, 3, WRITE_EFFECT_WRITE);
    struct write_result busy = {.err = GFS_ERR_BUSY, .hint_ms = 500};
    assert_false(write_window_written(&window, &m, m.attempt, &busy, at(10)));
    expect_nothing(&window, 509);
    assert_int_equal(window.wake_ms, 510);
    expect(&window, 510, WRITE_EFFECT_WRITE);
    write_window_release(&window);
}

static void lost_pushed_data_is_pushed_again(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    leased(&window, &m, 1);
    write_window_pushed(&window, &m, m.attempt, &ok, at(3));
    expect(&window, 3, WRITE_EFFECT_WRITE);
    struct write_result no_data = {.err = GFS_ERR_NO_DATA};
    write_window_written(&window, &m, m.attempt, &no_data, at(4));
    expect_nothing(&window, 4);
    expect(&window, window.wake_ms, WRITE_EFFECT_PUSH);
    write_window_release(&window);
}

static void silence_is_probed_and_only_the_silent_server_is_blamed(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    struct write_chunk *chunk = leased(&window, &m, 1);
    struct write_result timeout = {.err = GFS_ERR_TIMEOUT};
    write_window_pushed(&window, &m, m.attempt, &timeout, at(5000));
    expect(&window, 5000, WRITE_EFFECT_PROBE);
    expect_nothing(&window, 5000);
    write_window_probed(&window, chunk, 1u << 2, at(6500));
    expect(&window, 6500, WRITE_EFFECT_LEASE);
    assert_int_equal(chunk->failed_count, 1);
    assert_int_equal(chunk->failed[0][0], 3);
    write_window_release(&window);
}

static void silence_of_nobody_ends_with_the_primary_blamed(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    struct write_chunk *chunk = leased(&window, &m, 1);
    struct write_result timeout = {.err = GFS_ERR_TIMEOUT};
    uint64_t now_ms = 100;
    for (int round = 0; chunk->failed_count == 0; round++) {
        assert_true(round < 5);
        write_window_pushed(&window, &m, m.attempt, &timeout, at(now_ms));
        now_ms += 2000;
        expect(&window, now_ms, WRITE_EFFECT_PROBE);
        write_window_probed(&window, chunk, 0, at(now_ms));
        if (chunk->failed_count == 0)
            expect(&window, now_ms, WRITE_EFFECT_PUSH);
    }
    assert_int_equal(chunk->failed[0][0], 1);
    write_window_release(&window);
}

static void a_primary_that_keeps_refusing_is_blamed(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    struct write_chunk *chunk = leased(&window, &m, 1);
    struct write_result refused = {.err = GFS_ERR_NO_LEASE};
    struct write_lease same = lease_of(9, 1, 1, 3);
    write_window_pushed(&window, &m, m.attempt, &ok, at(3));
    uint64_t now_ms = 10;
    for (int round = 0; chunk->failed_count == 0; round++) {
        assert_true(round < 8);
        expect(&window, now_ms, WRITE_EFFECT_WRITE);
        write_window_written(&window, &m, m.attempt, &refused, at(now_ms));
        now_ms += 2000;
        expect(&window, now_ms, WRITE_EFFECT_LEASE);
        if (chunk->failed_count == 0)
            write_window_leased(&window, chunk, &same, at(now_ms));
    }
    assert_int_equal(chunk->failed[0][0], 1);
    write_window_release(&window);
}

static void a_broken_lease_asks_for_another_version_and_blames_nobody(void **state)
{
    struct write_window window;
    struct write_mutation m[5];
    for (uint32_t i = 0; i < 5; i++)
        m[i] = mutation_of(i * MIB, MIB);
    struct write_chunk *chunk = leased(&window, m, 5);
    assert_int_equal(write_window_failed_version(chunk), 0);
    struct write_result refused = {.err = GFS_ERR_STALE_VERSION};
    for (int i = 0; i < 5; i++) {
        write_window_pushed(&window, &m[i], m[i].attempt, &ok, at(3));
        expect(&window, 3, WRITE_EFFECT_WRITE);
    }
    write_window_written(&window, &m[0], m[0].attempt, &refused, at(4));
    expect(&window, 4, WRITE_EFFECT_LEASE);
    assert_int_equal(write_window_failed_version(chunk), 1);
    for (int i = 1; i < 5; i++)
        write_window_written(&window, &m[i], m[i].attempt, &refused, at(5));
    assert_int_equal(chunk->failed_count, 0);
    struct write_lease next = lease_of(9, 2, 1, 3);
    write_window_leased(&window, chunk, &next, at(6));
    expect(&window, 6, WRITE_EFFECT_PUSH);
    write_window_release(&window);
}

static void a_master_that_is_away_is_waited_for_until_the_timeout(void **state)
{
    struct write_window window;
    write_window_init(&window, 8, TIMEOUT_MS);
    struct write_mutation m = mutation_of(0, MIB);
    assert_int_equal(write_window_add(&window, &m, 0), GFS_OK);
    struct write_result away = {.err = GFS_ERR_CONN};
    uint64_t now_ms = 1;
    uint64_t last_ms = 0;
    struct write_effect effect;
    while (write_window_next(&window, now_ms, &effect)) {
        assert_int_equal(effect.kind, WRITE_EFFECT_LEASE);
        last_ms = now_ms;
        write_window_lease_failed(&window, effect.chunk, &away, at(now_ms));
        if (window.err == GFS_OK) {
            assert_false(write_window_next(&window, now_ms, &effect));
            now_ms = window.wake_ms;
        }
    }
    assert_int_equal(window.err, GFS_ERR_CONN);
    assert_in_range(last_ms, TIMEOUT_MS - 1100, TIMEOUT_MS + 1);
    assert_int_equal(write_window_add(&window, &m, 0), GFS_ERR_CONN);
    write_window_release(&window);
}

static void progress_renews_the_time_a_chunk_has(void **state)
{
    struct write_window window;
    struct write_mutation m[2] = {mutation_of(0, MIB), mutation_of(MIB, MIB)};
    struct write_chunk *chunk = leased(&window, m, 2);
    struct write_result busy = {.err = GFS_ERR_BUSY};
    write_window_pushed(&window, &m[0], m[0].attempt, &busy, at(3));
    assert_int_equal(chunk->stuck_since_ms, 3);
    write_window_pushed(&window, &m[1], m[1].attempt, &ok, at(TIMEOUT_MS - 1000));
    expect(&window, TIMEOUT_MS - 1000, WRITE_EFFECT_PUSH);
    expect(&window, TIMEOUT_MS - 1000, WRITE_EFFECT_WRITE);
    assert_true(write_window_written(&window, &m[1], m[1].attempt, &ok, at(TIMEOUT_MS)));
    write_window_pushed(&window, &m[0], m[0].attempt, &busy, at(TIMEOUT_MS + 5000));
    assert_int_equal(window.err, GFS_OK);
    write_window_release(&window);
}

static void an_expired_lease_is_renewed_before_it_is_used(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    write_window_init(&window, 8, TIMEOUT_MS);
    struct write_lease lease = lease_of(9, 1, 1, 3);
    lease.expires_ms = 1000;
    assert_int_equal(write_window_seed(&window, 0, &lease), GFS_OK);
    assert_int_equal(write_window_add(&window, &m, 0), GFS_OK);
    expect(&window, 999, WRITE_EFFECT_PUSH);
    write_window_pushed(&window, &m, m.attempt, &ok, at(1000));
    struct write_chunk *chunk = expect(&window, 1000, WRITE_EFFECT_LEASE).chunk;
    lease.expires_ms = 2000;
    write_window_leased(&window, chunk, &lease, at(1001));
    /* the same version: the pushed data serves */
    expect(&window, 1001, WRITE_EFFECT_WRITE);
    write_window_release(&window);
}

static void a_server_blamed_during_a_probe_is_left_out_after_it(void **state)
{
    struct write_window window;
    struct write_mutation m[2] = {mutation_of(0, MIB), mutation_of(MIB, MIB)};
    struct write_chunk *chunk = leased(&window, m, 2);
    struct write_result silence = {.err = GFS_ERR_TIMEOUT};
    write_window_pushed(&window, &m[0], m[0].attempt, &silence, at(3));
    assert_ptr_equal(expect(&window, 3, WRITE_EFFECT_PROBE).chunk, chunk);
    struct write_result down = {.err = GFS_ERR_CONN, .blamed = 2};
    write_window_pushed(&window, &m[1], m[1].attempt, &down, at(4));
    expect_nothing(&window, 4); /* the answers to the probe are still to come */
    write_window_probed(&window, chunk, 0, at(5));
    assert_ptr_equal(expect(&window, 5, WRITE_EFFECT_LEASE).chunk, chunk);
    assert_int_equal(chunk->failed_count, 1);
    assert_int_equal(chunk->failed[0][0], 2);
    write_window_release(&window);
}

static struct write_chunk *acked(struct write_window *window, struct write_mutation *m)
{
    struct write_chunk *chunk = leased(window, m, 1);
    write_window_pushed(window, m, m->attempt, &ok, at(3));
    expect(window, 3, WRITE_EFFECT_WRITE);
    assert_true(write_window_written(window, m, m->attempt, &ok, at(4)));
    return chunk;
}

static void acknowledged_bytes_are_committed_under_a_version_that_descends(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    acked(&window, &m);
    struct write_lease there = lease_of(9, 4, 3, 2); /* servers 3, 4: 3 had our version */
    assert_int_equal(write_window_relocated(&window, 0, &there), GFS_OK);
    struct write_commit list[1];
    assert_int_equal(write_window_commit_list(&window, list, 1), 1);
    assert_int_equal(list[0].version, 4);
    struct write_mutation next = mutation_of(MIB, MIB);
    assert_int_equal(write_window_add(&window, &next, 0), GFS_OK);
    expect(&window, 5, WRITE_EFFECT_LEASE);
    write_window_release(&window);
}

static void a_chunk_placed_anew_under_acknowledged_bytes_is_an_error(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    acked(&window, &m);
    struct write_lease other_handle = lease_of(10, 1, 1, 3);
    assert_int_equal(write_window_relocated(&window, 0, &other_handle), GFS_ERR_NO_REPLICA);
    assert_int_equal(window.err, GFS_ERR_NO_REPLICA);
    write_window_release(&window);

    struct write_mutation first = mutation_of(0, MIB);
    struct write_mutation second = mutation_of(MIB, MIB);
    struct write_chunk *chunk = acked(&window, &first);
    struct write_lease other_servers = lease_of(9, 2, 7, 3);
    assert_int_equal(write_window_add(&window, &second, 0), GFS_OK);
    expect(&window, 5, WRITE_EFFECT_PUSH);
    struct write_result down = {.err = GFS_ERR_CONN, .blamed = 1};
    write_window_pushed(&window, &second, second.attempt, &down, at(6));
    expect(&window, 6, WRITE_EFFECT_LEASE);
    write_window_leased(&window, chunk, &other_servers, at(7));
    assert_int_equal(window.err, GFS_ERR_NO_REPLICA);
    write_window_release(&window);
}

static void a_chunk_truncated_under_acknowledged_bytes_is_an_error(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    acked(&window, &m);
    struct write_lease there = lease_of(9, 2, 1, 3);
    there.cuts = 1;
    assert_int_equal(write_window_relocated(&window, 0, &there), GFS_ERR_STALE_VERSION);
    assert_int_equal(window.err, GFS_ERR_STALE_VERSION);
    write_window_release(&window);

    struct write_mutation first = mutation_of(0, MIB);
    struct write_mutation second = mutation_of(MIB, MIB);
    struct write_chunk *chunk = acked(&window, &first);
    assert_int_equal(write_window_add(&window, &second, 0), GFS_OK);
    expect(&window, 5, WRITE_EFFECT_PUSH);
    struct write_result down = {.err = GFS_ERR_CONN, .blamed = 1};
    write_window_pushed(&window, &second, second.attempt, &down, at(6));
    expect(&window, 6, WRITE_EFFECT_LEASE);
    write_window_leased(&window, chunk, &there, at(7));
    assert_int_equal(window.err, GFS_ERR_STALE_VERSION);
    write_window_release(&window);
}

static void what_was_committed_is_not_committed_again_after_a_truncation(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(MIB, MIB);
    struct write_mutation next = mutation_of(0, 10);
    struct write_chunk *chunk = acked(&window, &m);
    struct write_commit list[1];
    assert_int_equal(write_window_commit_list(&window, list, 1), 1);
    write_window_committed(&window, list, 1);
    struct write_lease cut = lease_of(9, 2, 1, 3);
    cut.cuts = 1;
    assert_int_equal(write_window_add(&window, &next, 0), GFS_OK);
    expect(&window, 5, WRITE_EFFECT_PUSH);
    struct write_result stale = {.err = GFS_ERR_STALE_VERSION};
    write_window_pushed(&window, &next, next.attempt, &stale, at(6));
    expect(&window, 6, WRITE_EFFECT_LEASE);
    write_window_leased(&window, chunk, &cut, at(7));
    expect(&window, 7, WRITE_EFFECT_PUSH);
    write_window_pushed(&window, &next, next.attempt, &ok, at(8));
    expect(&window, 8, WRITE_EFFECT_WRITE);
    assert_true(write_window_written(&window, &next, next.attempt, &ok, at(9)));
    assert_int_equal(write_window_commit_list(&window, list, 1), 1);
    assert_int_equal(list[0].length_bytes, 10);
    write_window_release(&window);
}

static void a_chunk_placed_anew_before_any_acknowledgement_is_written_again(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    struct write_chunk *chunk = leased(&window, &m, 1);
    struct write_result down = {.err = GFS_ERR_CONN, .blamed = 1};
    write_window_pushed(&window, &m, m.attempt, &down, at(3));
    expect(&window, 3, WRITE_EFFECT_LEASE);
    struct write_lease anew = lease_of(77, 1, 7, 3);
    write_window_leased(&window, chunk, &anew, at(4));
    assert_int_equal(window.err, GFS_OK);
    expect(&window, 4, WRITE_EFFECT_PUSH);
    write_window_release(&window);
}

static void servers_that_failed_may_come_back_when_nobody_else_is_left(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    struct write_chunk *chunk = leased(&window, &m, 1);
    struct write_result down = {.err = GFS_ERR_CONN, .blamed = 7};
    write_window_pushed(&window, &m, m.attempt, &down, at(3));
    expect(&window, 3, WRITE_EFFECT_LEASE);
    assert_int_equal(chunk->failed_count, 3);
    struct write_result nobody = {.err = GFS_ERR_NO_REPLICA};
    write_window_lease_failed(&window, chunk, &nobody, at(4));
    assert_int_equal(chunk->failed_count, 0);
    expect_nothing(&window, 4);
    expect(&window, window.wake_ms, WRITE_EFFECT_LEASE);
    write_window_release(&window);
}

static void a_final_error_stops_the_window(void **state)
{
    struct write_window window;
    struct write_mutation m = mutation_of(0, MIB);
    leased(&window, &m, 1);
    struct write_result wrong = {.err = GFS_ERR_PROTO};
    write_window_pushed(&window, &m, m.attempt, &wrong, at(3));
    assert_int_equal(window.err, GFS_ERR_PROTO);
    expect_nothing(&window, 3);
    write_window_release(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutation_is_leased_pushed_written_and_committed),
        cmocka_unit_test(the_window_is_bounded),
        cmocka_unit_test(uncommitted_chunks_are_bounded_and_a_commit_makes_room),
        cmocka_unit_test(a_failed_server_is_named_and_all_is_pushed_again),
        cmocka_unit_test(a_failure_learned_while_asking_is_asked_about_again),
        cmocka_unit_test(overlapping_mutations_are_written_in_order),
        cmocka_unit_test(busy_waits_at_least_the_hint_and_repeats_the_same_step),
        cmocka_unit_test(lost_pushed_data_is_pushed_again),
        cmocka_unit_test(silence_is_probed_and_only_the_silent_server_is_blamed),
        cmocka_unit_test(silence_of_nobody_ends_with_the_primary_blamed),
        cmocka_unit_test(a_primary_that_keeps_refusing_is_blamed),
        cmocka_unit_test(a_broken_lease_asks_for_another_version_and_blames_nobody),
        cmocka_unit_test(a_master_that_is_away_is_waited_for_until_the_timeout),
        cmocka_unit_test(progress_renews_the_time_a_chunk_has),
        cmocka_unit_test(an_expired_lease_is_renewed_before_it_is_used),
        cmocka_unit_test(a_server_blamed_during_a_probe_is_left_out_after_it),
        cmocka_unit_test(acknowledged_bytes_are_committed_under_a_version_that_descends),
        cmocka_unit_test(a_chunk_placed_anew_under_acknowledged_bytes_is_an_error),
        cmocka_unit_test(a_chunk_truncated_under_acknowledged_bytes_is_an_error),
        cmocka_unit_test(what_was_committed_is_not_committed_again_after_a_truncation),
        cmocka_unit_test(a_chunk_placed_anew_before_any_acknowledgement_is_written_again),
        cmocka_unit_test(servers_that_failed_may_come_back_when_nobody_else_is_left),
        cmocka_unit_test(a_final_error_stops_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
