/*
 * log: key=value lines to stderr, one an event, by shells only; libraries do not log. Floor 1.
 *   2026-01-31T12:00:00.123Z level=info event=chunkserver_up server=... addr=...
 * Thread-safe, one write(2) a line, lines cut at 2 KiB, values quoted where needed.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level level);
/* By its name: debug, info, warn or error. False: no such level, nothing changed. */
bool log_set_level_name(const char *name);
/* fmt gives space-separated key=value pairs; a value that may hold spaces is written with %s inside
 * quotes by the caller: log_event(LOG_INFO, "put", "path=\"%s\" bytes=%llu", ...). Control bytes
 * are replaced. */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
