#include "bench_report.h"

#include <math.h>
#include <stdio.h>

void bench_report_number(cJSON *object, const char *key, double value)
{
    cJSON_AddNumberToObject(object, key, round(value * 1000) / 1000);
}

void bench_report_latency(cJSON *object, struct bench_samples *samples)
{
    bench_report_number(object, "p50_ms", bench_samples_quantile(samples, 0.50) * 1000);
    bench_report_number(object, "p99_ms", bench_samples_quantile(samples, 0.99) * 1000);
}

cJSON *bench_report_object(cJSON *parent, const char *key)
{
    return cJSON_AddObjectToObject(parent, key);
}

static void bench_report_lines(const cJSON *object, int indent)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, object)
    {
        printf("%*s%-*s", indent, "", 28 - indent, item->string ? item->string : "-");
        if (cJSON_IsObject(item) || cJSON_IsArray(item)) {
            putchar('\n');
            bench_report_lines(item, indent + 2);
        } else if (cJSON_IsNumber(item)) {
            printf(" %.10g\n", item->valuedouble);
        } else {
            printf(" %s\n", cJSON_IsString(item) ? item->valuestring : "-");
        }
    }
}

void bench_report_print(const cJSON *report, bool json)
{
    if (!json) {
        bench_report_lines(report, 0);
        return;
    }
    char *text = cJSON_PrintUnformatted(report);
    puts(text ? text : "{}");
    cJSON_free(text);
}
