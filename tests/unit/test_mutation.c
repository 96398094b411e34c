/* mutation: the order of writes, event by event. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/mutation.h"

#define HANDLE    0x77u
#define SERIAL(n) ((uint64_t)VERSION << 32 | (n))
#define VERSION   3u

static const struct mutation_limits limits = {
    .chunks_max = 4, .window_max = 4, .hold_max = 3, .gap_ms = 100, .idle_ms = 1000};
static const struct mutation_have here = {.exists = true, .version = VERSION, .serial = 5};
static const struct mutation_have nowhere = {.exists = false};
static char *members[] = {(char *)"b:1", (char *)"c:1"};

struct fixture {
    struct mutation_core *core;
    struct mutation_op ops[8];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->core = mutation_new(&limits);
    for (int i = 0; i < 8; i++) {
        f->ops[i].handle = HANDLE;
        f->ops[i].version = VERSION;
        f->ops[i].length_bytes = 100;
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct mutation_op *op;

    assert_int_equal(mutation_next(f->core, &op), MUTATION_NONE);
    mutation_free(f->core);
    free(f);
    return 0;
}

static enum gfs_err grant(struct fixture *f, uint32_t version, bool fresh,
                          const struct mutation_have *have)
{
    struct mutation_lease lease = {.handle = HANDLE,
                                   .version = version,
                                   .fresh = fresh,
                                   .chunk_size_bytes = 1u << 20,
                                   .expires_ms = 1000,
                                   .secondaries = (const char *const *)members,
                                   .secondary_count = 2};

    return mutation_grant(f->core, &lease, have, NULL, 0);
}

static enum gfs_err write_at(struct fixture *f, int i, uint64_t now_ms)
{
    return mutation_write(f->core, &f->ops[i], members, 2, now_ms);
}

static enum gfs_err apply_at(struct fixture *f, int i, uint64_t serial, uint64_t now_ms)
{
    f->ops[i].serial = serial;
    return mutation_apply(f->core, &f->ops[i], &here, 0, now_ms);
}

static void expect(struct fixture *f, enum mutation_effect effect, int i)
{
    struct mutation_op *op = NULL;

    assert_int_equal(mutation_next(f->core, &op), effect);
    if (effect != MUTATION_NONE)
        assert_ptr_equal(op, &f->ops[i]);
}

static void expect_finish(struct fixture *f, int i, enum gfs_err err)
{
    expect(f, MUTATION_FINISH, i);
    assert_int_equal(f->ops[i].err, err);
    mutation_op_release(&f->ops[i]);
}

/* The order is out: local write taken, orders to the secondaries sent. */
static void begin_write(struct fixture *f, int i)
{
    assert_int_equal(write_at(f, i, 0), GFS_OK);
    expect(f, MUTATION_LOCAL, i);
    mutation_submitted(f->core, &f->ops[i], GFS_OK);
    expect(f, MUTATION_SEND, i);
}

static void begin_apply(struct fixture *f, int i)
{
    expect(f, MUTATION_LOCAL, i);
    mutation_submitted(f->core, &f->ops[i], GFS_OK);
}

static void all_good(struct fixture *f, int i)
{
    mutation_local_done(f->core, &f->ops[i], GFS_OK, 0);
    mutation_ack(f->core, &f->ops[i], 0, GFS_OK, 0);
    mutation_ack(f->core, &f->ops[i], 1, GFS_OK, 0);
    expect_finish(f, i, GFS_OK);
}

/* ---- primary ---- */

static void a_write_is_answered_when_all_have_it(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    begin_write(f, 0);
    assert_int_equal(f->ops[0].serial, SERIAL(1));
    assert_int_equal(f->ops[0].group->count, 2);
    mutation_ack(f->core, &f->ops[0], 1, GFS_OK, 0);
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    expect(f, MUTATION_NONE, 0);
    mutation_ack(f->core, &f->ops[0], 0, GFS_OK, 0);
    expect_finish(f, 0, GFS_OK);
}

