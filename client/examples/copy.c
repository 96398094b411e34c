/*
 * copy: stores a local file in the cluster, reads it back, compares, and says where its chunks are.
 *
 *   cc -o copy copy.c $(pkg-config --cflags --libs gfs)
 *   ./copy 127.0.0.1:7400 /etc/passwd /passwd
 *
 * From a build that is not installed: PKG_CONFIG_PATH=build/lib/pkgconfig, and LD_LIBRARY_PATH=
 * build/lib to run it.
 */
#include <gfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES (1 << 20)

/* Every call tells what went wrong in one line, for the thread that made it. */
static int failed(const char *what)
{
    fprintf(stderr, "copy: %s: %s\n", what, gfs_last_error());
    return 1;
}

/* ATOMIC: nobody sees the file under its name before gfs_close has made all of it durable. */
static int store(struct gfs *fs, FILE *local, const char *path)
{
    struct gfs_create_options opts = {.goal = 3};
    struct gfs_file *file;
    static char buffer[BUFFER_BYTES];
    size_t len;
    if (gfs_open(fs, path, GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_ATOMIC, &opts, &file))
        return failed("open");
    while ((len = fread(buffer, 1, sizeof buffer, local)) > 0) {
        /* The write may still be on its way when this returns; gfs_close waits for it. */
        if (gfs_write(file, buffer, len)) {
            failed("write");
            gfs_abandon(file);
            return 1;
        }
    }
    if (ferror(local)) {
        perror("copy: local file");
        gfs_abandon(file);
        return 1;
    }
    return gfs_close(file) ? failed("close") : 0;
}

static int compare(struct gfs *fs, FILE *local, const char *path)
{
    struct gfs_file *file;
    static char ours[BUFFER_BYTES], theirs[BUFFER_BYTES];
    size_t len = 0;
    int differs = 0;
    if (gfs_open(fs, path, GFS_OPEN_READ, NULL, &file))
        return failed("open");
    do {
        if (gfs_read(file, theirs, sizeof theirs, &len)) {
            failed("read");
            gfs_abandon(file);
            return 1;
        }
        /* Fewer bytes than asked for come back only at the end of the file. */
        differs = fread(ours, 1, sizeof ours, local) != len || memcmp(ours, theirs, len);
    } while (!differs && len == sizeof theirs);
    gfs_abandon(file);
    printf("%s: %s\n", path, differs ? "DIFFERS" : "same bytes");
    return differs;
}

static int show_chunks(struct gfs *fs, const char *path)
{
    struct gfs_chunk_info *chunks;
    size_t count;
    if (gfs_chunks(fs, path, &chunks, &count))
        return failed("chunks");
    for (size_t i = 0; i < count; i++) {
        printf("chunk %u: %u bytes on", chunks[i].index, chunks[i].length_bytes);
        for (uint32_t r = 0; r < chunks[i].replica_count; r++)
            printf(" %s", chunks[i].replicas[r].addr);
        putchar('\n');
    }
    gfs_free(chunks); /* the replicas are part of the same allocation */
    return 0;
}

int main(int argc, char **argv)
{
    struct gfs *fs;
    if (argc != 4) {
        fprintf(stderr, "usage: copy MASTER LOCAL PATH\n");
        return 2;
    }
    FILE *local = fopen(argv[2], "rb");
    if (!local) {
        perror(argv[2]);
        return 1;
    }
    if (gfs_connect(argv[1], NULL, &fs)) {
        failed("connect");
        fclose(local);
        return 1;
    }
    int result = store(fs, local, argv[3]);
    rewind(local);
    if (!result)
        result = compare(fs, local, argv[3]);
    if (!result)
        result = show_chunks(fs, argv[3]);
    gfs_disconnect(fs);
    fclose(local);
    return result;
}
