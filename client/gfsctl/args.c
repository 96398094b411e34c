#include "args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gfs_limits.h"

#define ARGS_TIMEOUT_MAX_S 86400u

const struct args_option args_options[CTL_OPTION_COUNT] = {
    [CTL_OPTION_GOAL] = {0, "goal", "N", "replicas wanted, 1 to 16 (default: the directory's)"},
    [CTL_OPTION_CHUNK_SIZE] = {0, "chunk-size", "BYTES",
                               "a power of two, 1M to 1G (default 64M); K, M, G are understood"},
    [CTL_OPTION_FORCE] = {0, "force", NULL, "replace a file that is there"},
    [CTL_OPTION_LONG] = {'l', "long", NULL, "type, size, goal, time and name"},
    [CTL_OPTION_RECURSIVE] = {'R', "recursive", NULL, "everything below it too"},
    [CTL_OPTION_TREE] = {'r', "recursive", NULL, "a directory with all below it, atomically"},
    [CTL_OPTION_PARENTS] = {'p', "parents", NULL,
                            "make missing parents; a directory that is there is no error"},
    [CTL_OPTION_LINES] = {0, "lines", NULL, "each line is a record, without its newline"},
    [CTL_OPTION_RECORDS] = {0, "records", NULL,
                            "the payloads of appended records, each followed by a newline"},
    [CTL_OPTION_FOLLOW] = {'f', "follow", NULL, "go on with what is added, until interrupted"},
    [CTL_OPTION_LAST] = {'n', "last", "N", "so many lines, or records (default 10)"},
};

struct args_cursor {
    int argc;
    char **argv;
    int next;
};

static bool args_parse_u64(const char *text, char **ret_end, uint64_t *ret_value)
{
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, ret_end, 10);
    if (errno)
        return false;
    *ret_value = value;
    return true;
}

