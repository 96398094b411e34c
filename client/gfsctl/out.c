#include "out.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Bytes of the valid UTF-8 sequence at s (no overlong ones, no surrogates), 0 if it is none. */
static size_t out_utf8_len(const unsigned char *s)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t len;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        len = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        len = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return len;
}

/* C1 controls (U+0080 to U+009F) are control bytes to a terminal too. */
static bool out_is_control(const unsigned char *s)
{
    return *s < 0x20 || *s == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

char *out_escape(const char *text, bool escape)
{
    if (!escape) {
        size_t size = strlen(text) + 1;
        return memcpy(ctl_alloc(size), text, size);
    }
    char *out = ctl_alloc(strlen(text) * 4 + 1);
    char *end = out;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t len = out_utf8_len(s);
        if (len && !out_is_control(s)) {
            memcpy(end, s, len);
            end += len;
        } else {
            len = len ? len : 1;
            for (size_t i = 0; i < len; i++)
                end += sprintf(end, "\\x%02x", s[i]);
        }
        s += len;
    }
    *end = 0;
    return out;
}

void out_name(const struct ctl *ctl, const char *name)
{
    char *text = out_escape(name, ctl->out_is_terminal);
    fputs(text, stdout);
    free(text);
}

void out_size(uint64_t bytes, char ret_text[OUT_SIZE_TEXT_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(ret_text, OUT_SIZE_TEXT_BYTES, "%" PRIu64 " B", bytes);
        return;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1023.95 && unit < 5) {
        value /= 1024;
        unit++;
    }
    snprintf(ret_text, OUT_SIZE_TEXT_BYTES, "%.1f %s", value, units[unit]);
}

void out_time(int64_t time_ms, char ret_text[OUT_TIME_TEXT_BYTES])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm;
    if (!localtime_r(&seconds, &tm) ||
        !strftime(ret_text, OUT_TIME_TEXT_BYTES, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(ret_text, OUT_TIME_TEXT_BYTES, "?");
}

const char *out_type(enum gfs_type type)
{
    return type == GFS_TYPE_DIR ? "directory" : "file";
}

const char *out_replica_state(enum gfs_replica_state state)
{
    switch (state) {
    case GFS_REPLICA_OK:
        return "ok";
    case GFS_REPLICA_STALE:
        return "stale";
    case GFS_REPLICA_CORRUPT:
        return "corrupt";
    case GFS_REPLICA_MISSING:
        break;
    }
    return "missing";
}

static _Noreturn void out_no_memory(void)
{
    fputs("gfsctl: out of memory\n", stderr);
    exit(CTL_FAILED);
}

static cJSON *out_checked(cJSON *value)
{
    if (!value)
        out_no_memory();
    return value;
}

cJSON *out_object(void)
{
    return out_checked(cJSON_CreateObject());
}

cJSON *out_array(void)
{
    return out_checked(cJSON_CreateArray());
}

void out_add(cJSON *object, const char *key, cJSON *take_value)
{
    if (!cJSON_AddItemToObject(object, key, out_checked(take_value)))
        out_no_memory();
}

void out_append(cJSON *array, cJSON *take_value)
{
    if (!cJSON_AddItemToArray(array, out_checked(take_value)))
        out_no_memory();
}

void out_add_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    out_add(object, key, cJSON_CreateRaw(text));
}

void out_add_seconds(cJSON *object, const char *key, int64_t time_ms)
{
    char text[40];
    snprintf(text, sizeof text, "%s%" PRId64 ".%03d", time_ms < 0 ? "-" : "",
             time_ms < 0 ? -(time_ms / 1000) : time_ms / 1000, abs((int)(time_ms % 1000)));
    out_add(object, key, cJSON_CreateRaw(text));
}

void out_add_text(cJSON *object, const char *key, const char *text)
{
    size_t len = strlen(text);
    char *clean = ctl_alloc(len * 3 + 1);
    char *end = clean;
    bool bad = false;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t step = out_utf8_len(s);
        memcpy(end, step ? (const char *)s : "\xef\xbf\xbd", step ? step : 3);
        end += step ? step : 3;
        s += step ? step : 1;
        bad |= !step;
    }
    *end = 0;
    out_add(object, key, cJSON_CreateString(clean));
    free(clean);
    if (!bad)
        return;
    char hex_key[64];
    char *hex = ctl_alloc(len * 2 + 1);
    for (size_t i = 0; i < len; i++)
        sprintf(hex + 2 * i, "%02x", (unsigned char)text[i]);
    snprintf(hex_key, sizeof hex_key, "%s_hex", key);
    out_add(object, hex_key, cJSON_CreateString(hex));
    free(hex);
}

static void out_print(cJSON *take_value)
{
    char *text = cJSON_PrintUnformatted(take_value);
    cJSON_Delete(take_value);
    if (!text)
        out_no_memory();
    fputs(text, stdout);
    cJSON_free(text);
}

void out_json(cJSON *take_value)
{
    out_print(take_value);
    putchar('\n');
}

void out_list_add(struct out_list *list, cJSON *take_value)
{
    fputs(list->begun ? ",\n " : "[", stdout);
    list->begun = true;
    out_print(take_value);
}

void out_list_end(struct out_list *list)
{
    fputs(list->begun ? "]\n" : "[]\n", stdout);
}

enum ctl_exit out_finish(const struct ctl *ctl)
{
    if (!fflush(stdout) && !ferror(stdout))
        return CTL_OK;
    if (errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return ctl_fail(ctl, "standard output: %s", strerror(errno));
}
