/*
 * Uses libgfs as a program would: one connection, many threads, many files. Prints "ok" at the end;
 * a failed check says where and exits 1. Run by test_libgfs.py: api ADDR:PORT.
 */
#include <gfs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS     4
#define PIECES      64
#define PIECE_BYTES 100003
#define FILES       700

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, gfs_last_error()); \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

struct job {
    struct gfs *fs;
    struct gfs_file *file;
    int number;
};

static void fill(unsigned char *piece, int index)
{
    unsigned state = (unsigned)index * 2654435761u + 1;
    for (int i = 0; i < PIECE_BYTES; i++) {
        state = state * 1664525u + 1013904223u;
        piece[i] = (unsigned char)(state >> 24);
    }
}

static void *write_pieces(void *arg)
{
    struct job *job = arg;
    unsigned char *piece = malloc(PIECE_BYTES);
    CHECK(piece != NULL);
    for (int i = job->number; i < PIECES; i += THREADS) {
        fill(piece, i);
        CHECK(gfs_pwrite(job->file, (uint64_t)i * PIECE_BYTES, piece, PIECE_BYTES) == GFS_OK);
    }
    free(piece);
    return NULL;
}

static void *read_pieces(void *arg)
{
    struct job *job = arg;
    unsigned char *want = malloc(PIECE_BYTES);
    unsigned char *got = malloc(PIECE_BYTES);
    CHECK(want != NULL && got != NULL);
    for (int i = job->number; i < PIECES; i += THREADS) {
        size_t len = 0;
        fill(want, i);
        CHECK(gfs_pread(job->file, (uint64_t)i * PIECE_BYTES, got, PIECE_BYTES, &len) == GFS_OK);
        CHECK(len == PIECE_BYTES && memcmp(want, got, len) == 0);
    }
    free(want);
    free(got);
    return NULL;
}

