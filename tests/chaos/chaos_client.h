/*
 * chaos_client: one process of the chaos test: works on shared files through libgfs and writes down
 * every operation with the times of its call and its return.
 */
#ifndef CHAOS_CLIENT_H
#define CHAOS_CLIENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "gfs.h"
#include "gfs_limits.h"

#define CHAOS_FILES         2
#define CHAOS_REGIONS       16u /* of a file, one block each: two chunks of 1 MiB hold 32 blocks */
#define CHAOS_REGION_STRIDE (2u * 65536u)
#define CHAOS_REGION_BYTES  4096u
#define CHAOS_FILE_BYTES    (2u << 20)
#define CHAOS_NAMES         4
#define CHAOS_PATH_BYTES    256
#define CHAOS_TIMEOUT_MS    8000u
#define CHAOS_FINAL_THREAD  10000u

struct chaos_options {
    const char *mode;
    const char *master;
    const char *folder;
    const char *out;
    uint64_t seed;
    uint32_t seconds;
    uint32_t client;
};

/* One line of the history; tests/sim/history.h has the format. Any thread. */
struct chaos_log {
    pthread_mutex_t lock;
    FILE *file;
};

struct chaos {
    const struct chaos_options *options;
    struct gfs *fs;
    struct chaos_log log;
};

enum chaos_name_verb { CHAOS_CREATE, CHAOS_REMOVE, CHAOS_STAT, CHAOS_RENAME };

uint64_t chaos_now_us(void);

/* ---- chaos_history.c: what is written down; the return is now ---- */
void chaos_note_write(struct chaos_log *log, uint32_t thread, uint64_t called_us, bool done,
                      uint32_t file, uint32_t region, uint64_t value);
/* done false: it may be in the file. */
void chaos_note_append(struct chaos_log *log, uint32_t thread, uint64_t called_us, bool done,
                       uint64_t value, uint64_t offset, size_t len_bytes);
/* A record found at the end. */
void chaos_note_record(struct chaos_log *log, uint64_t value, uint64_t offset, size_t len_bytes);
void chaos_note_name(struct chaos_log *log, uint32_t thread, uint64_t called_us,
                     enum chaos_name_verb verb, uint32_t name, uint32_t other, enum gfs_err err);
/* Reads a region and notes what was there. False: it could not be read, nothing is noted. */
bool chaos_read_region(struct chaos *chaos, uint32_t thread, struct gfs_file *reader, uint32_t file,
                       uint32_t region);

void chaos_region_path(const struct chaos *chaos, uint32_t file, char ret_path[CHAOS_PATH_BYTES]);
void chaos_log_path(const struct chaos *chaos, char ret_path[CHAOS_PATH_BYTES]);

int chaos_make(struct chaos *chaos);
int chaos_work(struct chaos *chaos);
int chaos_final(struct chaos *chaos);
int chaos_compare(struct chaos *chaos);

#endif
