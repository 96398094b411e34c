/* The lease machine, driven event by event: each test plays the shell and the chunkservers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "master/lease.h"

#define HANDLE   77u
#define LEASE_MS 15000u
#define EPOCH    3u
#define BASE     (EPOCH << LEASE_EPOCH_SHIFT)

static struct lease_table *table;
static struct lease_effect effect;

static int setup(void **state)
{
    struct lease_options options = {.lease_ms = LEASE_MS,
                                    .min_replicas = 1,
                                    .waiters_max = 1000,
                                    .epoch = EPOCH};
    assert_int_equal(lease_table_new(&options, &table), GFS_OK);
    return 0;
}

static int teardown(void **state)
{
    lease_table_free(table);
    return 0;
}

static void expect(enum lease_effect_kind kind)
{
    assert_true(lease_next_effect(table, &effect));
    assert_int_equal(effect.kind, kind);
    assert_int_equal(effect.grant.handle, HANDLE);
}

static void raised(uint32_t version, uint16_t slot, enum gfs_err err, uint32_t length)
{
    /* In lockstep: the most advanced is of this length. */
    struct lease_answer answer = {.err = err, .length_bytes = length, .serial = 9};
    lease_raised(table, HANDLE, version, slot, &answer);
}

static void expect_nothing(void)
{
    assert_false(lease_next_effect(table, &effect));
}

static void expect_answer(const struct lease_waiter *waiter, enum gfs_err err)
{
    expect(LEASE_EFFECT_ANSWER);
    assert_ptr_equal(effect.waiter, waiter);
    assert_int_equal(effect.err, err);
}

static struct lease_chunk chunk_of(uint32_t version, uint32_t length, uint8_t count)
{
    struct lease_chunk chunk = {.handle = HANDLE,
                                .version = version,
                                .length_bytes = length,
                                .count = count};
    for (uint8_t i = 0; i < count; i++) {
        chunk.replicas[i] = (uint16_t)(10 + i);
    }
    return chunk;
}

/* Takes the SET_VERSION effects for the slots 10, 11, ... and returns their version. */
static uint32_t expect_round(uint8_t count, uint32_t from_version)
{
    uint32_t version = 0;
    for (uint8_t i = 0; i < count; i++) {
        expect(LEASE_EFFECT_SET_VERSION);
        assert_int_equal(effect.slot, 10 + i);
        assert_int_equal(effect.from_version, from_version);
        assert_true(version == 0 || version == effect.grant.version);
        version = effect.grant.version;
    }
    expect_nothing();
    return version;
}

static void grant_fresh(struct lease_waiter *waiter, uint64_t now_ms)
{
    const uint16_t members[] = {10, 11, 12};
    assert_int_equal(lease_fresh(table, HANDLE, members, 3, waiter), GFS_OK);
    expect(LEASE_EFFECT_GRANT);
    lease_durable(table, HANDLE, 1, now_ms);
    lease_acked(table, HANDLE, 1, GFS_OK, now_ms);
    expect_answer(waiter, GFS_OK);
    expect_nothing();
}

/* From SET_VERSION answered by all to the answer of one waiter. */
static void end_round(uint32_t version, uint8_t members, const struct lease_waiter *waiter)
{
    expect(LEASE_EFFECT_JOURNAL);
    assert_int_equal(effect.grant.version, version);
    assert_int_equal(effect.grant.count, members);
    expect_nothing();
    lease_durable(table, HANDLE, version, 0);
    expect(LEASE_EFFECT_GRANT);
    assert_int_equal(effect.grant.version, version);
    expect_nothing();
    lease_acked(table, HANDLE, version, GFS_OK, 0);
    expect_answer(waiter, GFS_OK);
    assert_int_equal(effect.grant.version, version);
    assert_int_equal(effect.grant.count, members);
}

