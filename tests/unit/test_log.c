/* log: what a line looks like. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

static int saved_stderr, read_end;

static void capture(void)
{
    int ends[2];

    assert_int_equal(pipe(ends), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    read_end = ends[0];
}

static void captured(char *text, size_t text_bytes)
{
    size_t len = 0;
    ssize_t got;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    while ((got = read(read_end, text + len, text_bytes - 1 - len)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    close(read_end);
}

static void a_line_has_time_level_event_and_pairs(void **state)
{
    char text[4096];
    int year, month, day, hour, minute, second, ms, at = 0;

    capture();
    log_event(LOG_WARN, "disk_full", "path=\"%s\" free=%d", "/a b", 12);
    captured(text, sizeof(text));
    sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute, &second,
           &ms, &at);
    assert_true(at > 0 && year >= 2024);
    assert_string_equal(text + at, "level=warn event=disk_full path=\"/a b\" free=12\n");
}

static void lines_below_the_level_are_left_out(void **state)
{
    char text[4096];

    capture();
    log_event(LOG_DEBUG, "unseen", "x=1");
    log_set_level(LOG_ERROR);
    log_event(LOG_WARN, "unseen", "x=1");
    log_event(LOG_ERROR, "seen", "x=1");
    log_set_level(LOG_INFO);
    captured(text, sizeof(text));
    assert_null(strstr(text, "unseen"));
    assert_non_null(strstr(text, "event=seen x=1\n"));
}

static void a_level_is_set_by_its_name(void **state)
{
    char text[4096];

    capture();
    assert_true(log_set_level_name("error"));
    assert_false(log_set_level_name("verbose"));
    log_event(LOG_WARN, "unseen", "x=1");
    assert_true(log_set_level_name("info"));
    log_event(LOG_INFO, "seen", "x=1");
    captured(text, sizeof(text));
    assert_null(strstr(text, "unseen"));
    assert_non_null(strstr(text, "level=info event=seen x=1\n"));
}

static void a_value_cannot_forge_a_second_line(void **state)
{
    char text[4096];

    capture();
    log_event(LOG_INFO, "put", "path=\"%s\"", "a\nlevel=error event=forged\x1b[2J");
    captured(text, sizeof(text));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_null(strchr(text, 0x1b));
}

static void long_lines_are_cut(void **state)
{
    static char value[8000];
    char text[16384];

    memset(value, 'v', sizeof(value) - 1);
    capture();
    log_event(LOG_INFO, "long", "value=%s", value);
    captured(text, sizeof(text));
    assert_int_equal(strlen(text), 2048 - 1);
    assert_int_equal(text[strlen(text) - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_event_and_pairs),
        cmocka_unit_test(lines_below_the_level_are_left_out),
        cmocka_unit_test(a_level_is_set_by_its_name),
        cmocka_unit_test(a_value_cannot_forge_a_second_line),
        cmocka_unit_test(long_lines_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
