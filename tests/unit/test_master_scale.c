/*
 * What many files cost: memory a file, rates, load time. Times are printed, never asserted.
 * FILES=1000000 for the figures in the documentation.
 */
#include "namespace_fixture.h"

#include <malloc.h>
#include <time.h>

#define FILES_DEFAULT 100000u
#define PER_DIR       1000u
#define BYTES_MAX     128.0

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static size_t memory_bytes(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Depth 3: /dDDD/sSSS/fNNNNNNN. Returns the name's length. */
static uint32_t file_path(char *ret_path, uint32_t i)
{
    sprintf(ret_path, "/d%03u/s%03u/f%07u", i / PER_DIR / 100, i / PER_DIR % 100, i);
    return 8;
}

static void make_file(struct fixture *fx, uint32_t i)
{
    char path[64];
    file_path(path, i);
    if (i % PER_DIR == 0) {
        char dir[64];
        strcpy(dir, path);
        *strrchr(dir, '/') = '\0';
        assert_int_equal(fixture_mkdir(fx, dir, true), GFS_OK);
    }
    struct inode *inode;
    struct chunk *chunk;
    fx->now_ms += i % 8 == 0;
    assert_int_equal(fixture_create(fx, path, true, false, &inode), GFS_OK);
    assert_int_equal(ns_chunk_create(fx->ns, inode, 0, &fx->changes, &chunk), GFS_OK);
    for (uint16_t server = 0; server < 3; server++) {
        assert_int_equal(chunk_add_location(ns_chunkmap(fx->ns), chunk, server, CHUNK_LOCATION_OK),
                         GFS_OK);
    }
    struct ns_commit_chunk commit = {0, chunk->handle, 1, 4096};
    assert_int_equal(ns_commit(fx->ns, inode, 4096, &commit, 1, fx->now_ms, &fx->changes), GFS_OK);
}

static void measure_lookup(struct fixture *fx, uint32_t files)
{
    char path[64];
    uint32_t found = 0;
    double start = now_s();
    for (uint64_t i = 0; i < files; i++) {
        struct inode *inode;
        file_path(path, (uint32_t)(i * 7919 % files));
        found += fixture_lookup(fx, path, &inode) == GFS_OK;
    }
    double took = now_s() - start;
    assert_int_equal(found, files);
    printf("lookup depth 3: %.2f M/s (with the making of the path's text)\n", files / took / 1e6);
}

static void measure_load(struct fixture *fx, uint32_t files)
{
    fixture_drop_state(fx);
    fixture_new_state(fx);
    char detail[IMAGE_DETAIL_BYTES] = "";
    struct image_stat stat;
    double start = now_s();
    enum gfs_err err = image_load(fx->kv, fx->ns, fx->window, fx->now_ms, detail, &stat);
    double took = now_s() - start;
    assert_string_equal(detail, "");
    assert_int_equal(err, GFS_OK);
    printf("load: %.2f s, %llu keys, %.2f us/file\n", took, (unsigned long long)stat.keys,
           took * 1e6 / files);
}

static void measure_trees(struct fixture *fx, uint32_t files)
{
    struct inode *root;
    uint64_t changed;
    assert_int_equal(ns_start(fx->ns, &fx->changes), GFS_OK);
    fixture_save(fx);
    assert_int_equal(fixture_lookup(fx, "/d000", &root), GFS_OK);
    struct ns_setattr_args args = {.set_goal = true, .goal = 2, .recursive = true};
    double start = now_s();
    assert_int_equal(ns_setattr(fx->ns, root, &args, fx->now_ms, &fx->changes, &changed), GFS_OK);
    printf("setgoal -R of %llu: %.1f ms\n", (unsigned long long)changed, (now_s() - start) * 1e3);
    changes_clear(&fx->changes);
    start = now_s();
    assert_int_equal(fixture_remove(fx, "/d000", true, true), GFS_OK);
    printf("remove of a tree of %u: %.3f ms\n", files < 100000 ? files : 100000,
           (now_s() - start) * 1e3);
    double longest = 0;
    double total = now_s();
    bool more = true;
    while (more) {
        start = now_s();
        more = ns_reap(fx->ns, 1000, fx->now_ms, &fx->changes);
        changes_clear(&fx->changes);
        longest = now_s() - start > longest ? now_s() - start : longest;
    }
    printf("reap: %.1f ms in all, longest slice of 1000 %.2f ms\n", (now_s() - total) * 1e3,
           longest * 1e3);
}

static void test_a_file_of_one_chunk_fits_its_bytes(void **state)
{
    const char *text = getenv("FILES");
    uint32_t files = text != NULL ? (uint32_t)strtoul(text, NULL, 10) : FILES_DEFAULT;
    struct fixture fx;
    fixture_open(&fx);
    size_t before = memory_bytes();
    size_t changed_bytes = 0;
    double writing = 0;
    double start = now_s();
    for (uint32_t i = 0; i < files; i++) {
        make_file(&fx, i);
        if (i % 1000 == 999) {
            double save = now_s();
            changed_bytes += fx.changes.len_bytes;
            fixture_save(&fx);
            writing += now_s() - save;
        }
    }
    double took = now_s() - start - writing;
    fixture_save(&fx);
    changes_release(&fx.changes);
    double names = 8.0;
    double per_file = (double)(memory_bytes() - before) / files - names;
    printf("create + chunk + commit: %.0f k/s, %.0f bytes of changes each\n", files / took / 1e3,
           (double)changed_bytes / files);
    printf("memory: %.1f bytes/file beside its name\n", per_file);
#ifndef __SANITIZE_ADDRESS__
    /* LevelDB's own buffers are in it too: with few files they weigh. */
    assert_true(per_file <= BYTES_MAX + 16e6 / files);
#endif
    struct ns_counters counters;
    ns_counters(fx.ns, &counters);
    double own = (double)counters.memory_bytes / files - names;
    printf("memory by own account: %.1f bytes/file beside its name\n", own);
    assert_true(own <= BYTES_MAX + 8e6 / files);
    measure_lookup(&fx, files);
    measure_load(&fx, files);
    measure_trees(&fx, files);
    fixture_close(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_one_chunk_fits_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
