/* progress: one line on stderr that is redrawn, only when stderr is a terminal. */
#ifndef GFSCTL_PROGRESS_H
#define GFSCTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown;
    const char *name;     /* borrowed */
    uint64_t total_bytes; /* UINT64_MAX: not known */
    uint64_t start_ms;
    uint64_t drawn_ms;
};

void progress_begin(struct progress *progress, bool shown, const char *name, uint64_t total_bytes);
void progress_update(struct progress *progress, uint64_t done_bytes);
/* The last state and a newline; with `failed` the line is wiped instead. */
void progress_end(struct progress *progress, uint64_t done_bytes, bool failed);
/* Monotonic milliseconds. */
uint64_t progress_now_ms(void);

#endif
