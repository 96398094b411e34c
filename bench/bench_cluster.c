#include "bench_cluster.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench_report.h"
#include "gfs.h"

#define BENCH_CLUSTER_START_S 30
#define BENCH_CLUSTER_STOP_S  20

/* In the child between fork and exec. */
static void bench_cluster_exec(const char *const *argv, int out_fd, const char *log_path,
                               pid_t parent)
{
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (log_fd < 0 || dup2(out_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0)
        _exit(127);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(127);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* Reads "listening on ADDR:PORT". */
static bool bench_cluster_await_line(int fd, char ret_addr[64])
{
    char line[256];
    size_t len = 0;
    double until_s = bench_now_s() + BENCH_CLUSTER_START_S;
    while (len + 1 < sizeof line) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        int left_ms = (int)((until_s - bench_now_s()) * 1000);
        if (left_ms <= 0 || poll(&poll_fd, 1, left_ms) <= 0)
            return false;
        ssize_t got = read(fd, line + len, sizeof line - 1 - len);
        if (got <= 0)
            return false;
        len += (size_t)got;
        line[len] = 0;
        if (strchr(line, '\n'))
            return sscanf(line, "listening on %63s", ret_addr) == 1;
    }
    return false;
}

static bool bench_cluster_spawn(struct bench_daemon *daemon, const char *const *argv,
                                const char *log_path)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return bench_fail("pipe: %s", strerror(errno));
    pid_t parent = getpid();
    daemon->pid = fork();
    if (daemon->pid == 0)
        bench_cluster_exec(argv, fds[1], log_path, parent);
    close(fds[1]);
    if (daemon->pid < 0) {
        daemon->pid = 0;
        close(fds[0]);
        return bench_fail("fork: %s", strerror(errno));
    }
    bool ok = bench_cluster_await_line(fds[0], daemon->addr);
    close(fds[0]);
    if (!ok)
        return bench_fail("%s did not start; its log is %s", argv[0], log_path);
    return true;
}

