/* addr: "host:port" in all its forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "addr.h"

static void forms_are_understood(void **state)
{
    static const struct {
        const char *text, *addr;
    } cases[] = {
        {"127.0.0.1:7400", "127.0.0.1:7400"},
        {"127.0.0.1", "127.0.0.1:99"},
        {":7400", "127.0.0.1:7400"},
        {"7400", "127.0.0.1:7400"},
        {"", "127.0.0.1:99"},
        {"10.1.2.3:0", "10.1.2.3:0"},
        {"0.0.0.0:65535", "0.0.0.0:65535"},
        {"[::1]:5", "[::1]:5"},
        {"[::1]", "[::1]:99"},
    };
    char addr[ADDR_TEXT_MAX_BYTES];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(addr_resolve(cases[i].text, 99, addr), GFS_OK);
        assert_string_equal(addr, cases[i].addr);
    }
    assert_int_equal(addr_resolve("localhost:1", 99, addr), GFS_OK);
    assert_non_null(strstr(addr, ":1"));
}

static void nonsense_is_refused_and_nothing_written(void **state)
{
    static const char *const cases[] = {"127.0.0.1:65536",
                                        "127.0.0.1:",
                                        "127.0.0.1:x",
                                        "127.0.0.1:-1",
                                        "::1",
                                        "[::1",
                                        "[::1]5",
                                        "a b:1",
                                        "127.0.0.1:1:2",
                                        "host/path:1",
                                        "127.0.0.1:9999999999"};
    char addr[ADDR_TEXT_MAX_BYTES] = "untouched", long_host[400];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(addr_resolve(cases[i], 99, addr), GFS_ERR_INVAL);
    memset(long_host, 'a', sizeof(long_host) - 1);
    long_host[sizeof(long_host) - 1] = '\0';
    assert_int_equal(addr_resolve(long_host, 99, addr), GFS_ERR_INVAL);
    assert_int_equal(addr_resolve("no-such-host.invalid:1", 99, addr), GFS_ERR_CONN);
    assert_string_equal(addr, "untouched");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_understood),
        cmocka_unit_test(nonsense_is_refused_and_nothing_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
