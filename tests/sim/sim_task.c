/*
 * sim_task: threads as coroutines, and what the code asks of pthread. The linker's --wrap sends the
 * calls of our objects here; those of libraries go where they always did.
 *
 *   scheduler --resume--> coroutine ... waits --> scheduler --event--> resume
 *
 * A mutex's or condition's own memory is used: zeros are free, so static initializers work. What
 * runs on the scheduler's stack (loops, timers) never waits: a mutex held by a coroutine that waits
 * is a failure there, as it would be a loop that blocks in the real program.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "clock.h"
#include "sim_int.h"

#define TASK_STACK_BYTES (512u << 10)
#define TASK_BEGIN_US    60u
#define TASK_WAKE_US     30u
#define TASK_YIELD_US    300u
#define TASK_YIELD_1000  25u

struct sim_task {
    struct sim_event wake; /* first */
    struct sim_task *next; /* all that live */
    struct sim_node *node;
    struct loop *loop;     /* current while it waits: it may call into one */
    const void *waits_for; /* a mutex, a condition, or a task's own end */
    const char *why;
    uint64_t number;
    uint32_t held; /* mutexes */
    ucontext_t context;
    char name[16];
    void (*fn)(void *arg);
    void *(*thread_fn)(void *arg);
    void *arg;
    bool ended;
    bool timed_out;
};

/* What a mutex is here. */
struct sim_mutex {
    uint64_t owner; /* number of the task, + 1; 1: the scheduler's stack; 0: free */
};

static struct {
    ucontext_t scheduler;
    struct sim_task *running;
    struct sim_task *first, **last;
    uint64_t next_number;
} tasks;

bool sim_in_task(void)
{
    return tasks.running != NULL;
}

static void task_switch_out(const void *waits_for, const char *why)
{
    struct sim_task *task = tasks.running;

    assert(task);
    task->waits_for = waits_for;
    task->why = why;
    task->loop = sim_loop_enter(NULL);
    tasks.running = NULL;
    swapcontext(&task->context, &tasks.scheduler);
    sim_loop_enter(task->loop);
    task->waits_for = NULL;
    task->why = NULL;
}

static void task_resume(struct sim_event *event)
{
    struct sim_task *task = (struct sim_task *)event;
    struct loop *was = sim_loop_enter(NULL);

    tasks.running = task;
    swapcontext(&tasks.scheduler, &task->context);
    assert(!tasks.running);
    sim_loop_enter(was);
    if (task->ended && task->fn)
        free(task); /* a pthread's is freed when it is joined */
}

static void task_unlink(struct sim_task *task)
{
    struct sim_task **at = &tasks.first;

    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
    if (!*at)
        tasks.last = at;
}

static void task_wake(struct sim_task *task)
{
    task->waits_for = NULL;
    if (!sim_is_scheduled(&task->wake))
        sim_schedule(&task->wake, task->node, sim_below(SIM_STREAM_NET, TASK_WAKE_US));
}

/* Those that wait for it, in the order they came. */
static void wake_waiters(const void *waits_for, bool all)
{
    for (struct sim_task *task = tasks.first, *next; task; task = next) {
        next = task->next;
        if (task->waits_for != waits_for)
            continue;
        sim_cancel(&task->wake); /* of a timed wait */
        task_wake(task);
        if (!all)
            return;
    }
}

static void task_main(unsigned low, unsigned high)
{
    struct sim_task *task = (struct sim_task *)((uintptr_t)low | (uintptr_t)high << 32);

    if (task->fn)
        task->fn(task->arg);
    else
        task->thread_fn(task->arg);
    task->ended = true;
    task_unlink(task);
    wake_waiters(task, true);
    tasks.running = NULL;
    setcontext(&tasks.scheduler);
}