static void fresh_chunk_waits_for_journal_and_primary(void **state)
{
    const uint16_t members[] = {5, 6};
    for (int order = 0; order < 2; order++) {
        struct lease_waiter waiter;
        assert_int_equal(lease_fresh(table, HANDLE, members, 2, &waiter), GFS_OK);
        expect(LEASE_EFFECT_GRANT);
        assert_true(effect.fresh);
        assert_int_equal(effect.slot, 5);
        assert_int_equal(effect.grant.version, LEASE_VERSION_FIRST);
        if (order == 0) {
            lease_durable(table, HANDLE, 1, 100);
            expect_nothing();
            lease_acked(table, HANDLE, 1, GFS_OK, 200);
        } else {
            lease_acked(table, HANDLE, 1, GFS_OK, 100);
            expect_nothing();
            lease_durable(table, HANDLE, 1, 200);
        }
        expect_answer(&waiter, GFS_OK);
        assert_int_equal(effect.grant.count, 2);
        assert_int_equal(effect.grant.members[0], 5);
        lease_drop(table, HANDLE, GFS_OK);
    }
}

static void raise_asks_all_then_journals_then_grants(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 3);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t version = expect_round(3, 1);
    assert_int_equal(version, BASE);
    assert_false(effect.create);
    raised(version, 10, GFS_OK, 500);
    raised(version, 10, GFS_OK, 500); /* twice is once */
    raised(version, 12, GFS_OK, 500);
    expect_nothing();
    raised(version, 11, GFS_OK, 500);
    end_round(version, 3, &waiter);
}

static void chunk_without_data_is_created_by_the_raise(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 0, 2);
    assert_int_equal(lease_ask(table, &chunk, 1, &waiter, 0), GFS_OK);
    expect(LEASE_EFFECT_SET_VERSION);
    assert_true(effect.create);
}

static void refusal_leaves_a_replica_out(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(BASE + 4, 500, 3);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t version = expect_round(3, BASE + 4);
    assert_int_equal(version, BASE + 5);
    raised(version, 10, GFS_OK, 500);
    raised(version, 11, GFS_ERR_NO_CHUNK, 0);
    raised(version, 12, GFS_OK, 500);
    end_round(version, 2, &waiter);
    assert_int_equal(effect.grant.members[0], 10);
    assert_int_equal(effect.grant.members[1], 12);
}

/* A server whose answer is lost may hold the version: it must never be taken for a member. */
static void lost_answer_means_a_higher_version_without_that_server(void **state)
{
    static const enum gfs_err LOST[] = {GFS_ERR_TIMEOUT, GFS_ERR_CONN, GFS_ERR_IO};
    for (size_t i = 0; i < 3; i++) {
        struct lease_waiter waiter;
        struct lease_chunk chunk = chunk_of(1, 500, 3);
        assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
        uint32_t first = expect_round(3, 1);
        raised(first, 10, GFS_OK, 500);
        raised(first, 11, GFS_OK, 500);
        raised(first, 12, LOST[i], 0);
        uint32_t second = expect_round(2, 1);
        assert_true(second > first);
        raised(first, 10, GFS_OK, 500); /* late, of the old round */
        raised(second, 10, GFS_OK, 500);
        raised(second, 11, GFS_OK, 500);
        end_round(second, 2, &waiter);
        lease_drop(table, HANDLE, GFS_OK);
    }
}

static void short_replica_is_not_a_member(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t first = expect_round(2, 1);
    raised(first, 10, GFS_OK, 500);
    raised(first, 11, GFS_OK, 499);
    uint32_t second = expect_round(1, 1);
    raised(second, 10, GFS_OK, 500);
    end_round(second, 1, &waiter);
}

static void version_tried_in_vain_is_never_used_again(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t first = expect_round(2, 1);
    raised(first, 10, GFS_ERR_TIMEOUT, 0);
    raised(first, 11, GFS_ERR_CONN, 0);
    expect_answer(&waiter, GFS_ERR_NO_REPLICA);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 100000), GFS_OK);
    assert_true(expect_round(2, 1) > first);
}

static void busy_replica_fails_the_round_not_the_replica(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t first = expect_round(2, 1);
    raised(first, 10, GFS_OK, 500);
    raised(first, 11, GFS_ERR_BUSY, 0);
    expect_answer(&waiter, GFS_ERR_BUSY);
    expect_nothing();
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    assert_true(expect_round(2, 1) > first);
}

