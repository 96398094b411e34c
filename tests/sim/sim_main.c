/*
 * sim: runs seeds. Each in a process of its own, forked, so that what a crash leaks is gone with it
 * and a failed assertion is one failed seed. A seed that failed is run again with its trace: the
 * same seed fails the same way.
 */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim_int.h"

#define MAIN_JOBS_MAX    64u
#define MAIN_SEED_S      120u /* a seed that takes longer hangs */
#define MAIN_TRACES_MAX  5u
#define MAIN_BOOT_US     (2500 * SIM_MS)
#define MAIN_WORK_MAX_US (240 * SIM_S)
#define MAIN_QUIET_US    (20 * SIM_S)
#define MAIN_POLL_US     (100 * SIM_MS)

struct main_options {
    struct sim_options sim;
    uint64_t seeds;
    uint32_t jobs;
    bool twice; /* each seed again, and the two compared */
    bool first; /* no more after one that failed, and no trace */
};

struct main_job {
    pid_t pid;
    uint64_t seed;
    struct sim_result *result;
};

struct main_tally {
    uint64_t failed, events, virtual_us;
    uint64_t traced;
};

/* ---- one seed -------------------------------------------------------------------------------- */

static void run_until(uint64_t until_us)
{
    while (sim_step(until_us)) {
    }
    sim->now_us = until_us;
}

static void boot_node(void *arg)
{
    sim_boot(arg);
}

static void run_seed(struct sim_result *result)
{
    uint64_t until_us;

    check_begin();
    for (uint32_t i = 0; i < sim->node_count; i++)
        sim_after(NULL, sim_below(SIM_STREAM_PLAN, 500 * SIM_MS), "boot", boot_node,
                  &sim->nodes[i]);
    run_until(sim->now_us + MAIN_BOOT_US);
    work_begin();
    sim_fault_begin();
    run_until(sim_fault_end_us());
    sim_fault_heal();
    until_us = sim->now_us + MAIN_WORK_MAX_US;
    while (!work_is_over() && sim->now_us < until_us)
        run_until(sim->now_us + MAIN_POLL_US);
    if (!work_is_over()) {
        sim_task_dump();
        sim_fail("the workload does not come to its end in %llu s without faults",
                 MAIN_WORK_MAX_US / SIM_S);
    }
    run_until(sim->now_us + MAIN_QUIET_US);
    check_at_end();
    sim_trace("end of seed %llu, hash %016llx", (unsigned long long)sim->options.seed,
              (unsigned long long)sim->trace_hash);
    fflush(stdout);
    result->events = sim->events;
    result->trace_hash = sim->trace_hash;
    result->virtual_us = sim_world_age_us();
    result->done = true;
}

static pid_t fork_seed(const struct main_options *options, struct sim_result *result, uint64_t seed,
                       bool keep_trace)
{
    struct sim_options sim_options = options->sim;
    pid_t pid;

    memset(result, 0, sizeof(*result));
    result->seed = sim_options.seed = seed;
    fflush(stdout);
    pid = fork();
    if (pid != 0)
        return pid;
    alarm(MAIN_SEED_S);
    sim_world_begin(&sim_options, result, keep_trace);
    sim_boot_init();
    sim_fault_init();
    run_seed(result);
    _exit(0);
}

static bool wait_for(pid_t pid, int *ret_status)
{
    while (waitpid(pid, ret_status, 0) < 0)
        if (errno != EINTR)
            return false;
    return true;
}

/* ---- many ------------------------------------------------------------------------------------ */

static void tell_failure(const struct main_options *options, struct main_job *job, int status,
                         struct main_tally *tally)
{
    struct sim_result *result = job->result;
    int again;

    tally->failed++;
    if (!result->text[0] && WIFSIGNALED(status))
        snprintf(result->text, sizeof(result->text), "%s",
                 WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    printf("seed %llu: FAILED after %llu events, at %.3f s: %s\n", (unsigned long long)job->seed,
           (unsigned long long)result->events, (double)result->virtual_us / 1e6, result->text);
    if (!options->sim.verbose && !options->first && tally->traced++ < MAIN_TRACES_MAX) {
        pid_t pid = fork_seed(options, result, job->seed, true);

        if (pid > 0)
            wait_for(pid, &again);
        printf("---- seed %llu: the end of its trace is above\n", (unsigned long long)job->seed);
    }
    fflush(stdout);
}

static void compare_again(const struct main_options *options, struct main_job *job,
                          struct main_tally *tally)
{
    uint64_t hash = job->result->trace_hash;
    pid_t pid = fork_seed(options, job->result, job->seed, false);
    int status = 0;

    if (pid > 0)
        wait_for(pid, &status);
    if (job->result->trace_hash == hash)
        return;
    tally->failed++;
    printf("seed %llu: FAILED: two runs differ: %016llx %016llx\n", (unsigned long long)job->seed,
           (unsigned long long)hash, (unsigned long long)job->result->trace_hash);
}

static void on_ended(const struct main_options *options, struct main_job *job, int status,
                     struct main_tally *tally)
{
    bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0 && job->result->done;

