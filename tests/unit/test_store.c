/* store: what its users are promised, on a healthy disk, across reopening and kill -9. */
#include "store_rig.h"

#include <signal.h>
#include <sys/mman.h>

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

static uint8_t data_a[1 << 20];
static uint8_t data_b[1 << 20];

static void written_bytes_are_read_back_also_after_reopening(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write(rig, 7, 0, data_a, sizeof(data_a)), GFS_OK);
    for (int round = 0; round < 3; round++) {
        rig_expect(rig, 7, 0, sizeof(data_a), data_a);
        rig_expect(rig, 7, 100, 200000, data_a + 100);
        rig_expect(rig, 7, 65536, 65536, data_a + 65536);
        rig_expect(rig, 7, 0, 0, NULL);
        struct store_chunk chunk;
        assert_int_equal(store_chunk_get(rig->store, 7, &chunk), GFS_OK);
        assert_int_equal(chunk.version, 1);
        assert_int_equal(chunk.length_bytes, sizeof(data_a));
        assert_int_equal(chunk.serial, 1);
        assert_false(chunk.corrupt);
        rig_reopen(rig);
    }
}

static void reads_outside_or_of_nothing_are_errors(void **state)
{
    struct rig *rig = *state;
    uint8_t buf[8];
    struct store_read *read;
    assert_int_equal(rig_read(rig, 1, 0, 1, buf), GFS_ERR_NO_CHUNK);
    assert_int_equal(rig_write(rig, 1, 0, data_a, 100), GFS_OK);
    assert_int_equal(rig_read(rig, 1, 96, 5, buf), GFS_ERR_SHORT);
    assert_int_equal(rig_read(rig, 1, UINT32_MAX, 5, buf), GFS_ERR_SHORT);
    assert_int_equal(store_read(rig->store, 1, 2, 0, 1, &read), GFS_ERR_STALE_VERSION);
    assert_int_equal(rig_read(rig, 1, 96, 4, buf), GFS_OK);
}

static void holes_and_what_was_cut_off_read_as_zeros(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write(rig, 1, 300000, data_a, 10), GFS_OK);
    rig_expect(rig, 1, 0, 300000, NULL);
    rig_expect(rig, 1, 300000, 10, data_a);

    assert_int_equal(rig_write(rig, 2, 0, data_a, 400000), GFS_OK);
    assert_int_equal(rig_truncate(rig, 2, 1, 100000), GFS_OK);
    uint8_t buf[2];
    assert_int_equal(rig_read(rig, 2, 99999, 2, buf), GFS_ERR_SHORT);
    assert_int_equal(rig_truncate(rig, 2, 1, 500000), GFS_OK);
    for (int round = 0; round < 2; round++) {
        rig_expect(rig, 2, 0, 100000, data_a);
        rig_expect(rig, 2, 100000, 400000, NULL);
        rig_reopen(rig);
    }
    assert_int_equal(rig_write(rig, 2, 100010, data_b, 10), GFS_OK);
    rig_expect(rig, 2, 100000, 10, NULL);
    rig_expect(rig, 2, 100010, 10, data_b);
    rig_expect(rig, 2, 100020, 1000, NULL);
}

static void versions_decide_who_may_write(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write_at(rig, 1, 2, 0, data_a, 10), GFS_ERR_NO_CHUNK);
    assert_int_equal(rig_set_version(rig, 1, 1, 2), GFS_ERR_NO_CHUNK);
    assert_int_equal(rig_write(rig, 1, 0, data_a, 10), GFS_OK);
    assert_int_equal(rig_write_at(rig, 1, 2, 0, data_b, 10), GFS_ERR_STALE_VERSION);
    assert_int_equal(rig_set_version(rig, 1, 3, 4), GFS_ERR_STALE_VERSION);
    assert_int_equal(rig_set_version(rig, 1, 1, 5), GFS_OK);
    assert_int_equal(rig_set_version(rig, 1, 1, 5), GFS_OK);
    assert_int_equal(rig_write(rig, 1, 0, data_b, 10), GFS_ERR_STALE_VERSION);
    rig_reopen(rig);
    assert_int_equal(rig_write(rig, 1, 0, data_b, 10), GFS_ERR_STALE_VERSION);
    assert_int_equal(rig_write_at(rig, 1, 5, 5, data_b, 10), GFS_OK);
    rig_expect(rig, 1, 0, 5, data_a);
    rig_expect(rig, 1, 5, 10, data_b);

    struct store_mutation create = {.op = STORE_OP_SET_VERSION,
                                    .handle = 9,
                                    .version = 3,
                                    .create = true};
    assert_int_equal(rig_submit(rig, &create), GFS_OK);
    assert_int_equal(create.result.version, 3);
    assert_int_equal(create.result.length_bytes, 0);
}

