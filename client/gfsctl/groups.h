/* groups: the functions behind the commands, one file a group; commands.c lists them. */
#ifndef GFSCTL_GROUPS_H
#define GFSCTL_GROUPS_H

#include "ctl.h"

enum ctl_exit put_run(struct ctl *ctl);
enum ctl_exit get_run(struct ctl *ctl);
enum ctl_exit cat_run(struct ctl *ctl);
enum ctl_exit copy_run(struct ctl *ctl);
enum ctl_exit list_run(struct ctl *ctl);
enum ctl_exit stat_run(struct ctl *ctl);
enum ctl_exit names_mkdir(struct ctl *ctl);
enum ctl_exit names_rm(struct ctl *ctl);
enum ctl_exit names_mv(struct ctl *ctl);
enum ctl_exit names_touch(struct ctl *ctl);
enum ctl_exit names_check_size(struct ctl *ctl);
enum ctl_exit names_truncate(struct ctl *ctl);
enum ctl_exit names_check_goal(struct ctl *ctl);
enum ctl_exit names_setgoal(struct ctl *ctl);
enum ctl_exit tree_du(struct ctl *ctl);
enum ctl_exit tree_tree(struct ctl *ctl);
enum ctl_exit append_run(struct ctl *ctl);
enum ctl_exit tail_run(struct ctl *ctl);
enum ctl_exit integrity_snapshot(struct ctl *ctl);
enum ctl_exit integrity_checksum(struct ctl *ctl);
enum ctl_exit integrity_check_scrub(struct ctl *ctl);
enum ctl_exit integrity_scrub(struct ctl *ctl);
enum ctl_exit cluster_df(struct ctl *ctl);
enum ctl_exit cluster_servers(struct ctl *ctl);

#endif