    job->pid = 0;
    tally->events += job->result->events;
    tally->virtual_us += job->result->virtual_us;
    if (!good)
        tell_failure(options, job, status, tally);
    else if (options->twice)
        compare_again(options, job, tally);
}

static struct main_job *job_of(struct main_job *jobs, uint32_t count, pid_t pid)
{
    for (uint32_t i = 0; i < count; i++)
        if (jobs[i].pid == pid)
            return &jobs[i];
    return NULL;
}

static void run_all(const struct main_options *options, struct main_tally *tally)
{
    struct main_job jobs[MAIN_JOBS_MAX] = {0};
    struct sim_result *results = mmap(NULL, MAIN_JOBS_MAX * sizeof(*results),
                                      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t next = 0, running = 0;

    assert(results != MAP_FAILED);
    while (next < options->seeds || running > 0) {
        if (options->first && tally->failed > 0)
            next = options->seeds;
        if (next >= options->seeds && running == 0)
            break;
        struct main_job *job = job_of(jobs, options->jobs, 0);
        int status;

        if (job && next < options->seeds) {
            job->seed = options->sim.seed + next++;
            job->result = &results[job - jobs];
            job->pid = fork_seed(options, job->result, job->seed, false);
            assert(job->pid > 0);
            running++;
            continue;
        }
        job = job_of(jobs, options->jobs, wait(&status));
        if (!job)
            continue;
        running--;
        on_ended(options, job, status, tally);
    }
}

/* ---- command line ---------------------------------------------------------------------------- */

static void usage(void)
{
    puts("sim [--seed N] [--seeds K] [--jobs J] [--verbose] [--first] [--twice]\n"
         "    [--servers N] [--clients N] [--racks N] [--ops N] [--fault-ms MS] [--no-faults]\n"
         "    [--faults kill,power,cut,partition,slow,pause,break,loss,wall,disk]");
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (end == text || *end) {
        fprintf(stderr, "sim: %s is not a number\n", text);
        exit(2);
    }
    return value;
}

static void set_option(struct main_options *options, int option, const char *text)
{
    switch (option) {
    case 's':
        options->sim.seed = number(text);
        break;
    case 'k':
        options->seeds = number(text);
        break;
    case 'j':
        options->jobs = (uint32_t)number(text);
        break;
    case 'v':
        options->sim.verbose = true;
        break;
    case '1':
        options->first = true;
        break;
    case '2':
        options->twice = true;
        break;
    case 'S':
        options->sim.servers = (uint32_t)number(text);
        break;
    case 'C':
        options->sim.clients = (uint32_t)number(text);
        break;
    case 'R':
        options->sim.racks = (uint32_t)number(text);
        break;
    case 'o':
        options->sim.ops = (uint32_t)number(text);
        break;
    case 'f':
        options->sim.fault_us = number(text) * SIM_MS;
        break;
    case 'n':
        options->sim.no_faults = true;
        break;
    case 'F':
        options->sim.faults = text;
        break;
    default:
        usage();
        exit(option == 'h' ? 0 : 2);
    }
}

static void parse(int argc, char **argv, struct main_options *ret_options)
{
    static const struct option known[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'k'},
        {"jobs", required_argument, NULL, 'j'},
        {"verbose", no_argument, NULL, 'v'},
        {"first", no_argument, NULL, '1'},
        {"twice", no_argument, NULL, '2'},
        {"servers", required_argument, NULL, 'S'},
        {"clients", required_argument, NULL, 'C'},
        {"racks", required_argument, NULL, 'R'},
        {"ops", required_argument, NULL, 'o'},
        {"fault-ms", required_argument, NULL, 'f'},
        {"no-faults", no_argument, NULL, 'n'},
        {"faults", required_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *ret_options = (struct main_options){.sim.seed = 1, .seeds = 1, .jobs = 1};
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        set_option(ret_options, option, optarg);
    if (optind < argc || ret_options->jobs == 0 || ret_options->jobs > MAIN_JOBS_MAX ||
        ret_options->sim.servers > SIM_SERVERS_MAX || ret_options->sim.clients > SIM_CLIENTS_MAX) {
        usage();
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct main_options options;
    struct main_tally tally = {0};
    uint64_t begun_ms;

    parse(argc, argv, &options);
    begun_ms = sim_real_ms();
    run_all(&options, &tally);
    printf("%llu seeds, %llu failed, %llu events, %.0f s simulated, %.1f s\n",
           (unsigned long long)options.seeds, (unsigned long long)tally.failed,
           (unsigned long long)tally.events, (double)tally.virtual_us / 1e6,
           (double)(sim_real_ms() - begun_ms) / 1e3);
    return tally.failed ? 1 : 0;
}
