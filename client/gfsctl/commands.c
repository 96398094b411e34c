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
    {"cat", "[--records] PATH...", "write files to standard output", NULL,
     "gfsctl cat /logs/a /logs/b | wc -l\n"
     "gfsctl cat --records /events | jq .",
     COMMANDS_HAS(RECORDS), 1, -1, NULL, cat_run},
    {"tail", "[-f] [--records] [-n N] PATH", "write the end of a file to standard output",
     "The last 10 lines, or, with --records, the last 10 records that were appended. With -f it "
     "stays and writes what is added as soon as every replica has it; it ends with an error when "
     "the file is removed.",
     "gfsctl tail -n 100 /logs/a\n"
     "gfsctl tail -f --records /events | jq .",
     COMMANDS_HAS(FOLLOW) | COMMANDS_HAS(RECORDS) | COMMANDS_HAS(LAST), 1, 1, NULL, tail_run},
    {"append", "[--lines] PATH", "append standard input to a file as a record",
     "The record goes in whole, at an offset that the service chooses, exactly once, however many "
     "append to the file at the same time. A record has a quarter of the file's chunk size at "
     "most. With --lines each line is a record, appended as soon as it is read. The file must "
     "exist. --json prints the offset of each record; tail and cat read them with --records.",
     "gfsctl touch /events\n"
     "date | gfsctl append /events\n"
     "producer | gfsctl append --lines /events",
     COMMANDS_HAS(LINES), 1, 1, NULL, append_run},
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
    {"snapshot", "FROM TO", "copy a file or a tree at once, sharing its data",
     "TO must not exist. The copy can be written, as FROM can: what is then written is stored "
     "anew, the rest stays shared.",
     "gfsctl snapshot /films /films.monday", 0, 2, 2, NULL, integrity_snapshot},
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
    {"checksum", "PATH", "print the CRC-32C and the size of a file",
     "From the checksums that the chunkservers keep of each block, after they have checked them; "
     "the file's bytes are not moved.",
     "gfsctl checksum /films/movie.mkv", 0, 1, 1, NULL, integrity_checksum},
    {"scrub", "SERVER|PATH", "read and check every stored block now",
     "Of all chunks of a chunkserver, or of all replicas of a file. A replica that is bad is "
     "repaired from a good one. Exit status 1 when something bad was found. (Chunkservers do the "
     "same by themselves, slowly: option scrub-rate.)",
     "gfsctl scrub 10.0.0.2:7401\n"
     "gfsctl scrub /films/movie.mkv",
     0, 1, 1, integrity_check_scrub, integrity_scrub},
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