static void serials_grow_and_writes_overlap(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    for (int i = 0; i < 4; i++) {
        begin_write(f, i);
        assert_int_equal(f->ops[i].serial, SERIAL(1 + (unsigned)i));
    }
    assert_int_equal(write_at(f, 4, 0), GFS_ERR_BUSY);
    all_good(f, 0);
    begin_write(f, 4);
    assert_int_equal(f->ops[4].serial, SERIAL(5));
    for (int i = 1; i < 5; i++)
        all_good(f, i);
}

static void serials_go_on_after_a_restart_at_the_same_version(void **state)
{
    struct fixture *f = *state;
    struct mutation_have have = {.exists = true, .version = VERSION, .serial = SERIAL(9)};

    assert_int_equal(grant(f, VERSION, false, &have), GFS_OK);
    begin_write(f, 0);
    assert_int_equal(f->ops[0].serial, SERIAL(10));
    all_good(f, 0);
}

static void only_the_first_write_makes_a_fresh_chunk(void **state)
{
    struct fixture *f = *state;

    f->ops[0].version = f->ops[1].version = 1;
    assert_int_equal(grant(f, 1, false, &nowhere), GFS_ERR_NO_CHUNK);
    assert_int_equal(grant(f, 2, true, &nowhere), GFS_ERR_NO_CHUNK);
    assert_int_equal(grant(f, 1, true, &nowhere), GFS_OK);
    begin_write(f, 0);
    begin_write(f, 1);
    assert_true(f->ops[0].create);
    assert_false(f->ops[1].create);
    all_good(f, 0);
    all_good(f, 1);
}

static void no_write_without_a_good_lease(void **state)
{
    struct fixture *f = *state;
    char *others[] = {(char *)"b:1", (char *)"d:1"}, *twice[] = {members[0], members[0]};

    assert_int_equal(write_at(f, 0, 0), GFS_ERR_NO_LEASE);
    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(write_at(f, 0, 1000), GFS_ERR_NO_LEASE);
    mutation_extend(f->core, HANDLE, 2000);
    f->ops[0].version = VERSION - 1;
    assert_int_equal(write_at(f, 0, 1000), GFS_ERR_STALE_VERSION);
    f->ops[0].version = VERSION;
    assert_int_equal(mutation_write(f->core, &f->ops[0], others, 2, 0), GFS_ERR_NO_LEASE);
    assert_int_equal(mutation_write(f->core, &f->ops[0], twice, 2, 0), GFS_ERR_NO_LEASE);
    assert_int_equal(mutation_write(f->core, &f->ops[0], members, 1, 0), GFS_ERR_NO_LEASE);
    f->ops[0].offset_bytes = (1u << 20) - 99;
    assert_int_equal(write_at(f, 0, 0), GFS_ERR_INVAL);
    mutation_revoke(f->core, HANDLE, VERSION);
    assert_int_equal(write_at(f, 0, 0), GFS_ERR_NO_LEASE);
}

static void a_failed_secondary_is_named_and_breaks_the_lease(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    begin_write(f, 0);
    begin_write(f, 1);
    mutation_ack(f->core, &f->ops[0], 1, GFS_ERR_CONN, 0);
    assert_int_equal(write_at(f, 2, 0), GFS_ERR_NO_LEASE);
    mutation_ack(f->core, &f->ops[0], 0, GFS_OK, 0);
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    expect_finish(f, 0, GFS_ERR_REPLICA_FAILED);
    assert_int_equal(f->ops[0].failed, 2);
    assert_int_equal(f->ops[0].failed_err, GFS_ERR_CONN);
    all_good(f, 1); /* what was under way ends as it ends */
    /* A repeated grant of the same version does not mend it. */
    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(write_at(f, 2, 0), GFS_ERR_NO_LEASE);
    assert_int_equal(mutation_leases_used(f->core, 0, 0, &(uint64_t){0}, 1), 0);
}

static void a_secondary_without_room_breaks_the_lease_and_is_not_named(void **state)
{
    struct fixture *f = *state;
    enum gfs_err passing[] = {GFS_ERR_BUSY, GFS_ERR_NO_DATA, GFS_ERR_NO_MEMORY};

    for (size_t i = 0; i < 3; i++) {
        struct mutation_have at = {.exists = true, .version = VERSION + (uint32_t)i};

        assert_int_equal(grant(f, at.version, false, &at), GFS_OK);
        f->ops[0].version = f->ops[1].version = at.version;
        begin_write(f, 0);
        mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
        mutation_ack(f->core, &f->ops[0], 0, GFS_OK, 0);
        mutation_ack(f->core, &f->ops[0], 1, passing[i], 0);
        expect_finish(f, 0, GFS_ERR_STALE_VERSION);
        assert_int_equal(f->ops[0].failed, 0);
        assert_int_equal(write_at(f, 1, 0), GFS_ERR_NO_LEASE);
    }
}

