/* config: where values come from, and what is said about bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"

struct values {
    const char *data, *listen;
    uint64_t lease_ms, cache_bytes;
    bool sync_writes;
};

static const struct config_option options[] = {
    {"data", CONFIG_STRING, offsetof(struct values, data), NULL, 0, 0, "DIR", "where to keep it"},
    {"listen", CONFIG_STRING, offsetof(struct values, listen), "127.0.0.1:7400", 0, 0, "ADDR:PORT",
     "where to serve"},
    {"lease_ms", CONFIG_U64, offsetof(struct values, lease_ms), "15000", 1000, 600000, "MS",
     "how long a lease lasts"},
    {"cache_size", CONFIG_SIZE, offsetof(struct values, cache_bytes), "8M", 1024, (uint64_t)1 << 40,
     "BYTES", "cache"},
    {"sync_writes", CONFIG_BOOL, offsetof(struct values, sync_writes), "false", 0, 0, "",
     "sync each write"},
};
static const struct config_program program = {
    .name = "gfs-test",
    .summary = "a program for the test",
    .examples = "  gfs-test --data /d",
    .options = options,
    .option_count = sizeof(options) / sizeof(options[0]),
};

static char said[16384];

/* Parses with stdout and stderr collected in `said`. */
static enum config_result parse(struct values *values, const char *const *args)
{
    char *argv[16] = {(char *)"gfs-test"};
    FILE *file = tmpfile();
    int argc = 1, out = dup(1), err = dup(2);
    enum config_result result;
    size_t len;

    while (*args)
        argv[argc++] = (char *)*args++;
    fflush(stdout);
    fflush(stderr);
    dup2(fileno(file), 1);
    dup2(fileno(file), 2);
    result = config_parse(&program, argc, argv, values);
    fflush(stdout);
    fflush(stderr);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    rewind(file);
    len = fread(said, 1, sizeof(said) - 1, file);
    said[len] = '\0';
    fclose(file);
    return result;
}
#define PARSE(values, ...) parse(values, (const char *const[]){__VA_ARGS__, NULL})

static void make_file(char *path, const char *text)
{
    int fd;

    strcpy(path, "/tmp/test_config-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
    close(fd);
}

static void defaults_are_used(void **state)
{
    struct values values;

    assert_int_equal(PARSE(&values, "--data", "/d"), CONFIG_RUN);
    assert_string_equal(values.data, "/d");
    assert_string_equal(values.listen, "127.0.0.1:7400");
    assert_int_equal(values.lease_ms, 15000);
    assert_int_equal(values.cache_bytes, 8 << 20);
    assert_false(values.sync_writes);
    config_release(&program, &values);
    assert_null(values.data);
}

static void command_line_wins_over_file_wins_over_default(void **state)
{
    struct values values;
    char path[64];

    make_file(path, "# a comment\n\n  lease_ms = 2000  # why not\nlisten=h:1\ncache-size = 2G\n"
                    "sync_writes = yes\n");
    assert_int_equal(PARSE(&values, "--listen", "h:2", "--config", path, "--data=/e"), CONFIG_RUN);
    assert_string_equal(values.listen, "h:2");
    assert_int_equal(values.lease_ms, 2000);
    assert_int_equal(values.cache_bytes, (uint64_t)2 << 30);
    assert_true(values.sync_writes);
    assert_string_equal(values.data, "/e");
    config_release(&program, &values);
    unlink(path);
}

static void booleans_need_no_value(void **state)
{
    struct values values;

    assert_int_equal(PARSE(&values, "--sync-writes", "--data", "/d"), CONFIG_RUN);
    assert_true(values.sync_writes);
    config_release(&program, &values);
    assert_int_equal(PARSE(&values, "--sync-writes", "false", "--data", "/d"), CONFIG_RUN);
    assert_false(values.sync_writes);
    config_release(&program, &values);
    assert_int_equal(PARSE(&values, "--sync-writes=0", "--data", "/d"), CONFIG_RUN);
    assert_false(values.sync_writes);
    config_release(&program, &values);
}

static void bad_usage_is_one_line_with_the_reason(void **state)
{
    static const struct {
        const char *args[4], *text;
    } cases[] = {
        {{"--data", "/d", "--foo"}, "gfs-test: unknown option --foo (see --help)\n"},
        {{"--data", "/d", "--foo=1"}, "gfs-test: unknown option --foo (see --help)\n"},
        {{"--data"}, "gfs-test: option --data needs a value (see --help)\n"},
        {{"--listen", "x"}, "gfs-test: missing option --data (see --help)\n"},
        {{"--data", "/d", "stray"}, "gfs-test: unexpected argument stray (see --help)\n"},
        {{"--data", "/d", "--lease-ms=5"},
         "gfs-test: --lease-ms: \"5\" is out of range: 1000 to 600000 (see --help)\n"},
        {{"--data", "/d", "--lease-ms=2000x"},
         "gfs-test: --lease-ms: \"2000x\" is not a whole number (see --help)\n"},
        {{"--data", "/d", "--lease-ms=-1"},
         "gfs-test: --lease-ms: \"-1\" is not a whole number (see --help)\n"},
        {{"--data", "/d", "--cache-size=99999999999999T"}, "is not a size"},
        {{"--data", "/d", "--sync-writes=maybe"}, "is neither true nor false"},
        {{"--config", "/nonexistent/file"}, "cannot open /nonexistent/file"},
    };
    struct values values;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(&values, cases[i].args), CONFIG_EXIT_USAGE);
        assert_non_null(strstr(said, cases[i].text));
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    }
}

