/* libgfs against a cluster of fakes that fail in the ways they are told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fake_cluster.h"

/* ---- helpers ------------------------------------------------------------------------------- */

static void fail_with(struct fault fault)
{
    pthread_mutex_lock(&fake.lock);
    for (size_t i = 0; i < sizeof(fake.faults) / sizeof(fake.faults[0]); i++) {
        if (fake.faults[i].times == 0) {
            fake.faults[i] = fault;
            break;
        }
    }
    pthread_mutex_unlock(&fake.lock);
}

static int seen(const int *counter)
{
    pthread_mutex_lock(&fake.lock);
    int value = *counter;
    pthread_mutex_unlock(&fake.lock);
    return value;
}

static uint8_t *pattern(size_t len_bytes)
{
    uint8_t *data = malloc(len_bytes);
    for (size_t i = 0; i < len_bytes; i++)
        data[i] = (uint8_t)(i * 7 + i / 1000 + i / 65536);
    return data;
}

static struct gfs_file *create(int more_flags)
{
    struct gfs_file *file;
    assert_int_equal(gfs_open(fake.fs, "/f",
                              GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE | more_flags, NULL,
                              &file),
                     GFS_OK);
    return file;
}

static void check_content(const uint8_t *data, size_t len_bytes)
{
    struct gfs_file *file;
    uint8_t *got = malloc(len_bytes + 100);
    size_t got_bytes = 0;
    assert_int_equal(gfs_open(fake.fs, "/f", GFS_OPEN_READ, NULL, &file), GFS_OK);
    assert_int_equal(gfs_pread(file, 0, got, len_bytes + 100, &got_bytes), GFS_OK);
    assert_int_equal(got_bytes, len_bytes);
    assert_memory_equal(got, data, len_bytes);
    free(got);
    assert_int_equal(gfs_close(file), GFS_OK);
}

#define BIG_BYTES (5u * CHUNK_BYTES + 12345)

static void put_big_and_check(void)
{
    uint8_t *data = pattern(BIG_BYTES);
    struct gfs_file *file = create(0);
    for (size_t at = 0; at < BIG_BYTES; at += 100000) {
        size_t len_bytes = BIG_BYTES - at < 100000 ? BIG_BYTES - at : 100000;
        assert_int_equal(gfs_write(file, data + at, len_bytes), GFS_OK);
    }
    assert_int_equal(gfs_close(file), GFS_OK);
    check_content(data, BIG_BYTES);
    free(data);
}

/* ---- tests --------------------------------------------------------------------------------- */

static void what_was_written_is_read_back(void **state)
{
    put_big_and_check();
}

static void a_secondary_that_fails_is_left_out(void **state)
{
    fail_with((struct fault){.server = 0,
                             .type = GFS_MSG_WRITE,
                             .skip = 3,
                             .times = 1,
                             .err = GFS_ERR_REPLICA_FAILED,
                             .names = 2});
    put_big_and_check();
    assert_int_equal(seen(&fake.leases), 7);
}

static void a_push_that_fails_down_the_chain_is_repeated_without_the_server(void **state)
{
    fail_with((struct fault){.server = 0,
                             .type = GFS_MSG_PUSH,
                             .skip = 9,
                             .times = 2,
                             .err = GFS_ERR_REPLICA_FAILED,
                             .names = 1});
    put_big_and_check();
}

static void a_primary_that_dies_is_replaced(void **state)
{
    uint8_t *data = pattern(BIG_BYTES);
    struct gfs_file *file = create(0);
    assert_int_equal(gfs_write(file, data, 700000), GFS_OK);
    assert_int_equal(gfs_sync(file), GFS_OK);
    stop(0);
    assert_int_equal(gfs_write(file, data + 700000, BIG_BYTES - 700000), GFS_OK);
    assert_int_equal(gfs_close(file), GFS_OK);
    check_content(data, BIG_BYTES);
    free(data);
}