static void a_local_failure_is_our_own(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    begin_write(f, 0);
    mutation_local_done(f->core, &f->ops[0], GFS_ERR_IO, 0);
    mutation_ack(f->core, &f->ops[0], 0, GFS_ERR_CONN, 0);
    mutation_ack(f->core, &f->ops[0], 1, GFS_OK, 0);
    expect_finish(f, 0, GFS_ERR_IO);
    assert_int_equal(write_at(f, 1, 0), GFS_ERR_NO_LEASE);
}

static void a_refused_submission_costs_no_serial(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(write_at(f, 0, 0), GFS_OK);
    expect(f, MUTATION_LOCAL, 0);
    mutation_submitted(f->core, &f->ops[0], GFS_ERR_BUSY);
    expect_finish(f, 0, GFS_ERR_BUSY);
    begin_write(f, 1);
    assert_int_equal(f->ops[1].serial, SERIAL(1));
    all_good(f, 1);
}

static void a_write_behind_a_refused_one_is_not_submitted(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(write_at(f, 0, 0), GFS_OK);
    assert_int_equal(write_at(f, 1, 0), GFS_OK);
    expect(f, MUTATION_LOCAL, 0);
    mutation_submitted(f->core, &f->ops[0], GFS_ERR_READ_ONLY);
    expect_finish(f, 0, GFS_ERR_READ_ONLY);
    expect_finish(f, 1, GFS_ERR_READ_ONLY);
}

static void a_higher_version_fences_off_the_lease(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    begin_write(f, 0);
    mutation_fence(f->core, HANDLE, VERSION); /* its own version: nothing */
    begin_write(f, 1);
    mutation_fence(f->core, HANDLE, VERSION + 1);
    assert_int_equal(write_at(f, 2, 0), GFS_ERR_NO_LEASE);
    assert_int_equal(grant(f, VERSION, false, &here), GFS_ERR_STALE_VERSION);
    /* A secondary that is ahead is not to blame. */
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    mutation_ack(f->core, &f->ops[0], 0, GFS_OK, 0);
    mutation_ack(f->core, &f->ops[0], 1, GFS_ERR_STALE_VERSION, 0);
    expect_finish(f, 0, GFS_ERR_STALE_VERSION);
    assert_int_equal(f->ops[0].failed, 0);
    all_good(f, 1);
}

static void leases_in_use_are_listed(void **state)
{
    struct fixture *f = *state;
    uint64_t handles[4];

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(write_at(f, 0, 500), GFS_OK);
    expect(f, MUTATION_LOCAL, 0);
    mutation_submitted(f->core, &f->ops[0], GFS_OK);
    expect(f, MUTATION_SEND, 0);
    assert_int_equal(mutation_leases_used(f->core, 500, 600, handles, 4), 1);
    assert_int_equal(handles[0], HANDLE);
    assert_int_equal(mutation_leases_used(f->core, 501, 600, handles, 4), 0);
    assert_int_equal(mutation_leases_used(f->core, 500, 1000, handles, 4), 0);
    all_good(f, 0);
}

/* ---- secondary ---- */

static void orders_are_applied_in_turn(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_OK);
    begin_apply(f, 0);
    assert_int_equal(apply_at(f, 1, SERIAL(2), 0), GFS_OK);
    begin_apply(f, 1);
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    expect_finish(f, 0, GFS_OK);
    mutation_local_done(f->core, &f->ops[1], GFS_OK, 0);
    expect_finish(f, 1, GFS_OK);
}