static void too_few_replicas_grant_nothing(void **state)
{
    struct lease_options options = {.lease_ms = LEASE_MS,
                                    .min_replicas = 2,
                                    .waiters_max = 10,
                                    .epoch = EPOCH};
    lease_table_free(table);
    assert_int_equal(lease_table_new(&options, &table), GFS_OK);
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t version = expect_round(2, 1);
    raised(version, 10, GFS_OK, 500);
    raised(version, 11, GFS_ERR_NO_CHUNK, 0);
    expect_answer(&waiter, GFS_ERR_NO_REPLICA);
    expect_nothing();
}

static void good_lease_is_answered_at_once(void **state)
{
    struct lease_waiter first, second;
    grant_fresh(&first, 1000);
    struct lease_chunk chunk = chunk_of(1, 0, 3);
    assert_int_equal(lease_ask(table, &chunk, 0, &second, 3000), GFS_OK);
    expect_answer(&second, GFS_OK);
    assert_int_equal(effect.grant.version, 1);
    assert_int_equal(effect.grant.remaining_ms, LEASE_MS - 2000);
}

/* The primary may have forgotten how far its secondaries are under the old version. */
static void lease_near_its_end_is_followed_by_a_higher_version(void **state)
{
    for (uint64_t late_ms = 0; late_ms <= LEASE_MS; late_ms += LEASE_MS) {
        struct lease_waiter first, second;
        grant_fresh(&first, 0);
        struct lease_chunk chunk = chunk_of(1, 500, 3);
        assert_int_equal(lease_ask(table, &chunk, 0, &second, LEASE_MS - 10 + late_ms), GFS_OK);
        uint32_t version = expect_round(3, 1);
        assert_true(version > 1);
        for (uint16_t slot = 10; slot < 13; slot++) {
            raised(version, slot, GFS_OK, 500);
        }
        end_round(version, 3, &second);
        assert_true(lease_is_live(table, HANDLE));
        lease_drop(table, HANDLE, GFS_ERR_STALE_HANDLE);
    }
}

static void takeover_leaves_the_failed_primary_out(void **state)
{
    struct lease_waiter first, second;
    grant_fresh(&first, 0);
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    chunk.replicas[0] = 11;
    chunk.replicas[1] = 12;
    assert_int_equal(lease_ask(table, &chunk, 1, &second, 100), GFS_OK);
    expect(LEASE_EFFECT_SET_VERSION);
    assert_int_equal(effect.slot, 11);
    uint32_t version = effect.grant.version;
    expect(LEASE_EFFECT_SET_VERSION);
    assert_int_equal(effect.slot, 12);
    raised(version, 11, GFS_OK, 500);
    raised(version, 12, GFS_OK, 500);
    end_round(version, 2, &second);
    assert_int_equal(effect.grant.members[0], 11);
    /* Another client that saw the same failure gets what is there. */
    struct lease_waiter third;
    chunk.version = version;
    assert_int_equal(lease_ask(table, &chunk, 1, &third, 200), GFS_OK);
    expect_answer(&third, GFS_OK);
    assert_int_equal(effect.grant.version, version);
}

static void several_clients_wait_on_one_round(void **state)
{
    struct lease_waiter waiters[3];
    struct lease_chunk chunk = chunk_of(1, 500, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lease_ask(table, &chunk, 0, &waiters[i], 0), GFS_OK);
    }
    uint32_t version = expect_round(1, 1);
    raised(version, 10, GFS_OK, 500);
    expect(LEASE_EFFECT_JOURNAL);
    lease_durable(table, HANDLE, version, 0);
    expect(LEASE_EFFECT_GRANT);
    lease_acked(table, HANDLE, version, GFS_OK, 0);
    for (int i = 0; i < 3; i++) {
        expect(LEASE_EFFECT_ANSWER);
        assert_int_equal(effect.err, GFS_OK);
    }
    expect_nothing();
}

static void waiters_are_bounded(void **state)
{
    static struct lease_waiter waiters[LEASE_CHUNK_WAITERS_MAX + 1];
    struct lease_chunk chunk = chunk_of(1, 500, 1);
    for (uint32_t i = 0; i < LEASE_CHUNK_WAITERS_MAX; i++) {
        assert_int_equal(lease_ask(table, &chunk, 0, &waiters[i], 0), GFS_OK);
    }
    assert_int_equal(lease_ask(table, &chunk, 0, &waiters[LEASE_CHUNK_WAITERS_MAX], 0),
                     GFS_ERR_BUSY);
    lease_drop_all(table, GFS_ERR_STOPPING);
}

