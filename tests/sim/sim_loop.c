/*
 * sim_loop: loop.h under virtual time. A loop's mailbox is emptied by one event, as the real one is
 * by one wake-up; timers go by the node's own clock, and a little late.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim_int.h"

#define LOOP_WAKE_MAX_US   40u
#define LOOP_LATE_MAX_US   1500u /* now and then another thread is not scheduled at once */
#define LOOP_LATE_PER_1000 15u
#define LOOP_TIMER_LATE_US 400u

struct loop {
    struct sim_node *node;
    struct loop_task *first, **last;
    struct sim_event wake;
    char name[16];
};

struct sim_timer {
    struct sim_event event;
    struct loop_timer *timer;
    struct loop *loop;
};

static struct loop *loop_current;

struct loop *sim_loop_current(void)
{
    return loop_current;
}

struct loop *sim_loop_enter(struct loop *loop)
{
    struct loop *was = loop_current;

    loop_current = loop;
    return was;
}

struct sim_node *sim_loop_node(const struct loop *loop)
{
    return loop->node;
}

static void run_tasks(struct loop *loop)
{
    struct loop_task *first = loop->first;
    struct loop *was = sim_loop_enter(loop);

    loop->first = NULL;
    loop->last = &loop->first;
    while (first) {
        struct loop_task *task = first;

        first = task->next;
        task->next = NULL;
        task->fn(task);
    }
    sim_loop_enter(was);
}

static void on_wake(struct sim_event *event)
{
    run_tasks((struct loop *)((char *)event - offsetof(struct loop, wake)));
}

enum gfs_err loop_new(const char *name, struct loop **ret_loop)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    assert(loop && sim->current);
    loop->node = sim->current;
    loop->last = &loop->first;
    loop->wake.fn = on_wake;
    loop->wake.what = "loop";
    strncpy(loop->name, name, sizeof(loop->name) - 1);
    *ret_loop = loop;
    return GFS_OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->first)
        run_tasks(loop);
    sim_cancel(&loop->wake);
    free(loop);
}

enum gfs_err loop_start(struct loop *loop)
{
    return GFS_OK;
}

void loop_run(struct loop *loop)
{
    sim_fail("loop_run: a loop is run by events here");
}

void loop_stop(struct loop *loop)
{
}

bool loop_turn(struct loop *loop)
{
    run_tasks(loop);
    return true;
}

bool loop_is_current(const struct loop *loop)
{
    return loop_current == loop;
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    uint64_t delay_us = 0;

    task->next = NULL;
    *loop->last = task;
    loop->last = &task->next;
    if (sim_is_scheduled(&loop->wake))
        return;
    if (loop_current != loop) {
        delay_us = sim_below(SIM_STREAM_NET, LOOP_WAKE_MAX_US);
        if (sim_chance(SIM_STREAM_NET, LOOP_LATE_PER_1000))
            delay_us += sim_below(SIM_STREAM_NET, LOOP_LATE_MAX_US);
    }
    sim_schedule(&loop->wake, loop->node, delay_us);
}

uint64_t loop_now_ms(void)
{
    assert(sim->current);
    return sim_local_ms(sim->current);
}

struct event_base *loop_base(struct loop *loop)
{
    sim_fail("loop_base: there is no libevent here");
}

static void on_timer(struct sim_event *event)
{
    struct sim_timer *sim_timer = (struct sim_timer *)event;
    struct loop *was = sim_loop_enter(sim_timer->loop);

    sim_timer->timer->fn(sim_timer->timer); /* which may release it */
    sim_loop_enter(was);
}

enum gfs_err loop_timer_init(struct loop_timer *timer, struct loop *loop,
                             void (*fn)(struct loop_timer *timer))
{
    struct sim_timer *sim_timer = calloc(1, sizeof(*sim_timer));

    assert(sim_timer);
    sim_timer->event.fn = on_timer;
    sim_timer->event.what = "timer";
    sim_timer->timer = timer;
    sim_timer->loop = loop;
    timer->fn = fn;
    timer->event = sim_timer;
    return GFS_OK;
}

void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms)
{
    struct sim_timer *sim_timer = timer->event;
    struct sim_node *node = sim_timer->loop->node;
    uint64_t late_us = sim_below(SIM_STREAM_NET, LOOP_TIMER_LATE_US);

    sim_timer->timer = timer; /* it may have been moved with what holds it */
    sim_cancel(&sim_timer->event);
    sim_schedule(&sim_timer->event, node,
                 sim_global_delay_us(node, delay_ms * SIM_MS) + 1 + late_us);
}

void loop_timer_disarm(struct loop_timer *timer)
{
    struct sim_timer *sim_timer = timer->event;

    if (sim_timer)
        sim_cancel(&sim_timer->event);
}

void loop_timer_release(struct loop_timer *timer)
{
    loop_timer_disarm(timer);
    free(timer->event);
    timer->event = NULL;
}

enum gfs_err loop_on_signal(struct loop *loop, int signo, void (*fn)(int signo, void *arg),
                            void *arg)
{
    return GFS_OK;
}
