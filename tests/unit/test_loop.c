/* loop: tasks, timers, signals, stopping. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop.h"

#define POSTERS 4
#define POSTS   2000

struct numbered {
    struct loop_task task;
    int poster, number;
};

static struct loop *loop;
static struct numbered numbered[POSTERS][POSTS];
static int last_number[POSTERS], out_of_order, off_thread;
static atomic_int ran;
static sem_t done;

static void on_numbered(struct loop_task *task)
{
    const struct numbered *it = (struct numbered *)task;

    if (!loop_is_current(loop))
        off_thread++;
    if (it->number != last_number[it->poster] + 1)
        out_of_order++;
    last_number[it->poster] = it->number;
    if (atomic_fetch_add(&ran, 1) + 1 == POSTERS * POSTS)
        sem_post(&done);
}

static void *post_many(void *arg)
{
    int poster = (int)(intptr_t)arg;

    for (int i = 0; i < POSTS; i++) {
        numbered[poster][i] =
            (struct numbered){.task = {.fn = on_numbered}, .poster = poster, .number = i + 1};
        loop_post(loop, &numbered[poster][i].task);
    }
    return NULL;
}

static void tasks_run_once_in_order_on_the_loop(void **state)
{
    pthread_t threads[POSTERS];

    sem_init(&done, 0, 0);
    assert_int_equal(loop_new("test", &loop), GFS_OK);
    assert_int_equal(loop_start(loop), GFS_OK);
    for (intptr_t i = 0; i < POSTERS; i++)
        pthread_create(&threads[i], NULL, post_many, (void *)i);
    sem_wait(&done);
    for (size_t i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_false(loop_is_current(loop));
    loop_free(loop);
    assert_int_equal(atomic_load(&ran), POSTERS * POSTS);
    assert_int_equal(out_of_order, 0);
    assert_int_equal(off_thread, 0);
}

static int chained;

static void on_chained(struct loop_task *task)
{
    if (++chained < 1000)
        loop_post(loop, task); /* also from the last run, when the loop is being freed */
}

static void tasks_left_at_the_end_are_run(void **state)
{
    struct loop_task task = {.fn = on_chained};

    chained = 0;
    assert_int_equal(loop_new("test", &loop), GFS_OK);
    loop_post(loop, &task);
    loop_free(loop);
    assert_int_equal(chained, 1000);
}

static struct loop_timer timers[3];
static int fired[3], order;

static void on_timer(struct loop_timer *timer)
{
    fired[timer - timers] = ++order;
    if (timer == &timers[2])
        loop_stop(loop);
}

static void timers_fire_once_in_time_and_can_be_moved(void **state)
{
    uint64_t begin = loop_now_ms();

    order = 0;
    assert_int_equal(loop_new("test", &loop), GFS_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(loop_timer_init(&timers[i], loop, on_timer), GFS_OK);
    loop_timer_arm(&timers[0], 60000);
    loop_timer_arm(&timers[0], 1); /* moved */
    loop_timer_arm(&timers[1], 5);
    loop_timer_disarm(&timers[1]);
    loop_timer_arm(&timers[2], 30);
    loop_run(loop);
    assert_int_equal(fired[0], 1);
    assert_int_equal(fired[1], 0);
    assert_int_equal(fired[2], 2);
    assert_true(loop_now_ms() - begin >= 29);
    for (size_t i = 0; i < 3; i++)
        loop_timer_release(&timers[i]);
    loop_timer_release(&timers[0]); /* again: nothing */
    loop_free(loop);
}

static int got_signo;

static void on_signal(int signo, void *arg)
{
    got_signo = signo;
    assert_true(loop_is_current(loop));
    loop_stop(arg);
}

static void signals_arrive_on_the_loop(void **state)
{
    assert_int_equal(loop_new("test", &loop), GFS_OK);
    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, loop), GFS_OK);
    kill(getpid(), SIGUSR1);
    loop_run(loop);
    assert_int_equal(got_signo, SIGUSR1);
    loop_free(loop);
}

static void on_check_mask(struct loop_task *task)
{
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    got_signo = sigismember(&blocked, SIGTERM) && !sigismember(&blocked, SIGSEGV);
    sem_post(&done);
}

static void loop_threads_leave_signals_to_the_program(void **state)
{
    struct loop_task task = {.fn = on_check_mask};
    sigset_t blocked;

    got_signo = 0;
    assert_int_equal(loop_new("a-rather-long-name", &loop), GFS_OK);
    assert_int_equal(loop_start(loop), GFS_OK);
    loop_post(loop, &task);
    sem_wait(&done);
    assert_int_equal(got_signo, 1);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_false(sigismember(&blocked, SIGTERM));
    loop_free(loop);
}

static void a_turn_runs_a_loop_that_nobody_runs(void **state)
{
    struct loop_task task = {.fn = on_chained};

    chained = 999;
    assert_int_equal(loop_new("test", &loop), GFS_OK);
    loop_post(loop, &task);
    assert_true(loop_turn(loop));
    assert_int_equal(chained, 1000);
    loop_stop(loop);
    loop_run(loop); /* stopped before it began: returns */
    loop_free(loop);
    loop_free(NULL);
}

static void a_turn_leaves_a_started_loop_to_its_thread(void **state)
{
    for (int i = 0; i < 200; i++) {
        assert_int_equal(loop_new("test", &loop), GFS_OK);
        assert_int_equal(loop_start(loop), GFS_OK);
        assert_false(loop_turn(loop)); /* the thread may not have begun */
        loop_free(loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_once_in_order_on_the_loop),
        cmocka_unit_test(tasks_left_at_the_end_are_run),
        cmocka_unit_test(timers_fire_once_in_time_and_can_be_moved),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(loop_threads_leave_signals_to_the_program),
        cmocka_unit_test(a_turn_runs_a_loop_that_nobody_runs),
        cmocka_unit_test(a_turn_leaves_a_started_loop_to_its_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
