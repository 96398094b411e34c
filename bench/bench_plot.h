/* bench_plot: the plot of gfs-bench concurrency. */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include "bench_lesson.h"

/* Draws an SVG into the file `path`. On failure it said why. */
bool bench_plot(const struct bench_lesson *lesson, const char *path);

#endif
