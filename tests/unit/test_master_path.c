#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gfs_limits.h"
#include "master/path.h"

static enum gfs_err check(const char *text)
{
    struct path path;
    return path_init(&path, text, strlen(text));
}

static void test_accepted_paths_give_their_components(void **state)
{
    static const char *texts[] = {"/a/bc/d", "//a///bc/d", "/a/bc/d/", "/a/bc/d///"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct path path;
        assert_int_equal(path_init(&path, texts[i], strlen(texts[i])), GFS_OK);
        assert_int_equal(path.depth, 3);
        assert_int_equal(path.last.len_bytes, 1);
        assert_memory_equal(path.last.data, "d", 1);
        struct path_name name;
        assert_true(path_next(&path, &name));
        assert_memory_equal(name.data, "a", 1);
        assert_true(path_next(&path, &name));
        assert_int_equal(name.len_bytes, 2);
        assert_memory_equal(name.data, "bc", 2);
        assert_true(path_next(&path, &name));
        assert_false(path_next(&path, &name));
        assert_false(path_next(&path, &name));
    }
}

static void test_root_has_no_components(void **state)
{
    struct path path;
    assert_int_equal(path_init(&path, "///", 3), GFS_OK);
    assert_int_equal(path.depth, 0);
}

static void test_bad_paths_are_refused(void **state)
{
    static const char *texts[] = {"", "a", "a/b", "/.", "/..", "/a/./b", "/a/../b", "/a/..", "./a"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(check(texts[i]), GFS_ERR_BAD_PATH);
    }
    struct path path;
    assert_int_equal(path_init(&path, "/a\0b", 4), GFS_ERR_BAD_PATH);
    assert_int_equal(check("/..."), GFS_OK);
    assert_int_equal(check("/.a/..b"), GFS_OK);
    assert_int_equal(check("/\xff\xfe\x01"), GFS_OK);
}

static void test_lengths_are_limited(void **state)
{
    char text[GFS_PATH_MAX_BYTES + 2];
    memset(text, 'x', sizeof(text));
    text[0] = '/';
    struct path path;
    assert_int_equal(path_init(&path, text, 1 + GFS_NAME_MAX_BYTES), GFS_OK);
    assert_int_equal(path_init(&path, text, 2 + GFS_NAME_MAX_BYTES), GFS_ERR_NAME_TOO_LONG);
    for (size_t i = 0; i < sizeof(text); i += 2) {
        text[i] = '/';
    }
    assert_int_equal(path_init(&path, text, GFS_PATH_MAX_BYTES), GFS_OK);
    assert_int_equal(path.depth, GFS_PATH_MAX_BYTES / 2);
    assert_int_equal(path_init(&path, text, GFS_PATH_MAX_BYTES + 1), GFS_ERR_NAME_TOO_LONG);
}

static void test_names_are_ordered_by_bytes(void **state)
{
    struct path_name a = {(const uint8_t *)"a", 1};
    struct path_name ab = {(const uint8_t *)"ab", 2};
    struct path_name high = {(const uint8_t *)"\xff", 1};
    assert_true(path_name_compare(&a, &ab) < 0);
    assert_true(path_name_compare(&ab, &a) > 0);
    assert_true(path_name_compare(&ab, &high) < 0);
    assert_int_equal(path_name_compare(&ab, &ab), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted_paths_give_their_components),
        cmocka_unit_test(test_root_has_no_components),
        cmocka_unit_test(test_bad_paths_are_refused),
        cmocka_unit_test(test_lengths_are_limited),
        cmocka_unit_test(test_names_are_ordered_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
