/* The checker of histories must pass what is right and fail what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/history.h"

static struct history_result check(const char *text)
{
    struct history history;
    FILE *in = fmemopen((void *)text, strlen(text), "r");
    FILE *out = fopen("/dev/null", "w");
    history_init(&history);
    assert_non_null(in);
    assert_non_null(out);
    assert_int_equal(history_load(&history, in), 0);
    struct history_result result = history_check(&history, out);
    fclose(in);
    fclose(out);
    history_release(&history);
    return result;
}

#define passes(text) assert_int_equal(check(text).violations, 0)
#define fails(text)  assert_true(check(text).violations > 0)

static void registers_that_are_right_pass(void **state)
{
    (void)state;
    passes("r 1 2 0 7 0\nw 3 4 0 7 11\nr 5 6 1 7 11\n");
    passes("w 1 10 0 7 11\nr 2 3 1 7 0\nr 4 5 1 7 11\n");
    passes("w 1 10 0 7 11\nw 1 10 1 7 12\nr 11 12 0 7 11\nr 13 14 1 7 11\n");
    /* An open write shows late, or never. */
    passes("w 1 - 0 7 11\nw 2 3 1 7 12\nr 4 5 1 7 12\nr 6 7 1 7 11\n");
    passes("w 1 - 0 7 11\nr 20 21 1 7 0\n");
    /* Registers do not bind each other. */
    passes("w 1 2 0 7 11\nr 3 4 0 8 0\n");
}

static void stale_and_lost_and_turning_values_fail(void **state)
{
    (void)state;
    fails("w 1 2 0 7 11\nr 3 4 1 7 0\n");                              /* lost */
    fails("w 1 2 0 7 11\nw 3 4 0 7 12\nr 5 6 1 7 11\n");               /* stale */
    fails("w 1 20 0 7 11\nr 2 3 1 7 11\nr 4 5 2 7 0\n");               /* new, then old */
    fails("w 1 - 0 7 11\nw 2 3 1 7 12\nr 4 5 1 7 11\nr 6 7 1 7 12\n"); /* back again */
    fails("r 1 2 0 7 11\nw 3 4 0 7 11\n");                             /* from the future */
    fails("r 1 2 0 7 99\n");                                           /* from nowhere */
    fails("w 1 2 0 7 11\nr 3 4 0 7 11\nw 5 6 0 7 12\nr 7 8 0 7 12\nr 9 10 0 7 11\n");
}

static void names_follow_one_order(void **state)
{
    (void)state;
    passes(
        "n 1 2 0 create 0 ok\nn 3 4 0 stat 0 ok\nn 5 6 0 remove 0 ok\nn 7 8 0 stat 0 not_found\n");
    passes("n 1 9 0 create 0 ok\nn 1 9 1 create 0 exists\n");
    passes("n 1 2 0 create 0 ok\nn 3 4 0 rename 0 1 ok\nn 5 6 0 stat 1 ok\nn 7 8 0 stat 0 "
           "not_found\n");
    /* A stat that began before the create may miss it. */
    passes("n 1 9 0 stat 0 not_found\nn 2 3 1 create 0 ok\n");
    /* An open removal explains what is gone, whenever. */
    passes(
        "n 1 2 0 create 0 ok\nn 3 - 1 remove 0 -\nn 5 6 0 stat 0 ok\nn 7 8 0 stat 0 not_found\n");
    fails("n 1 2 0 create 0 ok\nn 3 4 0 create 0 ok\n");
    fails("n 1 2 0 create 0 ok\nn 3 4 0 stat 0 not_found\n");
    fails("n 1 2 0 create 0 ok\nn 3 4 0 rename 0 1 ok\nn 5 6 0 stat 0 ok\n");
    fails("n 1 2 0 create 0 ok\nn 3 - 1 remove 0 -\nn 5 6 0 stat 0 not_found\nn 7 8 0 stat 0 ok\n");
    fails("n 1 9 0 create 0 ok\nn 1 9 1 create 0 ok\n");
}

static void each_record_is_there_once(void **state)
{
    (void)state;
    passes("a 1 2 0 5 11 0 100\na 3 4 0 5 12 100 50\nf 5 11 0 100\nf 5 12 100 50\n");
    passes("a 1 - 0 5 11 0 100\n");
    passes("a 1 - 0 5 11 0 100\nf 5 11 300 100\n");
    fails("a 1 2 0 5 11 0 100\n");                               /* lost */
    fails("a 1 2 0 5 11 0 100\nf 5 11 0 100\nf 5 11 100 100\n"); /* twice */
    fails("a 1 - 0 5 11 0 100\nf 5 11 0 100\nf 5 11 100 100\n"); /* twice */
    fails("a 1 2 0 5 11 0 100\nf 5 11 64 100\n");                /* elsewhere */
    fails("f 5 11 64 100\n");                                    /* from nowhere */
    fails("a 1 2 0 5 11 0 100\na 1 2 0 5 12 50 100\nf 5 11 0 100\nf 5 12 50 100\n"); /* overlap */
    fails("a 1 2 0 5 11 100 50\na 3 4 0 5 12 0 50\nf 5 11 100 50\nf 5 12 0 50\n");   /* order */
}

static void lines_that_are_no_operations_are_refused(void **state)
{
    static const char *const bad[] = {"x 1 2\n", "w 1 2 3\n", "r 1 - 0 7 11\n",
                                      "n 1 2 0 create 99 ok\n", "n 1 2 0 create 0 maybe\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct history history;
        FILE *in = fmemopen((void *)bad[i], strlen(bad[i]), "r");
        history_init(&history);
        assert_int_equal(history_load(&history, in), 1);
        fclose(in);
        history_release(&history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registers_that_are_right_pass),
        cmocka_unit_test(stale_and_lost_and_turning_values_fail),
        cmocka_unit_test(names_follow_one_order),
        cmocka_unit_test(each_record_is_there_once),
        cmocka_unit_test(lines_that_are_no_operations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
