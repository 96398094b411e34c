#include "bench_supervise.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BENCH_SUPERVISE_FDS 32

/* A signal handler has no argument: the program's root state. */
static volatile sig_atomic_t bench_supervise_worker;
static volatile sig_atomic_t bench_supervise_signal;

static void bench_supervise_on_signal(int signo)
{
    bench_supervise_signal = signo;
    if (bench_supervise_worker > 0)
        kill(bench_supervise_worker, SIGKILL);
}

static int bench_supervise_remove(const char *path, const struct stat *st, int kind,
                                  struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    remove(path);
    return 0;
}

void bench_remove_tree(const char *path)
{
    nftw(path, bench_supervise_remove, BENCH_SUPERVISE_FDS, FTW_DEPTH | FTW_PHYS);
}

static void bench_supervise_catch(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = bench_supervise_on_signal};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

static void bench_supervise_uncatch(void)
{
    signal(SIGINT, SIG_IGN); /* of a terminal: the supervisor gets it and ends us */
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
}

int bench_supervise(struct bench *bench, int (*run)(struct bench *bench))
{
    char dir[4096];
    const char *base = bench->options.dir[0] ? bench->options.dir : getenv("TMPDIR");
    int status = 0, worker_status = 1;
    snprintf(dir, sizeof dir, "%s/gfs-bench-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) {
        bench_fail("%s: %s; choose a directory with --dir", dir, strerror(errno));
        return 1;
    }
    bench->work_dir = dir;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    bench_supervise_catch();
    pid_t worker = fork();
    if (worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        bench_supervise_uncatch();
        exit(run(bench));
    }
    bench_supervise_worker = worker;
    if (bench_supervise_signal && worker > 0)
        kill(worker, SIGKILL);
    pid_t pid;
    while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
        if (pid == worker)
            worker_status = status;
    bench_remove_tree(dir);
    if (bench_supervise_signal)
        return 128 + bench_supervise_signal;
    if (WIFSIGNALED(worker_status))
        bench_fail("the worker died of signal %d", WTERMSIG(worker_status));
    return WIFEXITED(worker_status) ? WEXITSTATUS(worker_status) : 1;
}
