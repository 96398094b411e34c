/* gfs-bench: figures of a cluster, of the store alone, and of the lesson behind both. */
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_raw.h"
#include "bench_report.h"
#include "bench_supervise.h"
#include "config.h"

static const struct bench_kind main_kinds[] = {
    {"read", "one file read through the page cache, checksums verified", 1, bench_read_run},
    {"write", "sequential streams, durable, beside raw engines in the same run", 4,
     bench_write_run},
    {"meta", "stat and durable create with pipelining clients", 4, bench_meta_run},
    {"small", "files of 4 KiB created, written and durable", 16, bench_small_run},
    {"append", "records of 1 and 64 KiB from 1, 4 and 16 producers to one file", 16,
     bench_append_run},
    {"failover", "how long a writer stalls when the primary, or a secondary, is killed", 1,
     bench_failover_run},
    {"engine", "the chunk store alone beside raw LevelDB", 1, bench_compare_run},
    {"concurrency", "who waits for one slow chunk: sequential server, threads, processes", 8,
     bench_lesson_run},
};

static const struct config_option main_options[] = {
#define OPT(name, type, default_text, min, max, unit, help)                              \
    {#name, CONFIG_##type, offsetof(struct bench_options, name), default_text, min, max, \
     unit,  help},
#include "bench_options.tbl"
#undef OPT
};

static const struct config_program main_program = {
    .name = "gfs-bench",
    .summary = "gfs-bench BENCH [--OPTION VALUE ...]; read, write, meta, small, append, failover,\n"
               "engine, concurrency: "
               "measures a cluster; without --master it starts one of its own and removes it",
    .examples = "  gfs-bench write --clients 8 --size 256M --json\n"
                "  gfs-bench small --files 20000\n"
                "  gfs-bench concurrency --plot concurrency.svg\n",
    .options = main_options,
    .option_count = sizeof main_options / sizeof *main_options,
};

static const struct bench_kind *main_find(const char *name)
{
    for (size_t i = 0; i < sizeof main_kinds / sizeof *main_kinds; i++)
        if (!strcmp(main_kinds[i].name, name))
            return &main_kinds[i];
    return NULL;
}

/* Takes the bench's name out of argv; NULL when there is none. */
static const char *main_take_name(int *argc, char **argv)
{
    if (*argc < 2 || argv[1][0] == '-')
        return NULL;
    const char *name = argv[1];
    memmove(&argv[1], &argv[2], (size_t)(*argc - 1) * sizeof *argv);
    (*argc)--;
    return name;
}

static int main_work(struct bench *bench)
{
    bench->report = cJSON_CreateObject();
    cJSON_AddStringToObject(bench->report, "bench", bench->kind->name);
    cJSON_AddNumberToObject(bench->report, "clients", bench->clients);
    bool ok = bench->kind->run(bench);
    if (ok) {
        if (!cJSON_GetObjectItem(bench->report, "ratios"))
            cJSON_AddObjectToObject(bench->report, "ratios");
        bench_report_print(bench->report, bench->options.json);
    }
    cJSON_Delete(bench->report);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    char self[4096];
    if (argc > 1 && !strcmp(argv[1], BENCH_RAW_COMMAND))
        return bench_raw_main(argc, argv);
    const char *name = main_take_name(&argc, argv);
    enum config_result parsed = config_parse(&main_program, argc, argv, &bench.options);
    if (parsed != CONFIG_RUN)
        return parsed == CONFIG_EXIT_OK ? 0 : 2;
    bench.kind = name ? main_find(name) : NULL;
    if (!bench.kind) {
        bench_fail(name ? "unknown bench %s; see gfs-bench --help"
                        : "name a bench; see gfs-bench --help%s",
                   name ? name : "");
        config_release(&main_program, &bench.options);
        return 2;
    }
    bench.clients = (unsigned)bench_or(bench.options.clients, bench.kind->clients);
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    self[len > 0 ? len : 0] = 0;
    snprintf(bench.bin_dir, sizeof bench.bin_dir, "%s", dirname(self));
    int status = bench_supervise(&bench, main_work);
    config_release(&main_program, &bench.options);
    return status;
}