static void early_orders_wait_for_those_before(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 3, SERIAL(4), 0), GFS_OK);
    assert_int_equal(apply_at(f, 1, SERIAL(2), 0), GFS_OK);
    assert_int_equal(apply_at(f, 2, SERIAL(3), 0), GFS_OK);
    expect(f, MUTATION_NONE, 0);
    assert_int_equal(apply_at(f, 4, SERIAL(5), 0), GFS_ERR_BUSY); /* held too many */
    assert_int_equal(apply_at(f, 4, SERIAL(3), 0), GFS_ERR_BUSY); /* here already */
    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_OK);
    for (int i = 0; i < 4; i++)
        begin_apply(f, i);
    for (int i = 0; i < 4; i++) {
        mutation_local_done(f->core, &f->ops[i], GFS_OK, 0);
        expect_finish(f, i, GFS_OK);
    }
}

static void a_gap_that_stays_breaks_the_session(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 1, SERIAL(2), 0), GFS_OK);
    mutation_tick(f->core, 99);
    expect(f, MUTATION_NONE, 0);
    mutation_tick(f->core, 100);
    expect_finish(f, 1, GFS_ERR_TIMEOUT);
    assert_int_equal(apply_at(f, 0, SERIAL(1), 100), GFS_ERR_TIMEOUT);
}

static void a_repeated_order_is_answered_not_applied(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_OK);
    begin_apply(f, 0);
    assert_int_equal(apply_at(f, 1, SERIAL(1), 0), GFS_ERR_BUSY); /* not durable yet */
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    expect_finish(f, 0, GFS_OK);
    assert_int_equal(apply_at(f, 1, SERIAL(1), 0), GFS_OK);
    expect_finish(f, 1, GFS_OK);
}

static void a_local_failure_of_a_secondary_ends_all_behind_it(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_OK);
    begin_apply(f, 0);
    assert_int_equal(apply_at(f, 2, SERIAL(3), 0), GFS_OK);
    mutation_local_done(f->core, &f->ops[0], GFS_ERR_NO_SPACE, 0);
    expect_finish(f, 2, GFS_ERR_NO_SPACE);
    expect_finish(f, 0, GFS_ERR_NO_SPACE);
    assert_int_equal(apply_at(f, 1, SERIAL(2), 0), GFS_ERR_NO_SPACE);
}

static void versions_decide_who_may_order(void **state)
{
    struct fixture *f = *state;

    f->ops[0].version = VERSION - 1;
    assert_int_equal(apply_at(f, 0, (uint64_t)(VERSION - 1) << 32 | 1, 0), GFS_ERR_STALE_VERSION);
    f->ops[0].version = VERSION + 1; /* we missed a version: ours is the stale replica */
    assert_int_equal(apply_at(f, 0, (uint64_t)(VERSION + 1) << 32 | 1, 0), GFS_ERR_NO_CHUNK);
    f->ops[0].version = VERSION;
    assert_int_equal(apply_at(f, 0, 1, 0), GFS_ERR_INVAL);
    f->ops[0].serial = SERIAL(1);
    assert_int_equal(mutation_apply(f->core, &f->ops[0], &nowhere, 0, 0), GFS_ERR_NO_CHUNK);
    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_ERR_INVAL); /* we are primary */
}

static void a_higher_version_ends_held_orders(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(apply_at(f, 1, SERIAL(2), 0), GFS_OK);
    mutation_fence(f->core, HANDLE, VERSION + 1);
    expect_finish(f, 1, GFS_ERR_STALE_VERSION);
    assert_int_equal(apply_at(f, 0, SERIAL(1), 0), GFS_ERR_STALE_VERSION);
}

static void the_first_order_of_version_one_makes_the_chunk(void **state)
{
    struct fixture *f = *state;

    f->ops[0].version = f->ops[1].version = 1;
    f->ops[1].serial = 1ull << 32 | 2;
    assert_int_equal(mutation_apply(f->core, &f->ops[1], &nowhere, 0, 0), GFS_OK);
    expect(f, MUTATION_NONE, 0);
    f->ops[0].serial = 1ull << 32 | 1;
    assert_int_equal(mutation_apply(f->core, &f->ops[0], &nowhere, 0, 0), GFS_OK);
    begin_apply(f, 0);
    begin_apply(f, 1);
    assert_true(f->ops[0].create);
    assert_false(f->ops[1].create);
    for (int i = 0; i < 2; i++) {
        mutation_local_done(f->core, &f->ops[i], GFS_OK, 0);
        expect_finish(f, i, GFS_OK);
    }
}

