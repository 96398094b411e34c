/* Standard input, up to 1 MiB, written at an offset of a file: pwrite MASTER PATH OFFSET. */
#include <gfs.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static char bytes[1 << 20];
    struct gfs *fs;
    struct gfs_file *file;
    size_t len = fread(bytes, 1, sizeof bytes, stdin);
    if (argc != 4)
        return 2;
    if (gfs_connect(argv[1], NULL, &fs) || gfs_open(fs, argv[2], GFS_OPEN_WRITE, NULL, &file)) {
        fprintf(stderr, "pwrite: %s\n", gfs_last_error());
        return 1;
    }
    enum gfs_err err = gfs_pwrite(file, strtoull(argv[3], NULL, 10), bytes, len);
    if (err)
        gfs_abandon(file);
    else
        err = gfs_close(file);
    if (err)
        fprintf(stderr, "pwrite: %s\n", gfs_last_error());
    gfs_disconnect(fs);
    return err != GFS_OK;
}
