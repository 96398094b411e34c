/* A chunk of which nothing is left is placed anew under another handle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "master/namespace.h"

static struct namespace *ns;
static struct changes changes;
static struct inode *file;

static int setup(void **state)
{
    const struct ns_options options = {.seed = 1};
    const uint8_t cluster_id[GFS_UUID_BYTES] = {1};
    const struct ns_create_args args = {.path = "/f", .path_bytes = 2};
    bool created;
    changes_init(&changes);
    assert_int_equal(ns_new(&options, &ns), GFS_OK);
    assert_int_equal(ns_format(ns, cluster_id, 1, &changes), GFS_OK);
    assert_int_equal(ns_create(ns, &args, 1, &changes, &file, &created), GFS_OK);
    return 0;
}

static int teardown(void **state)
{
    ns_free(ns);
    changes_release(&changes);
    return 0;
}

static void renewed_chunk_has_another_handle(void **state)
{
    struct chunk *old, *renewed;
    for (uint32_t index = 0; index < 3; index += 2) { /* inline, and in a table */
        assert_int_equal(ns_chunk_create(ns, file, index, &changes, &old), GFS_OK);
        uint64_t handle = old->handle;
        changes_clear(&changes);
        assert_int_equal(ns_chunk_renew(ns, file, index, 5000, &changes, &renewed), GFS_OK);
        assert_true(renewed->handle > handle);
        assert_int_equal(renewed->version, 1);
        assert_ptr_equal(ns_chunk_at(ns, file, index), renewed);
        assert_true(chunk_released(chunkmap_find(ns_chunkmap(ns), handle)));
        assert_false(changes_empty(&changes));
    }
    struct ns_counters counters;
    ns_counters(ns, &counters);
    assert_int_equal(counters.chunks, 2);
}

static void committed_chunk_and_hole_are_not_renewed(void **state)
{
    struct chunk *chunk, *renewed = NULL;
    assert_int_equal(ns_chunk_renew(ns, file, 0, 1, &changes, &renewed), GFS_ERR_INVAL);
    assert_int_equal(ns_chunk_create(ns, file, 0, &changes, &chunk), GFS_OK);
    const struct ns_commit_chunk commit = {.index = 0,
                                           .handle = chunk->handle,
                                           .version = 1,
                                           .length_bytes = 10};
    assert_int_equal(ns_commit(ns, file, 10, &commit, 1, 1, &changes), GFS_OK);
    assert_int_equal(ns_chunk_renew(ns, file, 0, 1, &changes, &renewed), GFS_ERR_INVAL);
    assert_null(renewed);
    assert_ptr_equal(ns_chunk_at(ns, file, 0), chunk);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(renewed_chunk_has_another_handle),
        T(committed_chunk_and_hole_are_not_renewed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
