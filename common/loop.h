/*
 * loop: one event loop, one thread, one mailbox. Floor 4. The only header besides conn/http that
 * may know libevent exists.
 *
 * Other threads speak to a loop only by loop_post: an intrusive task is linked in and the loop is
 * woken once however many tasks are waiting, so posting never allocates and never fails. A task
 * struct may be posted again only after its fn has been called.
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs_err.h"

struct loop;
struct event_base;

struct loop_task {
    void (*fn)(struct loop_task *task); /* runs on the loop's thread */
    struct loop_task *next;             /* the loop's */
};

struct loop_timer {
    void (*fn)(struct loop_timer *timer); /* runs on the loop's thread, once per arm */
    void *event;                          /* the loop's */
};

/* name: for the thread, at most 15 bytes. */
enum gfs_err loop_new(const char *name, struct loop **ret_loop) GFS_MUST_CHECK;
/* Stops and joins the thread if one was started. Tasks still in the mailbox are run first. */
void loop_free(struct loop *loop);
enum gfs_err loop_start(struct loop *loop) GFS_MUST_CHECK; /* in a thread of its own */
void loop_run(struct loop *loop);                          /* on this thread, until loop_stop */
void loop_stop(struct loop *loop);                         /* any thread, also a signal's task */
/* Runs what is ready on this thread, without waiting, when no thread is running the loop; else
 * false. For taking down what lives on a loop that has been stopped. */
bool loop_turn(struct loop *loop);
bool loop_is_current(const struct loop *loop);
/* Any thread. Runs task->fn on the loop's thread, in the order of posting. */
void loop_post(struct loop *loop, struct loop_task *task);
/* Monotonic, milliseconds; any thread. */
uint64_t loop_now_ms(void);
struct event_base *loop_base(struct loop *loop);

/* Timers: loop thread only. Arming an armed timer moves it. */
enum gfs_err loop_timer_init(struct loop_timer *timer, struct loop *loop,
                             void (*fn)(struct loop_timer *timer)) GFS_MUST_CHECK;
void loop_timer_arm(struct loop_timer *timer, uint64_t delay_ms);
void loop_timer_disarm(struct loop_timer *timer);
void loop_timer_release(struct loop_timer *timer); /* zeroed ones are fine */

/* Calls fn on the loop's thread when the process gets the signal. Loop thread, before it runs. */
enum gfs_err loop_on_signal(struct loop *loop, int signo, void (*fn)(int signo, void *arg),
                            void *arg) GFS_MUST_CHECK;

#endif
