/*
 * ctl: what the command groups of gfsctl share: the run's context, exit codes, how a failure is
 * reported. Everything about the cluster goes through gfs.h; nothing here knows the protocol.
 *
 *   main.c -> args.c (command line) -> commands.c (the one table) -> put.c get.c list.c ...
 */
#ifndef GFSCTL_CTL_H
#define GFSCTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs.h"

enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1, /* the service refused or failed, or a local file did */
    CTL_USAGE = 2,
};

/* Every option a command may have; the texts are in args.c. A command lists its own as a mask. */
enum ctl_option {
    CTL_OPTION_GOAL,
    CTL_OPTION_CHUNK_SIZE,
    CTL_OPTION_FORCE,
    CTL_OPTION_LONG,
    CTL_OPTION_RECURSIVE,
    CTL_OPTION_TREE, /* rm -r */
    CTL_OPTION_PARENTS,
    CTL_OPTION_LINES,
    CTL_OPTION_RECORDS,
    CTL_OPTION_FOLLOW,
    CTL_OPTION_LAST,
    CTL_OPTION_COUNT
};

struct ctl;

struct ctl_command {
    const char *name;
    const char *usage; /* what follows the name */
    const char *summary;
    const char *text; /* paragraphs for --help, or NULL */
    const char *examples;
    uint32_t options; /* mask of 1 << enum ctl_option */
    int args_min;
    int args_max;                            /* -1: any number */
    enum ctl_exit (*check)(struct ctl *ctl); /* operands, before connecting; NULL: nothing to do */
    enum ctl_exit (*run)(struct ctl *ctl);
};

extern const struct ctl_command ctl_commands[];
extern const size_t ctl_command_count;
const struct ctl_command *ctl_command_find(const char *name);

struct ctl {
    const char *master; /* NULL: libgfs's default */
    bool json;
    bool help;
    bool version;
    bool markdown; /* print docs/gfsctl.md's part about commands */
    uint32_t timeout_ms;
    const struct ctl_command *command;
    const char **args; /* operands; borrowed from argv */
    int arg_count;
    uint32_t options; /* mask of those given */
    uint32_t goal;    /* of --goal and setgoal; 0: not given */
    uint32_t chunk_size_bytes;
    uint64_t last; /* of tail -n */
    bool out_is_terminal;
    bool err_is_terminal;
    struct gfs *fs; /* connected before the command runs */
};

static inline bool ctl_has(const struct ctl *ctl, enum ctl_option option)
{
    return ctl->options & 1u << option;
}

/* One line on stderr, "gfsctl: COMMAND: ...". Always CTL_FAILED, so that callers can return it. */
enum ctl_exit ctl_fail(const struct ctl *ctl, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The line for a failed gfs call, from gfs_last_error(), with what to do. hint NULL: the usual one
 * for the error. Call it right after the failure. */
enum ctl_exit ctl_fail_gfs(const struct ctl *ctl, enum gfs_err err, const char *hint);
#define CTL_HINT_NO_DIR "make its directory with gfsctl mkdir -p"
/* A line on stderr that points to --help. Always CTL_USAGE. */
enum ctl_exit ctl_usage(const struct ctl *ctl, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The last component of a path, "" when it has none. Points into path. */
const char *ctl_basename(const char *path);
/* Joins directory and name with one slash. Heap; ends the program when memory is out. */
char *ctl_join(const char *dir, const char *name);
/*
 * Where something called `name` goes when the user says `path`: into it if it is a directory, else
 * under that very name. *ret_attr is what stands at *ret_target now, type 0 when nothing does.
 * On failure the line was printed. Free *ret_target.
 */
enum ctl_exit ctl_target(const struct ctl *ctl, const char *path, const char *name,
                         char **ret_target, struct gfs_attr *ret_attr);
/* malloc that ends the program with a message when memory is out. */
void *ctl_alloc(size_t size_bytes);

#endif