static void deleted_chunks_are_gone_and_may_come_again(void **state)
{
    struct rig *rig = *state;
    uint8_t buf[1];
    assert_int_equal(rig_write(rig, 1, 0, data_a, 200000), GFS_OK);
    assert_int_equal(rig_delete(rig, 1), GFS_OK);
    assert_int_equal(rig_delete(rig, 1), GFS_OK);
    assert_int_equal(rig_read(rig, 1, 0, 1, buf), GFS_ERR_NO_CHUNK);
    struct store_stat stat;
    store_stat(rig->store, &stat);
    assert_int_equal(stat.used_bytes, 0);
    assert_int_equal(stat.chunk_count, 0);
    rig_reopen(rig);
    assert_int_equal(rig_read(rig, 1, 0, 1, buf), GFS_ERR_NO_CHUNK);
    assert_int_equal(rig_write(rig, 1, 100000, data_b, 10), GFS_OK);
    rig_expect(rig, 1, 0, 100000, NULL);
    store_stat(rig->store, &stat);
    assert_int_equal(stat.used_bytes, 10);
    assert_int_equal(stat.chunk_count, 1);
}

static void chunks_are_listed_in_order_of_handles(void **state)
{
    struct rig *rig = *state;
    static struct store_chunk chunks[2000];
    for (uint64_t i = 0; i < 700; i++)
        assert_int_equal(rig_write(rig, (i * 7919) % 1009 + 1, 0, data_a, 1), GFS_OK);
    assert_int_equal(rig_delete(rig, 1), GFS_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(store_list(rig->store, 0, chunks, 2000), 699);
        for (size_t i = 1; i < 699; i++)
            assert_true(chunks[i - 1].handle < chunks[i].handle);
        assert_int_equal(store_list(rig->store, chunks[100].handle + 1, chunks, 5), 5);
        assert_int_equal(store_list(rig->store, UINT64_MAX, chunks, 5), 0);
        rig_reopen(rig);
    }
}

/* Random overlapping writes, truncations, deletions and copies against arrays in memory. */
#define MODEL_CHUNKS 4
#define MODEL_BYTES  (3 * 65536 + 1000)
struct model {
    bool exists;
    uint32_t length;
    uint8_t data[MODEL_BYTES];
};

static void model_check(struct rig *rig, const struct model *models)
{
    for (uint64_t c = 0; c < MODEL_CHUNKS; c++) {
        struct store_chunk chunk;
        enum gfs_err err = store_chunk_get(rig->store, c + 1, &chunk);
        assert_int_equal(err, models[c].exists ? GFS_OK : GFS_ERR_NO_CHUNK);
        if (!models[c].exists)
            continue;
        assert_int_equal(chunk.length_bytes, models[c].length);
        rig_expect(rig, c + 1, 0, models[c].length, models[c].data);
    }
}

static void model_write(struct rig *rig, struct model *model, uint64_t handle, unsigned *seed)
{
    uint32_t offset = (uint32_t)rand_r(seed) % MODEL_BYTES;
    uint32_t most = rand_r(seed) % 4 == 0 ? 150000 : 3000;
    uint32_t length = 1 + (uint32_t)rand_r(seed) % most;
    length = length < MODEL_BYTES - offset ? length : MODEL_BYTES - offset;
    uint32_t from = (uint32_t)rand_r(seed) % 100000;
    assert_int_equal(rig_write(rig, handle, offset, data_b + from, length), GFS_OK);
    model->exists = true;
    memcpy(model->data + offset, data_b + from, length);
    model->length = model->length > offset + length ? model->length : offset + length;
}

