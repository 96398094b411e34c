/*
 * config: a program's options from one table; parser, --help and manual come from it. Floor 4.
 *
 * A program lists its options in an X-macro file, e.g. master/master_options.tbl:
 *   OPT(listen, STRING, "127.0.0.1:7400", 0, 0, "ADDR:PORT", "where to serve; port 0: any")
 *   OPT(lease_ms, U64, "15000", 1000, 600000, "MS", "...")
 * makes its struct from it and a `struct config_option` array. On the command line underscores are
 * dashes (--lease-ms 15000 or --lease-ms=15000); in --config FILE a line is `lease_ms = 15000`,
 * # begins a comment. Command line wins over file wins over default. SIZE takes K, M, G, T suffixes
 * (1024); BOOL takes true/false/1/0/yes/no and, on the command line, nothing (= true).
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

enum config_type {
    CONFIG_STRING, /* const char *, owned by the config: valid until config_release */
    CONFIG_U64,    /* uint64_t */
    CONFIG_SIZE,   /* uint64_t bytes */
    CONFIG_BOOL,   /* bool */
};

struct config_option {
    const char *name; /* with underscores */
    enum config_type type;
    size_t offset;            /* of the field in the program's struct */
    const char *default_text; /* NULL: required */
    uint64_t min, max;        /* of numbers; both 0: no bounds */
    const char *unit;         /* for help: "DIR", "MS" */
    const char *help;
};

struct config_program {
    const char *name;     /* "gfs-master" */
    const char *summary;  /* one line */
    const char *examples; /* lines for --help */
    const struct config_option *options;
    size_t option_count;
};

enum config_result {
    CONFIG_RUN,       /* values are filled in */
    CONFIG_EXIT_OK,   /* --help or --version was printed */
    CONFIG_EXIT_USAGE /* one line was printed to stderr: exit 2 */
};

/* Fills `values` (zeroed by the call). Strings live until config_release(program, values). */
enum config_result config_parse(const struct config_program *program, int argc, char **argv,
                                void *values);
void config_release(const struct config_program *program, void *values);
/* Prints all options with their values as key=value pairs into buf, for the start-up log line. */
void config_describe(const struct config_program *program, const void *values, char *buf,
                     size_t buf_bytes);

#endif
