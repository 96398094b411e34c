/* commands: the one table; dispatch, --help and docs/gfsctl.md come from it. */
#include <string.h>

#include "groups.h"

#define COMMANDS_HAS(option) (1u << CTL_OPTION_##option)

const struct ctl_command ctl_commands[] = {
    {"put", "[--goal N] [--chunk-size BYTES] [--force] LOCAL|- PATH", "store a local file",
     "LOCAL may be - for standard input, of any length. A PATH that is a directory, or ends in /, "
     "takes the file under its own name. An existing file is not replaced without --force. The "
     "file appears under its name when it is complete and every replica is on stable storage; "
     "a put that fails or is killed leaves nothing under it. A goal above the number of servers "
     "is stored with what there is.",
     "gfsctl put movie.mkv /films/\n"
     "tar c docs | gfsctl put --goal 2 - /backup/docs.tar\n"
     "gfsctl put --force new.conf /etc/app.conf",
     COMMANDS_HAS(GOAL) | COMMANDS_HAS(CHUNK_SIZE) | COMMANDS_HAS(FORCE), 2, 2, NULL, put_run},
    {"get", "PATH LOCAL|-", "fetch a file",
     "The bytes go to a temporary file .NAME.gfsget.PID beside LOCAL, which is synced and renamed "
     "when complete: LOCAL is never short. A LOCAL that is a directory takes the file under its "
     "own name; - is standard output. An existing LOCAL is replaced.",
     "gfsctl get /films/movie.mkv .\n"
     "gfsctl get /backup/docs.tar - | tar t",
     0, 2, 2, NULL, get_run},
    {"cat", "PATH...", "write files to standard output", NULL, "gfsctl cat /logs/a /logs/b | wc -l",
     0, 1, -1, NULL, cat_run},
    {"ls", "[-l] [-R] [PATH]", "list a directory (default /)",
     "Names are printed one a line in byte order. -l prints type, size, goal, time of change and "
     "name.",
     "gfsctl ls /\n"
     "gfsctl ls -lR /films",
     COMMANDS_HAS(LONG) | COMMANDS_HAS(RECURSIVE), 0, 1, NULL, list_run},
    {"stat", "PATH", "show a file with its chunks and replicas",
     "For each chunk: handle, version, length, how many replicas are good, and where they are.",
     "gfsctl stat /films/movie.mkv\n"
     "gfsctl --json stat /films/movie.mkv | jq '.chunks[].replicas[].addr'",
     0, 1, 1, NULL, stat_run},
    {"mkdir", "[-p] PATH", "make a directory", NULL, "gfsctl mkdir -p /films/2026",
     COMMANDS_HAS(PARENTS), 1, 1, NULL, names_mkdir},
    {"rm", "[-r] PATH", "remove a file, or with -r a whole tree at once",
     "The space comes back when the chunkservers have collected the chunks.",
     "gfsctl rm /films/movie.mkv\n"
     "gfsctl rm -r /films",
     COMMANDS_HAS(TREE), 1, 1, NULL, names_rm},
    {"mv", "FROM TO", "rename a file or directory, atomically",
     "A TO that is a directory takes FROM under its own name. An existing file at TO is replaced.",
     "gfsctl mv /films /movies", 0, 2, 2, NULL, names_mv},
    {"cp", "FROM TO", "copy a file within the cluster",
     "The copy has the goal and chunk size of FROM and appears when complete. A TO that is a "
     "directory takes it under its own name. An existing file at TO is replaced.",
     "gfsctl cp /etc/app.conf /backup/", 0, 2, 2, NULL, copy_run},
    {"touch", "PATH", "set the time of change to now; make an empty file if there is none", NULL,
     "gfsctl touch /done", 0, 1, 1, NULL, names_touch},
    {"truncate", "SIZE PATH", "cut or extend a file to SIZE bytes",
     "SIZE may end in K, M, G or T. What is added reads as zeros.", "gfsctl truncate 0 /logs/a", 0,
     2, 2, names_check_size, names_truncate},
    {"setgoal", "[-R] N PATH", "set how many replicas are wanted",
     "N is 1 to 16. Of a directory it is what new files in it get; -R sets all below it too.",
     "gfsctl setgoal 2 /scratch\n"
     "gfsctl setgoal -R 3 /films",
     COMMANDS_HAS(RECURSIVE), 2, 2, names_check_goal, names_setgoal},
    {"du", "PATH", "add up the sizes of all files below", NULL, "gfsctl du /films", 0, 1, 1, NULL,
     tree_du},
    {"df", "", "show the cluster's space and health", NULL, "gfsctl df", 0, 0, 0, NULL, cluster_df},
    {"servers", "", "list the chunkservers", NULL, "gfsctl servers", 0, 0, 0, NULL,
     cluster_servers},
    {"tree", "PATH", "draw all below a directory", NULL, "gfsctl tree /films", 0, 1, 1, NULL,
     tree_tree},
};

const size_t ctl_command_count = sizeof ctl_commands / sizeof *ctl_commands;

const struct ctl_command *ctl_command_find(const char *name)
{
    for (size_t i = 0; i < ctl_command_count; i++)
        if (!strcmp(ctl_commands[i].name, name))
            return &ctl_commands[i];
    return NULL;
}
