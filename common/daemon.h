/*
 * daemon: what both daemons need around their main. Floor 4.
 * The data directory holds LOCK (flock) and STAMP: text lines `format=1`, `role=master`,
 * `cluster=UUID`, `server=UUID`; written to a temporary name, synced, renamed, directory synced.
 */
#ifndef COMMON_DAEMON_H
#define COMMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

#define DAEMON_FORMAT_VERSION 1u

struct daemon_dir {
    int lock_fd; /* -1 when not held */
    char path[4096];
    bool has_stamp;
    uint8_t cluster_id[GFS_UUID_BYTES]; /* zeros: not known yet */
    uint8_t server_id[GFS_UUID_BYTES];
};

/* Makes the directory if missing, takes the lock (LOCKED when another process has it), reads the
 * stamp (BAD_FORMAT: other role or format, with detail). A missing stamp gets a new server_id;
 * a directory without stamp that is not empty is BAD_FORMAT. detail: at least 256 bytes. */
enum gfs_err daemon_dir_open(struct daemon_dir *dir, const char *path, const char *role,
                             char *ret_detail) GFS_MUST_CHECK;
/* Writes the stamp with these ids, durably. */
enum gfs_err daemon_dir_stamp(struct daemon_dir *dir, const char *role) GFS_MUST_CHECK;
void daemon_dir_release(struct daemon_dir *dir);

/* Signals are the main thread's alone: held back before any other thread is made, and let in when
 * the main loop is about to run. A library's thread (LevelDB's) inherits the block. */
void daemon_hold_signals(void);
void daemon_let_signals(void);

/* sd_notify READY=1 and the line "listening on ADDR:PORT" on stdout, flushed. */
void daemon_ready(const char *addr);
void daemon_stopping(void);

void uuid_make(uint8_t ret_uuid[GFS_UUID_BYTES]); /* random, version 4 */
void uuid_format(const uint8_t uuid[GFS_UUID_BYTES], char ret_text[37]);
bool uuid_parse(const char *text, uint8_t ret_uuid[GFS_UUID_BYTES]);
bool uuid_is_zero(const uint8_t uuid[GFS_UUID_BYTES]);

#endif