static void silence_is_survived(void **state)
{
    fail_with((struct fault){
        .server = 0, .type = GFS_MSG_WRITE, .skip = 2, .times = 3, .err = GFS_ERR_TIMEOUT});
    put_big_and_check();
}

static void a_full_server_is_left_out(void **state)
{
    fail_with((struct fault){
        .server = 0, .type = GFS_MSG_PUSH, .times = 1000, .err = GFS_ERR_NO_SPACE, .names = -1});
    put_big_and_check();
}

static void busy_lost_data_and_lost_leases_are_survived(void **state)
{
    fail_with((struct fault){.server = -1,
                             .type = GFS_MSG_WRITE,
                             .skip = 1,
                             .times = 2,
                             .err = GFS_ERR_BUSY,
                             .names = -1});
    fail_with((struct fault){.server = -1,
                             .type = GFS_MSG_WRITE,
                             .skip = 5,
                             .times = 2,
                             .err = GFS_ERR_NO_DATA,
                             .names = -1});
    fail_with((struct fault){.server = -1,
                             .type = GFS_MSG_WRITE,
                             .skip = 9,
                             .times = 2,
                             .err = GFS_ERR_NO_LEASE,
                             .names = -1});
    put_big_and_check();
}

static void a_master_that_restarts_is_waited_for(void **state)
{
    uint8_t *data = pattern(BIG_BYTES);
    struct gfs_file *file = create(GFS_OPEN_ATOMIC);
    assert_int_equal(gfs_write(file, data, 1500000), GFS_OK);
    stop(MASTER);
    char addr[ADDR_TEXT_MAX_BYTES];
    strcpy(addr, fake.addrs[MASTER]);
    size_t room_bytes = 4 * (256u << 10); /* what the window takes without the master */
    assert_int_equal(gfs_write(file, data + 1500000, room_bytes / 2), GFS_OK);
    start(MASTER, addr);
    assert_int_equal(gfs_write(file, data + 1500000 + room_bytes / 2,
                               BIG_BYTES - 1500000 - room_bytes / 2),
                     GFS_OK);
    assert_int_equal(gfs_close(file), GFS_OK);
    check_content(data, BIG_BYTES);
    free(data);
}

static void a_commit_under_an_old_version_is_repeated_under_the_new(void **state)
{
    uint8_t *data = pattern(1000);
    struct gfs_file *file = create(GFS_OPEN_ATOMIC);
    assert_int_equal(gfs_write(file, data, 1000), GFS_OK);
    fail_with((struct fault){.server = MASTER,
                             .type = GFS_MSG_PUBLISH,
                             .times = 1,
                             .err = GFS_ERR_STALE_VERSION,
                             .names = -1});
    assert_int_equal(gfs_close(file), GFS_OK);
    check_content(data, 1000);
    free(data);
}

static void an_atomic_file_shows_at_close_and_an_abandoned_one_never(void **state)
{
    struct gfs_attr attr;
    struct gfs_file *file = create(GFS_OPEN_ATOMIC);
    assert_int_equal(gfs_write(file, "abc", 3), GFS_OK);
    assert_int_equal(gfs_stat(fake.fs, "/f", &attr), GFS_ERR_NOT_FOUND);
    assert_non_null(strstr(gfs_last_error(), "/f"));
    gfs_abandon(file);
    pthread_mutex_lock(&fake.lock);
    assert_true(fake.abandoned);
    fake.exists = false;
    pthread_mutex_unlock(&fake.lock);
    file = create(GFS_OPEN_ATOMIC);
    assert_int_equal(gfs_close(file), GFS_OK);
    assert_int_equal(gfs_stat(fake.fs, "/f", &attr), GFS_OK);
    assert_int_equal(attr.size_bytes, 0);
}

static void a_corrupt_replica_is_never_seen_and_reported(void **state)
{
    fake.flip[0] = fake.flip[1] = true;
    put_big_and_check();
    assert_true(seen(&fake.reports) > 0);
}