static void model_step(struct rig *rig, struct model *models, unsigned *seed)
{
    unsigned dice = (unsigned)rand_r(seed) % 100;
    uint64_t c = (uint64_t)rand_r(seed) % MODEL_CHUNKS;
    struct model *model = &models[c];
    if (dice < 90) {
        model_write(rig, model, c + 1, seed);
    } else if (dice < 96 && model->exists) {
        uint32_t length = (uint32_t)rand_r(seed) % MODEL_BYTES;
        assert_int_equal(rig_truncate(rig, c + 1, 1, length), GFS_OK);
        if (length < model->length)
            memset(model->data + length, 0, model->length - length);
        model->length = length;
    } else if (dice < 98) {
        assert_int_equal(rig_delete(rig, c + 1), GFS_OK);
        memset(model, 0, sizeof(*model));
    } else {
        struct model *from = &models[(c + 1) % MODEL_CHUNKS];
        enum gfs_err want = !from->exists   ? GFS_ERR_NO_CHUNK
                            : model->exists ? GFS_ERR_EXISTS
                                            : GFS_OK;
        uint64_t source = (c + 1) % MODEL_CHUNKS + 1;
        enum gfs_err got = rig_copy(rig, source, c + 1, 1);
        /* Again: an untouched copy is as good. */
        if (want == GFS_ERR_EXISTS && got == GFS_OK)
            assert_memory_equal(model, from, sizeof(*model));
        else
            assert_int_equal(got, want);
        if (want == GFS_OK)
            *model = *from;
    }
}

static void random_mutations_agree_with_a_model(void **state)
{
    struct rig *rig = *state;
    struct model *models = calloc(MODEL_CHUNKS, sizeof(*models));
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)atoi(text) : 1;
    store_close(rig->store);
    rig->opts.data_db_max_bytes = 3 << 20;
    rig_open(rig);
    for (int round = 0; round < 6; round++) {
        for (int step = 0; step < 200; step++)
            model_step(rig, models, &seed);
        model_check(rig, models);
        rig_reopen(rig);
        model_check(rig, models);
    }
    /* And once more from the log alone. */
    store_close(rig->store);
    rig_run("rm -rf %s/index", rig->path, NULL);
    rig_open(rig);
    model_check(rig, models);
    free(models);
}

static void small_appends_are_merged_and_read_back(void **state)
{
    struct rig *rig = *state;
    for (uint32_t at = 0; at < 200000; at += 500)
        assert_int_equal(rig_write(rig, 1, at, data_a + at, 500), GFS_OK);
    rig_expect(rig, 1, 0, 200000, data_a);
    rig_reopen(rig);
    rig_expect(rig, 1, 0, 200000, data_a);
}

/* Many tiny writes in one block at once: they are merged, and meanwhile refused as BUSY. */
static void a_block_of_crumbs_is_merged(void **state)
{
    struct rig *rig = *state;
    static struct store_mutation mutations[5000];
    static struct store_piece pieces[5000];
    static struct rig_wait waits[5000];
    for (uint32_t i = 0; i < 5000; i++) {
        pieces[i] = (struct store_piece){data_a + 2 * i, 1, crc32c(0, data_a + 2 * i, 1)};
        waits[i] = (struct rig_wait){PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
        mutations[i] = (struct store_mutation){
            .op = STORE_OP_WRITE,
            .handle = 1,
            .version = 1,
            .create = true,
            .offset_bytes = 2 * i,
            .length_bytes = 1,
            .pieces = &pieces[i],
            .piece_count = 1,
            .done = rig_done,
            .arg = &waits[i],
        };
        assert_int_equal(store_submit(rig->store, &mutations[i]), GFS_OK);
    }
    assert_int_equal(store_sync(rig->store), GFS_OK);
    for (uint32_t i = 0; i < 5000; i++) {
        if (waits[i].err == GFS_OK)
            continue;
        assert_int_equal(waits[i].err, GFS_ERR_BUSY);
        RIG_UNTIL(rig_write(rig, 1, 2 * i, data_a + 2 * i, 1) == GFS_OK);
    }
    static uint8_t want[9999];
    for (uint32_t i = 0; i < 9999; i++)
        want[i] = i % 2 == 0 ? data_a[i] : 0;
    rig_expect(rig, 1, 0, 9999, want);
    rig_reopen(rig);
    rig_expect(rig, 1, 0, 9999, want);
}

static void copies_share_and_part(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write(rig, 1, 0, data_a, 200000), GFS_OK);
    assert_int_equal(rig_copy(rig, 1, 2, 4), GFS_OK);
    assert_int_equal(rig_copy(rig, 1, 2, 4), GFS_OK);
    assert_int_equal(rig_copy(rig, 1, 2, 5), GFS_ERR_EXISTS);
    assert_int_equal(rig_copy(rig, 77, 3, 4), GFS_ERR_NO_CHUNK);
    assert_int_equal(rig_write_at(rig, 2, 4, 10, data_b, 100), GFS_OK);
    assert_int_equal(rig_delete(rig, 1), GFS_OK);
    for (int round = 0; round < 2; round++) {
        rig_expect(rig, 2, 0, 10, data_a);
        rig_expect(rig, 2, 10, 100, data_b);
        rig_expect(rig, 2, 110, 199890, data_a + 110);
        rig_reopen(rig);
    }
}