static void bad_file_lines_name_file_and_line(void **state)
{
    static const char *const texts[] = {"lease_ms = 2000\nnonsense\n", "\nwhat = 1\n",
                                        "#\nlease_ms = 1\n"};
    struct values values;
    char path[64], where[80];

    for (size_t i = 0; i < 3; i++) {
        make_file(path, texts[i]);
        assert_int_equal(PARSE(&values, "--data=/d", "--config", path), CONFIG_EXIT_USAGE);
        snprintf(where, sizeof(where), "%s:2: ", path);
        assert_non_null(strstr(said, where));
        unlink(path);
    }
}

static void help_and_version_print_and_end(void **state)
{
    struct values values;

    assert_int_equal(PARSE(&values, "--help"), CONFIG_EXIT_OK);
    assert_non_null(strstr(said, "usage: gfs-test"));
    assert_non_null(strstr(said, "--lease-ms MS"));
    assert_non_null(strstr(said, "(default 15000, 1000 to 600000)"));
    assert_non_null(strstr(said, "(required)"));
    assert_non_null(strstr(said, "(default 8M, 1K to 1T)"));
    assert_non_null(strstr(said, "gfs-test --data /d"));
    assert_int_equal(PARSE(&values, "--version"), CONFIG_EXIT_OK);
    assert_string_equal(said, "gfs-test " GFS_VERSION_TEXT "\n");
}

static void description_lists_every_value(void **state)
{
    struct values values;
    char text[512], little[10];

    assert_int_equal(PARSE(&values, "--data", "/d"), CONFIG_RUN);
    config_describe(&program, &values, text, sizeof(text));
    assert_string_equal(text, "data=\"/d\" listen=\"127.0.0.1:7400\" lease_ms=15000 "
                              "cache_size=8388608 sync_writes=false");
    config_describe(&program, &values, little, sizeof(little));
    assert_string_equal(little, "data=\"/d\"");
    config_release(&program, &values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_used),
        cmocka_unit_test(command_line_wins_over_file_wins_over_default),
        cmocka_unit_test(booleans_need_no_value),
        cmocka_unit_test(bad_usage_is_one_line_with_the_reason),
        cmocka_unit_test(bad_file_lines_name_file_and_line),
        cmocka_unit_test(help_and_version_print_and_end),
        cmocka_unit_test(description_lists_every_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
