/*
 * config: the option table turned into a parser. Values are set in three rounds, later ones
 * winning: defaults, the file of --config, the command line.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef GFS_VERSION_TEXT
#define GFS_VERSION_TEXT "unknown"
#endif

#define CONFIG_LINE_BYTES   4096
#define CONFIG_OPTIONS_MAX  128
#define CONFIG_REASON_BYTES 256

struct config_parse {
    const struct config_program *program;
    void *values;
    bool given[CONFIG_OPTIONS_MAX];
};

static void config_complain(const struct config_program *program, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void config_complain(const struct config_program *program, const char *fmt, ...)
{
    char text[CONFIG_LINE_BYTES + CONFIG_REASON_BYTES];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    fprintf(stderr, "%s: %s (see --help)\n", program->name, text);
}

/* name_len bytes of name, dashes standing for underscores. */
static const struct config_option *config_find(const struct config_program *program,
                                               const char *name, size_t name_len)
{
    for (size_t i = 0; i < program->option_count; i++) {
        const struct config_option *option = &program->options[i];
        size_t at = 0;

        while (at < name_len && option->name[at] &&
               (option->name[at] == name[at] || (option->name[at] == '_' && name[at] == '-')))
            at++;
        if (at == name_len && option->name[at] == '\0')
            return option;
    }
    return NULL;
}

static void *config_field(void *values, const struct config_option *option)
{
    return (char *)values + option->offset;
}

static bool config_parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "0", "1", "off", "on"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(text, words[i]) == 0) {
            *ret_value = i % 2 == 1;
            return true;
        }
    return false;
}

static bool config_parse_u64(const char *text, bool with_suffix, uint64_t *ret_value)
{
    static const char suffixes[] = "KMGT";
    unsigned long long value;
    const char *suffix;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (with_suffix && *end && (suffix = strchr(suffixes, *end))) {
        unsigned shift = 10 * (unsigned)(suffix - suffixes + 1);

        if (value > UINT64_MAX >> shift)
            return false;
        value <<= shift;
        end++;
    }
    if (*end)
        return false;
    *ret_value = value;
    return true;
}

static void config_format_number(const struct config_option *option, uint64_t value, char *buf,
                                 size_t buf_bytes)
{
    static const char suffixes[] = "TGMK";

    if (option->type == CONFIG_SIZE && value)
        for (unsigned i = 0; i < 4; i++) {
            unsigned shift = 40 - 10 * i;

            if (value % ((uint64_t)1 << shift) == 0) {
                snprintf(buf, buf_bytes, "%" PRIu64 "%c", value >> shift, suffixes[i]);
                return;
            }
        }
    snprintf(buf, buf_bytes, "%" PRIu64, value);
}

static bool config_set_number(const struct config_option *option, void *field, const char *text,
                              char *ret_reason)
{
    char min[32], max[32];
    uint64_t value;

    if (!config_parse_u64(text, option->type == CONFIG_SIZE, &value)) {
        snprintf(ret_reason, CONFIG_REASON_BYTES,
                 option->type == CONFIG_SIZE
                     ? "is not a size: a whole number, then K, M, G, T or nothing"
                     : "is not a whole number");
        return false;
    }
    if ((option->min || option->max) && (value < option->min || value > option->max)) {
        config_format_number(option, option->min, min, sizeof(min));
        config_format_number(option, option->max, max, sizeof(max));
        snprintf(ret_reason, CONFIG_REASON_BYTES, "is out of range: %s to %s", min, max);
        return false;
    }
    *(uint64_t *)field = value;
    return true;
}

/* false: ret_reason says why, to follow the value's text. */
static bool config_set(void *values, const struct config_option *option, const char *text,
                       char *ret_reason)
{
    void *field = config_field(values, option);
    char *copy;

    switch (option->type) {
    case CONFIG_STRING:
        copy = strdup(text);
        if (!copy) {
            snprintf(ret_reason, CONFIG_REASON_BYTES, "does not fit in memory");
            return false;
        }
        free(*(char **)field);
        *(char **)field = copy;
        return true;
    case CONFIG_BOOL:
        if (config_parse_bool(text, field))
            return true;
        snprintf(ret_reason, CONFIG_REASON_BYTES, "is neither true nor false");
        return false;
    case CONFIG_U64:
    case CONFIG_SIZE:
        return config_set_number(option, field, text, ret_reason);
    }
    return false;
}

static void config_dashed(const char *name, char *buf, size_t buf_bytes)
{
    size_t i;

    for (i = 0; i + 1 < buf_bytes && name[i]; i++)
        buf[i] = name[i] == '_' ? '-' : name[i];
    buf[i] = '\0';
}

static void config_help_range(const struct config_option *option)
{
    char min[32], max[32];

    if (option->type == CONFIG_STRING || option->type == CONFIG_BOOL ||
        (!option->min && !option->max))
        return;
    config_format_number(option, option->min, min, sizeof(min));
    config_format_number(option, option->max, max, sizeof(max));
    printf(", %s to %s", min, max);
}

