/*
 * debug_delay: chunks whose reads are slowed down on purpose, for experiments with a slow disk.
 * Floor 6. Thread-safe. Text: "HANDLE:MS" (16 hex digits : milliseconds), separated by commas or
 * white space.
 */
#ifndef CHUNKSERVER_DEBUG_DELAY_H
#define CHUNKSERVER_DEBUG_DELAY_H

#include <stdint.h>

#include "gfs_err.h"

struct debug_delay;

struct debug_delay *debug_delay_new(void); /* NULL when memory is out */
void debug_delay_free(struct debug_delay *delay);
/* Replaces all. INVAL: bad text, nothing is changed. */
enum gfs_err debug_delay_set(struct debug_delay *delay, const char *text) GFS_MUST_CHECK;
/* The same from a file, at most 4 KiB. LOCAL: it cannot be read. */
enum gfs_err debug_delay_load(struct debug_delay *delay, const char *path) GFS_MUST_CHECK;
uint32_t debug_delay_ms(struct debug_delay *delay, uint64_t handle);
/* Sleeps as long as the chunk is to be delayed. */
void debug_delay_wait(struct debug_delay *delay, uint64_t handle);

#endif
