#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "out.h"

#define PROGRESS_REDRAW_MS  200
#define PROGRESS_BAR_CELLS  24
#define PROGRESS_NAME_CELLS 24

uint64_t progress_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_begin(struct progress *progress, bool shown, const char *name, uint64_t total_bytes)
{
    *progress = (struct progress){
        .shown = shown,
        .name = name,
        .total_bytes = total_bytes,
        .start_ms = progress_now_ms(),
    };
}

static void progress_draw_bar(const struct progress *progress, uint64_t done_bytes, double rate)
{
    double part = progress->total_bytes ? (double)done_bytes / (double)progress->total_bytes : 1;
    if (part > 1)
        part = 1;
    char bar[PROGRESS_BAR_CELLS + 1];
    int filled = (int)(part * PROGRESS_BAR_CELLS);
    memset(bar, '=', (size_t)filled);
    memset(bar + filled, ' ', (size_t)(PROGRESS_BAR_CELLS - filled));
    bar[PROGRESS_BAR_CELLS] = 0;
    fprintf(stderr, " [%s] %3d%%", bar, (int)(part * 100));
    if (rate > 0 && done_bytes < progress->total_bytes) {
        uint64_t left_s = (uint64_t)((double)(progress->total_bytes - done_bytes) / rate + 0.5);
        fprintf(stderr, "  %" PRIu64 ":%02u left", left_s / 60, (unsigned)(left_s % 60));
    }
}

static void progress_draw(struct progress *progress, uint64_t done_bytes, uint64_t now_ms)
{
    char size[OUT_SIZE_TEXT_BYTES], speed[OUT_SIZE_TEXT_BYTES];
    uint64_t elapsed_ms = now_ms - progress->start_ms;
    double rate = elapsed_ms ? (double)done_bytes * 1000 / (double)elapsed_ms : 0;
    out_size(done_bytes, size);
    out_size((uint64_t)rate, speed);
    char *name = out_escape(progress->name, true);
    fprintf(stderr, "\r%-*.*s %11s %11s/s", PROGRESS_NAME_CELLS, PROGRESS_NAME_CELLS, name, size,
            speed);
    free(name);
    if (progress->total_bytes != UINT64_MAX)
        progress_draw_bar(progress, done_bytes, rate);
    fputs("\x1b[K", stderr);
    progress->drawn_ms = now_ms;
}

void progress_update(struct progress *progress, uint64_t done_bytes)
{
    if (!progress->shown)
        return;
    uint64_t now_ms = progress_now_ms();
    if (now_ms - progress->drawn_ms >= PROGRESS_REDRAW_MS)
        progress_draw(progress, done_bytes, now_ms);
}

void progress_end(struct progress *progress, uint64_t done_bytes, bool failed)
{
    if (!progress->shown)
        return;
    if (failed) {
        fputs("\r\x1b[K", stderr);
        return;
    }
    progress_draw(progress, done_bytes, progress_now_ms());
    fputc('\n', stderr);
}