static void config_print_help(const struct config_program *program)
{
    char left[96], name[64];

    printf("%s: %s\n\nusage: %s [--OPTION VALUE ...] [--config FILE]\n\noptions:\n", program->name,
           program->summary, program->name);
    for (size_t i = 0; i < program->option_count; i++) {
        const struct config_option *option = &program->options[i];

        config_dashed(option->name, name, sizeof(name));
        snprintf(left, sizeof(left), "--%s %s", name,
                 option->type == CONFIG_BOOL            ? "[true|false]"
                 : option->unit && option->unit[0] != 0 ? option->unit
                                                        : "VALUE");
        printf("  %-32s %s", left, option->help);
        if (!option->default_text)
            printf(" (required");
        else if (option->default_text[0])
            printf(" (default %s", option->default_text);
        else
            printf(" (default: none");
        config_help_range(option);
        printf(")\n");
    }
    printf("  %-32s %s\n", "--config FILE", "read options from FILE, lines `name = value`");
    printf("  %-32s %s\n", "--help", "print this and exit");
    printf("  %-32s %s\n", "--version", "print the version and exit");
    printf("\nThe command line wins over the file. Sizes take K, M, G, T (of 1024).\n");
    if (program->examples && program->examples[0])
        printf("\nexamples:\n%s%s", program->examples,
               program->examples[strlen(program->examples) - 1] == '\n' ? "" : "\n");
    fflush(stdout);
}

static char *config_trim(char *text)
{
    char *end;

    text += strspn(text, " \t\r\n");
    end = text + strlen(text);
    while (end > text && strchr(" \t\r\n", end[-1]))
        end--;
    *end = '\0';
    return text;
}

static bool config_parse_line(struct config_parse *parse, const char *path, unsigned line_number,
                              char *line)
{
    const struct config_option *option;
    char reason[CONFIG_REASON_BYTES];
    char *name, *value, *equals;

    name = config_trim(line);
    if (name[0] == '\0' || name[0] == '#')
        return true;
    equals = strchr(name, '=');
    if (!equals) {
        config_complain(parse->program, "%s:%u: a line is `name = value`", path, line_number);
        return false;
    }
    *equals = '\0';
    name = config_trim(name);
    value = equals + 1;
    if (strstr(value, " #"))
        *strstr(value, " #") = '\0';
    value = config_trim(value);
    option = config_find(parse->program, name, strlen(name));
    if (!option) {
        config_complain(parse->program, "%s:%u: unknown option %s", path, line_number, name);
        return false;
    }
    if (!config_set(parse->values, option, value, reason)) {
        config_complain(parse->program, "%s:%u: %s: \"%s\" %s", path, line_number, name, value,
                        reason);
        return false;
    }
    parse->given[option - parse->program->options] = true;
    return true;
}

static bool config_parse_file(struct config_parse *parse, const char *path)
{
    char line[CONFIG_LINE_BYTES];
    FILE *file = fopen(path, "re");
    unsigned line_number = 0;
    bool ok = true;

    if (!file) {
        config_complain(parse->program, "cannot open %s: %s", path, strerror(errno));
        return false;
    }
    while (ok && fgets(line, sizeof(line), file)) {
        line_number++;
        if (strlen(line) == sizeof(line) - 1) {
            config_complain(parse->program, "%s:%u: line too long", path, line_number);
            ok = false;
        } else {
            ok = config_parse_line(parse, path, line_number, line);
        }
    }
    if (ok && ferror(file)) {
        config_complain(parse->program, "cannot read %s: %s", path, strerror(errno));
        ok = false;
    }
    fclose(file);
    return ok;
}

/* What the command line's argument at *at says: name and value, *at moved past them. */
struct config_arg {
    const char *name; /* without dashes */
    size_t name_len;
    const char *value; /* NULL: none */
    const struct config_option *option;
    bool is_config;
};

static bool config_next_arg(const struct config_parse *parse, int argc, char **argv, int *at,
                            struct config_arg *ret_arg)
{
    const char *text = argv[(*at)++], *equals;
    bool dummy;

    if (strncmp(text, "--", 2) != 0 || text[2] == '\0') {
        config_complain(parse->program, "unexpected argument %s", text);
        return false;
    }
    memset(ret_arg, 0, sizeof(*ret_arg));
    ret_arg->name = text + 2;
    equals = strchr(text, '=');
    ret_arg->name_len = equals ? (size_t)(equals - text - 2) : strlen(text + 2);
    ret_arg->is_config = ret_arg->name_len == 6 && strncmp(ret_arg->name, "config", 6) == 0;
    ret_arg->option = config_find(parse->program, ret_arg->name, ret_arg->name_len);
    if (!ret_arg->option && !ret_arg->is_config) {
        config_complain(parse->program, "unknown option --%.*s", (int)ret_arg->name_len,
                        ret_arg->name);
        return false;
    }
    if (equals) {
        ret_arg->value = equals + 1;
    } else if (ret_arg->option && ret_arg->option->type == CONFIG_BOOL) {
        ret_arg->value = "true";
        if (*at < argc && config_parse_bool(argv[*at], &dummy))
            ret_arg->value = argv[(*at)++];
    } else if (*at < argc) {
        ret_arg->value = argv[(*at)++];
    } else {
        config_complain(parse->program, "option --%s needs a value", ret_arg->name);
        return false;
    }
    return true;
}

