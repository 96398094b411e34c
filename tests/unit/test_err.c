/* err: the table's functions agree with the table. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gfs_err.h"

static void every_code_has_name_text_and_class(void **state)
{
#define GFS_ERR(name, code, class, errno_value, text_value)                 \
    assert_string_equal(gfs_err_name(GFS_ERR_##name), #name);               \
    assert_string_equal(gfs_err_text(GFS_ERR_##name), text_value);          \
    assert_int_equal(gfs_err_class(GFS_ERR_##name), GFS_ERR_CLASS_##class); \
    assert_int_equal(gfs_err_errno(GFS_ERR_##name), errno_value);           \
    assert_int_equal(gfs_err_from_wire(code), GFS_ERR_##name);
#include "gfs_err.tbl"
#undef GFS_ERR
}

static void unknown_codes_are_safe(void **state)
{
    assert_string_equal(gfs_err_text((enum gfs_err)9999), "unknown error");
    assert_string_equal(gfs_err_name((enum gfs_err)9999), "UNKNOWN");
    assert_int_equal(gfs_err_class((enum gfs_err)9999), GFS_ERR_CLASS_FINAL);
    assert_int_equal(gfs_err_errno((enum gfs_err)9999), EIO);
    assert_int_equal(gfs_err_from_wire(0xffffffffu), GFS_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_name_text_and_class),
        cmocka_unit_test(unknown_codes_are_safe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
