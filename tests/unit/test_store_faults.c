/* store: damage and loss are found, never served; what is not concerned goes on. */
#include "store_rig.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#define CHUNKS      6
#define CHUNK_BYTES 500000u
#define FLIPS       40
#define SMALL_BYTES 700u

static uint8_t data[CHUNKS][CHUNK_BYTES];

static int setup(void **state)
{
    struct rig *rig = malloc(sizeof(*rig));
    rig_init(rig);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    rig_release(*state);
    free(*state);
    return 0;
}

/* Chunks 1..CHUNKS, each whole in blocks with some fragments over them. */
static void chunks_write(struct rig *rig)
{
    for (uint64_t c = 0; c < CHUNKS; c++) {
        rig_fill(data[c], CHUNK_BYTES, c + 10);
        assert_int_equal(rig_write(rig, c + 1, 0, data[c], CHUNK_BYTES), GFS_OK);
    }
    for (uint64_t c = 0; c < CHUNKS; c++) {
        uint32_t at = 1000 + (uint32_t)c * 70000;
        rig_fill(data[c] + at, SMALL_BYTES, c + 50);
        assert_int_equal(rig_write(rig, c + 1, at, data[c] + at, SMALL_BYTES), GFS_OK);
    }
}

/* How many chunks are read whole. Nothing but the right bytes or an error is allowed. */
static size_t chunks_count_good(struct rig *rig)
{
    static uint8_t buf[CHUNK_BYTES];
    size_t good = 0;
    for (uint64_t c = 0; c < CHUNKS; c++) {
        enum gfs_err err = rig_read(rig, c + 1, 0, CHUNK_BYTES, buf);
        if (err == GFS_OK) {
            assert_memory_equal(buf, data[c], CHUNK_BYTES);
            good++;
            continue;
        }
        assert_int_equal(err, GFS_ERR_CORRUPT);
        RIG_UNTIL(rig_is_corrupt(rig, c + 1));
    }
    return good;
}

/* The directory as kill -9 would leave it now, as another rig's, not opened. */
static void image_take(const struct rig *rig, struct rig *ret_image)
{
    *ret_image = *rig;
    ret_image->store = NULL;
    strcpy(ret_image->path, "/tmp/store-test-XXXXXX");
    assert_non_null(mkdtemp(ret_image->path));
    rig_run("cp -r %s/. %s", rig->path, ret_image->path);
}

/* Every file of the databases that LevelDB relies on. */
static size_t files_find(const struct rig *rig, const char *prefix, char ret_files[][512],
                         size_t max)
{
    char command[256];
    snprintf(command, sizeof(command),
             "find %s/%s* -type f ! -name LOCK ! -name 'LOG*' -size +0 | sort", rig->path, prefix);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t count = 0;
    while (count < max && fgets(ret_files[count], 512, pipe) != NULL) {
        ret_files[count][strcspn(ret_files[count], "\n")] = '\0';
        count++;
    }
    pclose(pipe);
    assert_true(count > 0);
    return count;
}

static void file_flip(const char *path, unsigned *seed)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    off_t size = lseek(fd, 0, SEEK_END);
    off_t at = (off_t)((uint64_t)rand_r(seed) % (uint64_t)size);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << (rand_r(seed) % 8));
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Returns how many chunks of all the rounds were lost. */
static size_t flips_run(struct rig *rig, const char *prefix)
{
    static char files[200][512];
    unsigned seed = 7;
    size_t lost = 0;
    for (int round = 0; round < FLIPS; round++) {
        struct rig image;
        image_take(rig, &image);
        size_t count = files_find(&image, prefix, files, 200);
        file_flip(files[(size_t)round % count], &seed);
        rig_open(&image);
        lost += CHUNKS - chunks_count_good(&image);
        /* What was lost stays lost, and what was not does not become so. */
        size_t good = chunks_count_good(&image);
        rig_reopen(&image);
        assert_int_equal(chunks_count_good(&image), good);
        rig_release(&image);
    }
    return lost;
}

static void a_flipped_bit_in_the_log_is_found(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    assert_true(flips_run(rig, "data-") > 0);
}