bool args_parse_size(const char *text, uint64_t *ret_bytes)
{
    static const char suffixes[] = "KMGT";
    char *end;
    uint64_t value;
    if (!args_parse_u64(text, &end, &value))
        return false;
    unsigned shift = 0;
    if (*end) {
        const char *suffix = strchr(suffixes, *end);
        if (!suffix || end[1])
            return false;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *ret_bytes = value << shift;
    return true;
}

bool args_parse_goal(const char *text, uint32_t *ret_goal)
{
    char *end;
    uint64_t goal;
    if (!args_parse_u64(text, &end, &goal) || *end || goal < 1 || goal > GFS_GOAL_MAX)
        return false;
    *ret_goal = (uint32_t)goal;
    return true;
}

static enum ctl_exit args_set_goal(struct ctl *ctl, const char *text)
{
    if (!args_parse_goal(text, &ctl->goal))
        return ctl_usage(ctl, "--goal: '%s' is not a number from 1 to %u", text, GFS_GOAL_MAX);
    return CTL_OK;
}

static enum ctl_exit args_set_chunk_size(struct ctl *ctl, const char *text)
{
    uint64_t bytes;
    if (!args_parse_size(text, &bytes) || bytes < GFS_CHUNK_SIZE_MIN_BYTES ||
        bytes > GFS_CHUNK_SIZE_MAX_BYTES || (bytes & (bytes - 1)))
        return ctl_usage(ctl, "--chunk-size: '%s' is not a power of two from 1M to 1G", text);
    ctl->chunk_size_bytes = (uint32_t)bytes;
    return CTL_OK;
}

static enum ctl_exit args_set_last(struct ctl *ctl, const char *text)
{
    char *end;
    if (!args_parse_u64(text, &end, &ctl->last) || *end)
        return ctl_usage(ctl, "-n: '%s' is not a number of lines or records", text);
    return CTL_OK;
}

static enum ctl_exit args_set_timeout(struct ctl *ctl, const char *text)
{
    char *end;
    double seconds = *text >= '0' && *text <= '9' ? strtod(text, &end) : -1;
    if (seconds < 0.001 || seconds > ARGS_TIMEOUT_MAX_S || *end)
        return ctl_usage(ctl, "--timeout: '%s' is not a number of seconds from 0.001 to %u", text,
                         ARGS_TIMEOUT_MAX_S);
    ctl->timeout_ms = (uint32_t)(seconds * 1000);
    return CTL_OK;
}

/* The value of option `name`: after '=', or the next word. NULL: there is none. */
static const char *args_value(struct args_cursor *cursor, const char *inline_value)
{
    if (inline_value)
        return inline_value;
    return cursor->next < cursor->argc ? cursor->argv[cursor->next++] : NULL;
}

/* *ret_known says whether the word was a global option. */
static enum ctl_exit args_global(struct ctl *ctl, struct args_cursor *cursor, const char *name,
                                 size_t name_len, const char *inline_value, bool *ret_known)
{
    static const char *const names[] = {"json",          "help",   "version",
                                        "help-markdown", "master", "timeout"};
    size_t which = 0;
    while (which < 6 && (strlen(names[which]) != name_len || memcmp(names[which], name, name_len)))
        which++;
    *ret_known = which < 6;
    if (!*ret_known)
        return CTL_OK;
    if (which < 4) {
        bool *const flags[] = {&ctl->json, &ctl->help, &ctl->version, &ctl->markdown};
        if (inline_value)
            return ctl_usage(ctl, "--%s takes no value", names[which]);
        *flags[which] = true;
        return CTL_OK;
    }
    const char *value = args_value(cursor, inline_value);
    if (!value || !*value)
        return ctl_usage(ctl, "--%s needs a value", names[which]);
    if (which == 5)
        return args_set_timeout(ctl, value);
    ctl->master = value;
    return CTL_OK;
}

static enum ctl_exit args_take(struct ctl *ctl, struct args_cursor *cursor, enum ctl_option option,
                               const char *inline_value)
{
    const struct args_option *text = &args_options[option];
    ctl->options |= 1u << option;
    if (!text->value)
        return inline_value ? ctl_usage(ctl, "--%s takes no value", text->name) : CTL_OK;
    const char *value = args_value(cursor, inline_value);
    if (!value)
        return ctl_usage(ctl, "--%s needs a value", text->name);
    if (option == CTL_OPTION_GOAL)
        return args_set_goal(ctl, value);
    return option == CTL_OPTION_LAST ? args_set_last(ctl, value) : args_set_chunk_size(ctl, value);
}

static bool args_allowed(const struct ctl *ctl, enum ctl_option option)
{
    return ctl->command && (ctl->command->options & 1u << option);
}

static enum ctl_exit args_long(struct ctl *ctl, struct args_cursor *cursor, const char *word)
{
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const char *inline_value = equals ? equals + 1 : NULL;
    bool known;
    enum ctl_exit result = args_global(ctl, cursor, name, len, inline_value, &known);
    if (known)
        return result;
    for (int i = 0; i < CTL_OPTION_COUNT; i++)
        if (args_allowed(ctl, i) && strlen(args_options[i].name) == len &&
            !memcmp(args_options[i].name, name, len))
            return args_take(ctl, cursor, i, inline_value);
    if (!ctl->command)
        return ctl_usage(ctl, "unknown option %s", word);
    return ctl_usage(ctl, "%s has no option %s", ctl->command->name, word);
}

/* "-lR", "-n5", "-fn 5" */
static enum ctl_exit args_letters(struct ctl *ctl, struct args_cursor *cursor, const char *word)
{
    for (const char *letter = word + 1; *letter; letter++) {
        int i = 0;
        while (i < CTL_OPTION_COUNT && !(args_allowed(ctl, i) && args_options[i].letter == *letter))
            i++;
        if (*letter == 'h' && i == CTL_OPTION_COUNT)
            ctl->help = true;
        else if (i == CTL_OPTION_COUNT)
            return ctl_usage(ctl, "unknown option -%c", *letter);
        else if (args_options[i].value)
            return args_take(ctl, cursor, i, letter[1] ? letter + 1 : NULL);
        else
            ctl->options |= 1u << i;
    }
    return CTL_OK;
}

static enum ctl_exit args_operand(struct ctl *ctl, const char *word)
{
    if (ctl->command) {
        ctl->args[ctl->arg_count++] = word;
        return CTL_OK;
    }
    if (!strcmp(word, "help")) {
        ctl->help = true;
        return CTL_OK;
    }
    ctl->command = ctl_command_find(word);
    return ctl->command ? CTL_OK : ctl_usage(ctl, "unknown command '%s'", word);
}

enum ctl_exit args_parse(struct ctl *ctl, int argc, char **argv)
{
    struct args_cursor cursor = {argc, argv, 1};
    enum ctl_exit result = CTL_OK;
    bool options_over = false;
    ctl->args = ctl_alloc((size_t)(argc + 1) * sizeof *ctl->args);
    while (cursor.next < argc && result == CTL_OK) {
        const char *word = argv[cursor.next++];
        if (options_over || word[0] != '-' || !word[1])
            result = args_operand(ctl, word);
        else if (!strcmp(word, "--"))
            options_over = true;
        else if (word[1] == '-')
            result = args_long(ctl, &cursor, word);
        else
            result = args_letters(ctl, &cursor, word);
    }
    if (result != CTL_OK || ctl->help || ctl->version || ctl->markdown)
        return result;
    const struct ctl_command *command = ctl->command;
    if (!command)
        return ctl_usage(ctl, "a command is missing");
    if (ctl->arg_count < command->args_min ||
        (command->args_max >= 0 && ctl->arg_count > command->args_max))
        return ctl_usage(ctl, "usage: gfsctl %s %s", command->name, command->usage);
    return CTL_OK;
}
