/* failure: this thread's last error text, behind gfs_last_error. */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

#include "gfs_err.h"

#define FAILURE_TEXT_MAX_BYTES 1024

/* Keeps one line for gfs_last_error (control bytes become '?') and returns err. */
enum gfs_err failure_set(enum gfs_err err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
const char *failure_text(void);

#endif
