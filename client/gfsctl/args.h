/* args: the command line of gfsctl. Options may stand before or after the command. */
#ifndef GFSCTL_ARGS_H
#define GFSCTL_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl.h"

struct args_option {
    char letter;       /* 0: none */
    const char *name;  /* without dashes */
    const char *value; /* NULL: a flag */
    const char *help;
};

/* By enum ctl_option. */
extern const struct args_option args_options[CTL_OPTION_COUNT];

/* Fills *ctl; on CTL_USAGE the line was printed. ctl->args is heap memory. */
enum ctl_exit args_parse(struct ctl *ctl, int argc, char **argv);
/* "64M" or "67108864"; K M G T are powers of 1024. */
bool args_parse_size(const char *text, uint64_t *ret_bytes);
/* 1 to GFS_GOAL_MAX */
bool args_parse_goal(const char *text, uint32_t *ret_goal);

#endif
