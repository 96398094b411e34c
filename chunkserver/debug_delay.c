/* Reads slowed down on purpose. See the header. */
#include "chunkserver/debug_delay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEBUG_DELAY_MAX       64u
#define DEBUG_DELAY_MS_MAX    600000u
#define DEBUG_DELAY_TEXT_MAX  4096u
#define DEBUG_DELAY_SEPARATOR ", \t\r\n"

struct delay_list {
    size_t count;
    struct {
        uint64_t handle;
        uint32_t delay_ms;
    } items[DEBUG_DELAY_MAX];
};

struct debug_delay {
    atomic_size_t count; /* so that the usual case takes no lock */
    pthread_mutex_t lock;
    struct delay_list list;
};

struct debug_delay *debug_delay_new(void)
{
    struct debug_delay *delay = calloc(1, sizeof *delay);

    if (delay)
        pthread_mutex_init(&delay->lock, NULL);
    return delay;
}

void debug_delay_free(struct debug_delay *delay)
{
    if (!delay)
        return;
    pthread_mutex_destroy(&delay->lock);
    free(delay);
}

static enum gfs_err list_parse(const char *text, struct delay_list *ret_list)
{
    ret_list->count = 0;
    for (const char *at = text + strspn(text, DEBUG_DELAY_SEPARATOR); *at;
         at += strspn(at, DEBUG_DELAY_SEPARATOR)) {
        char *end;
        unsigned long long handle = strtoull(at, &end, 16);
        unsigned long delay_ms;

        if (end == at || *end != ':' || ret_list->count == DEBUG_DELAY_MAX)
            return GFS_ERR_INVAL;
        at = end + 1;
        delay_ms = strtoul(at, &end, 10);
        if (end == at || delay_ms > DEBUG_DELAY_MS_MAX ||
            (*end && !strchr(DEBUG_DELAY_SEPARATOR, *end)))
            return GFS_ERR_INVAL;
        ret_list->items[ret_list->count].handle = handle;
        ret_list->items[ret_list->count++].delay_ms = (uint32_t)delay_ms;
        at = end;
    }
    return GFS_OK;
}

enum gfs_err debug_delay_set(struct debug_delay *delay, const char *text)
{
    struct delay_list list;
    enum gfs_err err = list_parse(text, &list);

    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&delay->lock);
    delay->list = list;
    atomic_store(&delay->count, list.count);
    pthread_mutex_unlock(&delay->lock);
    return GFS_OK;
}

enum gfs_err debug_delay_load(struct debug_delay *delay, const char *path)
{
    char text[DEBUG_DELAY_TEXT_MAX];
    FILE *file = fopen(path, "re");
    size_t len;

    if (!file)
        return GFS_ERR_LOCAL;
    len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = 0;
    return debug_delay_set(delay, text);
}

uint32_t debug_delay_ms(struct debug_delay *delay, uint64_t handle)
{
    uint32_t delay_ms = 0;

    if (atomic_load_explicit(&delay->count, memory_order_relaxed) == 0)
        return 0;
    pthread_mutex_lock(&delay->lock);
    for (size_t i = 0; i < delay->list.count; i++)
        if (delay->list.items[i].handle == handle)
            delay_ms = delay->list.items[i].delay_ms;
    pthread_mutex_unlock(&delay->lock);
    return delay_ms;
}

void debug_delay_wait(struct debug_delay *delay, uint64_t handle)
{
    uint32_t delay_ms = debug_delay_ms(delay, handle);
    struct timespec pause = {.tv_sec = delay_ms / 1000,
                             .tv_nsec = (long)(delay_ms % 1000) * 1000000};

    if (delay_ms)
        nanosleep(&pause, NULL);
}
