#include "bench_files.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "bench.h"

void bench_files_dir(char ret_path[BENCH_FILES_PATH_BYTES])
{
    snprintf(ret_path, BENCH_FILES_PATH_BYTES, "/gfs-bench-%d", (int)getpid());
}

void bench_files_path(char ret_path[BENCH_FILES_PATH_BYTES], const char *fmt, ...)
{
    int len = snprintf(ret_path, BENCH_FILES_PATH_BYTES, "/gfs-bench-%d/", (int)getpid());
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret_path + len, BENCH_FILES_PATH_BYTES - (size_t)len, fmt, args);
    va_end(args);
}

bool bench_files_begin(struct gfs *fs)
{
    char path[BENCH_FILES_PATH_BYTES];
    bench_files_dir(path);
    return gfs_mkdir(fs, path, 0, false) == GFS_OK || bench_fail_gfs("mkdir");
}

bool bench_files_end(struct gfs *fs)
{
    char path[BENCH_FILES_PATH_BYTES];
    bench_files_dir(path);
    return gfs_remove_tree(fs, path) == GFS_OK || bench_fail_gfs("remove");
}

bool bench_files_write(struct bench_client *client, const char *path, uint32_t goal,
                       const void *data, size_t step_bytes, uint64_t len_bytes)
{
    struct gfs_create_options opts = {.goal = goal};
    struct gfs_file *file;
    double begun_s = bench_now_s();
    if (gfs_open(client->fs, path, GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_EXCLUSIVE, &opts,
                 &file) != GFS_OK) {
        bench_client_fail(client, "create");
        return false;
    }
    for (uint64_t done = 0; done < len_bytes;) {
        size_t step = len_bytes - done < step_bytes ? (size_t)(len_bytes - done) : step_bytes;
        if (gfs_write(file, data, step) != GFS_OK) {
            bench_client_fail(client, "write");
            gfs_abandon(file);
            return false;
        }
        done += step;
        if (done == len_bytes)
            break;
        double now_s = bench_now_s();
        bench_samples_add(&client->samples, now_s - begun_s);
        begun_s = now_s;
    }
    if (gfs_close(file) != GFS_OK) {
        bench_client_fail(client, "close");
        return false;
    }
    bench_samples_add(&client->samples, bench_now_s() - begun_s);
    client->bytes += len_bytes;
    client->ops++;
    return true;
}
