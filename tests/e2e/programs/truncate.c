/*
 * Truncates a file while it is open for writing, with and without bytes that were written but not
 * synced. Prints "ok" at the end. Run by test_libgfs.py: truncate ADDR:PORT.
 */
#include <gfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (1u << 20)
#define CUT_BYTES   500000u

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, gfs_last_error()); \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

static unsigned char piece[PIECE_BYTES];

static struct gfs_file *make(struct gfs *fs, const char *path)
{
    struct gfs_file *file;
    int flags = GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE;
    CHECK(gfs_open(fs, path, flags, NULL, &file) == GFS_OK);
    memset(piece, 'a', sizeof(piece));
    CHECK(gfs_write(file, piece, sizeof(piece)) == GFS_OK);
    CHECK(gfs_sync(file) == GFS_OK);
    return file;
}

static void check_cut(struct gfs *fs, const char *path, size_t size_bytes)
{
    struct gfs_file *file;
    size_t len = 0;
    CHECK(gfs_open(fs, path, GFS_OPEN_READ, NULL, &file) == GFS_OK);
    CHECK(gfs_pread(file, 0, piece, sizeof(piece), &len) == GFS_OK);
    CHECK(len == size_bytes);
    CHECK(piece[CUT_BYTES - 1] == 'a');
    CHECK(gfs_close(file) == GFS_OK);
}

/* More writes than the window holds: the first are on the servers when the last one begins. */
static void a_truncation_under_unsynced_bytes_fails_the_sync(struct gfs *fs)
{
    struct gfs_file *file = make(fs, "/unsynced");
    for (int i = 0; i < 12; i++)
        CHECK(gfs_write(file, piece, sizeof(piece)) == GFS_OK);
    CHECK(gfs_truncate(fs, "/unsynced", CUT_BYTES) == GFS_OK);
    CHECK(gfs_sync(file) != GFS_OK);
    CHECK(strstr(gfs_last_error(), "truncated") != NULL);
    CHECK(gfs_close(file) != GFS_OK);
    check_cut(fs, "/unsynced", CUT_BYTES);
}

static void a_small_write_after_a_truncation_leaves_the_file_short(struct gfs *fs)
{
    struct gfs_file *file = make(fs, "/short");
    CHECK(gfs_truncate(fs, "/short", CUT_BYTES) == GFS_OK);
    CHECK(gfs_pwrite(file, 100, piece, 10) == GFS_OK);
    CHECK(gfs_close(file) == GFS_OK);
    check_cut(fs, "/short", CUT_BYTES);
}

int main(int argc, char **argv)
{
    struct gfs *fs;
    CHECK(argc == 2 && gfs_connect(argv[1], NULL, &fs) == GFS_OK);
    a_truncation_under_unsynced_bytes_fails_the_sync(fs);
    a_small_write_after_a_truncation_leaves_the_file_short(fs);
    gfs_disconnect(fs);
    puts("ok");
    return 0;
}