static void bench_cluster_stop_daemon(struct bench_daemon *daemon)
{
    if (!daemon->pid)
        return;
    kill(daemon->pid, SIGTERM);
    double until_s = bench_now_s() + BENCH_CLUSTER_STOP_S;
    while (waitpid(daemon->pid, NULL, WNOHANG) == 0) {
        if (bench_now_s() > until_s) {
            kill(daemon->pid, SIGKILL);
            waitpid(daemon->pid, NULL, 0);
            break;
        }
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    daemon->pid = 0;
}

static bool bench_cluster_start_master(struct bench_cluster *cluster)
{
    char program[4200], data[4200], log_path[4200];
    snprintf(program, sizeof program, "%s/gfs-master", cluster->bench->bin_dir);
    snprintf(data, sizeof data, "%s/master", cluster->dir);
    snprintf(log_path, sizeof log_path, "%s/master.log", cluster->dir);
    const char *argv[] = {program, "--data", data, "--listen", "127.0.0.1:0", NULL};
    if (!bench_cluster_spawn(&cluster->master, argv, log_path))
        return false;
    cluster->master_addr = cluster->master.addr;
    return true;
}

static bool bench_cluster_start_server(struct bench_cluster *cluster, unsigned index,
                                       const char *const *args)
{
    char program[4200], data[4200], log_path[4200];
    snprintf(program, sizeof program, "%s/gfs-chunkserver", cluster->bench->bin_dir);
    snprintf(data, sizeof data, "%s/chunks%u", cluster->dir, index);
    snprintf(log_path, sizeof log_path, "%s/chunks%u.log", cluster->dir, index);
    const char *argv[8 + BENCH_CLUSTER_ARGS_MAX + 1] = {
        program, "--data", data, "--master", cluster->master_addr, "--listen", "127.0.0.1:0"};
    size_t count = 7;
    for (size_t i = 0; args && args[i] && i < BENCH_CLUSTER_ARGS_MAX; i++)
        argv[count++] = args[i];
    return bench_cluster_spawn(&cluster->servers[index], argv, log_path);
}

/* How many of our chunkservers the master knows by the address they serve on now. */
static unsigned bench_cluster_known(const struct bench_cluster *cluster,
                                    const struct gfs_server_info *servers, size_t count)
{
    unsigned known = 0;
    for (unsigned i = 0; i < cluster->server_count; i++)
        for (size_t s = 0; s < count; s++)
            known += servers[s].up && !strcmp(servers[s].addr, cluster->servers[i].addr);
    return known;
}

static bool bench_cluster_await_servers(struct bench_cluster *cluster)
{
    struct gfs *fs;
    unsigned known = 0;
    double until_s = bench_now_s() + BENCH_CLUSTER_START_S;
    if (gfs_connect(cluster->master_addr, NULL, &fs) != GFS_OK)
        return bench_fail_gfs("connect");
    while (known < cluster->server_count && bench_now_s() < until_s) {
        struct gfs_server_info *servers;
        size_t count;
        if (gfs_servers(fs, &servers, &count) == GFS_OK) {
            known = bench_cluster_known(cluster, servers, count);
            gfs_free(servers);
        }
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    gfs_disconnect(fs);
    if (known < cluster->server_count)
        return bench_fail("only %u of %u chunkservers registered", known, cluster->server_count);
    return true;
}

static bool bench_cluster_start_servers(struct bench_cluster *cluster, const char *const *args)
{
    for (unsigned i = 0; i < cluster->server_count; i++)
        if (!bench_cluster_start_server(cluster, i, args))
            return false;
    return bench_cluster_await_servers(cluster);
}

bool bench_cluster_start(struct bench_cluster *cluster, const struct bench *bench, const char *name,
                         unsigned server_count, const char *const *args)
{
    *cluster = (struct bench_cluster){.bench = bench};
    if (bench->options.master[0]) {
        cluster->master_addr = bench->options.master;
        return true;
    }
    cluster->server_count = server_count;
    int len = snprintf(cluster->dir, sizeof cluster->dir, "%s/%s", bench->work_dir, name);
    if (len < 0 || (size_t)len >= sizeof cluster->dir)
        return bench_fail("the directory's name is too long");
    if (mkdir(cluster->dir, 0755) < 0)
        return bench_fail("%s: %s", cluster->dir, strerror(errno));
    if (bench_cluster_start_master(cluster) && bench_cluster_start_servers(cluster, args))
        return true;
    bench_cluster_stop(cluster);
    return false;
}

void bench_cluster_signal(const struct bench_cluster *cluster, int signo)
{
    for (unsigned i = 0; i < cluster->server_count; i++)
        kill(cluster->servers[i].pid, signo);
}

void bench_cluster_stop(struct bench_cluster *cluster)
{
    for (unsigned i = 0; i < cluster->server_count; i++)
        bench_cluster_stop_daemon(&cluster->servers[i]);
    bench_cluster_stop_daemon(&cluster->master);
}

/* A line of /proc/PID/status in bytes, 0 if it cannot be had. */
static uint64_t bench_cluster_status(pid_t pid, const char *key)
{
    char path[64], line[256];
    uint64_t kib = 0;
    size_t key_len = strlen(key);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, key_len) && line[key_len] == ':')
            kib = strtoull(line + key_len + 1, NULL, 10);
    fclose(file);
    return kib * 1024;
}

static void bench_cluster_raise(uint64_t *highest, uint64_t value)
{
    if (value > *highest)
        *highest = value;
}

void bench_cluster_watch(void *arg)
{
    struct bench_cluster *cluster = arg;
    uint64_t sum = 0;
    for (unsigned i = 0; i < cluster->server_count; i++) {
        uint64_t anonymous = bench_cluster_status(cluster->servers[i].pid, "RssAnon");
        bench_cluster_raise(&cluster->memory.server_anonymous, anonymous);
        bench_cluster_raise(&cluster->memory.server_peak,
                            bench_cluster_status(cluster->servers[i].pid, "VmHWM"));
        sum += anonymous;
    }
    bench_cluster_raise(&cluster->memory.servers_anonymous_sum, sum);
    if (cluster->master.pid)
        bench_cluster_raise(&cluster->memory.master_peak,
                            bench_cluster_status(cluster->master.pid, "VmHWM"));
}

uint64_t bench_cluster_master_rss(const struct bench_cluster *cluster)
{
    return cluster->master.pid ? bench_cluster_status(cluster->master.pid, "VmRSS") : 0;
}

void bench_cluster_report(struct bench_cluster *cluster, cJSON *object)
{
    if (!cluster->server_count)
        return;
    bench_cluster_watch(cluster);
    const struct bench_memory *memory = &cluster->memory;
    cJSON *item = bench_report_object(object, "memory_mib");
    bench_report_number(item, "chunkserver_anonymous",
                        (double)memory->server_anonymous / BENCH_MIB);
    bench_report_number(item, "chunkserver_peak_with_mapped",
                        (double)memory->server_peak / BENCH_MIB);
    bench_report_number(item, "chunkservers_anonymous_sum",
                        (double)memory->servers_anonymous_sum / BENCH_MIB);
    bench_report_number(item, "master_peak", (double)memory->master_peak / BENCH_MIB);
}
