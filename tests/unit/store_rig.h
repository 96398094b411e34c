/* store_rig: a store in a directory of its own, with blocking calls, for the store's tests. */
#ifndef TESTS_STORE_RIG_H
#define TESTS_STORE_RIG_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "chunkserver/store.h"
#include "crc.h"

#define RIG_UNUSED __attribute__((unused))
#define RIG_PIECES 257

struct rig {
    char path[64];
    struct store_options opts;
    struct store *store;
    uint64_t serial;
};

static RIG_UNUSED void rig_run(const char *format, const char *a, const char *b)
{
    char command[512];
    snprintf(command, sizeof(command), format, a, b);
    assert_int_equal(system(command), 0);
}

static RIG_UNUSED void rig_open(struct rig *rig)
{
    assert_int_equal(store_open(rig->path, &rig->opts, &rig->store), GFS_OK);
}

static RIG_UNUSED void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    strcpy(rig->path, "/tmp/store-test-XXXXXX");
    assert_non_null(mkdtemp(rig->path));
    rig->opts.sync = true;
    rig->opts.free_min_bytes = 1;
    rig->opts.write_buffer_bytes = 1 << 20;
    rig_open(rig);
}

static RIG_UNUSED void rig_release(struct rig *rig)
{
    store_close(rig->store);
    rig_run("rm -rf %s", rig->path, NULL);
}

static RIG_UNUSED void rig_reopen(struct rig *rig)
{
    store_close(rig->store);
    rig_open(rig);
}

/* ---- mutations that wait --------------------------------------------------------------------- */

struct rig_wait {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
    enum gfs_err err;
};

static RIG_UNUSED void rig_done(struct store_mutation *mutation, enum gfs_err err)
{
    struct rig_wait *wait = mutation->arg;
    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->err = err;
    pthread_cond_signal(&wait->wake);
    pthread_mutex_unlock(&wait->lock);
}

static RIG_UNUSED enum gfs_err rig_submit(struct rig *rig, struct store_mutation *mutation)
{
    struct rig_wait wait = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    mutation->done = rig_done;
    mutation->arg = &wait;
    enum gfs_err err = store_submit(rig->store, mutation);
    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&wait.lock);
    while (!wait.done)
        pthread_cond_wait(&wait.wake, &wait.lock);
    pthread_mutex_unlock(&wait.lock);
    return wait.err;
}

/* Cuts data at block boundaries. Returns the number of pieces. */
static RIG_UNUSED size_t rig_pieces(uint32_t offset, const uint8_t *data, uint32_t length,
                                    struct store_piece *ret_pieces)
{
    size_t count = 0;
    while (length > 0) {
        uint32_t step = GFS_BLOCK_SIZE_BYTES - offset % GFS_BLOCK_SIZE_BYTES;
        step = step < length ? step : length;
        ret_pieces[count++] = (struct store_piece){data, step, crc32c(0, data, step)};
        offset += step;
        data += step;
        length -= step;
    }
    return count;
}

static RIG_UNUSED enum gfs_err rig_write_at(struct rig *rig, uint64_t handle, uint32_t version,
                                            uint32_t offset, const void *data, uint32_t length)
{
    struct store_piece pieces[RIG_PIECES];
    struct store_mutation mutation = {
        .op = STORE_OP_WRITE,
        .handle = handle,
        .version = version,
        .serial = ++rig->serial,
        .create = version == 1,
        .offset_bytes = offset,
        .length_bytes = length,
        .pieces = pieces,
        .piece_count = rig_pieces(offset, data, length, pieces),
    };
    return rig_submit(rig, &mutation);
}

static RIG_UNUSED enum gfs_err rig_write(struct rig *rig, uint64_t handle, uint32_t offset,
                                         const void *data, uint32_t length)
{
    return rig_write_at(rig, handle, 1, offset, data, length);
}

static RIG_UNUSED enum gfs_err rig_set_version(struct rig *rig, uint64_t handle, uint32_t from,
                                               uint32_t to)
{
    struct store_mutation mutation = {.op = STORE_OP_SET_VERSION,
                                      .handle = handle,
                                      .from_version = from,
                                      .version = to};
    return rig_submit(rig, &mutation);
}