static void primary_that_does_not_take_its_grant_is_left_out(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 2);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t first = expect_round(2, 1);
    raised(first, 10, GFS_OK, 500);
    raised(first, 11, GFS_OK, 500);
    expect(LEASE_EFFECT_JOURNAL);
    lease_durable(table, HANDLE, first, 0);
    expect(LEASE_EFFECT_GRANT);
    assert_int_equal(effect.slot, 10);
    lease_acked(table, HANDLE, first, GFS_ERR_TIMEOUT, 0);
    expect(LEASE_EFFECT_SET_VERSION);
    assert_int_equal(effect.slot, 11);
    assert_int_equal(effect.from_version, first);
    uint32_t second = effect.grant.version;
    assert_true(second > first);
    raised(second, 11, GFS_OK, 500);
    end_round(second, 1, &waiter);
}

static void fresh_chunk_whose_primary_fails_is_placed_elsewhere(void **state)
{
    const uint16_t members[] = {10, 11};
    const uint16_t others[] = {10, 13};
    struct lease_waiter waiter;
    assert_int_equal(lease_fresh(table, HANDLE, members, 2, &waiter), GFS_OK);
    expect(LEASE_EFFECT_GRANT);
    lease_acked(table, HANDLE, 1, GFS_ERR_CONN, 0);
    expect(LEASE_EFFECT_PLACE);
    assert_int_equal(effect.slot, 10);
    lease_durable(table, HANDLE, 1, 0); /* of the first try: changes nothing */
    expect_nothing();
    lease_placed(table, HANDLE, others, 2);
    uint32_t version = 0;
    for (int i = 0; i < 2; i++) {
        expect(LEASE_EFFECT_SET_VERSION);
        assert_int_equal(effect.slot, others[i]);
        assert_true(effect.create);
        version = effect.grant.version;
    }
    raised(version, 10, GFS_OK, 0);
    raised(version, 13, GFS_OK, 0);
    end_round(version, 2, &waiter);
}

static void nowhere_to_place_is_an_error(void **state)
{
    const uint16_t members[] = {10};
    struct lease_waiter waiter;
    assert_int_equal(lease_fresh(table, HANDLE, members, 1, &waiter), GFS_OK);
    expect(LEASE_EFFECT_GRANT);
    lease_acked(table, HANDLE, 1, GFS_ERR_CONN, 0);
    expect(LEASE_EFFECT_PLACE);
    lease_placed(table, HANDLE, NULL, 0);
    expect_answer(&waiter, GFS_ERR_NO_SERVERS);
    expect_nothing();
}

static void only_the_primary_extends(void **state)
{
    struct lease_waiter waiter;
    grant_fresh(&waiter, 0);
    assert_false(lease_extend(table, HANDLE, 11, 10000));
    assert_false(lease_extend(table, HANDLE + 1, 10, 10000));
    assert_true(lease_extend(table, HANDLE, 10, 10000));
    lease_tick(table, LEASE_MS * 2 + 5000); /* past the first end, not the extended one */
    assert_true(lease_is_live(table, HANDLE));
    lease_tick(table, 10000 + LEASE_MS * 2);
    assert_false(lease_is_live(table, HANDLE));
    assert_false(lease_extend(table, HANDLE, 10, 50000));
    assert_int_equal(lease_count(table), 0);
}

static void leases_of_a_dead_primary_end(void **state)
{
    struct lease_waiter waiter;
    grant_fresh(&waiter, 0);
    lease_server_down(table, 11);
    assert_true(lease_is_live(table, HANDLE));
    lease_server_down(table, 10);
    assert_false(lease_is_live(table, HANDLE));
}

static void cut_ends_the_lease_and_cuts_the_replicas(void **state)
{
    struct lease_waiter writer, cutter;
    grant_fresh(&writer, 0);
    struct lease_chunk chunk = chunk_of(1, 200, 3);
    assert_int_equal(lease_cut(table, &chunk, &cutter), GFS_OK);
    for (int i = 0; i < 3; i++) {
        expect(LEASE_EFFECT_SET_VERSION);
        assert_true(effect.cut);
        assert_int_equal(effect.length_bytes, 200);
        raised(effect.grant.version, effect.slot, GFS_OK, 200);
    }
    uint32_t version = effect.grant.version;
    expect(LEASE_EFFECT_JOURNAL);
    assert_true(effect.cut);
    lease_durable(table, HANDLE, version, 0);
    expect_answer(&cutter, GFS_OK);
    expect_nothing();
    assert_false(lease_is_live(table, HANDLE));
}

