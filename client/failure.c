#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

#include "gfs.h"

static _Thread_local char failure_line[FAILURE_TEXT_MAX_BYTES] = "no error";

enum gfs_err failure_set(enum gfs_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(failure_line, sizeof(failure_line), fmt, args);
    va_end(args);
    for (char *p = failure_line; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return err;
}

const char *failure_text(void)
{
    return failure_line;
}

const char *gfs_last_error(void)
{
    return failure_line;
}