static RIG_UNUSED enum gfs_err rig_truncate(struct rig *rig, uint64_t handle, uint32_t version,
                                            uint32_t length)
{
    struct store_mutation mutation = {
        .op = STORE_OP_SET_VERSION,
        .handle = handle,
        .from_version = version,
        .version = version,
        .truncate = true,
        .length_bytes = length,
    };
    return rig_submit(rig, &mutation);
}

static RIG_UNUSED enum gfs_err rig_delete(struct rig *rig, uint64_t handle)
{
    struct store_mutation mutation = {.op = STORE_OP_DELETE, .handle = handle};
    return rig_submit(rig, &mutation);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Reads into buf and checks what holds of every result. */
static RIG_UNUSED enum gfs_err rig_copy(struct rig *rig, uint64_t from, uint64_t to,
                                        uint32_t version)
{
    struct store_chunk source = {0};
    struct store_mutation mutation = {.op = STORE_OP_COPY,
                                      .handle = to,
                                      .source = from,
                                      .version = version};

    if (store_chunk_get(rig->store, from, &source) == GFS_OK)
        mutation.from_version = source.version;
    return rig_submit(rig, &mutation);
}

static RIG_UNUSED enum gfs_err rig_read(struct rig *rig, uint64_t handle, uint32_t offset,
                                        uint32_t length, uint8_t *buf)
{
    struct store_read *read;
    enum gfs_err err = store_read(rig->store, handle, 0, offset, length, &read);
    if (err != GFS_OK)
        return err;
    const struct store_read_info *info = store_read_info(read);
    assert_int_equal(info->length_bytes, length);
    uint32_t at = 0;
    for (size_t i = 0; i < info->piece_count; i++) {
        const struct store_piece *piece = &info->pieces[i];
        assert_true((offset + at) / GFS_BLOCK_SIZE_BYTES ==
                    (offset + at + piece->length_bytes - 1) / GFS_BLOCK_SIZE_BYTES);
        assert_int_equal(piece->crc, crc32c(0, piece->data, piece->length_bytes));
        memcpy(buf + at, piece->data, piece->length_bytes);
        at += piece->length_bytes;
    }
    assert_int_equal(at, length);
    store_read_release(read);
    return GFS_OK;
}

/* The range reads as `want`; NULL: as zeros. */
static RIG_UNUSED void rig_expect(struct rig *rig, uint64_t handle, uint32_t offset,
                                  uint32_t length, const uint8_t *want)
{
    uint8_t *buf = malloc(length + 1);
    assert_non_null(buf);
    assert_int_equal(rig_read(rig, handle, offset, length, buf), GFS_OK);
    for (uint32_t i = 0; i < length; i++) {
        if (buf[i] != (want != NULL ? want[i] : 0))
            fail_msg("handle %llu: byte %u is wrong", (unsigned long long)handle, offset + i);
    }
    free(buf);
}

static RIG_UNUSED void rig_fill(uint8_t *data, size_t length, uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15ull + 1;
    for (size_t i = 0; i < length; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data[i] = (uint8_t)(x >> 32);
    }
}

/* Waits up to 20 s for a condition on the store. */
#define RIG_UNTIL(condition)                     \
    do {                                         \
        int tries_left = 2000;                   \
        while (!(condition) && --tries_left > 0) \
            poll(NULL, 0, 10);                   \
        assert_true(tries_left > 0);             \
    } while (0)

static RIG_UNUSED bool rig_is_corrupt(struct rig *rig, uint64_t handle)
{
    struct store_chunk chunk;
    return store_chunk_get(rig->store, handle, &chunk) == GFS_OK && chunk.corrupt;
}

/* Names in the store's directory that begin with data- ; returns how many and the last by name. */
static RIG_UNUSED size_t rig_databases(const struct rig *rig, char *ret_last)
{
    DIR *dir = opendir(rig->path);
    assert_non_null(dir);
    size_t count = 0;
    char last[300] = "";
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, "data-", 5) != 0)
            continue;
        count++;
        if (strcmp(entry->d_name, last) > 0)
            snprintf(last, sizeof(last), "%s", entry->d_name);
    }
    closedir(dir);
    if (ret_last != NULL)
        strcpy(ret_last, last);
    return count;
}

#endif
