/* store: which writes and appends a chunk knows, now, after a stop, and from the log alone. */
#include "gfs_limits.h"
#include "store_rig.h"

#define HANDLE   7u
#define COPY     8u
#define PRODUCER 0x1122334455667788u
#define RECORD   1000u

/* Record `sequence` of PRODUCER, at the end that the records before it left. */
static void append(struct rig *rig, uint64_t handle, uint64_t sequence, bool once)
{
    uint8_t data[RECORD];
    struct store_piece pieces[2];
    uint32_t offset = (uint32_t)(sequence - 1) * RECORD;
    rig_fill(data, sizeof(data), sequence);
    struct store_mutation mutation = {
        .op = STORE_OP_WRITE,
        .handle = handle,
        .version = 1,
        .serial = ++rig->serial,
        .producer = PRODUCER,
        .sequence = sequence,
        .once = once,
        .create = true,
        .offset_bytes = offset,
        .length_bytes = sizeof(data),
        .pieces = pieces,
        .piece_count = rig_pieces(offset, data, sizeof(data), pieces),
    };
    assert_int_equal(rig_submit(rig, &mutation), GFS_OK);
}

/* The chunk knows just the sequences first..last, each where append() put it. */
static void knows(struct rig *rig, uint64_t handle, uint64_t first, uint64_t last)
{
    struct store_append *entries;
    size_t count;
    assert_int_equal(store_window(rig->store, handle, &entries, &count), GFS_OK);
    assert_int_equal(count, last + 1 - first);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(entries[i].producer, PRODUCER);
        assert_int_equal(entries[i].sequence, first + i);
        assert_int_equal(entries[i].offset_bytes, (first + i - 1) * RECORD);
        assert_int_equal(entries[i].length_bytes, RECORD);
    }
    free(entries);
}

/* Now, after a stop, and when the index has to be made again of the log. */
static void always_knows(struct rig *rig, uint64_t handle, uint64_t first, uint64_t last)
{
    knows(rig, handle, first, last);
    rig_reopen(rig);
    knows(rig, handle, first, last);
    store_close(rig->store);
    rig_run("rm -rf %s/index", rig->path, NULL);
    rig_open(rig);
    knows(rig, handle, first, last);
}

static void appends_and_writes_are_known(void **state)
{
    struct rig rig;
    rig_init(&rig);
    append(&rig, HANDLE, 1, false);
    append(&rig, HANDLE, 2, true);
    append(&rig, HANDLE, 3, false);
    always_knows(&rig, HANDLE, 1, 3);
    rig_release(&rig);
}

static void of_a_producer_the_last_ones_are_known(void **state)
{
    struct rig rig;
    rig_init(&rig);
    for (uint64_t i = 1; i <= GFS_APPEND_WINDOW + 5; i++)
        append(&rig, HANDLE, i, i % 2 == 0);
    always_knows(&rig, HANDLE, 6, GFS_APPEND_WINDOW + 5);
    rig_release(&rig);
}

static void what_a_cut_took_bytes_from_is_not_known(void **state)
{
    struct rig rig;
    rig_init(&rig);
    for (uint64_t i = 1; i <= 5; i++)
        append(&rig, HANDLE, i, i % 2 == 0);
    assert_int_equal(rig_truncate(&rig, HANDLE, 1, 4 * RECORD), GFS_OK);
    knows(&rig, HANDLE, 1, 4);
    assert_int_equal(rig_truncate(&rig, HANDLE, 1, 3 * RECORD - 1), GFS_OK);
    always_knows(&rig, HANDLE, 1, 2);
    /* Some in the index by now, some not: a cut finds both. */
    append(&rig, HANDLE, 3, true);
    assert_int_equal(rig_truncate(&rig, HANDLE, 1, 1), GFS_OK);
    always_knows(&rig, HANDLE, 1, 0);
    rig_release(&rig);
}

static void a_copy_knows_what_its_source_knew(void **state)
{
    struct rig rig;
    rig_init(&rig);
    append(&rig, HANDLE, 1, false);
    rig_reopen(&rig); /* in the index */
    append(&rig, HANDLE, 2, true);
    assert_int_equal(rig_copy(&rig, HANDLE, COPY, 1), GFS_OK);
    append(&rig, HANDLE, 3, false);
    knows(&rig, COPY, 1, 2);
    always_knows(&rig, HANDLE, 1, 3);
    knows(&rig, COPY, 1, 2);
    rig_release(&rig);
}

static void a_chunk_made_again_knows_nothing(void **state)
{
    struct rig rig;
    rig_init(&rig);
    append(&rig, HANDLE, 1, false);
    rig_reopen(&rig);
    append(&rig, HANDLE, 2, false);
    assert_int_equal(rig_delete(&rig, HANDLE), GFS_OK);
    assert_int_equal(rig_write(&rig, HANDLE, 0, "x", 1), GFS_OK);
    always_knows(&rig, HANDLE, 1, 0);
    rig_release(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_and_writes_are_known),
        cmocka_unit_test(of_a_producer_the_last_ones_are_known),
        cmocka_unit_test(what_a_cut_took_bytes_from_is_not_known),
        cmocka_unit_test(a_copy_knows_what_its_source_knew),
        cmocka_unit_test(a_chunk_made_again_knows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