static struct sim_task *task_new(struct sim_node *node, const char *name)
{
    struct sim_task *task = calloc(1, sizeof(*task));
    void *stack = mmap(NULL, TASK_STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    assert(task && stack != MAP_FAILED && node);
    if (!tasks.last)
        tasks.last = &tasks.first;
    task->node = node;
    task->number = ++tasks.next_number;
    snprintf(task->name, sizeof(task->name), "%s", name);
    task->wake.fn = task_resume;
    task->wake.what = "task";
    getcontext(&task->context);
    task->context.uc_stack.ss_sp = stack;
    task->context.uc_stack.ss_size = TASK_STACK_BYTES;
    makecontext(&task->context, (void (*)(void))task_main, 2, (unsigned)(uintptr_t)task,
                (unsigned)((uintptr_t)task >> 32));
    *tasks.last = task;
    tasks.last = &task->next;
    sim_schedule(&task->wake, node, sim_below(SIM_STREAM_NET, TASK_BEGIN_US));
    return task;
}

struct sim_task *sim_spawn(struct sim_node *node, const char *name, void (*fn)(void *arg),
                           void *arg)
{
    struct sim_task *task = task_new(node, name);

    task->fn = fn;
    task->arg = arg;
    return task;
}

void sim_sleep_us(uint64_t us)
{
    struct sim_task *task = tasks.running;

    assert(task);
    sim_schedule(&task->wake, task->node, sim_global_delay_us(task->node, us));
    task_switch_out(NULL, "sleep");
}

void sim_task_yield(void)
{
    struct sim_task *task = tasks.running;

    if (!task || task->held || !sim_chance(SIM_STREAM_NET, TASK_YIELD_1000))
        return;
    sim_schedule(&task->wake, task->node, sim_below(SIM_STREAM_NET, TASK_YIELD_US));
    task_switch_out(NULL, "to run");
}

void clock_sleep_us(uint64_t us)
{
    sim_sleep_us(us);
}

uint32_t sim_tasks_of(const struct sim_node *node)
{
    uint32_t count = 0;

    for (const struct sim_task *task = tasks.first; task; task = task->next)
        count += task->node == node;
    return count;
}

void sim_task_drop_all(struct sim_node *node)
{
    for (struct sim_task **at = &tasks.first; *at;) {
        if ((*at)->node == node)
            *at = (*at)->next; /* its stack stays: what points there leaks with it */
        else
            at = &(*at)->next;
        tasks.last = at;
    }
    if (!tasks.first)
        tasks.last = &tasks.first;
}

void sim_task_dump(void)
{
    for (const struct sim_task *task = tasks.first; task; task = task->next)
        sim_trace("thread %s of %s waits: %s", task->name, task->node->name,
                  task->why ? task->why : "to run");
}

/* ---- pthread --------------------------------------------------------------------------------- */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *arg),
                          void *arg)
{
    struct sim_task *task = task_new(sim->current, "thread");

    task->thread_fn = fn;
    task->arg = arg;
    *thread = (pthread_t)(uintptr_t)task;
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value);
int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    struct sim_task *task = (struct sim_task *)(uintptr_t)thread;

    while (!task->ended) {
        if (!tasks.running) {
            /* A loop may join a thread that has done all but return. Nothing runs meanwhile. */
            sim_cancel(&task->wake);
            task_resume(&task->wake);
            continue;
        }
        task_switch_out(task, "join");
    }
    free(task);
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    return 0;
}

static uint64_t me(void)
{
    return tasks.running ? tasks.running->number + 1 : 1;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    memset(mutex, 0, sizeof(*mutex));
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    if (((struct sim_mutex *)mutex)->owner)
        sim_fail("a mutex is destroyed while it is locked");
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    struct sim_mutex *lock = (struct sim_mutex *)mutex;

    if (lock->owner == me())
        sim_fail("a thread locks a mutex that it holds");
    while (lock->owner) {
        if (!tasks.running)
            sim_fail("a loop would block on a mutex");
        task_switch_out(mutex, "mutex");
    }
    lock->owner = me();
    if (tasks.running)
        tasks.running->held++;
    return 0;
}