static void without_a_good_replica_the_error_names_the_chunk(void **state)
{
    gfs_disconnect(fake.fs);
    struct gfs_options opts = {.timeout_ms = 500};
    assert_int_equal(gfs_connect(fake.addrs[MASTER], &opts, &fake.fs), GFS_OK);
    struct gfs_file *file = create(0);
    char byte = 0;
    size_t got_bytes;
    assert_int_equal(gfs_pwrite(file, CHUNK_BYTES, "x", 1), GFS_OK);
    assert_int_equal(gfs_sync(file), GFS_OK);
    for (int i = 0; i < SERVERS; i++)
        stop(i);
    assert_int_equal(gfs_pread(file, 0, &byte, 1, &got_bytes), GFS_OK);
    assert_int_equal(gfs_pread(file, CHUNK_BYTES, &byte, 1, &got_bytes), GFS_ERR_NO_REPLICA);
    assert_non_null(strstr(gfs_last_error(), "chunk 1 (handle 0000000000000001) of /f"));
    assert_int_equal(gfs_close(file), GFS_OK);
}

static void a_master_that_is_not_there_is_an_error_soon(void **state)
{
    struct gfs *fs;
    struct gfs_options opts = {.timeout_ms = 300};
    assert_int_equal(gfs_connect("127.0.0.1:1", &opts, &fs), GFS_ERR_CONN);
    assert_non_null(strstr(gfs_last_error(), "127.0.0.1:1"));
    assert_int_equal(gfs_connect("no address", &opts, &fs), GFS_ERR_INVAL);
}

static void writes_anywhere_read_as_a_plain_file_would(void **state)
{
    const size_t size_bytes = 3u * CHUNK_BYTES;
    uint8_t *model = calloc(1, size_bytes);
    uint8_t *got = malloc(size_bytes);
    uint8_t *data = pattern(400000);
    struct gfs_file *file = create(0);
    unsigned seed = 11;
    size_t end = 0;
    for (int i = 0; i < 120; i++) {
        size_t len_bytes = 1 + (size_t)rand_r(&seed) % (i % 7 == 0 ? 400000 : 3000);
        size_t offset = (size_t)rand_r(&seed) % (size_bytes - len_bytes);
        assert_int_equal(gfs_pwrite(file, offset, data, len_bytes), GFS_OK);
        memcpy(model + offset, data, len_bytes);
        end = offset + len_bytes > end ? offset + len_bytes : end;
        if (i % 10 != 9)
            continue;
        size_t from = (size_t)rand_r(&seed) % end;
        size_t got_bytes = 0;
        assert_int_equal(gfs_pread(file, from, got, size_bytes, &got_bytes), GFS_OK);
        assert_int_equal(got_bytes, end - from);
        assert_memory_equal(got, model + from, got_bytes);
    }
    assert_int_equal(gfs_close(file), GFS_OK);
    check_content(model, end);
    free(model);
    free(got);
    free(data);
}

static void reads_in_order_and_out_of_order_give_the_same(void **state)
{
    put_big_and_check();
    uint8_t *data = pattern(BIG_BYTES);
    uint8_t *got = malloc(BIG_BYTES);
    struct gfs_file *file;
    assert_int_equal(gfs_open(fake.fs, "/f", GFS_OPEN_READ, NULL, &file), GFS_OK);
    unsigned seed = 5;
    uint64_t position = 0;
    for (int i = 0; i < 200; i++) {
        if (i % 9 == 8) {
            position = (uint64_t)rand_r(&seed) % BIG_BYTES;
            gfs_seek(file, position);
        }
        size_t want_bytes = 1 + (size_t)rand_r(&seed) % (i % 20 == 0 ? BIG_BYTES : 90000);
        size_t left_bytes = BIG_BYTES - position;
        size_t got_bytes = 0;
        assert_int_equal(gfs_read(file, got, want_bytes, &got_bytes), GFS_OK);
        assert_int_equal(got_bytes, want_bytes < left_bytes ? want_bytes : left_bytes);
        assert_memory_equal(got, data + position, got_bytes);
        position += got_bytes;
    }
    assert_int_equal(gfs_close(file), GFS_OK);
    free(got);
    free(data);
}