static void a_flipped_bit_in_a_table_is_found(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    /* Opening writes what is in the logs into tables. */
    rig_reopen(rig);
    rig_reopen(rig);
    assert_true(flips_run(rig, "data-") > 0);
}

static void a_flipped_bit_in_the_index_costs_nothing(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    rig_reopen(rig);
    assert_int_equal(flips_run(rig, "index"), 0);
}

static void file_scribble(const char *path)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "scribble", 8), 8);
    close(fd);
}

static void a_database_that_does_not_open_is_set_aside(void **state)
{
    struct rig *rig = *state;
    static char files[200][512];
    store_close(rig->store);
    rig->opts.data_db_max_bytes = 1 << 20;
    rig_open(rig);
    chunks_write(rig);
    store_close(rig->store);
    assert_true(rig_databases(rig, NULL) > 2);
    size_t count = files_find(rig, "data-", files, 200);
    for (size_t i = 0; i < count; i++) {
        if (strstr(files[i], "MANIFEST") != NULL) {
            file_scribble(files[i]);
            break;
        }
    }
    rig_open(rig);
    size_t good = chunks_count_good(rig);
    assert_in_range(good, 1, CHUNKS - 1);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(rig_write(rig, 100, 0, data[0], CHUNK_BYTES), GFS_OK);
        rig_reopen(rig);
        assert_int_equal(chunks_count_good(rig), good);
        rig_expect(rig, 100, 0, CHUNK_BYTES, data[0]);
    }
    /* A lost chunk is replaced: deleted, then cloned. */
    for (uint64_t c = 0; c < CHUNKS; c++) {
        if (!rig_is_corrupt(rig, c + 1))
            continue;
        assert_int_equal(rig_write(rig, c + 1, 0, data[c], 10), GFS_ERR_CORRUPT);
        assert_int_equal(rig_delete(rig, c + 1), GFS_OK);
        assert_int_equal(rig_write(rig, c + 1, 0, data[c], CHUNK_BYTES), GFS_OK);
    }
    assert_int_equal(chunks_count_good(rig), CHUNKS);
    rig_reopen(rig);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
}

static void an_index_that_is_gone_is_made_again(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    assert_int_equal(rig_set_version(rig, 2, 1, 6), GFS_OK);
    assert_int_equal(rig_truncate(rig, 3, 1, 100000), GFS_OK);
    assert_int_equal(rig_truncate(rig, 3, 1, CHUNK_BYTES), GFS_OK);
    memset(data[2] + 100000, 0, CHUNK_BYTES - 100000);
    assert_int_equal(rig_delete(rig, 4), GFS_OK);
    store_close(rig->store);
    rig_run("rm -rf %s/index", rig->path, NULL);
    rig_open(rig);
    struct store_chunk chunk;
    assert_int_equal(store_chunk_get(rig->store, 4, &chunk), GFS_ERR_NO_CHUNK);
    assert_int_equal(store_chunk_get(rig->store, 2, &chunk), GFS_OK);
    assert_int_equal(chunk.version, 6);
    assert_int_equal(rig_write(rig, 4, 0, data[3], CHUNK_BYTES), GFS_OK);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
}

static void a_directory_of_another_format_is_refused(void **state)
{
    struct rig *rig = *state;
    store_close(rig->store);
    rig->store = NULL;
    rig_run("echo gfs-store 99 > %s/FORMAT", rig->path, NULL);
    assert_int_equal(store_open(rig->path, &rig->opts, &rig->store), GFS_ERR_BAD_FORMAT);
    rig->store = NULL;
}

/* A log cut off in its last record is what a crash leaves: not a loss. */
static void a_torn_end_of_the_log_is_no_loss(void **state)
{
    struct rig *rig = *state;
    static char files[200][512];
    chunks_write(rig);
    store_close(rig->store);
    size_t count = files_find(rig, "data-", files, 200);
    size_t cut = 0;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(files[i]);
        if (strcmp(files[i] + length - 4, ".log") != 0)
            continue;
        int fd = open(files[i], O_WRONLY | O_APPEND);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, data[0], 5), 5);
        close(fd);
        cut++;
    }
    assert_true(cut > 0);
    rig_open(rig);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
}

