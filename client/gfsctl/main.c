/* gfsctl: the command line of the cluster. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "args.h"
#include "help.h"
#include "interrupt.h"
#include "out.h"

static enum ctl_exit main_run(struct ctl *ctl)
{
    if (ctl->command->check && ctl->command->check(ctl) != CTL_OK)
        return CTL_USAGE;
    struct gfs_options opts = {.timeout_ms = ctl->timeout_ms};
    enum gfs_err err = gfs_connect(ctl->master, &opts, &ctl->fs);
    if (err == GFS_ERR_INVAL)
        return ctl_usage(ctl, "%s", gfs_last_error());
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    enum ctl_exit result = ctl->command->run(ctl);
    gfs_disconnect(ctl->fs);
    return result;
}

static bool main_help(const struct ctl *ctl)
{
    if (ctl->help && ctl->command)
        help_command(ctl->command);
    else if (ctl->help)
        help_program();
    else if (ctl->version)
        printf("gfsctl %s\n", gfs_version());
    else if (ctl->markdown)
        help_markdown();
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {
        .out_is_terminal = isatty(STDOUT_FILENO),
        .err_is_terminal = isatty(STDERR_FILENO),
    };
    signal(SIGPIPE, SIG_IGN); /* a server that goes away is an error, not our end */
    enum ctl_exit result = args_parse(&ctl, argc, argv);
    if (result == CTL_OK && !main_help(&ctl))
        result = main_run(&ctl);
    enum ctl_exit flushed = out_finish(&ctl);
    free(ctl.args);
    interrupt_deliver();
    return result == CTL_OK ? flushed : result;
}
