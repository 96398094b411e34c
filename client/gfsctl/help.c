#include "help.h"

#include <stdio.h>
#include <string.h>

#include "args.h"

#define HELP_WIDTH 78

static const char help_globals[] =
    "      --master ADDR:PORT   the master (default: $GFS_MASTER, else 127.0.0.1:7400)\n"
    "      --json               print JSON for programs; see docs/gfsctl.md\n"
    "      --timeout SECONDS    when to give up (default 30)\n"
    "      --help               this, or the help of COMMAND\n"
    "      --version            print the version\n";

static const char help_exits[] =
    "Exit status: 0 done; 1 the service or a local file failed, said in one line on stderr;\n"
    "2 wrong usage. On SIGINT, SIGTERM, SIGHUP or a closed pipe it dies of the signal.\n";

/* Every line of text with `prefix` before it. */
static void help_lines(const char *text, const char *prefix)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        printf("%s%.*s\n", prefix, (int)len, text);
        text += len + (text[len] == '\n');
    }
}

void help_program(void)
{
    puts("Usage: gfsctl [OPTION...] COMMAND [ARGUMENT...]\n\n"
         "Stores and fetches files in a chunk storage cluster.\n\nCommands:");
    for (size_t i = 0; i < ctl_command_count; i++)
        printf("  %-10s %s\n", ctl_commands[i].name, ctl_commands[i].summary);
    printf("\nOptions, before or after the command:\n%s\nExamples:\n", help_globals);
    help_lines("gfsctl put movie.mkv /films/\n"
               "gfsctl ls -l /films\n"
               "gfsctl get /films/movie.mkv copy.mkv\n"
               "gfsctl --master 10.0.0.1:7400 servers",
               "  ");
    printf("\n%s", help_exits);
}

/* A paragraph, broken between words. */
static void help_wrapped(const char *text)
{
    size_t column = 0;
    for (const char *word = text; *word;) {
        size_t len = strcspn(word, " ");
        if (column && column + 1 + len > HELP_WIDTH) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "", (int)len, word);
        word += len + (word[len] == ' ');
    }
    putchar('\n');
}

static void help_summary(const struct ctl_command *command)
{
    printf("%c%s.\n", command->summary[0] - 'a' + 'A', command->summary + 1);
    if (command->text)
        help_wrapped(command->text);
}

/* "-l, --long", "--goal N" */
static void help_option_name(const struct args_option *option, const char *indent, char *ret_text,
                             size_t text_bytes)
{
    char letter[8] = "";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(ret_text, text_bytes, "%s--%s%s%s", option->letter ? letter : indent, option->name,
             option->value ? " " : "", option->value ? option->value : "");
}

void help_command(const struct ctl_command *command)
{
    char name[48];
    printf("Usage: gfsctl [OPTION...] %s %s\n\n", command->name, command->usage);
    help_summary(command);
    puts("\nOptions:");
    for (int i = 0; i < CTL_OPTION_COUNT; i++) {
        if (!(command->options & 1u << i))
            continue;
        help_option_name(&args_options[i], "    ", name, sizeof name);
        printf("  %-24s %s\n", name, args_options[i].help);
    }
    printf("%s\nExamples:\n", help_globals);
    help_lines(command->examples, "  ");
    printf("\n%s", help_exits);
}

void help_markdown(void)
{
    char name[48];
    for (size_t i = 0; i < ctl_command_count; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        printf("### `gfsctl %s%s%s`\n\n", command->name, *command->usage ? " " : "",
               command->usage);
        help_summary(command);
        puts("");
        for (int o = 0; o < CTL_OPTION_COUNT; o++) {
            if (!(command->options & 1u << o))
                continue;
            help_option_name(&args_options[o], "", name, sizeof name);
            printf("- `%s`: %s\n", name, args_options[o].help);
        }
        puts(command->options ? "\n```sh" : "```sh");
        help_lines(command->examples, "");
        puts("```\n");
    }
}
