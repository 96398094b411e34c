/* crc: known answers, continuation and combination. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crc.h"

static void known_answers(void **state)
{
    static const uint8_t zeros[32] = {0};
    uint8_t ones[32];
    memset(ones, 0xff, sizeof(ones));
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aau); /* RFC 3720 B.4 */
    assert_int_equal(crc32c(0, ones, sizeof(ones)), 0x62a8ab43u);
    assert_int_equal(crc32c(0, "", 0), 0);
}

static void continuation_and_combination_equal_one_pass(void **state)
{
    static uint8_t data[70000];
    unsigned seed = 42;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rand_r(&seed);
    static const size_t cuts[] = {0, 1, 7, 4096, 65535, 65536, 65537, 69999, 70000};
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        uint32_t a = crc32c(0, data, cuts[i]);
        uint32_t b = crc32c(0, data + cuts[i], sizeof(data) - cuts[i]);
        assert_int_equal(crc32c(a, data + cuts[i], sizeof(data) - cuts[i]), whole);
        assert_int_equal(crc32c_combine(a, b, sizeof(data) - cuts[i]), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(continuation_and_combination_equal_one_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
