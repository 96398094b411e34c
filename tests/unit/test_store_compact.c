/* store: space comes back, and nothing that lives is lost by it. */
#include "store_rig.h"

#include <signal.h>
#include <sys/mman.h>

#include "chunkserver/store_impl.h"

#define BYTES 600000u

static uint8_t data[BYTES + 4096];

static void options(struct rig *rig)
{
    rig->opts.sync = true;
    rig->opts.free_min_bytes = 1;
    rig->opts.write_buffer_bytes = 1 << 20;
    rig->opts.data_db_max_bytes = 1 << 20;
}

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_init(rig);
    store_close(rig->store);
    options(rig);
    rig_open(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_release(*state);
    free(*state);
    return 0;
}

static void expect_whole(struct rig *rig, uint64_t handle)
{
    rig_expect(rig, handle, 0, BYTES, data + handle);
}

/* Chunks 1..count; all but every sixth are deleted. */
static void make_holes(struct rig *rig, uint64_t count)
{
    for (uint64_t h = 1; h <= count; h++)
        assert_int_equal(rig_write(rig, h, 0, data + h, BYTES), GFS_OK);
    for (uint64_t h = 1; h <= count; h++) {
        if (h % 6 != 0)
            assert_int_equal(rig_delete(rig, h), GFS_OK);
    }
}

static void check_holes(struct rig *rig, uint64_t count)
{
    struct store_chunk chunk;
    for (uint64_t h = 1; h <= count; h++) {
        if (h % 6 == 0)
            expect_whole(rig, h);
        else
            assert_int_equal(store_chunk_get(rig->store, h, &chunk), GFS_ERR_NO_CHUNK);
    }
}

static void space_of_deleted_chunks_comes_back(void **state)
{
    struct rig *rig = *state;
    make_holes(rig, 24);
    RIG_UNTIL(rig_databases(rig, NULL) <= 5);
    check_holes(rig, 24);
    rig_reopen(rig);
    check_holes(rig, 24);
    struct store_stat stat;
    store_stat(rig->store, &stat);
    assert_int_equal(stat.used_bytes, 4 * BYTES);
}

static void after_compaction_the_index_can_be_made_again(void **state)
{
    struct rig *rig = *state;
    /* The oldest database stays full of life, so deletions in later ones must be carried on. */
    assert_int_equal(rig_write(rig, 100, 0, data + 100, BYTES), GFS_OK);
    assert_int_equal(rig_write(rig, 101, 0, data + 101, BYTES / 8), GFS_OK);
    assert_int_equal(rig_write(rig, 102, 0, data + 102, BYTES / 8), GFS_OK);
    assert_int_equal(rig_write(rig, 103, 0, data + 103, BYTES / 2), GFS_OK);
    make_holes(rig, 8);
    assert_int_equal(rig_delete(rig, 101), GFS_OK);
    assert_int_equal(rig_truncate(rig, 102, 1, 1000), GFS_OK);
    assert_int_equal(rig_truncate(rig, 102, 1, BYTES / 8), GFS_OK);
    assert_int_equal(rig_copy(rig, 103, 104, 3), GFS_OK);
    assert_int_equal(rig_delete(rig, 103), GFS_OK);
    make_holes(rig, 8);
    RIG_UNTIL(rig_databases(rig, NULL) <= 4);
    store_close(rig->store);
    rig_run("rm -rf %s/index", rig->path, NULL);
    rig_open(rig);
    check_holes(rig, 8);
    expect_whole(rig, 100);
    struct store_chunk chunk;
    assert_int_equal(store_chunk_get(rig->store, 101, &chunk), GFS_ERR_NO_CHUNK);
    assert_int_equal(store_chunk_get(rig->store, 103, &chunk), GFS_ERR_NO_CHUNK);
    rig_expect(rig, 102, 0, 1000, data + 102);
    rig_expect(rig, 102, 1000, BYTES / 8 - 1000, NULL);
    rig_expect(rig, 104, 0, BYTES / 2, data + 103);
    assert_int_equal(store_chunk_get(rig->store, 104, &chunk), GFS_OK);
    assert_int_equal(chunk.version, 3);
}

static size_t databases_in_use(struct store *store)
{
    pthread_rwlock_rdlock(&store->publish);
    size_t count = store->log.set->count;
    pthread_rwlock_unlock(&store->publish);
    return count;
}

static void readers_keep_what_compaction_removes(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write(rig, 6, 0, data + 6, BYTES), GFS_OK);
    struct store_read *read;
    assert_int_equal(store_read(rig->store, 6, 0, 0, BYTES, &read), GFS_OK);
    assert_int_equal(rig_write(rig, 7, 0, data + 7, BYTES), GFS_OK);
    assert_int_equal(rig_delete(rig, 6), GFS_OK);
    assert_int_equal(rig_delete(rig, 7), GFS_OK);
    assert_int_equal(rig_write(rig, 8, 0, data + 8, BYTES), GFS_OK);
    const struct store_read_info *info = store_read_info(read);
    /* The first database is emptied and dropped, but stays while it is being read. */
    RIG_UNTIL(databases_in_use(rig->store) == 1);
    assert_int_equal(rig_databases(rig, NULL), 2);
    uint32_t at = 0;
    for (size_t i = 0; i < info->piece_count; i++) {
        assert_memory_equal(info->pieces[i].data, data + 6 + at, info->pieces[i].length_bytes);
        at += info->pieces[i].length_bytes;
    }
    store_read_release(read);
    RIG_UNTIL(rig_databases(rig, NULL) == 1);
    expect_whole(rig, 8);
}

