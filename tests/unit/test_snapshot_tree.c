/* Snapshots in the namespace: bounds, sharing, what is given back, what a restart finds. */
#include "namespace_fixture.h"

#include <time.h>

#define SIZE GFS_CHUNK_SIZE_MIN_BYTES

static enum gfs_err snapshot(struct fixture *fx, const char *from, const char *to)
{
    return ns_snapshot(fx->ns, from, strlen(from), to, strlen(to), fx->now_ms, &fx->changes);
}

static struct inode *make_file(struct fixture *fx, const char *path, const uint32_t *indexes,
                               size_t count)
{
    struct inode *inode;
    assert_int_equal(fixture_create(fx, path, true, false, &inode), GFS_OK);
    for (size_t i = 0; i < count; i++) {
        struct chunk *chunk;
        assert_int_equal(ns_chunk_create(fx->ns, inode, indexes[i], &fx->changes, &chunk), GFS_OK);
        struct ns_commit_chunk commit = {indexes[i], chunk->handle, 1, SIZE / 2};
        assert_int_equal(ns_commit(fx->ns, inode, 0, &commit, 1, fx->now_ms, &fx->changes), GFS_OK);
    }
    return inode;
}

static struct inode *find(struct fixture *fx, const char *path)
{
    struct inode *inode;
    assert_int_equal(fixture_lookup(fx, path, &inode), GFS_OK);
    return inode;
}

static void reload(struct fixture *fx)
{
    fixture_save(fx);
    fixture_drop_state(fx);
    fixture_new_state(fx);
    char detail[IMAGE_DETAIL_BYTES] = "";
    assert_int_equal(image_load(fx->kv, fx->ns, fx->window, fx->now_ms, detail, NULL), GFS_OK);
    assert_int_equal(ns_start(fx->ns, &fx->changes), GFS_OK);
}

static void reap(struct fixture *fx)
{
    while (ns_reap(fx->ns, 100, fx->now_ms, &fx->changes)) {
    }
}

static void test_a_sparse_file_is_shared_chunk_by_chunk(void **state)
{
    struct fixture fx;
    fixture_open(&fx);
    const uint32_t indexes[] = {0, 1, 63, 64, 700};
    make_file(&fx, "/f", indexes, 5);
    assert_int_equal(snapshot(&fx, "/f", "/s"), GFS_OK);
    for (int pass = 0; pass < 2; pass++) {
        const struct inode *file = find(&fx, "/f");
        const struct inode *copy = find(&fx, "/s");
        struct inode_attr a, b;
        ns_attr(fx.ns, file, &a);
        ns_attr(fx.ns, copy, &b);
        assert_int_equal(a.length_bytes, b.length_bytes);
        assert_int_equal(a.chunk_count, 701);
        assert_int_equal(b.chunk_count, 701);
        for (uint32_t i = 0; i < 701; i++) {
            const struct chunk *chunk = ns_chunk_at(fx.ns, file, i);
            assert_ptr_equal(chunk, ns_chunk_at(fx.ns, copy, i));
            assert_true(chunk == NULL || chunk->references == 2);
        }
        reload(&fx);
    }
    assert_int_equal(fixture_remove(&fx, "/f", false, false), GFS_OK);
    reap(&fx);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(ns_chunk_at(fx.ns, find(&fx, "/s"), indexes[i])->references, 1);
    }
    struct ns_counters counters;
    ns_counters(fx.ns, &counters);
    assert_int_equal(counters.chunks, 5);
    assert_int_equal(fixture_remove(&fx, "/s", false, false), GFS_OK);
    reap(&fx);
    ns_counters(fx.ns, &counters);
    assert_int_equal(counters.chunks, 0);
    assert_int_equal(counters.length_bytes, 0);
    fixture_close(&fx);
}

