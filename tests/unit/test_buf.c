/* buf: counts, sizes, reuse, many threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"

static void holds_what_was_asked_for(void **state)
{
    static const size_t sizes[] = {0,     1,     100,           2047,           2048,
                                   4096,  4097,  65536,         (1u << 20) + 1, 4u << 20,
                                   65535, 65537, (8u << 20) + 5};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct buf *buf = buf_new(sizes[i]);

        assert_non_null(buf);
        assert_true(buf->cap_bytes >= sizes[i]);
        assert_int_equal(buf->len_bytes, 0);
        memset(buf->data, 0xa5, buf->cap_bytes);
        buf_unref(buf);
    }
}

static void lives_until_the_last_reference(void **state)
{
    struct buf *buf = buf_new(65536), *other;

    memset(buf->data, 7, 65536);
    assert_ptr_equal(buf_ref(buf), buf);
    buf_unref(buf);
    other = buf_new(65536);
    assert_ptr_not_equal(other, buf);
    assert_int_equal(buf->data[65535], 7);
    buf_unref(other);
    buf_unref(buf);
}

static void absurd_sizes_are_refused(void **state)
{
    assert_null(buf_new(SIZE_MAX));
    assert_null(buf_new(SIZE_MAX / 2 + 1));
    buf_unref(NULL);
}

static void *make_and_drop(void *arg)
{
    struct buf *shared = arg, *mine[8];

    for (int round = 0; round < 500; round++) {
        for (size_t i = 0; i < 8; i++) {
            mine[i] = buf_new((size_t)4096 << (i % 4));
            mine[i]->data[0] = (uint8_t)i;
        }
        buf_ref(shared);
        for (size_t i = 0; i < 8; i++) {
            if (mine[i]->data[0] != i)
                return shared;
            buf_unref(mine[i]);
        }
        buf_unref(shared);
    }
    return NULL;
}

static void threads_do_not_get_the_same_memory(void **state)
{
    struct buf *shared = buf_new(100);
    pthread_t threads[4];
    void *wrong;

    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_drop, shared), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(shared->refs, 1);
    buf_unref(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_what_was_asked_for),
        cmocka_unit_test(lives_until_the_last_reference),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(threads_do_not_get_the_same_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
