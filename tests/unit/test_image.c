/* The load against damaged databases, and what must hold over a restart. */
#include "namespace_fixture.h"

#include "master/index.h"

static void build(struct fixture *fx)
{
    struct inode *inode;
    struct chunk *chunk;
    fixture_open(fx);
    assert_int_equal(fixture_mkdir(fx, "/d/e", true), GFS_OK);
    assert_int_equal(fixture_create(fx, "/d/e/f", true, false, &inode), GFS_OK);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(ns_chunk_create(fx->ns, inode, i, &fx->changes, &chunk), GFS_OK);
    }
    uint64_t handle;
    assert_int_equal(ns_snapshot(fx->ns, "/d/e/f", 6, "/d/s", 4, fx->now_ms, &fx->changes), GFS_OK);
    assert_int_equal(ns_take_handle(fx->ns, &fx->changes, &handle), GFS_OK);
    assert_int_equal(ns_chunk_replace(fx->ns, inode, 1, handle, fx->now_ms, &fx->changes, &chunk),
                     GFS_OK);
    assert_int_equal(fixture_create(fx, "/d/g", true, false, &inode), GFS_OK);
    assert_int_equal(fixture_create(fx, "/d/h", true, true, &inode), GFS_OK);
    assert_int_equal(opwindow_reserve(&fx->changes), GFS_OK);
    struct opwindow_result result = {105, 0, true};
    opwindow_record(fx->window, "0123456789abcdef", 16, &result, &fx->changes);
    fixture_save(fx);
}

static enum gfs_err load(struct fixture *fx, char *ret_detail)
{
    fixture_drop_state(fx);
    fixture_new_state(fx);
    ret_detail[0] = '\0';
    return image_load(fx->kv, fx->ns, fx->window, fx->now_ms, ret_detail, NULL);
}

struct saved {
    uint8_t key[300];
    size_t key_bytes;
    uint8_t value[600];
    size_t value_bytes;
};

static size_t read_all(struct fixture *fx, struct saved *ret_all, size_t max)
{
    struct kv_iter *iter = kv_iter_new(fx->kv);
    size_t count = 0;
    for (kv_iter_seek_first(iter); kv_iter_valid(iter); kv_iter_next(iter)) {
        struct saved *saved = &ret_all[count++];
        assert_true(count <= max);
        const void *key = kv_iter_key(iter, &saved->key_bytes);
        memcpy(saved->key, key, saved->key_bytes);
        const void *value = kv_iter_value(iter, &saved->value_bytes);
        memcpy(saved->value, value, saved->value_bytes);
    }
    kv_iter_free(iter);
    return count;
}

static void put(struct fixture *fx, const struct saved *saved, size_t value_bytes)
{
    assert_int_equal(kv_put(fx->kv, saved->key, saved->key_bytes, saved->value, value_bytes, false),
                     GFS_OK);
}

static void test_every_missing_key_is_noticed(void **state)
{
    struct fixture fx;
    build(&fx);
    static struct saved all[64];
    size_t count = read_all(&fx, all, 64);
    char detail[IMAGE_DETAIL_BYTES];
    assert_int_equal(load(&fx, detail), GFS_OK);
    for (size_t i = 0; i < count; i++) {
        struct kv_batch *batch = kv_batch_new();
        kv_batch_delete(batch, all[i].key, all[i].key_bytes);
        assert_int_equal(kv_write(fx.kv, batch, false), GFS_OK);
        kv_batch_free(batch);
        enum gfs_err err = load(&fx, detail);
        struct ns_counters counters;
        ns_counters(fx.ns, &counters);
        if (all[i].key[0] == 'O') {
            assert_int_equal(err, GFS_OK);
        } else if (err == GFS_OK) {
            /* A whole empty anonymous file gone leaves nothing that could tell. */
            assert_int_equal(all[i].key[0], 'I');
            assert_int_equal(counters.anonymous, 0);
        } else {
            assert_int_equal(err, GFS_ERR_CORRUPT);
            assert_true(strlen(detail) > 0);
        }
        put(&fx, &all[i], all[i].value_bytes);
    }
    assert_int_equal(load(&fx, detail), GFS_OK);
    fixture_close(&fx);
}

static void test_garbage_never_crashes_the_load(void **state)
{
    struct fixture fx;
    build(&fx);
    static struct saved all[64];
    size_t count = read_all(&fx, all, 64);
    char detail[IMAGE_DETAIL_BYTES];
    uint64_t random = 99;
    uint32_t refused = 0;
    for (int round = 0; round < 4000; round++) {
        random = index_mix(random + (uint64_t)round);
        struct saved bad = all[random % count];
        size_t bytes = bad.value_bytes;
        if (random >> 60 == 0) {
            bytes /= 2;
        } else if (bytes > 0) {
            bad.value[(random >> 20) % bytes] = (uint8_t)(random >> 40);
        }
        put(&fx, &bad, bytes);
        enum gfs_err err = load(&fx, detail);
        refused += err != GFS_OK;
        assert_true(err == GFS_OK || err == GFS_ERR_CORRUPT || err == GFS_ERR_BAD_FORMAT);
        put(&fx, &all[random % count], all[random % count].value_bytes);
    }
    assert_true(refused > 500);
    struct saved unknown = {.key = "Zebra", .key_bytes = 5};
    put(&fx, &unknown, 0);
    assert_int_equal(load(&fx, detail), GFS_ERR_CORRUPT);
    assert_non_null(strstr(detail, "5a65627261"));
    fixture_close(&fx);
}

