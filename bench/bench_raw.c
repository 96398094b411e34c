#include "bench_raw.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kv.h"

#define BENCH_RAW_VALUE_BYTES  65536u
#define BENCH_RAW_BATCH_VALUES 16u
#define BENCH_RAW_BUFFER_BYTES (64u << 20)

static enum gfs_err bench_raw_feed(struct kv *kv, struct kv_batch *batch, const char *value,
                                   uint64_t bytes)
{
    uint64_t count = (bytes + BENCH_RAW_VALUE_BYTES - 1) / BENCH_RAW_VALUE_BYTES;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t key[8];
        for (unsigned b = 0; b < 8; b++)
            key[b] = (uint8_t)(i >> (56 - 8 * b));
        kv_batch_put(batch, key, sizeof key, value, BENCH_RAW_VALUE_BYTES);
        if (kv_batch_count(batch) < BENCH_RAW_BATCH_VALUES && i + 1 < count)
            continue;
        enum gfs_err err = kv_write(kv, batch, true);
        if (err != GFS_OK)
            return err;
        kv_batch_clear(batch);
    }
    return GFS_OK;
}

/* Says "ready", waits for a line, feeds the engine and prints the seconds it took. */
int bench_raw_main(int argc, char **argv)
{
    struct kv_options opts = {
        .write_buffer_bytes = BENCH_RAW_BUFFER_BYTES,
        .max_file_bytes = BENCH_RAW_BUFFER_BYTES, /* as the store has it */
        .create = true,
    };
    struct kv_text text = {""};
    struct kv *kv = NULL;
    char line[8];
    if (argc != 4)
        return 2;
    uint64_t bytes = strtoull(argv[3], NULL, 10);
    char *value = malloc(BENCH_RAW_VALUE_BYTES);
    struct kv_batch *batch = kv_batch_new();
    bool ok = value && batch && kv_open(argv[2], &opts, &kv, &text) == GFS_OK;
    if (ok) {
        bench_fill(value, BENCH_RAW_VALUE_BYTES, 5);
        puts("ready");
        fflush(stdout);
        ok = fgets(line, sizeof line, stdin);
    }
    if (ok) {
        double begun_s = bench_now_s();
        ok = bench_raw_feed(kv, batch, value, bytes) == GFS_OK;
        double took_s = bench_now_s() - begun_s;
        if (ok)
            printf("%.6f\n", took_s);
        else
            kv_last_text(kv, &text);
    }
    if (!ok)
        bench_fail("raw engine: %s", text.text);
    kv_batch_free(batch);
    kv_close(kv);
    free(value);
    return ok ? 0 : 1;
}

struct bench_raw_engine {
    char dir[4200];
    pid_t pid;
    FILE *in;  /* its stdin */
    FILE *out; /* its stdout */
};

static bool bench_raw_start(struct bench_raw_engine *engine, uint64_t bytes)
{
    int in[2], out[2];
    char size[32];
    snprintf(size, sizeof size, "%" PRIu64, bytes);
    char *const argv[] = {(char[]){"gfs-bench"}, (char[]){BENCH_RAW_COMMAND}, engine->dir, size,
                          NULL};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return bench_fail("pipe: %s", strerror(errno));
    engine->pid = fork();
    if (engine->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    engine->in = fdopen(in[1], "w");
    engine->out = fdopen(out[0], "r");
    if (engine->pid < 0 || !engine->in || !engine->out)
        return bench_fail("raw engine: %s", strerror(errno));
    return true;
}

static void bench_raw_end(struct bench_raw_engine *engine)
{
    if (engine->in)
        fclose(engine->in);
    if (engine->out)
        fclose(engine->out);
    if (engine->pid > 0)
        waitpid(engine->pid, NULL, 0);
    if (kv_destroy(engine->dir, NULL) != GFS_OK)
        return; /* the supervisor removes what is left */
}

static bool bench_raw_race(struct bench_raw_engine *engines, unsigned count, uint64_t bytes,
                           double *ret_mb_per_s)
{
    char line[64];
    double sum = 0;
    for (unsigned i = 0; i < count; i++)
        if (!bench_raw_start(&engines[i], bytes))
            return false;
    for (unsigned i = 0; i < count; i++)
        if (!fgets(line, sizeof line, engines[i].out))
            return bench_fail("raw engine: it did not start");
    for (unsigned i = 0; i < count; i++) {
        fputs("go\n", engines[i].in);
        fflush(engines[i].in);
    }
    for (unsigned i = 0; i < count; i++) {
        double seconds = fgets(line, sizeof line, engines[i].out) ? strtod(line, NULL) : 0;
        if (seconds <= 0)
            return bench_fail("raw engine: it failed");
        sum += (double)bytes / 1e6 / seconds;
    }
    *ret_mb_per_s = sum;
    return true;
}

bool bench_raw_engines(struct bench *bench, unsigned count, uint64_t bytes, double *ret_mb_per_s)
{
    struct bench_raw_engine engines[BENCH_RAW_ENGINES_MAX] = {0};
    if (count > BENCH_RAW_ENGINES_MAX)
        return bench_fail("raw engines: at most %d", BENCH_RAW_ENGINES_MAX);
    for (unsigned i = 0; i < count; i++)
        snprintf(engines[i].dir, sizeof engines[i].dir, "%s/raw%u", bench->work_dir, i);
    bool ok = bench_raw_race(engines, count, bytes, ret_mb_per_s);
    for (unsigned i = 0; i < count; i++)
        bench_raw_end(&engines[i]);
    return ok;
}
