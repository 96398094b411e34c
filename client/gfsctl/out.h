/*
 * out: what gfsctl prints. Names are bytes: on a terminal, control bytes and bytes that are not
 * UTF-8 are shown as \xHH; to a pipe names go as they are. In JSON they become U+FFFD, and the
 * member NAME_hex beside NAME then gives the exact bytes.
 */
#ifndef GFSCTL_OUT_H
#define GFSCTL_OUT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl.h"

#define OUT_SIZE_TEXT_BYTES 32
#define OUT_TIME_TEXT_BYTES 40

/* Heap copy; with `escape`, control bytes, backslashes before them and bad UTF-8 as \xHH. */
char *out_escape(const char *text, bool escape);
/* Prints a name to stdout by the rule above. */
void out_name(const struct ctl *ctl, const char *name);

/* "1.5 GiB" */
void out_size(uint64_t bytes, char ret_text[OUT_SIZE_TEXT_BYTES]);
/* "2026-01-31 12:00:00" of the local time zone */
void out_time(int64_t time_ms, char ret_text[OUT_TIME_TEXT_BYTES]);
const char *out_type(enum gfs_type type);
const char *out_replica_state(enum gfs_replica_state state);

/* JSON: these end the program when memory is out, so that no object is silently short. */
cJSON *out_object(void);
cJSON *out_array(void);
void out_add(cJSON *object, const char *key, cJSON *take_value);
void out_append(cJSON *array, cJSON *take_value);
void out_add_u64(cJSON *object, const char *key, uint64_t value); /* exact, unlike a double */
void out_add_seconds(cJSON *object, const char *key, int64_t time_ms);
void out_add_text(cJSON *object, const char *key, const char *text); /* with key_hex if needed */
/* Prints the value and a newline, and frees it. */
void out_json(cJSON *take_value);

/* An array printed element by element, so that a long listing needs no memory. */
struct out_list {
    bool begun;
};
void out_list_add(struct out_list *list, cJSON *take_value);
void out_list_end(struct out_list *list);

/* Flushes stdout. A closed pipe ends the program quietly, as SIGPIPE would have. */
enum ctl_exit out_finish(const struct ctl *ctl);

#endif
