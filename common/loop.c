/*
 * loop: a libevent base, its thread and its mailbox.
 *
 *   any thread --loop_post--> mailbox (a stack, pushed by compare-and-swap)
 *                               |  first in: wakes by eventfd, or without a system call when the
 *                               v  poster is the loop itself
 *   loop thread ------------> takes the whole stack, reverses it, runs the tasks
 *
 * The base is made without locks: nothing but the mailbox and the eventfd is touched by other
 * threads. Loop threads block all signals but those a fault raises: the process's own threads get
 * them, and libgfs lives in other people's processes.
 */
#include "loop.h"

#include <assert.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOP_NAME_BYTES        16
#define LOOP_CALLBACKS_A_ROUND 256

struct loop_signal {
    struct loop_signal *next;
    struct event *event;
    void (*fn)(int signo, void *arg);
    void *arg;
};

struct loop {
    /* any thread */
    _Atomic(struct loop_task *) mailbox;
    atomic_bool stopping;
    atomic_bool running;
    int wake_fd;

    /* the loop's thread */
    struct event_base *base;
    struct event *wake_event;
    struct loop_signal *signals;

    /* the owner's thread */
    pthread_t thread;
    bool started;
    char name[LOOP_NAME_BYTES];
};

static _Thread_local const struct loop *loop_of_this_thread;

static void loop_run_tasks(struct loop *loop)
{
    struct loop_task *stack = atomic_exchange(&loop->mailbox, NULL);
    struct loop_task *first = NULL;

    while (stack) {
        struct loop_task *task = stack;

        stack = task->next;
        task->next = first;
        first = task;
    }
    while (first) {
        struct loop_task *task = first;

        first = task->next;
        task->next = NULL;
        task->fn(task);
    }
}

static void loop_on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct loop *loop = arg;
    uint64_t count;

    if (what & EV_READ) {
        ssize_t got = read(fd, &count, sizeof(count));

        (void)got; /* not ready: somebody activated us without it */
    }
    loop_run_tasks(loop);
    if (atomic_load(&loop->stopping))
        event_base_loopbreak(loop->base);
}

static enum gfs_err loop_make_base(struct loop *loop)
{
    struct event_config *config = event_config_new();

    if (!config)
        return GFS_ERR_NO_MEMORY;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_max_dispatch_interval(config, NULL, LOOP_CALLBACKS_A_ROUND, 0);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (!loop->base)
        return GFS_ERR_NO_MEMORY;
    loop->wake_event =
        event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, loop_on_wake, loop);
    if (!loop->wake_event || event_add(loop->wake_event, NULL) < 0)
        return GFS_ERR_NO_MEMORY;
    return GFS_OK;
}

enum gfs_err loop_new(const char *name, struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    enum gfs_err err;

    if (!loop)
        return GFS_ERR_NO_MEMORY;
    strncpy(loop->name, name, LOOP_NAME_BYTES - 1);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    err = loop->wake_fd < 0 ? GFS_ERR_LOCAL : loop_make_base(loop);
    if (err) {
        loop_free(loop);
        return err;
    }
    *ret_loop = loop;
    return GFS_OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    if (loop->started) {
        loop_stop(loop);
        pthread_join(loop->thread, NULL);
    }
    loop_of_this_thread = loop;
    while (atomic_load(&loop->mailbox))
        loop_run_tasks(loop);
    loop_of_this_thread = NULL;
    while (loop->signals) {
        struct loop_signal *sig = loop->signals;

        loop->signals = sig->next;
        event_free(sig->event);
        free(sig);
    }
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    free(loop);
}

/* The caller has set `running`. */
static void loop_run_claimed(struct loop *loop)
{
    const struct loop *outer = loop_of_this_thread;

    loop_of_this_thread = loop;
    loop_run_tasks(loop);
    while (!atomic_load(&loop->stopping))
        if (event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) < 0)
            break;
    loop_run_tasks(loop);
    loop_of_this_thread = outer;
    atomic_store(&loop->running, false);
}

void loop_run(struct loop *loop)
{
    bool was_running = atomic_exchange(&loop->running, true);

    assert(!was_running);
    loop_run_claimed(loop);
}

bool loop_turn(struct loop *loop)
{
    const struct loop *outer = loop_of_this_thread;

    if (atomic_exchange(&loop->running, true))
        return false;
    loop_of_this_thread = loop;
    loop_run_tasks(loop);
    if (event_base_loop(loop->base, EVLOOP_NONBLOCK) < 0)
        loop_run_tasks(loop);
    loop_of_this_thread = outer;
    atomic_store(&loop->running, false);
    return true;
}

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;

    pthread_setname_np(pthread_self(), loop->name);
    loop_run_claimed(loop);
    return NULL;
}

enum gfs_err loop_start(struct loop *loop)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t all, old;
    bool was_running;
    int rc;

    assert(!loop->started);
    /* Claimed for the thread before it runs: loop_turn must not come in between. */
    was_running = atomic_exchange(&loop->running, true);
    assert(!was_running);
    sigfillset(&all);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    rc = pthread_create(&loop->thread, NULL, loop_thread, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        atomic_store(&loop->running, false);
        return GFS_ERR_NO_MEMORY;
    }
    loop->started = true;
    return GFS_OK;
}

static void loop_wake(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t put = write(loop->wake_fd, &one, sizeof(one));

    (void)put; /* full: then it is readable, which is all we want */
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    loop_wake(loop);
}

bool loop_is_current(const struct loop *loop)
{
    return loop_of_this_thread == loop;
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    struct loop_task *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

    do {
        task->next = head;
    } while (!atomic_compare_exchange_weak(&loop->mailbox, &head, task));
    if (head)
        return;
    if (loop_is_current(loop))
        event_active(loop->wake_event, 0, 0);
    else
        loop_wake(loop);
}

uint64_t loop_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct event_base *loop_base(struct loop *loop)
{
    return loop->base;
}

static void loop_on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct loop_timer *timer = arg;

    timer->fn(timer);
}

enum gfs_err loop_timer_init(struct loop_timer *timer, struct loop *loop,
                             void (*fn)(struct loop_timer *timer))
{
    timer->fn = fn;
    timer->event = event_new(loop->base, -1, 0, loop_on_timer, timer);
    return timer->event ? GFS_OK : GFS_ERR_NO_MEMORY;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000 * 1000)};
    int rc = event_add(timer->event, &delay);

    assert(rc == 0); /* cannot fail without a descriptor unless memory is out */
}

void loop_timer_disarm(struct loop_timer *timer)
{
    if (timer->event)
        event_del(timer->event);
}

void loop_timer_release(struct loop_timer *timer)
{
    if (timer->event)
        event_free(timer->event);
    timer->event = NULL;
}

static void loop_on_signo(evutil_socket_t signo, short what, void *arg)
{
    struct loop_signal *sig = arg;

    sig->fn(signo, sig->arg);
}

enum gfs_err loop_on_signal(struct loop *loop, int signo, void (*fn)(int signo, void *arg),
                            void *arg)
{
    struct loop_signal *sig = calloc(1, sizeof(*sig));

    if (!sig)
        return GFS_ERR_NO_MEMORY;
    sig->fn = fn;
    sig->arg = arg;
    sig->event = evsignal_new(loop->base, signo, loop_on_signo, sig);
    if (!sig->event || evsignal_add(sig->event, NULL) < 0) {
        if (sig->event)
            event_free(sig->event);
        free(sig);
        return GFS_ERR_NO_MEMORY;
    }
    sig->next = loop->signals;
    loop->signals = sig;
    return GFS_OK;
}
