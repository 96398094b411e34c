/* chain, delta, debug_delay: small parts of the chunkserver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/chain.h"
#include "chunkserver/debug_delay.h"
#include "chunkserver/delta.h"

static void the_failing_server_is_named_from_any_depth(void **state)
{
    char near[128], far[128];

    assert_int_equal(chain_failure("c:1", GFS_ERR_READ_ONLY, "", far, sizeof far),
                     GFS_ERR_REPLICA_FAILED);
    assert_string_equal(far, "c:1: READ_ONLY");
    assert_int_equal(chain_failure("b:1", GFS_ERR_REPLICA_FAILED, far, near, sizeof near),
                     GFS_ERR_REPLICA_FAILED);
    assert_string_equal(near, far);
    assert_int_equal(chain_failure("c:1", GFS_ERR_CONN, "refused", far, sizeof far),
                     GFS_ERR_REPLICA_FAILED);
    assert_string_equal(far, "c:1: CONN: refused");
}

static void a_full_server_behind_us_means_busy(void **state)
{
    char detail[128];

    assert_int_equal(chain_failure("b:1", GFS_ERR_BUSY, "c:1: full", detail, sizeof detail),
                     GFS_ERR_BUSY);
    assert_string_equal(detail, "c:1: full");
    assert_int_equal(chain_failure("b:1", GFS_ERR_BUSY, "", detail, sizeof detail), GFS_ERR_BUSY);
    assert_string_equal(detail, "b:1: BUSY");
}

static void a_long_detail_is_cut(void **state)
{
    char detail[8];

    assert_int_equal(chain_failure("10.0.0.1:1", GFS_ERR_CONN, "", detail, sizeof detail),
                     GFS_ERR_REPLICA_FAILED);
    assert_string_equal(detail, "10.0.0.");
}

static void each_hop_has_less_time(void **state)
{
    assert_int_equal(chain_timeout_ms(0, 30000), 29500);
    assert_int_equal(chain_timeout_ms(1000, 1800), 700);
    assert_int_equal(chain_timeout_ms(1000, 1000), 1);
    assert_int_equal(chain_timeout_ms(2000, 1000), 1);
    assert_int_equal(chain_timeout_ms(0, UINT64_MAX), UINT32_MAX);
}

static void a_change_is_told_until_acknowledged(void **state)
{
    struct delta delta;
    uint64_t handles[4];

    delta_init(&delta, 10);
    delta_mark(&delta, 1);
    delta_mark(&delta, 2);
    delta_mark(&delta, 1);
    assert_int_equal(delta_take(&delta, handles, 4), 2);
    assert_int_equal(handles[0], 1);
    delta_failed(&delta);
    assert_int_equal(delta_take(&delta, handles, 1), 1);
    delta_acked(&delta);
    assert_int_equal(delta_take(&delta, handles, 4), 1);
    assert_int_equal(handles[0], 2);
    delta_acked(&delta);
    assert_int_equal(delta_take(&delta, handles, 4), 0);
    delta_acked(&delta);
    delta_release(&delta);
}

static void a_change_during_a_heartbeat_is_told_again(void **state)
{
    struct delta delta;
    uint64_t handles[4];

    delta_init(&delta, 10);
    delta_mark(&delta, 1);
    assert_int_equal(delta_take(&delta, handles, 4), 1);
    delta_mark(&delta, 1);
    delta_mark(&delta, 2);
    delta_acked(&delta);
    assert_int_equal(delta_take(&delta, handles, 4), 2);
    delta_acked(&delta);
    assert_int_equal(delta_count(&delta), 0);
    delta_release(&delta);
}

static void too_many_changes_ask_for_a_full_report(void **state)
{
    struct delta delta;
    uint64_t handles[4];

    delta_init(&delta, 3);
    for (uint64_t i = 0; i < 3; i++)
        delta_mark(&delta, i);
    assert_false(delta_overflowed(&delta));
    assert_int_equal(delta_take(&delta, handles, 2), 2);
    delta_mark(&delta, 3);
    assert_true(delta_overflowed(&delta));
    delta_acked(&delta);
    delta_clear(&delta);
    assert_false(delta_overflowed(&delta));
    assert_int_equal(delta_count(&delta), 0);
    delta_mark(&delta, 9);
    assert_int_equal(delta_take(&delta, handles, 4), 1);
    delta_release(&delta);
}

static void delays_are_set_by_handle(void **state)
{
    struct debug_delay *delay = debug_delay_new();

    assert_int_equal(debug_delay_ms(delay, 1), 0);
    assert_int_equal(debug_delay_set(delay, "00000000000000ff:250, 10:7\n"), GFS_OK);
    assert_int_equal(debug_delay_ms(delay, 0xff), 250);
    assert_int_equal(debug_delay_ms(delay, 0x10), 7);
    assert_int_equal(debug_delay_ms(delay, 10), 0);
    assert_int_equal(debug_delay_set(delay, "12"), GFS_ERR_INVAL);
    assert_int_equal(debug_delay_set(delay, "xyz:1"), GFS_ERR_INVAL);
    assert_int_equal(debug_delay_set(delay, "1:1x"), GFS_ERR_INVAL);
    assert_int_equal(debug_delay_set(delay, "1:600001"), GFS_ERR_INVAL);
    assert_int_equal(debug_delay_ms(delay, 0xff), 250);
    assert_int_equal(debug_delay_set(delay, ""), GFS_OK);
    assert_int_equal(debug_delay_ms(delay, 0xff), 0);
    assert_int_equal(debug_delay_load(delay, "/nonexistent/delays"), GFS_ERR_LOCAL);
    debug_delay_free(delay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_failing_server_is_named_from_any_depth),
        cmocka_unit_test(a_full_server_behind_us_means_busy),
        cmocka_unit_test(a_long_detail_is_cut),
        cmocka_unit_test(each_hop_has_less_time),
        cmocka_unit_test(a_change_is_told_until_acknowledged),
        cmocka_unit_test(a_change_during_a_heartbeat_is_told_again),
        cmocka_unit_test(too_many_changes_ask_for_a_full_report),
        cmocka_unit_test(delays_are_set_by_handle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
