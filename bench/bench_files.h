/* bench_files: the files that benches work on, all below one directory of the cluster. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench_clients.h"

#define BENCH_FILES_PATH_BYTES 96

/* "/gfs-bench-PID" */
void bench_files_dir(char ret_path[BENCH_FILES_PATH_BYTES]);
/* "/gfs-bench-PID/NAME" */
void bench_files_path(char ret_path[BENCH_FILES_PATH_BYTES], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
bool bench_files_begin(struct gfs *fs); /* makes the directory */
bool bench_files_end(struct gfs *fs);   /* removes it with all below */

/*
 * Writes a file of len_bytes in calls of step_bytes from `data` (step_bytes long), durable at the
 * end. The client's counters and samples (one a call, close included in the last) are raised.
 * On failure bench_client_fail was called.
 */
bool bench_files_write(struct bench_client *client, const char *path, uint32_t goal,
                       const void *data, size_t step_bytes, uint64_t len_bytes);

#endif
