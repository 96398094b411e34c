/* names: the commands that change the namespace only. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"
#include "gfs_limits.h"
#include "groups.h"
#include "out.h"

enum ctl_exit names_mkdir(struct ctl *ctl)
{
    enum gfs_err err = gfs_mkdir(ctl->fs, ctl->args[0], 0, ctl_has(ctl, CTL_OPTION_PARENTS));
    if (err == GFS_OK)
        return CTL_OK;
    return ctl_fail_gfs(ctl, err,
                        err == GFS_ERR_NOT_FOUND ? "make its parents too with gfsctl mkdir -p"
                                                 : NULL);
}

enum ctl_exit names_rm(struct ctl *ctl)
{
    enum gfs_err err = ctl_has(ctl, CTL_OPTION_TREE) ? gfs_remove_tree(ctl->fs, ctl->args[0])
                                                     : gfs_unlink(ctl->fs, ctl->args[0]);
    if (err == GFS_OK)
        return CTL_OK;
    return ctl_fail_gfs(ctl, err,
                        err == GFS_ERR_IS_DIR ? "use gfsctl rm -r for it and all below it" : NULL);
}

enum ctl_exit names_mv(struct ctl *ctl)
{
    struct gfs_attr attr;
    char *target;
    enum ctl_exit result =
        ctl_target(ctl, ctl->args[1], ctl_basename(ctl->args[0]), &target, &attr);
    if (result != CTL_OK)
        return result;
    enum gfs_err err = gfs_rename(ctl->fs, ctl->args[0], target);
    free(target);
    return err == GFS_OK ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
}

enum ctl_exit names_touch(struct ctl *ctl)
{
    struct gfs_file *file;
    enum gfs_err err = gfs_set_mtime(ctl->fs, ctl->args[0], 0);
    if (err != GFS_ERR_NOT_FOUND)
        return err == GFS_OK ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
    err = gfs_open(ctl->fs, ctl->args[0], GFS_OPEN_WRITE | GFS_OPEN_CREATE, NULL, &file);
    if (err == GFS_OK)
        err = gfs_close(file);
    if (err == GFS_OK)
        return CTL_OK;
    return ctl_fail_gfs(ctl, err, err == GFS_ERR_NOT_FOUND ? CTL_HINT_NO_DIR : NULL);
}

enum ctl_exit names_check_size(struct ctl *ctl)
{
    uint64_t size;
    return args_parse_size(ctl->args[0], &size)
               ? CTL_OK
               : ctl_usage(ctl, "'%s' is not a size in bytes", ctl->args[0]);
}

enum ctl_exit names_truncate(struct ctl *ctl)
{
    uint64_t size = 0;
    (void)args_parse_size(ctl->args[0], &size); /* checked before */
    enum gfs_err err = gfs_truncate(ctl->fs, ctl->args[1], size);
    return err == GFS_OK ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
}

enum ctl_exit names_check_goal(struct ctl *ctl)
{
    return args_parse_goal(ctl->args[0], &ctl->goal)
               ? CTL_OK
               : ctl_usage(ctl, "'%s' is not a number of replicas from 1 to %u", ctl->args[0],
                           GFS_GOAL_MAX);
}

enum ctl_exit names_setgoal(struct ctl *ctl)
{
    uint64_t changed = 0;
    enum gfs_err err = gfs_set_goal(ctl->fs, ctl->args[1], ctl->goal,
                                    ctl_has(ctl, CTL_OPTION_RECURSIVE), &changed);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (ctl->json) {
        cJSON *object = out_object();
        out_add_text(object, "path", ctl->args[1]);
        out_add_u64(object, "goal", ctl->goal);
        out_add_u64(object, "changed", changed);
        out_json(object);
    }
    return CTL_OK;
}
