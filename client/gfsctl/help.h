/* help: --help for the program and each command, and the commands' part of docs/gfsctl.md. */
#ifndef GFSCTL_HELP_H
#define GFSCTL_HELP_H

#include "ctl.h"

void help_program(void);
void help_command(const struct ctl_command *command);
void help_markdown(void);

#endif