static void lease_asked_during_a_cut_is_granted_after_it(void **state)
{
    struct lease_waiter writer, cutter;
    struct lease_chunk chunk = chunk_of(1, 200, 1);
    assert_int_equal(lease_cut(table, &chunk, &cutter), GFS_OK);
    assert_int_equal(lease_ask(table, &chunk, 0, &writer, 0), GFS_OK);
    assert_int_equal(lease_cut(table, &chunk, &cutter), GFS_ERR_BUSY);
    uint32_t version = expect_round(1, 1);
    raised(version, 10, GFS_OK, 200);
    expect(LEASE_EFFECT_JOURNAL);
    lease_durable(table, HANDLE, version, 0);
    expect_answer(&cutter, GFS_OK);
    expect(LEASE_EFFECT_GRANT);
    lease_acked(table, HANDLE, version, GFS_OK, 0);
    expect_answer(&writer, GFS_OK);
}

/* A truncation that the last master did not finish is finished by the next lease. */
static void pending_cut_is_done_by_the_next_lease(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 200, 1);
    chunk.cut = true;
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    expect(LEASE_EFFECT_SET_VERSION);
    assert_true(effect.cut);
    assert_int_equal(effect.length_bytes, 200);
}

static void dropped_chunk_answers_its_waiters(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 1);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    uint32_t version = expect_round(1, 1);
    lease_drop(table, HANDLE, GFS_ERR_STALE_HANDLE);
    expect_answer(&waiter, GFS_ERR_STALE_HANDLE);
    raised(version, 10, GFS_OK, 500);
    lease_durable(table, HANDLE, version, 0);
    lease_acked(table, HANDLE, version, GFS_OK, 0);
    expect_nothing();
}

static void no_replica_is_said_at_once(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(1, 500, 0);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_ERR_NO_REPLICA);
    assert_int_equal(lease_cut(table, &chunk, &waiter), GFS_ERR_NO_REPLICA);
    expect_nothing();
}

static void used_up_epoch_asks_for_the_next(void **state)
{
    struct lease_waiter waiter;
    struct lease_chunk chunk = chunk_of(BASE + (1u << LEASE_EPOCH_SHIFT) - 1, 500, 1);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    expect_answer(&waiter, GFS_ERR_BUSY);
    assert_true(lease_epoch_wanted(table));
    lease_set_epoch(table, EPOCH + 1);
    assert_int_equal(lease_ask(table, &chunk, 0, &waiter, 0), GFS_OK);
    assert_int_equal(expect_round(1, chunk.version), (EPOCH + 1) << LEASE_EPOCH_SHIFT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(fresh_chunk_waits_for_journal_and_primary),
        T(raise_asks_all_then_journals_then_grants),
        T(chunk_without_data_is_created_by_the_raise),
        T(refusal_leaves_a_replica_out),
        T(lost_answer_means_a_higher_version_without_that_server),
        T(short_replica_is_not_a_member),
        T(version_tried_in_vain_is_never_used_again),
        T(busy_replica_fails_the_round_not_the_replica),
        T(too_few_replicas_grant_nothing),
        T(good_lease_is_answered_at_once),
        T(lease_near_its_end_is_followed_by_a_higher_version),
        T(takeover_leaves_the_failed_primary_out),
        T(several_clients_wait_on_one_round),
        T(waiters_are_bounded),
        T(primary_that_does_not_take_its_grant_is_left_out),
        T(fresh_chunk_whose_primary_fails_is_placed_elsewhere),
        T(nowhere_to_place_is_an_error),
        T(only_the_primary_extends),
        T(leases_of_a_dead_primary_end),
        T(cut_ends_the_lease_and_cuts_the_replicas),
        T(lease_asked_during_a_cut_is_granted_after_it),
        T(pending_cut_is_done_by_the_next_lease),
        T(dropped_chunk_answers_its_waiters),
        T(no_replica_is_said_at_once),
        T(used_up_epoch_asks_for_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
