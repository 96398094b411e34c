/*
 * gfs-chunkserver. This thread handles signals only; the server's own threads do the work.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "chunkserver/chunkserver.h"
#include "log.h"

#define MAIN_DETAIL_BYTES   512u
#define MAIN_DESCRIBE_BYTES 1536u
#define MAIN_MMAP_THRESHOLD (16 << 20)
#define MAIN_TRIM_THRESHOLD (64 << 20)
#define MAIN_ARENAS         4

struct main_state {
    struct cs_options options;
    struct daemon_dir dir;
    struct loop *signals;
    struct chunkserver *cs;
};

/* Buffers of 1 to 4 MiB are reused: fresh pages from the kernel cost more than the copies. */
static void tune_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, MAIN_MMAP_THRESHOLD);
    mallopt(M_TRIM_THRESHOLD, MAIN_TRIM_THRESHOLD);
    mallopt(M_ARENA_MAX, MAIN_ARENAS);
}

static enum gfs_err load_delays(struct main_state *state)
{
    const struct cs_options *options = &state->options;

    if (options->debug_delay_file[0])
        return debug_delay_load(state->cs->delay, options->debug_delay_file);
    return debug_delay_set(state->cs->delay, options->debug_delay);
}

static void on_stop_signal(int signo, void *arg)
{
    struct main_state *state = arg;

    daemon_stopping();
    chunkserver_drain(state->cs);
}

static void on_reload_signal(int signo, void *arg)
{
    struct main_state *state = arg;
    enum gfs_err err = load_delays(state);

    log_event(err == GFS_OK ? LOG_INFO : LOG_ERROR, "debug_delays_loaded", "error=%s",
              gfs_err_name(err));
}

/* Control thread. */
static void on_stopped(void *arg)
{
    struct main_state *state = arg;

    loop_stop(state->signals);
}

static enum gfs_err start(struct main_state *state, char *ret_detail)
{
    enum gfs_err err = daemon_dir_open(&state->dir, state->options.data, "chunkserver", ret_detail);

    if (err == GFS_OK)
        err = chunkserver_new(&state->options, &state->dir, &state->cs, ret_detail);
    if (err != GFS_OK)
        return err;
    snprintf(ret_detail, MAIN_DETAIL_BYTES, "debug_delay");
    err = load_delays(state);
    if (err == GFS_OK)
        err = loop_new("gfs-signals", &state->signals);
    if (err == GFS_OK)
        err = loop_on_signal(state->signals, SIGTERM, on_stop_signal, state);
    if (err == GFS_OK)
        err = loop_on_signal(state->signals, SIGINT, on_stop_signal, state);
    if (err == GFS_OK)
        err = loop_on_signal(state->signals, SIGHUP, on_reload_signal, state);
    if (err == GFS_OK)
        err = chunkserver_start(state->cs, on_stopped, state, ret_detail);
    return err;
}

static void log_start(const struct main_state *state)
{
    char options[MAIN_DESCRIBE_BYTES], server[37];

    config_describe(&cs_options_program, &state->options, options, sizeof options);
    uuid_format(state->dir.server_id, server);
    log_event(LOG_INFO, "started", "server=%s addr=%s %s", server, state->cs->advertise, options);
}

static int run(struct main_state *state)
{
    char detail[MAIN_DETAIL_BYTES] = "";
    enum gfs_err err = start(state, detail);
    int exit_code;

    if (err != GFS_OK) {
        fprintf(stderr, "gfs-chunkserver: %s: %s\n", state->options.data,
                detail[0] ? detail : gfs_err_text(err));
        log_event(LOG_ERROR, "start_failed", "error=%s detail=\"%s\"", gfs_err_name(err), detail);
        return 1;
    }
    log_start(state);
    daemon_ready(rpc_server_addr(state->cs->server));
    daemon_let_signals();
    loop_run(state->signals);
    exit_code = chunkserver_exit_code(state->cs);
    if (atomic_load(&state->cs->in_service) > 0) {
        /* Time is up and something hangs. Nothing durable depends on an orderly end. */
        log_event(LOG_WARN, "stopped", "unfinished=%u", atomic_load(&state->cs->in_service));
        _exit(exit_code);
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    static struct main_state state;
    int exit_code;

    tune_malloc();
    signal(SIGPIPE, SIG_IGN);
    daemon_hold_signals();
    state.dir.lock_fd = -1;
    switch (config_parse(&cs_options_program, argc, argv, &state.options)) {
    case CONFIG_EXIT_OK:
        return 0;
    case CONFIG_EXIT_USAGE:
        return 2;
    case CONFIG_RUN:
        break;
    }
    if (!log_set_level_name(state.options.log_level)) {
        fprintf(stderr, "gfs-chunkserver: --log-level: debug, info, warn or error\n");
        return 2;
    }
    exit_code = run(&state);
    chunkserver_free(state.cs);
    loop_free(state.signals);
    daemon_dir_release(&state.dir);
    config_release(&cs_options_program, &state.options);
    if (exit_code == 0)
        log_event(LOG_INFO, "stopped", "unfinished=0");
    return exit_code;
}
