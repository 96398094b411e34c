#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gfs.h"

bool bench_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("gfs-bench: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return false;
}

bool bench_fail_gfs(const char *what)
{
    return bench_fail("%s: %s", what, gfs_last_error());
}

uint64_t bench_or(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

double bench_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

uint64_t bench_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void bench_fill(void *data, size_t len_bytes, uint64_t seed)
{
    char *at = data;
    while (len_bytes) {
        uint64_t word = bench_random(&seed);
        size_t step = len_bytes < sizeof word ? len_bytes : sizeof word;
        memcpy(at, &word, step);
        at += step;
        len_bytes -= step;
    }
}

static int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    if (!count)
        return 0;
    qsort(values, count, sizeof *values, bench_compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
