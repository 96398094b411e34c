#include "bench_clients.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

#define BENCH_CLIENTS_TICK_NS 100000000L

void bench_samples_add(struct bench_samples *samples, double seconds)
{
    if (samples->count == samples->capacity) {
        size_t capacity = samples->capacity ? samples->capacity * 2 : 4096;
        float *values = capacity > BENCH_SAMPLES_MAX
                            ? NULL
                            : realloc(samples->values, capacity * sizeof *values);
        if (!values)
            return;
        samples->values = values;
        samples->capacity = capacity;
    }
    samples->values[samples->count++] = (float)seconds;
}

void bench_samples_merge(struct bench_samples *into, const struct bench_samples *from)
{
    for (size_t i = 0; i < from->count; i++)
        bench_samples_add(into, from->values[i]);
}

static int bench_samples_compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double bench_samples_quantile(struct bench_samples *samples, double q)
{
    if (!samples->count)
        return 0;
    qsort(samples->values, samples->count, sizeof *samples->values, bench_samples_compare);
    return samples->values[(size_t)(q * (double)(samples->count - 1) + 0.5)];
}

void bench_samples_clear(struct bench_samples *samples)
{
    samples->count = 0;
}

void bench_samples_release(struct bench_samples *samples)
{
    free(samples->values);
    *samples = (struct bench_samples){0};
}

bool bench_clients_open(struct bench_clients *clients, const struct bench *bench,
                        const char *master, unsigned count)
{
    struct gfs_options opts = {.timeout_ms = (uint32_t)bench->options.timeout_ms};
    clients->count = 0;
    clients->items = calloc(count, sizeof *clients->items);
    if (!clients->items)
        return bench_fail("out of memory");
    for (; clients->count < count; clients->count++) {
        struct bench_client *client = &clients->items[clients->count];
        client->index = clients->count;
        client->count = count;
        if (gfs_connect(master, &opts, &client->fs) != GFS_OK) {
            bench_fail_gfs("connect");
            bench_clients_close(clients);
            return false;
        }
    }
    return true;
}

void bench_clients_close(struct bench_clients *clients)
{
    for (unsigned i = 0; i < clients->count; i++) {
        gfs_disconnect(clients->items[i].fs);
        bench_samples_release(&clients->items[i].samples);
    }
    free(clients->items);
    *clients = (struct bench_clients){0};
}

void bench_client_fail(struct bench_client *client, const char *what)
{
    snprintf(client->error, sizeof client->error, "client %u: %s: %.400s", client->index, what,
             gfs_last_error());
}

struct bench_clients_thread {
    struct bench_client *client;
    bench_client_fn *fn;
    pthread_barrier_t *start;
    pthread_t thread;
};

static void *bench_clients_main(void *arg)
{
    struct bench_clients_thread *thread = arg;
    pthread_barrier_wait(thread->start);
    thread->fn(thread->client);
    return NULL;
}

static void bench_clients_join(pthread_t thread, void (*tick)(void *tick_arg), void *tick_arg)
{
    struct timespec until;
    do {
        if (tick)
            tick(tick_arg);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += BENCH_CLIENTS_TICK_NS;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
    } while (pthread_timedjoin_np(thread, NULL, &until) == ETIMEDOUT);
}

bool bench_clients_run(struct bench_clients *clients, bench_client_fn *fn, const void *arg,
                       void (*tick)(void *tick_arg), void *tick_arg, double *ret_seconds)
{
    struct bench_clients_thread *threads = calloc(clients->count, sizeof *threads);
    pthread_barrier_t start;
    bool ok = true;
    if (!threads || pthread_barrier_init(&start, NULL, clients->count + 1)) {
        free(threads);
        return bench_fail("out of memory");
    }
    for (unsigned i = 0; i < clients->count; i++) {
        struct bench_client *client = &clients->items[i];
        client->arg = arg;
        client->bytes = client->ops = 0;
        client->error[0] = 0;
        bench_samples_clear(&client->samples);
        threads[i] = (struct bench_clients_thread){client, fn, &start, 0};
        if (pthread_create(&threads[i].thread, NULL, bench_clients_main, &threads[i])) {
            bench_fail("cannot start %u threads", clients->count);
            exit(1); /* those started wait for ever */
        }
    }
    pthread_barrier_wait(&start);
    double begun_s = bench_now_s();
    for (unsigned i = 0; i < clients->count; i++)
        bench_clients_join(threads[i].thread, tick, tick_arg);
    *ret_seconds = bench_now_s() - begun_s;
    pthread_barrier_destroy(&start);
    free(threads);
    for (unsigned i = 0; i < clients->count; i++)
        if (clients->items[i].error[0])
            ok = bench_fail("%s", clients->items[i].error);
    return ok;
}

uint64_t bench_clients_bytes(const struct bench_clients *clients)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < clients->count; i++)
        sum += clients->items[i].bytes;
    return sum;
}

uint64_t bench_clients_ops(const struct bench_clients *clients)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < clients->count; i++)
        sum += clients->items[i].ops;
    return sum;
}

void bench_clients_samples(const struct bench_clients *clients, struct bench_samples *samples)
{
    for (unsigned i = 0; i < clients->count; i++)
        bench_samples_merge(samples, &clients->items[i].samples);
}
