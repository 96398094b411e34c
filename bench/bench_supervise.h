/*
 * bench_supervise: runs the bench in a worker process and cleans up behind it, however it ends.
 *
 *   gfs-bench (supervisor) --- worker --- gfs-master, gfs-chunkserver ...
 *
 * The worker and the daemons are killed with their parent; the supervisor waits for all of them
 * (it is their subreaper) and then removes the temporary directory.
 */
#ifndef BENCH_SUPERVISE_H
#define BENCH_SUPERVISE_H

#include "bench.h"

/* run(bench) is called in the worker. Returns the exit status. */
int bench_supervise(struct bench *bench, int (*run)(struct bench *bench));
/* Removes what it can of a local directory. */
void bench_remove_tree(const char *path);

#endif