static void in_threads(struct gfs *fs, struct gfs_file *file, void *(*run)(void *))
{
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.fs = fs, .file = file, .number = i};
        CHECK(pthread_create(&threads[i], NULL, run, &jobs[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void check_shared_file(struct gfs *fs)
{
    struct gfs_create_options opts = {.goal = 2, .chunk_size_bytes = 1 << 20};
    struct gfs_file *file;
    struct gfs_attr attr;
    CHECK(gfs_create(fs, "/shared", &opts, &file) == GFS_OK);
    in_threads(fs, file, write_pieces);
    CHECK(gfs_sync(file) == GFS_OK);
    in_threads(fs, file, read_pieces);
    CHECK(gfs_fstat(file, &attr) == GFS_OK && attr.size_bytes == (uint64_t)PIECES * PIECE_BYTES);
    CHECK(gfs_close(file) == GFS_OK);
    CHECK(gfs_open(fs, "/shared", GFS_OPEN_READ, NULL, &file) == GFS_OK);
    in_threads(fs, file, read_pieces);
    CHECK(gfs_close(file) == GFS_OK);
}

/* Overwriting, writing past the end, reading over the end. */
static void check_holes_and_overwrites(struct gfs *fs)
{
    struct gfs_file *file;
    char got[64];
    size_t len = 99;
    uint64_t far = 3u << 20;
    struct gfs_create_options opts = {.chunk_size_bytes = 1 << 20};
    CHECK(gfs_create(fs, "/holes", &opts, &file) == GFS_OK);
    CHECK(gfs_pwrite(file, far, "end", 3) == GFS_OK);
    CHECK(gfs_pwrite(file, 10, "begin", 5) == GFS_OK);
    CHECK(gfs_pwrite(file, 12, "XY", 2) == GFS_OK);
    CHECK(gfs_sync(file) == GFS_OK);
    CHECK(gfs_pread(file, 8, got, 10, &len) == GFS_OK && len == 10);
    CHECK(memcmp(got, "\0\0beXYn\0\0\0", 10) == 0);
    CHECK(gfs_pread(file, far - 2, got, sizeof got, &len) == GFS_OK && len == 5);
    CHECK(memcmp(got, "\0\0end", 5) == 0);
    CHECK(gfs_pread(file, far + 3, got, sizeof got, &len) == GFS_OK && len == 0);
    gfs_seek(file, 10);
    CHECK(gfs_write(file, "B", 1) == GFS_OK);
    CHECK(gfs_write(file, "E", 1) == GFS_OK);
    CHECK(gfs_close(file) == GFS_OK);
    CHECK(gfs_truncate(fs, "/holes", 14) == GFS_OK);
    CHECK(gfs_open(fs, "/holes", GFS_OPEN_READ, NULL, &file) == GFS_OK);
    gfs_seek(file, 10);
    CHECK(gfs_read(file, got, sizeof got, &len) == GFS_OK && len == 4);
    CHECK(memcmp(got, "BEXY", 4) == 0);
    CHECK(gfs_close(file) == GFS_OK);
}

static void check_listing(struct gfs *fs)
{
    struct gfs_dir *dir;
    struct gfs_dirent entry;
    struct gfs_file *file;
    char name[64];
    char last[64] = "";
    int count = 0;
    enum gfs_err err;
    CHECK(gfs_mkdir(fs, "/many/below", 0, true) == GFS_OK);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "/many/file-%05d", i);
        CHECK(gfs_open(fs, name, GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_EXCLUSIVE, NULL,
                       &file) == GFS_OK);
        CHECK(gfs_close(file) == GFS_OK);
    }
    CHECK(gfs_opendir(fs, "/many", &dir) == GFS_OK);
    while ((err = gfs_readdir(dir, &entry)) == GFS_OK) {
        CHECK(strcmp(last, entry.name) < 0);
        snprintf(last, sizeof last, "%s", entry.name);
        count++;
    }
    CHECK(err == GFS_ERR_NOT_FOUND && count == FILES + 1);
    gfs_closedir(dir);
    CHECK(gfs_remove_tree(fs, "/many") == GFS_OK);
}

static void check_errors(struct gfs *fs)
{
    struct gfs_file *file;
    struct gfs_attr attr;
    CHECK(gfs_stat(fs, "/nowhere", &attr) == GFS_ERR_NOT_FOUND);
    CHECK(strstr(gfs_last_error(), "/nowhere") != NULL);
    CHECK(gfs_stat(fs, "relative", &attr) == GFS_ERR_BAD_PATH);
    CHECK(gfs_open(fs, "/nowhere", GFS_OPEN_READ, NULL, &file) == GFS_ERR_NOT_FOUND);
    CHECK(gfs_mkdir(fs, "/dir", 0, false) == GFS_OK);
    CHECK(gfs_mkdir(fs, "/dir", 0, false) == GFS_ERR_EXISTS);
    CHECK(gfs_open(fs, "/dir", GFS_OPEN_READ, NULL, &file) == GFS_ERR_IS_DIR);
    CHECK(gfs_unlink(fs, "/dir") == GFS_ERR_IS_DIR);
    CHECK(gfs_open(fs, "/dir/f", GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_ATOMIC, NULL, &file) ==
          GFS_OK);
    CHECK(gfs_write(file, "x", 1) == GFS_OK);
    CHECK(gfs_stat(fs, "/dir/f", &attr) == GFS_ERR_NOT_FOUND);
    gfs_abandon(file);
    CHECK(gfs_stat(fs, "/dir/f", &attr) == GFS_ERR_NOT_FOUND);
    CHECK(gfs_rmdir(fs, "/dir") == GFS_OK);
    CHECK(strcmp(gfs_err_text(GFS_ERR_NOT_FOUND), "no such file or directory") == 0);
    CHECK(gfs_version()[0] >= '0' && gfs_version()[0] <= '9');
}

int main(int argc, char **argv)
{
    struct gfs *fs;
    struct gfs_options opts = {.timeout_ms = 20000};
    if (argc != 2)
        return 2;
    CHECK(gfs_connect(argv[1], &opts, &fs) == GFS_OK);
    check_shared_file(fs);
    check_holes_and_overwrites(fs);
    check_listing(fs);
    check_errors(fs);
    gfs_disconnect(fs);
    puts("ok");
    return 0;
}