struct reader_thread {
    pthread_t thread;
    struct gfs_file *file;
    const uint8_t *data;
    unsigned seed;
    bool good;
};

static void *read_pieces(void *arg)
{
    struct reader_thread *self = arg;
    uint8_t *got = malloc(300000);
    self->good = true;
    for (int i = 0; i < 50; i++) {
        uint64_t offset = (uint64_t)rand_r(&self->seed) % (BIG_BYTES - 300000);
        size_t got_bytes = 0;
        self->good = self->good &&
                     gfs_pread(self->file, offset, got, 300000, &got_bytes) == GFS_OK &&
                     got_bytes == 300000 && memcmp(got, self->data + offset, got_bytes) == 0;
    }
    free(got);
    return NULL;
}

static void threads_share_a_file(void **state)
{
    put_big_and_check();
    uint8_t *data = pattern(BIG_BYTES);
    struct gfs_file *file;
    assert_int_equal(gfs_open(fake.fs, "/f", GFS_OPEN_READ, NULL, &file), GFS_OK);
    struct reader_thread threads[4];
    for (unsigned i = 0; i < 4; i++) {
        threads[i] = (struct reader_thread){.file = file, .data = data, .seed = i};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, read_pieces, &threads[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_true(threads[i].good);
    }
    assert_int_equal(gfs_close(file), GFS_OK);
    free(data);
}

static void many_paths_are_asked_for_at_once(void **state)
{
    struct gfs_file *file = create(0);
    assert_int_equal(gfs_close(file), GFS_OK);
    static const char *paths[1000];
    static struct gfs_attr attrs[1000];
    static enum gfs_err errs[1000];
    for (int i = 0; i < 1000; i++)
        paths[i] = "/f";
    fail_with((struct fault){.server = MASTER,
                             .type = GFS_MSG_LOOKUP,
                             .skip = 100,
                             .times = 50,
                             .err = GFS_ERR_BUSY,
                             .names = -1});
    assert_int_equal(gfs_stat_many(fake.fs, paths, 1000, attrs, errs), GFS_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(attrs[i].inode, INODE);
    fail_with((struct fault){.server = MASTER,
                             .type = GFS_MSG_LOOKUP,
                             .times = 1,
                             .err = GFS_ERR_NOT_FOUND,
                             .names = -1});
    assert_int_equal(gfs_stat_many(fake.fs, paths, 1000, attrs, errs), GFS_ERR_NOT_FOUND);
    assert_int_equal(errs[0], GFS_ERR_NOT_FOUND);
    assert_int_equal(errs[999], GFS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_written_is_read_back),
        TEST(a_secondary_that_fails_is_left_out),
        TEST(a_push_that_fails_down_the_chain_is_repeated_without_the_server),
        TEST(a_primary_that_dies_is_replaced),
        TEST(silence_is_survived),
        TEST(a_full_server_is_left_out),
        TEST(busy_lost_data_and_lost_leases_are_survived),
        TEST(a_master_that_restarts_is_waited_for),
        TEST(a_commit_under_an_old_version_is_repeated_under_the_new),
        TEST(an_atomic_file_shows_at_close_and_an_abandoned_one_never),
        TEST(a_corrupt_replica_is_never_seen_and_reported),
        TEST(without_a_good_replica_the_error_names_the_chunk),
        TEST(a_master_that_is_not_there_is_an_error_soon),
        TEST(writes_anywhere_read_as_a_plain_file_would),
        TEST(reads_in_order_and_out_of_order_give_the_same),
        TEST(threads_share_a_file),
        TEST(many_paths_are_asked_for_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