static void malformed_mutations_are_refused(void **state)
{
    struct rig *rig = *state;
    struct store_piece piece = {data_a, 65537, 0};
    struct store_mutation mutation = {
        .op = STORE_OP_WRITE,
        .handle = 1,
        .version = 1,
        .create = true,
        .length_bytes = 65537,
        .pieces = &piece,
        .piece_count = 1,
    };
    assert_int_equal(rig_submit(rig, &mutation), GFS_ERR_INVAL);
    piece.length_bytes = 10;
    assert_int_equal(rig_submit(rig, &mutation), GFS_ERR_INVAL);
    mutation.length_bytes = 10;
    mutation.offset_bytes = 65530;
    assert_int_equal(rig_submit(rig, &mutation), GFS_ERR_INVAL);
    mutation.offset_bytes = GFS_CHUNK_SIZE_MAX_BYTES;
    assert_int_equal(rig_submit(rig, &mutation), GFS_ERR_INVAL);
    mutation.offset_bytes = 0;
    mutation.piece_count = 0;
    assert_int_equal(rig_submit(rig, &mutation), GFS_ERR_INVAL);
}

/* ---- queue ----------------------------------------------------------------------------------- */

static void gate_done(struct store_mutation *mutation, enum gfs_err err)
{
    pthread_mutex_t *gate = mutation->arg;
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
}

static void a_full_queue_is_busy_and_drains(void **state)
{
    struct rig *rig = *state;
    store_close(rig->store);
    rig->opts.queue_max_bytes = 300000;
    rig_open(rig);
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    static struct store_mutation mutations[10];
    struct store_piece piece = {data_a, 65536, crc32c(0, data_a, 65536)};
    pthread_mutex_lock(&gate);
    int taken = 0;
    enum gfs_err err = GFS_OK;
    while (err == GFS_OK && taken < 10) {
        mutations[taken] = (struct store_mutation){
            .op = STORE_OP_WRITE,
            .handle = 1,
            .version = 1,
            .create = true,
            .length_bytes = 65536,
            .pieces = &piece,
            .piece_count = 1,
            .done = gate_done,
            .arg = &gate,
        };
        err = store_submit(rig->store, &mutations[taken]);
        taken += err == GFS_OK;
    }
    assert_int_equal(err, GFS_ERR_BUSY);
    assert_in_range(taken, 4, 5);
    pthread_mutex_unlock(&gate);
    assert_int_equal(store_sync(rig->store), GFS_OK);
    assert_int_equal(rig_write(rig, 1, 0, data_a, 10), GFS_OK);
}