static void mutex_unlock(pthread_mutex_t *mutex, bool is_waiting)
{
    struct sim_mutex *lock = (struct sim_mutex *)mutex;

    if (lock->owner != me())
        sim_fail("a mutex is unlocked by a thread that does not hold it");
    lock->owner = 0;
    wake_waiters(mutex, false);
    if (tasks.running) {
        tasks.running->held--;
        if (!is_waiting)
            sim_task_yield();
    }
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    mutex_unlock(mutex, false);
    return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    memset(cond, 0, sizeof(*cond));
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *cond);
int __wrap_pthread_cond_destroy(pthread_cond_t *cond)
{
    return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    if (!tasks.running)
        sim_fail("a loop would wait for a condition");
    mutex_unlock(mutex, true);
    task_switch_out(cond, "condition");
    return __wrap_pthread_mutex_lock(mutex);
}

/* until: by the node's monotonic clock, as all our conditions are. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until)
{
    struct sim_task *task = tasks.running;
    uint64_t until_us = (uint64_t)until->tv_sec * SIM_S + (uint64_t)until->tv_nsec / 1000;
    uint64_t now_us;
    bool timed_out;

    if (!task)
        sim_fail("a loop would wait for a condition");
    now_us = sim_local_us(task->node);
    mutex_unlock(mutex, true);
    if (until_us > now_us) {
        sim_schedule(&task->wake, task->node,
                     sim_global_delay_us(task->node, until_us - now_us) + 1);
        task_switch_out(cond, "condition");
    }
    timed_out = sim_local_us(task->node) >= until_us;
    __wrap_pthread_mutex_lock(mutex);
    return timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    wake_waiters(cond, false);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    wake_waiters(cond, true);
    return 0;
}

int __wrap_nanosleep(const struct timespec *pause, struct timespec *left);
int __wrap_nanosleep(const struct timespec *pause, struct timespec *left)
{
    sim_sleep_us((uint64_t)pause->tv_sec * SIM_S + (uint64_t)pause->tv_nsec / 1000);
    return 0;
}

/* ---- read-write locks: writers first, as the store asks for ---------------------------------- */

struct sim_rwlock {
    uint32_t readers;
    uint32_t writers_waiting;
    bool written;
};

int __wrap_pthread_rwlock_init(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attr);
int __wrap_pthread_rwlock_init(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attr)
{
    memset(lock, 0, sizeof(*lock));
    return 0;
}

int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *lock)
{
    const struct sim_rwlock *own = (struct sim_rwlock *)lock;

    if (own->readers || own->written)
        sim_fail("a read-write lock is destroyed while it is locked");
    return 0;
}

static void rwlock_wait(pthread_rwlock_t *lock)
{
    if (!tasks.running)
        sim_fail("a loop would block on a read-write lock");
    task_switch_out(lock, "read-write lock");
}

static void rwlock_taken(void)
{
    if (tasks.running)
        tasks.running->held++;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    struct sim_rwlock *own = (struct sim_rwlock *)lock;

    while (own->written || own->writers_waiting)
        rwlock_wait(lock);
    own->readers++;
    rwlock_taken();
    return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    struct sim_rwlock *own = (struct sim_rwlock *)lock;

    while (own->written || own->readers) {
        own->writers_waiting++;
        rwlock_wait(lock);
        own->writers_waiting--;
    }
    own->written = true;
    rwlock_taken();
    return 0;
}

int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
    struct sim_rwlock *own = (struct sim_rwlock *)lock;

    if (own->written)
        own->written = false;
    else if (own->readers)
        own->readers--;
    else
        sim_fail("a read-write lock is unlocked that nobody holds");
    wake_waiters(lock, true);
    if (tasks.running) {
        tasks.running->held--;
        sim_task_yield();
    }
    return 0;
}