static void test_families_and_goals(void **state)
{
    struct fixture fx;
    fixture_open(&fx);
    const uint32_t first[] = {0};
    struct inode *file = make_file(&fx, "/f", first, 1);
    uint64_t origin = ns_chunk_at(fx.ns, file, 0)->handle;
    struct chunk *chunk;
    for (int i = 0; i < 3; i++) { /* a copy of a copy of a copy */
        char to[] = "/s0";
        to[2] = (char)('0' + i);
        assert_int_equal(snapshot(&fx, "/f", to), GFS_OK);
        uint64_t handle;
        assert_int_equal(ns_take_handle(fx.ns, &fx.changes, &handle), GFS_OK);
        assert_int_equal(ns_chunk_replace(fx.ns, file, 0, handle, fx.now_ms, &fx.changes, &chunk),
                         GFS_OK);
        assert_int_equal(ns_chunk_family(fx.ns, chunk), origin);
        assert_int_equal(ns_chunk_replace(fx.ns, file, 0, handle, fx.now_ms, &fx.changes, &chunk),
                         GFS_ERR_INVAL);
    }
    reload(&fx);
    chunk = ns_chunk_at(fx.ns, find(&fx, "/f"), 0);
    assert_int_equal(ns_chunk_family(fx.ns, chunk), origin);
    assert_int_not_equal(chunk->handle, origin);
    assert_int_equal(ns_chunk_family(fx.ns, ns_chunk_at(fx.ns, find(&fx, "/s0"), 0)), origin);

    /* Shared by /s2 and /t: the goal is the higher one. */
    assert_int_equal(snapshot(&fx, "/s2", "/t"), GFS_OK);
    struct ns_setattr_args args = {.set_goal = true, .goal = 5};
    uint64_t changed;
    assert_int_equal(ns_setattr(fx.ns, find(&fx, "/t"), &args, fx.now_ms, &fx.changes, &changed),
                     GFS_OK);
    args.goal = 1;
    assert_int_equal(ns_setattr(fx.ns, find(&fx, "/s2"), &args, fx.now_ms, &fx.changes, &changed),
                     GFS_OK);
    assert_int_equal(ns_chunk_at(fx.ns, find(&fx, "/t"), 0)->goal, 5);
    uint64_t handle;
    assert_int_equal(ns_take_handle(fx.ns, &fx.changes, &handle), GFS_OK);
    assert_int_equal(ns_chunk_replace(fx.ns, find(&fx, "/s2"), 0, handle, fx.now_ms, &fx.changes,
                                      &chunk),
                     GFS_OK);
    assert_int_equal(chunk->goal, 1);
    fixture_close(&fx);
}

static double now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void test_the_largest_tree_and_one_more(void **state)
{
    struct fixture fx;
    fixture_open(&fx);
    const uint32_t first[] = {0};
    char path[64];
    assert_int_equal(fixture_mkdir(&fx, "/d", false), GFS_OK);
    for (uint32_t i = 0; i + 1 < NS_SNAPSHOT_INODES_MAX; i++) {
        snprintf(path, sizeof(path), "/d/%06u", i);
        make_file(&fx, path, first, 1);
    }
    fixture_save(&fx);
    double begun = now_ms();
    assert_int_equal(snapshot(&fx, "/d", "/s"), GFS_OK);
    printf("snapshot of %u: %.0f ms, %zu bytes of changes\n", NS_SNAPSHOT_INODES_MAX,
           now_ms() - begun, fx.changes.len_bytes);
    fixture_save(&fx);
    make_file(&fx, "/d/more", first, 1);
    size_t before = fx.changes.len_bytes;
    assert_int_equal(snapshot(&fx, "/d", "/t"), GFS_ERR_TOO_LARGE);
    assert_int_equal(fx.changes.len_bytes, before);
    assert_int_equal(fixture_remove(&fx, "/d", true, true), GFS_OK);
    reap(&fx);
    struct ns_counters counters;
    ns_counters(fx.ns, &counters);
    assert_int_equal(counters.files, NS_SNAPSHOT_INODES_MAX - 1);
    assert_int_equal(counters.chunks, NS_SNAPSHOT_INODES_MAX - 1);
    reload(&fx);
    fixture_close(&fx);
}

static void test_what_is_removed_is_told_from_what_is_there(void **state)
{
    struct fixture fx;
    fixture_open(&fx);
    assert_int_equal(fixture_mkdir(&fx, "/a/b/c", true), GFS_OK);
    struct inode *file = make_file(&fx, "/a/b/c/f", NULL, 0);
    uint64_t top = inode_id(find(&fx, "/a"));
    assert_true(ns_is_below(fx.ns, file, top));
    assert_true(ns_is_below(fx.ns, file, inode_id(file)));
    assert_true(ns_is_below(fx.ns, file, NS_ROOT_INODE));
    assert_false(ns_is_below(fx.ns, find(&fx, "/"), top));
    assert_false(ns_is_removed(fx.ns, file));
    assert_int_equal(fixture_remove(&fx, "/a/b", true, true), GFS_OK);
    assert_true(ns_is_removed(fx.ns, file));
    assert_false(ns_is_below(fx.ns, file, top));
    fixture_close(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sparse_file_is_shared_chunk_by_chunk),
        cmocka_unit_test(test_families_and_goals),
        cmocka_unit_test(test_the_largest_tree_and_one_more),
        cmocka_unit_test(test_what_is_removed_is_told_from_what_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
