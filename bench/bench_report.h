/* bench_report: the one JSON object of a run; without --json the same, for people. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <cjson/cJSON.h>
#include <stdint.h>

#include "bench_clients.h"

/* Numbers are rounded to three decimals. */
void bench_report_number(cJSON *object, const char *key, double value);
void bench_report_latency(cJSON *object, struct bench_samples *samples); /* p50_ms, p99_ms */
cJSON *bench_report_object(cJSON *parent, const char *key);
void bench_report_print(const cJSON *report, bool json);

#endif