static void a_restarted_secondary_goes_on_where_its_disk_is(void **state)
{
    struct fixture *f = *state;
    struct mutation_have have = {.exists = true, .version = VERSION, .serial = SERIAL(7)};

    f->ops[0].serial = SERIAL(7);
    assert_int_equal(mutation_apply(f->core, &f->ops[0], &have, 0, 0), GFS_OK);
    expect_finish(f, 0, GFS_OK);
    f->ops[0].serial = SERIAL(8);
    assert_int_equal(mutation_apply(f->core, &f->ops[0], &have, 0, 0), GFS_OK);
    begin_apply(f, 0);
    mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
    expect_finish(f, 0, GFS_OK);
}

/* ---- bounds ---- */

static void sessions_are_bounded_and_idle_ones_go(void **state)
{
    struct fixture *f = *state;

    for (uint64_t i = 0; i < 5; i++) {
        f->ops[0].handle = 100 + i;
        f->ops[0].serial = SERIAL(2);
        assert_int_equal(mutation_apply(f->core, &f->ops[0], &here, 0, 0),
                         i < 4 ? GFS_OK : GFS_ERR_BUSY);
        if (i < 4) {
            mutation_forget(f->core, 100 + i);
            expect_finish(f, 0, GFS_ERR_NO_CHUNK);
            f->ops[0].serial = SERIAL(1);
            assert_int_equal(mutation_apply(f->core, &f->ops[0], &here, 0, 0), GFS_OK);
            expect(f, MUTATION_LOCAL, 0);
            mutation_submitted(f->core, &f->ops[0], GFS_OK);
            mutation_local_done(f->core, &f->ops[0], GFS_OK, 0);
            expect_finish(f, 0, GFS_OK);
        }
    }
    mutation_tick(f->core, 999);
    assert_int_equal(mutation_sessions(f->core), 4);
    mutation_tick(f->core, 1000); /* what is not settled is not forgotten */
    assert_int_equal(mutation_sessions(f->core), 4);
    for (uint64_t i = 0; i < 4; i++)
        mutation_settle(f->core, 100 + i, VERSION, SERIAL(1), &here, 0);
    mutation_tick(f->core, 1000);
    assert_int_equal(mutation_sessions(f->core), 0);
}

static void a_session_with_work_or_a_lease_is_kept(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(grant(f, VERSION, false, &here), GFS_OK);
    mutation_extend(f->core, HANDLE, 5000);
    mutation_tick(f->core, 4000);
    assert_int_equal(mutation_sessions(f->core), 1);
    begin_write(f, 0);
    mutation_tick(f->core, 9000);
    assert_int_equal(mutation_sessions(f->core), 1);
    all_good(f, 0);
    mutation_tick(f->core, 19000);
    assert_int_equal(mutation_sessions(f->core), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_write_is_answered_when_all_have_it),
        TEST(serials_grow_and_writes_overlap),
        TEST(serials_go_on_after_a_restart_at_the_same_version),
        TEST(only_the_first_write_makes_a_fresh_chunk),
        TEST(no_write_without_a_good_lease),
        TEST(a_failed_secondary_is_named_and_breaks_the_lease),
        TEST(a_secondary_without_room_breaks_the_lease_and_is_not_named),
        TEST(a_local_failure_is_our_own),
        TEST(a_refused_submission_costs_no_serial),
        TEST(a_write_behind_a_refused_one_is_not_submitted),
        TEST(a_higher_version_fences_off_the_lease),
        TEST(leases_in_use_are_listed),
        TEST(orders_are_applied_in_turn),
        TEST(early_orders_wait_for_those_before),
        TEST(a_gap_that_stays_breaks_the_session),
        TEST(a_repeated_order_is_answered_not_applied),
        TEST(a_local_failure_of_a_secondary_ends_all_behind_it),
        TEST(versions_decide_who_may_order),
        TEST(a_higher_version_ends_held_orders),
        TEST(the_first_order_of_version_one_makes_the_chunk),
        TEST(a_restarted_secondary_goes_on_where_its_disk_is),
        TEST(sessions_are_bounded_and_idle_ones_go),
        TEST(a_session_with_work_or_a_lease_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
