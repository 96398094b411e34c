/* bench_stores: the chunk store driven directly, without network or master. */
#ifndef BENCH_STORES_H
#define BENCH_STORES_H

#include <stdbool.h>
#include <stdint.h>

#include "bench.h"
#include "bench_clients.h"

struct bench_stores_result {
    double mb_per_s;
    double written_ratio;         /* bytes given to write(2) for each user byte */
    struct bench_samples samples; /* from submit to done; release it */
};

/* Feeds a new store in `dir` `bytes` from as many streams, each filling one chunk after another.
 * On failure it said why. */
bool bench_stores_feed(const char *dir, unsigned streams, uint64_t bytes,
                       struct bench_stores_result *ret_result);

#endif
