/* The end: without faults all shared files and logs are read, and the history is checked. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"
#include "tests/sim/work.h"

#define FINAL_AGAIN_US (500 * SIM_MS)
#define FINAL_TEXT_MAX 900u
#define FINAL_FRESH_US (1 * SIM_S)

/* Until it succeeds; work_judge ends the seed when it does so too late. */
static struct gfs_file *open_at_last(struct worker *worker, const char *path)
{
    struct gfs_file *file;

    while (!(file = work_open(worker, path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE)))
        sim_sleep_us(FINAL_AGAIN_US);
    return file;
}

static void final_file(struct worker *worker, uint32_t index)
{
    const char *path = sim->work->files[index].path;
    struct gfs_file *file = open_at_last(worker, path);

    for (uint32_t region = 0; region < WORK_REGIONS; region++) {
        struct history_op op = {.kind = HISTORY_READ,
                                .object = (uint64_t)index * WORK_REGIONS + region};
        enum gfs_err err;
        uint64_t value;

        work_call(worker, &op);
        while ((err = work_region_read(file, region, &value)) != GFS_OK) {
            work_judge(worker, err, "the last read", path);
            sim_sleep_us(FINAL_AGAIN_US);
        }
        sim_trace("finally %s region %u value %llu", path, region, (unsigned long long)value);
        work_pending(worker, 0)->value = value;
        work_end(worker, true);
    }
    gfs_abandon(file);
}

static void check_sights(uint32_t log, const struct work_record *records, size_t count)
{
    const struct work *work = sim->work;

    for (size_t i = 0; i < work->sight_count; i++) {
        const struct work_sight *sight = &work->sights[i];
        bool found = sight->log != log;

        for (size_t j = 0; j < count && !found; j++)
            found = records[j].value == sight->record.value &&
                    records[j].offset == sight->record.offset;
        if (!found)
            sim_fail("record %llu at %llu of %s was read, and is not there at the end",
                     (unsigned long long)sight->record.value,
                     (unsigned long long)sight->record.offset, work->logs[log].path);
    }
}

static void final_log(struct worker *worker, uint32_t log)
{
    struct work *work = sim->work;
    const char *path = work->logs[log].path;
    struct gfs_file *file = open_at_last(worker, path);
    struct work_record *records;
    uint64_t offset = 0;
    size_t count;
    enum gfs_err err;

    while ((err = work_log_read(worker, file, &offset, &records, &count)) != GFS_OK) {
        work_judge(worker, err, "reading the records at last", path);
        sim_sleep_us(FINAL_AGAIN_US);
        offset = 0;
    }
    for (size_t i = 0; i < count; i++) {
        const struct history_op op = {.kind = HISTORY_FOUND,
                                      .object = log,
                                      .value = records[i].value,
                                      .offset_bytes = records[i].offset,
                                      .length_bytes = records[i].len_bytes};

        history_add(&work->history, &op);
    }
    check_sights(log, records, count);
    free(records);
    gfs_abandon(file);
}

static void check_history(void)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct history_result result;

    assert(out && !sim->work->history.out_of_memory);
    result = history_check(&sim->work->history, out);
    fclose(out);
    if (result.violations)
        sim_fail("the history is not that of one correct copy: %.*s", FINAL_TEXT_MAX, text);
    free(text);
}

void work_final_run(void *arg)
{
    struct work *work = sim->work;
    struct worker worker = {.node = sim_client(0), .proc = ++work->procs};
    /* With replicas lost for good, what is not settled can only be read without that. */
    struct gfs_options options = {.timeout_ms = WORK_TIMEOUT_MS,
                                  .fresh_reads = sim_disk_damages(sim_server(0)->disk) == 0};

    /* What clients had believed of locations is forgotten by now. */
    sim_sleep_us(FINAL_FRESH_US);
    while (gfs_connect(sim_master()->addr, &options, &worker.fs) != GFS_OK)
        sim_sleep_us(FINAL_AGAIN_US);
    for (uint32_t i = 0; i < work->file_count; i++)
        final_file(&worker, i);
    for (uint32_t i = 0; i < work->log_count; i++)
        final_log(&worker, i);
    gfs_disconnect(worker.fs);
    check_history();
    sim_trace("workload: %llu operations done, %llu open", (unsigned long long)work->done,
              (unsigned long long)work->failed);
    work->final_over = true;
}
