/* What chunkservers are told to delete, and what their reports mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/collect.h"
#include "master/lease.h"
#include "master/report.h"

#define QUARANTINE_MS 60000u

static struct collect *collect;
static uint64_t handles[COLLECT_BATCH_MAX];

static int setup(void **state)
{
    assert_int_equal(collect_new(QUARANTINE_MS, &collect), GFS_OK);
    return 0;
}

static int teardown(void **state)
{
    collect_free(collect);
    return 0;
}

static void nothing_is_deleted_on_a_first_report(void **state)
{
    collect_unknown(collect, 1, 77, 1000);
    assert_int_equal(collect_take(collect, 1, handles), 0);
    collect_unknown(collect, 1, 77, 1000 + QUARANTINE_MS - 1);
    assert_int_equal(collect_take(collect, 1, handles), 0);
    assert_int_equal(collect_quarantined(collect), 1);
    collect_unknown(collect, 1, 77, 1000 + QUARANTINE_MS);
    assert_int_equal(collect_take(collect, 1, handles), 1);
    assert_int_equal(handles[0], 77);
    assert_int_equal(collect_quarantined(collect), 0);
}

static void quarantine_is_for_each_server(void **state)
{
    collect_unknown(collect, 1, 77, 0);
    collect_unknown(collect, 2, 77, QUARANTINE_MS);
    assert_int_equal(collect_take(collect, 2, handles), 0);
    assert_int_equal(collect_quarantined(collect), 2);
}

static void batch_is_repeated_until_it_was_carried_out(void **state)
{
    assert_int_equal(collect_add(collect, 3, 1), GFS_OK);
    assert_int_equal(collect_add(collect, 3, 2), GFS_OK);
    assert_int_equal(collect_take(collect, 3, handles), 2);
    assert_int_equal(collect_add(collect, 3, 9), GFS_OK);
    assert_int_equal(collect_take(collect, 3, handles), 0); /* one is out */
    collect_done(collect, 3, false);
    assert_int_equal(collect_take(collect, 3, handles), 3);
    assert_int_equal(handles[2], 9);
    collect_done(collect, 3, true);
    assert_int_equal(collect_due_count(collect, 3), 0);
    collect_done(collect, 3, true); /* an answer too many changes nothing */
    assert_int_equal(collect_take(collect, 3, handles), 0);
}

static void batches_and_lists_are_bounded(void **state)
{
    for (uint64_t i = 0; i < COLLECT_DUE_MAX; i++) {
        assert_int_equal(collect_add(collect, 0, i + 1), GFS_OK);
    }
    assert_int_equal(collect_add(collect, 0, 1), GFS_ERR_BUSY);
    assert_int_equal(collect_add(collect, 1, 1), GFS_OK);
    assert_int_equal(collect_take(collect, 0, handles), COLLECT_BATCH_MAX);
    assert_int_equal(handles[COLLECT_BATCH_MAX - 1], COLLECT_BATCH_MAX);
    collect_done(collect, 0, true);
    assert_int_equal(collect_take(collect, 0, handles), COLLECT_BATCH_MAX);
    assert_int_equal(handles[0], COLLECT_BATCH_MAX + 1);
}

static void server_that_goes_down_starts_over(void **state)
{
    assert_int_equal(collect_add(collect, 3, 1), GFS_OK);
    assert_int_equal(collect_take(collect, 3, handles), 1);
    collect_server_down(collect, 3);
    collect_done(collect, 3, true);
    assert_int_equal(collect_due_count(collect, 3), 0);
    assert_int_equal(collect_add(collect, 3, 2), GFS_OK);
    assert_int_equal(collect_take(collect, 3, handles), 1);
}

static void old_suspicions_are_forgotten(void **state)
{
    collect_unknown(collect, 1, 77, 0);
    collect_tick(collect, QUARANTINE_MS * 2);
    assert_int_equal(collect_quarantined(collect), 1);
    collect_tick(collect, QUARANTINE_MS * 1000ull);
    assert_int_equal(collect_quarantined(collect), 0);
}

static void reports_are_judged(void **state)
{
    const uint32_t epoch = 5, base = 5u << LEASE_EPOCH_SHIFT;
    const struct report_chunk gone = {.known = false};
    const struct report_chunk released = {.known = true, .released = true, .version = base};
    const struct report_chunk chunk = {.known = true, .version = base + 1, .length_bytes = 100};
    struct report_replica replica = {.version = base + 1, .length_bytes = 100};
    assert_int_equal(report_judge(&gone, &replica, epoch), REPORT_UNKNOWN);
    assert_int_equal(report_judge(&released, &replica, epoch), REPORT_RELEASED);
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_OK);
    replica.length_bytes = 200; /* written, not committed yet */
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_OK);
    replica.length_bytes = 99;
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_CORRUPT);
    struct report_chunk leased = chunk;
    leased.leased = true; /* written and committed while the report was under way */
    assert_int_equal(report_judge(&leased, &replica, epoch), REPORT_EARLY);
    replica.corrupt = true;
    assert_int_equal(report_judge(&leased, &replica, epoch), REPORT_CORRUPT);
    replica.version = base;
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_STALE);
    replica = (struct report_replica){.version = base + 1, .length_bytes = 100, .corrupt = true};
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_CORRUPT);
    /* From a round of ours that granted nothing, and from a master that knew more than we do. */
    replica = (struct report_replica){.version = base + 9, .length_bytes = 100};
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_OK);
    replica.version = (epoch + 1) << LEASE_EPOCH_SHIFT;
    assert_int_equal(report_judge(&chunk, &replica, epoch), REPORT_BELIEVE);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nothing_is_deleted_on_a_first_report),
        T(quarantine_is_for_each_server),
        T(batch_is_repeated_until_it_was_carried_out),
        T(batches_and_lists_are_bounded),
        T(server_that_goes_down_starts_over),
        T(old_suspicions_are_forgotten),
        T(reports_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