static void test_ids_of_lost_operations_are_not_given_again(void **state)
{
    struct fixture fx;
    build(&fx);
    char detail[IMAGE_DETAIL_BYTES];
    uint64_t highest_inode = 0;
    uint64_t highest_handle = 0;
    for (int life = 0; life < 5; life++) {
        assert_int_equal(load(&fx, detail), GFS_OK);
        assert_int_equal(ns_start(fx.ns, &fx.changes), GFS_OK);
        fixture_save(&fx);
        struct inode *inode;
        struct chunk *chunk;
        assert_int_equal(fixture_create(&fx, "/lost", true, false, &inode), GFS_OK);
        assert_int_equal(ns_chunk_create(fx.ns, inode, 0, &fx.changes, &chunk), GFS_OK);
        assert_true(inode_id(inode) > highest_inode);
        assert_true(chunk->handle > highest_handle);
        highest_inode = inode_id(inode);
        highest_handle = chunk->handle;
        changes_clear(&fx.changes); /* the crash */
    }
    fixture_close(&fx);
}

static void test_retries_are_recognised_after_a_restart(void **state)
{
    struct fixture fx;
    build(&fx);
    char detail[IMAGE_DETAIL_BYTES];
    struct opwindow_result result;
    assert_int_equal(load(&fx, detail), GFS_OK);
    assert_true(opwindow_find(fx.window, "0123456789abcdef", 16, 105, &result));
    assert_true(result.created);
    assert_false(opwindow_find(fx.window, "0123456789abcdef", 16, 106, &result));
    assert_false(opwindow_find(fx.window, "0123456789abcdeX", 16, 105, &result));
    assert_false(opwindow_find(fx.window, "", 0, 105, &result));
    /* Newer operations push it out, and only it. */
    uint8_t id[16] = {0};
    for (uint32_t i = 0; i < OPWINDOW_SLOTS; i++) {
        assert_true(opwindow_find(fx.window, "0123456789abcdef", 16, 105, &result));
        memcpy(id, &i, sizeof(i));
        assert_int_equal(opwindow_reserve(&fx.changes), GFS_OK);
        struct opwindow_result other = {103, i, false};
        opwindow_record(fx.window, id, 16, &other, &fx.changes);
    }
    assert_false(opwindow_find(fx.window, "0123456789abcdef", 16, 105, &result));
    fixture_save(&fx);
    assert_int_equal(load(&fx, detail), GFS_OK);
    for (uint32_t i = 0; i < OPWINDOW_SLOTS; i += 1000) {
        memcpy(id, &i, sizeof(i));
        assert_true(opwindow_find(fx.window, id, 16, 103, &result));
        assert_int_equal(result.inode, i);
    }
    fixture_close(&fx);
}

static void test_anonymous_files_are_listed_by_silence(void **state)
{
    struct fixture fx;
    build(&fx);
    char detail[IMAGE_DETAIL_BYTES];
    assert_int_equal(load(&fx, detail), GFS_OK);
    assert_int_equal(ns_start(fx.ns, &fx.changes), GFS_OK);
    int64_t seen_ms;
    struct inode *first = ns_anonymous_oldest(fx.ns, &seen_ms);
    assert_non_null(first);
    assert_int_equal(seen_ms, fx.now_ms);
    struct inode *second;
    fx.now_ms += 10;
    assert_int_equal(fixture_create(&fx, "/d/x", false, true, &second), GFS_OK);
    assert_ptr_equal(ns_anonymous_oldest(fx.ns, &seen_ms), first);
    ns_anonymous_touch(fx.ns, first, fx.now_ms + 5);
    assert_ptr_equal(ns_anonymous_oldest(fx.ns, &seen_ms), second);
    assert_int_equal(ns_abandon(fx.ns, second, fx.now_ms, &fx.changes), GFS_OK);
    assert_int_equal(ns_publish(fx.ns, first, "/d/x", 4, false, fx.now_ms, &fx.changes), GFS_OK);
    assert_null(ns_anonymous_oldest(fx.ns, &seen_ms));
    assert_int_equal(ns_abandon(fx.ns, first, fx.now_ms, &fx.changes), GFS_ERR_INVAL);
    fixture_close(&fx);
}

static void test_an_empty_database_is_a_new_cluster(void **state)
{
    struct fixture fx;
    fixture_open(&fx);
    static struct saved all[64];
    size_t count = read_all(&fx, all, 64);
    struct kv_batch *batch = kv_batch_new();
    for (size_t i = 0; i < count; i++) {
        kv_batch_delete(batch, all[i].key, all[i].key_bytes);
    }
    assert_int_equal(kv_write(fx.kv, batch, false), GFS_OK);
    kv_batch_free(batch);
    char detail[IMAGE_DETAIL_BYTES];
    assert_int_equal(load(&fx, detail), GFS_ERR_NOT_FOUND);
    fixture_close(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_missing_key_is_noticed),
        cmocka_unit_test(test_garbage_never_crashes_the_load),
        cmocka_unit_test(test_ids_of_lost_operations_are_not_given_again),
        cmocka_unit_test(test_retries_are_recognised_after_a_restart),
        cmocka_unit_test(test_anonymous_files_are_listed_by_silence),
        cmocka_unit_test(test_an_empty_database_is_a_new_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