static void below_the_watermark_only_deletion_goes_on(void **state)
{
    struct rig *rig = *state;
    assert_int_equal(rig_write(rig, 1, 0, data_a, 10), GFS_OK);
    store_close(rig->store);
    rig->opts.free_min_bytes = UINT64_MAX;
    rig_open(rig);
    struct store_stat stat;
    store_stat(rig->store, &stat);
    assert_true(stat.read_only);
    assert_false(stat.failed);
    assert_int_equal(rig_write(rig, 1, 0, data_a, 10), GFS_ERR_READ_ONLY);
    rig_expect(rig, 1, 0, 10, data_a);
    assert_int_equal(rig_delete(rig, 1), GFS_OK);
}

static void a_directory_serves_one_store(void **state)
{
    struct rig *rig = *state;
    struct store *second;
    assert_int_equal(store_open(rig->path, &rig->opts, &second), GFS_ERR_LOCKED);
}

/* ---- kill -9 --------------------------------------------------------------------------------- */

/* The child is a program of its own: LevelDB's background thread does not survive a fork. */
static uint32_t *counter_map(const char *path)
{
    int fd = open(path, O_CREAT | O_RDWR, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED);
    close(fd);
    return at;
}

static void kill_options(struct rig *rig)
{
    rig->opts.sync = true;
    rig->opts.free_min_bytes = 1;
    rig->opts.write_buffer_bytes = 1 << 20;
    rig->opts.data_db_max_bytes = 2 << 20;
}

/* Writes for ever, counting in shared memory what was acknowledged. */
static int child_main(const char *path, const char *counter)
{
    struct rig rig = {0};
    snprintf(rig.path, sizeof(rig.path), "%s", path);
    kill_options(&rig);
    rig_open(&rig);
    uint32_t *acknowledged = counter_map(counter);
    for (uint32_t i = *acknowledged; i < 1000000; i++) {
        uint32_t at = (i * 5000) % 600000;
        if (rig_write(&rig, 1 + i / 120, at, data_a + i % 1000, 5000) != GFS_OK)
            return 1;
        __atomic_store_n(acknowledged, i + 1, __ATOMIC_RELEASE);
    }
    return 2;
}

static void what_was_acknowledged_survives_kill_9(void **state)
{
    struct rig *rig = *state;
    char counter[80];
    snprintf(counter, sizeof(counter), "%s.count", rig->path);
    store_close(rig->store);
    rig->store = NULL;
    kill_options(rig);
    uint32_t *acknowledged = counter_map(counter);
    for (uint32_t round = 1; round <= 4; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            execl("/proc/self/exe", "test_store", "--child", rig->path, counter, (char *)NULL);
            _exit(127);
        }
        RIG_UNTIL(__atomic_load_n(acknowledged, __ATOMIC_ACQUIRE) >= 150 * round);
        kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        rig_open(rig);
        for (uint32_t i = 0; i < *acknowledged; i++)
            rig_expect(rig, 1 + i / 120, (i * 5000) % 600000, 5000, data_a + i % 1000);
        store_close(rig->store);
    }
    munmap(acknowledged, 4096);
    unlink(counter);
    rig_open(rig);
}

int main(int argc, char **argv)
{
    rig_fill(data_a, sizeof(data_a), 1);
    rig_fill(data_b, sizeof(data_b), 2);
    if (argc == 4 && strcmp(argv[1], "--child") == 0)
        return child_main(argv[2], argv[3]);
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        STORE_TEST(written_bytes_are_read_back_also_after_reopening),
        STORE_TEST(reads_outside_or_of_nothing_are_errors),
        STORE_TEST(holes_and_what_was_cut_off_read_as_zeros),
        STORE_TEST(versions_decide_who_may_write),
        STORE_TEST(deleted_chunks_are_gone_and_may_come_again),
        STORE_TEST(chunks_are_listed_in_order_of_handles),
        STORE_TEST(random_mutations_agree_with_a_model),
        STORE_TEST(small_appends_are_merged_and_read_back),
        STORE_TEST(a_block_of_crumbs_is_merged),
        STORE_TEST(copies_share_and_part),
        STORE_TEST(malformed_mutations_are_refused),
        STORE_TEST(a_full_queue_is_busy_and_drains),
        STORE_TEST(below_the_watermark_only_deletion_goes_on),
        STORE_TEST(a_directory_serves_one_store),
        STORE_TEST(what_was_acknowledged_survives_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