/* A power cut in the making of a database leaves parts of it, with nothing in them. */
static void a_database_cut_off_in_its_making_is_no_loss(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    store_close(rig->store);
    rig_run("mkdir %s/data-00000000000fffff && touch %s/data-00000000000fffff/000003.log",
            rig->path, rig->path);
    rig_open(rig);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
    assert_int_equal(rig_write(rig, 50, 0, data[0], CHUNK_BYTES), GFS_OK);
    rig_reopen(rig);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
    rig_expect(rig, 50, 0, CHUNK_BYTES, data[0]);
}

static void a_full_disk_fails_writes_and_loses_nothing(void **state)
{
    struct rig *rig = *state;
    store_close(rig->store);
    rig->store = NULL;
    if (mount("tmpfs", rig->path, "tmpfs", 0, "size=12m") != 0) {
        print_message("skipped: mounting a tmpfs needs root\n");
        skip();
    }
    rig_open(rig);
    uint32_t written = 0;
    enum gfs_err err = GFS_OK;
    for (; written < 400 && err == GFS_OK; written += err == GFS_OK)
        err = rig_write(rig, 1 + written % 3, written / 3 * 65536, data[0] + written, 65536);
    assert_true(err == GFS_ERR_NO_SPACE || err == GFS_ERR_READ_ONLY);
    for (int round = 0; round < 2; round++) {
        struct store_stat stat;
        store_stat(rig->store, &stat);
        assert_false(stat.failed);
        for (uint32_t i = 0; i < written; i++)
            rig_expect(rig, 1 + i % 3, i / 3 * 65536, 65536, data[0] + i);
        if (round == 1)
            break;
        assert_int_equal(mount("tmpfs", rig->path, "tmpfs", MS_REMOUNT, "size=64m"), 0);
        RIG_UNTIL(rig_write(rig, 8, 0, data[0], CHUNK_BYTES) == GFS_OK);
        rig_reopen(rig);
    }
    rig_expect(rig, 8, 0, CHUNK_BYTES, data[0]);
    assert_int_equal(rig_write(rig, 9, 0, data[0], CHUNK_BYTES), GFS_OK);
    rig_reopen(rig);
    rig_expect(rig, 9, 0, CHUNK_BYTES, data[0]);
    store_close(rig->store);
    assert_int_equal(umount(rig->path), 0);
    rig_open(rig);
}

/* Stands for a disk that refuses to write. */
static void a_write_error_fails_the_store_for_good(void **state)
{
    struct rig *rig = *state;
    chunks_write(rig);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum gfs_err err = rig_write(rig, 50, 0, data[0], CHUNK_BYTES);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(err, GFS_ERR_IO);
    struct store_stat stat;
    store_stat(rig->store, &stat);
    assert_true(stat.failed);
    assert_true(stat.read_only);
    assert_int_equal(rig_write(rig, 51, 0, data[0], 10), GFS_ERR_IO);
    assert_int_equal(store_sync(rig->store), GFS_ERR_IO);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
    rig_reopen(rig);
    assert_int_equal(chunks_count_good(rig), CHUNKS);
    assert_int_equal(rig_write(rig, 52, 0, data[0], CHUNK_BYTES), GFS_OK);
}

int main(void)
{
    rig_fill(data[0], CHUNK_BYTES, 3);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_flipped_bit_in_the_log_is_found),
        STORE_TEST(a_flipped_bit_in_a_table_is_found),
        STORE_TEST(a_flipped_bit_in_the_index_costs_nothing),
        STORE_TEST(a_database_that_does_not_open_is_set_aside),
        STORE_TEST(an_index_that_is_gone_is_made_again),
        STORE_TEST(a_directory_of_another_format_is_refused),
        STORE_TEST(a_torn_end_of_the_log_is_no_loss),
        STORE_TEST(a_write_error_fails_the_store_for_good),
        STORE_TEST(a_database_cut_off_in_its_making_is_no_loss),
        STORE_TEST(a_full_disk_fails_writes_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
