/*
 * interrupt: SIGINT, SIGTERM and SIGHUP during a long command. The first one asks the command to
 * stop at its next step; when it has not done so within two seconds (a call into the cluster may
 * hang that long and longer) the process ends there and then. Either way the registered temporary
 * file is removed and the process dies of the signal: a shell sees 130, 143 or 129.
 */
#ifndef GFSCTL_INTERRUPT_H
#define GFSCTL_INTERRUPT_H

#include <stdbool.h>

void interrupt_install(void);
bool interrupt_pending(void);
/* A local file to unlink if we are ended. The string must live until it is cleared with NULL. */
void interrupt_set_temporary(const char *path);
/* Dies of the pending signal, if there is one. */
void interrupt_deliver(void);

#endif
