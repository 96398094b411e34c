/*
 * bench_compare: gfs-bench engine. In each round a raw engine, the store with one stream and the
 * store with sixteen are fed the same bytes one after another; ratios are taken within the round.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_raw.h"
#include "bench_report.h"
#include "bench_stores.h"
#include "bench_supervise.h"

#define BENCH_COMPARE_BYTES      (1ull << 30)
#define BENCH_COMPARE_CASES      2
#define BENCH_COMPARE_ROUNDS_MAX 100

struct bench_compare {
    struct bench *bench;
    uint64_t bytes;
    double raw_mb_per_s[BENCH_COMPARE_ROUNDS_MAX];
    struct bench_compare_case {
        unsigned streams;
        struct bench_samples samples; /* of all rounds */
        double mb_per_s[BENCH_COMPARE_ROUNDS_MAX];
        double ratios[BENCH_COMPARE_ROUNDS_MAX];
        double written[BENCH_COMPARE_ROUNDS_MAX];
    } cases[BENCH_COMPARE_CASES];
};

/* round < 0: to warm up. */
static bool bench_compare_round(struct bench_compare *run, int round)
{
    char dir[4200];
    double raw_mb_per_s;
    if (!bench_raw_engines(run->bench, 1, run->bytes, &raw_mb_per_s))
        return false;
    for (int i = 0; i < BENCH_COMPARE_CASES; i++) {
        struct bench_compare_case *item = &run->cases[i];
        struct bench_stores_result result;
        snprintf(dir, sizeof dir, "%s/store", run->bench->work_dir);
        bool ok = bench_stores_feed(dir, item->streams, run->bytes, &result);
        bench_remove_tree(dir);
        if (!ok)
            return false;
        if (round >= 0) {
            item->mb_per_s[round] = result.mb_per_s;
            item->ratios[round] = result.mb_per_s / raw_mb_per_s;
            item->written[round] = result.written_ratio;
            bench_samples_merge(&item->samples, &result.samples);
        }
        bench_samples_release(&result.samples);
    }
    if (round >= 0)
        run->raw_mb_per_s[round] = raw_mb_per_s;
    return true;
}

static void bench_compare_report(struct bench_compare *run)
{
    cJSON *report = run->bench->report;
    size_t rounds = run->bench->options.rounds;
    char key[32];
    bench_report_number(report, "mb_per_s", bench_median(run->cases[0].mb_per_s, rounds));
    bench_report_latency(report, &run->cases[0].samples);
    bench_report_number(report, "raw_mb_per_s", bench_median(run->raw_mb_per_s, rounds));
    bench_report_number(report, "bytes_per_round", (double)run->bytes);
    cJSON *ratios = bench_report_object(report, "ratios");
    for (int i = 0; i < BENCH_COMPARE_CASES; i++) {
        struct bench_compare_case *item = &run->cases[i];
        snprintf(key, sizeof key, "streams_%u_vs_raw", item->streams);
        bench_report_number(ratios, key, bench_median(item->ratios, rounds));
    }
    for (int i = 0; i < BENCH_COMPARE_CASES; i++) {
        struct bench_compare_case *item = &run->cases[i];
        snprintf(key, sizeof key, "streams_%u", item->streams);
        cJSON *object = bench_report_object(report, key);
        bench_report_number(object, "mb_per_s", bench_median(item->mb_per_s, rounds));
        bench_report_latency(object, &item->samples);
        bench_report_number(object, "longest_stall_ms",
                            bench_samples_quantile(&item->samples, 1) * 1000);
        bench_report_number(object, "written_per_user_byte", bench_median(item->written, rounds));
    }
}

bool bench_compare_run(struct bench *bench)
{
    struct bench_compare *run = calloc(1, sizeof *run);
    if (!run)
        return bench_fail("out of memory");
    run->bench = bench;
    run->bytes = bench_or(bench->options.size, BENCH_COMPARE_BYTES);
    run->cases[0].streams = 1;
    run->cases[1].streams = 16;
    bool ok = true;
    for (int round = -1; ok && round < (int)bench->options.rounds; round++)
        ok = bench_compare_round(run, round);
    if (ok)
        bench_compare_report(run);
    for (int i = 0; i < BENCH_COMPARE_CASES; i++)
        bench_samples_release(&run->cases[i].samples);
    free(run);
    return ok;
}
