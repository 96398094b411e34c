/* log: one line, one write. The level is the only state, and is the process's own. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_BYTES 2048

static atomic_int log_least = LOG_INFO;

static const char *const log_names[] = {"debug", "info", "warn", "error"}; /* by level */

void log_set_level(enum log_level level)
{
    atomic_store(&log_least, (int)level);
}

bool log_set_level_name(const char *name)
{
    for (size_t i = 0; i < sizeof(log_names) / sizeof(log_names[0]); i++) {
        if (strcmp(name, log_names[i]) == 0) {
            log_set_level((enum log_level)i);
            return true;
        }
    }
    return false;
}

static size_t log_head(char *line, size_t line_bytes, enum log_level level, const char *event)
{
    struct timespec now;
    struct tm utc;
    size_t len;
    int more;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(line, line_bytes, "%Y-%m-%dT%H:%M:%S", &utc);
    more = snprintf(line + len, line_bytes - len, ".%03dZ level=%s event=%s",
                    (int)(now.tv_nsec / 1000000), log_names[level], event);
    if (more > 0)
        len += (size_t)more;
    return len < line_bytes ? len : line_bytes - 1;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    char line[LOG_LINE_BYTES];
    size_t len;
    ssize_t put;
    int more;
    va_list args;

    if ((int)level < atomic_load(&log_least))
        return;
    len = log_head(line, sizeof(line) - 2, level, event);
    if (fmt && fmt[0]) {
        line[len++] = ' ';
        va_start(args, fmt);
        more = vsnprintf(line + len, sizeof(line) - 1 - len, fmt, args);
        va_end(args);
        if (more > 0)
            len += (size_t)more;
        if (len > sizeof(line) - 2)
            len = sizeof(line) - 2;
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || (unsigned char)line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    put = write(STDERR_FILENO, line, len);
    (void)put; /* nobody is left to tell */
}