static bool config_parse_args(struct config_parse *parse, int argc, char **argv, bool files)
{
    char reason[CONFIG_REASON_BYTES];
    struct config_arg arg;

    for (int at = 1; at < argc;) {
        if (!config_next_arg(parse, argc, argv, &at, &arg))
            return false;
        if (files) {
            if (arg.is_config && !config_parse_file(parse, arg.value))
                return false;
            continue;
        }
        if (arg.is_config)
            continue;
        if (!config_set(parse->values, arg.option, arg.value, reason)) {
            config_complain(parse->program, "--%.*s: \"%s\" %s", (int)arg.name_len, arg.name,
                            arg.value, reason);
            return false;
        }
        parse->given[arg.option - parse->program->options] = true;
    }
    return true;
}

static bool config_set_defaults(struct config_parse *parse)
{
    char reason[CONFIG_REASON_BYTES];

    for (size_t i = 0; i < parse->program->option_count; i++) {
        const struct config_option *option = &parse->program->options[i];

        if (option->default_text &&
            !config_set(parse->values, option, option->default_text, reason)) {
            config_complain(parse->program, "default of %s: \"%s\" %s", option->name,
                            option->default_text, reason);
            return false;
        }
    }
    return true;
}

static bool config_has_required(const struct config_parse *parse)
{
    char name[64];

    for (size_t i = 0; i < parse->program->option_count; i++)
        if (!parse->program->options[i].default_text && !parse->given[i]) {
            config_dashed(parse->program->options[i].name, name, sizeof(name));
            config_complain(parse->program, "missing option --%s", name);
            return false;
        }
    return true;
}

static void config_zero(const struct config_program *program, void *values)
{
    for (size_t i = 0; i < program->option_count; i++) {
        void *field = config_field(values, &program->options[i]);

        switch (program->options[i].type) {
        case CONFIG_STRING:
            *(char **)field = NULL;
            break;
        case CONFIG_BOOL:
            *(bool *)field = false;
            break;
        case CONFIG_U64:
        case CONFIG_SIZE:
            *(uint64_t *)field = 0;
            break;
        }
    }
}

enum config_result config_parse(const struct config_program *program, int argc, char **argv,
                                void *values)
{
    struct config_parse parse = {.program = program, .values = values};

    config_zero(program, values);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            config_print_help(program);
            return CONFIG_EXIT_OK;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", program->name, GFS_VERSION_TEXT);
            fflush(stdout);
            return CONFIG_EXIT_OK;
        }
    }
    if (program->option_count > CONFIG_OPTIONS_MAX) {
        config_complain(program, "too many options in the table");
        return CONFIG_EXIT_USAGE;
    }
    if (config_set_defaults(&parse) && config_parse_args(&parse, argc, argv, true) &&
        config_parse_args(&parse, argc, argv, false) && config_has_required(&parse))
        return CONFIG_RUN;
    config_release(program, values);
    return CONFIG_EXIT_USAGE;
}

void config_release(const struct config_program *program, void *values)
{
    for (size_t i = 0; i < program->option_count; i++) {
        if (program->options[i].type == CONFIG_STRING) {
            char **field = config_field(values, &program->options[i]);

            free(*field);
            *field = NULL;
        }
    }
}

void config_describe(const struct config_program *program, const void *values, char *buf,
                     size_t buf_bytes)
{
    size_t len = 0;

    if (buf_bytes)
        buf[0] = '\0';
    for (size_t i = 0; i < program->option_count && len < buf_bytes; i++) {
        const struct config_option *option = &program->options[i];
        const char *field = (const char *)values + option->offset;
        const char *gap = i ? " " : "";
        int more;

        if (option->type == CONFIG_STRING)
            more = snprintf(buf + len, buf_bytes - len, "%s%s=\"%s\"", gap, option->name,
                            *(char *const *)field ? *(char *const *)field : "");
        else if (option->type == CONFIG_BOOL)
            more = snprintf(buf + len, buf_bytes - len, "%s%s=%s", gap, option->name,
                            *(const bool *)field ? "true" : "false");
        else
            more = snprintf(buf + len, buf_bytes - len, "%s%s=%" PRIu64, gap, option->name,
                            *(const uint64_t *)field);
        len += more > 0 ? (size_t)more : 0;
    }
}
