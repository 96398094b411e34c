/* The command line of the chaos client, and what its modes share. See the header. */
#include "chaos_client.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_MAX_US 60000000u

uint64_t chaos_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* one machine: all clients share it */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void chaos_region_path(const struct chaos *chaos, uint32_t file, char ret_path[CHAOS_PATH_BYTES])
{
    snprintf(ret_path, CHAOS_PATH_BYTES, "%s/regions%u", chaos->options->folder, file);
}

void chaos_log_path(const struct chaos *chaos, char ret_path[CHAOS_PATH_BYTES])
{
    snprintf(ret_path, CHAOS_PATH_BYTES, "%s/log", chaos->options->folder);
}

static int make_file(struct chaos *chaos, const char *path, uint64_t size_bytes)
{
    struct gfs_file *file;
    enum gfs_err err = gfs_create(chaos->fs, path, NULL, &file);
    if (err == GFS_OK)
        err = gfs_close(file);
    if (err == GFS_OK && size_bytes > 0)
        err = gfs_truncate(chaos->fs, path, size_bytes);
    if (err != GFS_OK)
        fprintf(stderr, "%s\n", gfs_last_error());
    return err == GFS_OK ? 0 : 1;
}

int chaos_make(struct chaos *chaos)
{
    char path[CHAOS_PATH_BYTES];
    int failed = 0;
    if (gfs_mkdir(chaos->fs, chaos->options->folder, 0, true) != GFS_OK) {
        fprintf(stderr, "%s\n", gfs_last_error());
        return 1;
    }
    for (uint32_t i = 0; i < CHAOS_FILES && !failed; i++) {
        chaos_region_path(chaos, i, path);
        failed = make_file(chaos, path, CHAOS_FILE_BYTES);
    }
    chaos_log_path(chaos, path);
    return failed ? failed : make_file(chaos, path, 0);
}

static int usage(void)
{
    fprintf(stderr, "usage: chaos_client make|work|final|compare --master ADDR --folder PATH "
                    "--out FILE [--seed N] [--seconds N] [--client N]\n");
    return 2;
}

static bool options_parse(int argc, char **argv, struct chaos_options *ret_options)
{
    static const struct option table[] = {
        {"master", required_argument, NULL, 'm'},
        {"folder", required_argument, NULL, 'f'},
        {"out", required_argument, NULL, 'o'},
        {"seed", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'},
        {"client", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    int letter;
    while ((letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (letter) {
        case 'm':
            ret_options->master = optarg;
            break;
        case 'f':
            ret_options->folder = optarg;
            break;
        case 'o':
            ret_options->out = optarg;
            break;
        case 's':
            ret_options->seed = strtoull(optarg, NULL, 10);
            break;
        case 't':
            ret_options->seconds = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            ret_options->client = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        default:
            return false;
        }
    }
    if (optind + 1 == argc)
        ret_options->mode = argv[optind];
    return ret_options->mode && ret_options->master && ret_options->folder && ret_options->out;
}

/* The master may be out of reach for as long as a fault takes. */
static bool connect_at_last(const struct chaos_options *options,
                            const struct gfs_options *fs_options, struct gfs **ret_fs)
{
    uint64_t until_us = chaos_now_us() + CONNECT_MAX_US;
    while (gfs_connect(options->master, fs_options, ret_fs) != GFS_OK)
        if (chaos_now_us() > until_us)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct chaos *chaos);
    } modes[] = {
        {"make", chaos_make},
        {"work", chaos_work},
        {"final", chaos_final},
        {"compare", chaos_compare},
    };
    struct chaos_options options = {.seconds = 10};
    struct chaos chaos = {.options = &options, .log.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct gfs_options fs_options = {.timeout_ms = CHAOS_TIMEOUT_MS,
                                           .server_timeout_ms = 1500,
                                           .fresh_reads = true};
    int code = 2;
    if (!options_parse(argc, argv, &options))
        return usage();
    chaos.log.file = fopen(options.out, "a");
    if (chaos.log.file == NULL) {
        perror(options.out);
        return 1;
    }
    if (!connect_at_last(&options, &fs_options, &chaos.fs)) {
        fprintf(stderr, "%s\n", gfs_last_error());
        fclose(chaos.log.file);
        return 1;
    }
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].name, options.mode))
            code = modes[i].run(&chaos);
    gfs_disconnect(chaos.fs);
    if (fclose(chaos.log.file) != 0)
        code = 1;
    return code == 2 ? usage() : code;
}