/* ---- kill -9 while space is won back --------------------------------------------------------- */

/* Chunk h is being replaced for ever: in shared memory, the newest acknowledged contents of each.
 */
#define KILL_CHUNKS 6

static uint64_t *marks_map(const char *path)
{
    int fd = open(path, O_CREAT | O_RDWR, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED);
    close(fd);
    return at;
}

static int child_main(const char *path, const char *marks_path)
{
    struct rig rig = {0};
    snprintf(rig.path, sizeof(rig.path), "%s", path);
    options(&rig);
    rig_open(&rig);
    uint64_t *marks = marks_map(marks_path);
    for (uint64_t round = marks[0] + 1; round < 100000; round++) {
        uint64_t h = 1 + round % KILL_CHUNKS;
        /* Odd: under way. */
        __atomic_store_n(&marks[h], 2 * round + 1, __ATOMIC_RELEASE);
        if (rig_delete(&rig, h) != GFS_OK ||
            rig_write(&rig, h, 0, data + round % 1000, BYTES / 2) != GFS_OK)
            return 1;
        __atomic_store_n(&marks[h], 2 * round, __ATOMIC_RELEASE);
        __atomic_store_n(&marks[0], round, __ATOMIC_RELEASE);
    }
    return 2;
}

static void kills_during_compaction_lose_nothing(void **state)
{
    struct rig *rig = *state;
    char marks_path[80];
    snprintf(marks_path, sizeof(marks_path), "%s.marks", rig->path);
    store_close(rig->store);
    rig->store = NULL;
    uint64_t *marks = marks_map(marks_path);
    for (uint64_t round = 1; round <= 5; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            execl("/proc/self/exe", "test", "--child", rig->path, marks_path, (char *)NULL);
            _exit(127);
        }
        char first[300];
        char now[300];
        RIG_UNTIL(__atomic_load_n(&marks[0], __ATOMIC_ACQUIRE) >= 40 * round);
        rig_databases(rig, first);
        RIG_UNTIL((rig_databases(rig, now), strcmp(first, now) != 0));
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        /* Every other time the index is lost as well. */
        if (round % 2 == 0)
            rig_run("rm -rf %s/index", rig->path, NULL);
        rig_open(rig);
        for (uint64_t h = 1; h <= KILL_CHUNKS; h++) {
            if (marks[h] != 0 && marks[h] % 2 == 0)
                rig_expect(rig, h, 0, BYTES / 2, data + marks[h] / 2 % 1000);
            assert_false(rig_is_corrupt(rig, h));
        }
        store_close(rig->store);
    }
    munmap(marks, 4096);
    unlink(marks_path);
    rig_open(rig);
}

/* What the index says of the source is newer than the copy when that is replayed. */
static int copy_child(const char *path)
{
    struct rig made = {.opts.sync = true, .opts.free_min_bytes = 1}, *rig = &made;
    static uint8_t old[3 * 65536], new[65536];
    rig_fill(old, sizeof(old), 1);
    rig_fill(new, sizeof(new), 2);
    snprintf(rig->path, sizeof(rig->path), "%s", path);
    rig_open(rig);
    assert_int_equal(rig_write(rig, 1, 0, old, sizeof(old)), GFS_OK);
    assert_int_equal(rig_copy(rig, 1, 2, 1), GFS_OK);
    assert_int_equal(rig_write(rig, 1, 0, new, sizeof(new)), GFS_OK);
    assert_int_equal(rig_write(rig, 1, 2 * 65536 + 7, new, 500), GFS_OK);
    _exit(0);
}

static void a_copy_is_of_its_moment_also_after_a_kill(void **state)
{
    struct rig *rig = *state;
    static uint8_t old[3 * 65536];
    int status;
    rig_fill(old, sizeof(old), 1);
    store_close(rig->store);
    rig->store = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "test", "--copy", rig->path, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    rig_open(rig);
    rig_expect(rig, 2, 0, sizeof(old), old);
    struct store_chunk copy;
    assert_int_equal(store_chunk_get(rig->store, 2, &copy), GFS_OK);
    /* Its own serials: below those of any write under its version. */
    assert_int_equal(copy.serial, (uint64_t)copy.version << 32);
}

int main(int argc, char **argv)
{
    rig_fill(data, sizeof(data), 5);
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child_main(argv[2], argv[3]);
    if (argc == 3 && strcmp(argv[1], "--copy") == 0)
        return copy_child(argv[2]);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(space_of_deleted_chunks_comes_back),
        STORE_TEST(after_compaction_the_index_can_be_made_again),
        STORE_TEST(readers_keep_what_compaction_removes),
        STORE_TEST(kills_during_compaction_lose_nothing),
        STORE_TEST(a_copy_is_of_its_moment_also_after_a_kill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
