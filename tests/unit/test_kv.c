/* kv: errors are told apart, iterators pin, a flush writes synced tables. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kv.h"

static char path[64];
static const struct kv_options create = {.create = true, .bloom_bits = 10, .cache_bytes = 1 << 20};

static int setup(void **state)
{
    strcpy(path, "/tmp/store-kv-XXXXXX");
    return mkdtemp(path) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", path);
    return system(command);
}

static struct kv *open_it(void)
{
    struct kv *kv;
    struct kv_text text;
    assert_int_equal(kv_open(path, &create, &kv, &text), GFS_OK);
    return kv;
}

static void put_number(struct kv *kv, unsigned number)
{
    char key[16];
    snprintf(key, sizeof(key), "%06u", number);
    assert_int_equal(kv_put(kv, key, 6, key, 6, false), GFS_OK);
}

static void opening_tells_its_errors_apart(void **state)
{
    struct kv *kv;
    struct kv *second;
    struct kv_text text = {""};
    struct kv_options none = {0};
    assert_int_equal(kv_open(path, &none, &kv, &text), GFS_ERR_INVAL);
    assert_true(text.text[0] != '\0');
    kv = open_it();
    assert_int_equal(kv_open(path, &create, &second, &text), GFS_ERR_LOCKED);
    kv_close(kv);
    struct kv_options fresh = {.create = true, .must_be_new = true};
    assert_int_equal(kv_open(path, &fresh, &kv, NULL), GFS_ERR_INVAL);
    assert_int_equal(kv_destroy(path, &text), GFS_OK);
    assert_int_equal(kv_open(path, &fresh, &kv, NULL), GFS_OK);
    kv_close(kv);
    kv_close(NULL);
}

static void batches_are_put_got_and_kept(void **state)
{
    struct kv *kv = open_it();
    struct kv_batch *batch = kv_batch_new();
    kv_batch_put(batch, "a", 1, "1", 1);
    kv_batch_put(batch, "b", 1, "22", 2);
    kv_batch_delete(batch, "a", 1);
    assert_int_equal(kv_batch_count(batch), 3);
    assert_int_equal(kv_batch_bytes(batch), 6);
    assert_int_equal(kv_write(kv, batch, true), GFS_OK);
    kv_batch_clear(batch);
    assert_int_equal(kv_batch_count(batch), 0);
    kv_batch_free(batch);
    kv_close(kv);
    kv = open_it();
    struct kv_value value;
    assert_int_equal(kv_get(kv, "a", 1, &value), GFS_ERR_NOT_FOUND);
    assert_int_equal(kv_get(kv, "b", 1, &value), GFS_OK);
    assert_int_equal(value.len_bytes, 2);
    assert_memory_equal(value.data, "22", 2);
    kv_value_release(&value);
    kv_close(kv);
}

static void iterators_see_one_moment_and_pin(void **state)
{
    struct kv *kv = open_it();
    for (unsigned i = 0; i < 10; i++)
        put_number(kv, i);
    struct kv_iter *iter = kv_iter_new(kv);
    kv_iter_seek(iter, "000004", 6);
    size_t bytes;
    const void *value = kv_iter_value(iter, &bytes);
    assert_int_equal(kv_delete_range(kv, "000002", 6, "000008", 6), GFS_OK);
    kv_flush(kv);
    kv_compact(kv, NULL, 0, NULL, 0);
    assert_memory_equal(value, "000004", 6);
    unsigned left = 0;
    for (; kv_iter_valid(iter); kv_iter_next(iter))
        left++;
    assert_int_equal(left, 6);
    assert_int_equal(kv_iter_err(iter), GFS_OK);
    kv_iter_free(iter);

    iter = kv_iter_new(kv);
    left = 0;
    for (kv_iter_seek_last(iter); kv_iter_valid(iter); kv_iter_prev(iter))
        left++;
    assert_int_equal(left, 4);
    kv_iter_free(iter);
    kv_close(kv);
}

/* Names with the ending in the database's directory, and their bytes. */
static unsigned files_count(const char *ending, off_t *ret_bytes)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    unsigned count = 0;
    *ret_bytes = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t len = strlen(entry->d_name);
        if (len < 4 || strcmp(entry->d_name + len - 4, ending) != 0)
            continue;
        char file[400];
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        int fd = open(file, O_RDONLY);
        *ret_bytes += lseek(fd, 0, SEEK_END);
        close(fd);
        count++;
    }
    closedir(dir);
    return count;
}

/* What moving a watermark rests on. */
static void a_flush_moves_the_log_into_tables(void **state)
{
    struct kv *kv = open_it();
    off_t bytes;
    for (unsigned i = 0; i < 1000; i++)
        put_number(kv, i);
    assert_int_equal(files_count(".ldb", &bytes), 0);
    for (unsigned round = 1; round <= 3; round++) {
        put_number(kv, 1000 + round);
        kv_flush(kv);
        assert_int_equal(files_count(".ldb", &bytes), round);
        assert_true(bytes > 1000);
        files_count(".log", &bytes);
        assert_int_equal(bytes, 0);
    }
    assert_true(kv_approximate_bytes(kv, "0", 1, "9", 1) > 1000);
    kv_close(kv);
}

static void a_damaged_log_is_refused_when_paranoid(void **state)
{
    struct kv *kv = open_it();
    for (unsigned i = 0; i < 100; i++)
        put_number(kv, i);
    kv_close(kv);
    char command[160];
    snprintf(command, sizeof(command),
             "printf x | dd of=$(ls %s/*.log) bs=1 seek=300 conv=notrunc "
             "2>/dev/null",
             path);
    assert_int_equal(system(command), 0);
    struct kv_options paranoid = {.paranoid = true};
    struct kv_text text;
    assert_int_equal(kv_open(path, &paranoid, &kv, &text), GFS_ERR_CORRUPT);
    kv = open_it();
    struct kv_value value;
    assert_int_equal(kv_get(kv, "000099", 6, &value), GFS_ERR_NOT_FOUND);
    kv_close(kv);
}

int main(void)
{
#define KV_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        KV_TEST(opening_tells_its_errors_apart),         KV_TEST(batches_are_put_got_and_kept),
        KV_TEST(iterators_see_one_moment_and_pin),       KV_TEST(a_flush_moves_the_log_into_tables),
        KV_TEST(a_damaged_log_is_refused_when_paranoid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
