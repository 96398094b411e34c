/* storepool: order, bounds, and no starving by one key. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/storepool.h"

#define JOBS 16

struct gate;

struct item {
    struct storepool_job job;
    struct gate *gate;
    bool blocks;
};

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    int blocked;  /* items waiting at the gate */
    int finished; /* items that ran to their end */
    int order[JOBS];
    struct item items[JOBS];
};

static void item_run(struct storepool_job *job)
{
    struct item *item = (struct item *)job;
    struct gate *gate = item->gate;

    pthread_mutex_lock(&gate->lock);
    if (item->blocks) {
        gate->blocked++;
        pthread_cond_broadcast(&gate->changed);
        while (!gate->open)
            pthread_cond_wait(&gate->changed, &gate->lock);
    }
    gate->order[gate->finished++] = (int)(item - gate->items);
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void gate_init(struct gate *gate)
{
    memset(gate, 0, sizeof *gate);
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
}

static enum gfs_err submit(struct storepool *pool, struct gate *gate, int i, uint64_t key,
                           bool blocks)
{
    gate->items[i].job.fn = item_run;
    gate->items[i].job.key = key;
    gate->items[i].gate = gate;
    gate->items[i].blocks = blocks;
    return storepool_submit(pool, &gate->items[i].job);
}

static void wait_blocked(struct gate *gate, int count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->blocked < count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void wait_finished(struct gate *gate, int count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->finished < count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void one_thread_is_sequential(void **state)
{
    struct storepool *pool;
    struct gate gate;

    gate_init(&gate);
    assert_int_equal(storepool_new(1, 8, &pool), GFS_OK);
    assert_int_equal(submit(pool, &gate, 0, 1, true), GFS_OK);
    wait_blocked(&gate, 1);
    for (int i = 1; i < 5; i++)
        assert_int_equal(submit(pool, &gate, i, (uint64_t)i, false), GFS_OK);
    assert_int_equal(gate.finished, 0);
    gate_open(&gate);
    wait_finished(&gate, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(gate.order[i], i);
    storepool_free(pool);
}

static void a_slow_key_leaves_threads_to_the_others(void **state)
{
    struct storepool *pool;
    struct gate gate;

    gate_init(&gate);
    assert_int_equal(storepool_new(4, 16, &pool), GFS_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit(pool, &gate, i, 7, true), GFS_OK);
    wait_blocked(&gate, 2);
    for (int i = 6; i < 9; i++)
        assert_int_equal(submit(pool, &gate, i, 8, false), GFS_OK);
    wait_finished(&gate, 3); /* behind six of the slow one, and yet done */
    assert_int_equal(gate.blocked, 2);
    gate_open(&gate);
    wait_finished(&gate, 9);
    storepool_free(pool);
}

static void a_full_queue_is_busy_and_the_end_runs_what_waits(void **state)
{
    struct storepool *pool;
    struct gate gate;

    gate_init(&gate);
    assert_int_equal(storepool_new(1, 2, &pool), GFS_OK);
    assert_int_equal(submit(pool, &gate, 0, 0, true), GFS_OK);
    wait_blocked(&gate, 1);
    assert_int_equal(submit(pool, &gate, 1, 0, false), GFS_OK);
    assert_int_equal(submit(pool, &gate, 2, 0, false), GFS_OK);
    assert_int_equal(submit(pool, &gate, 3, 0, false), GFS_ERR_BUSY);
    gate_open(&gate);
    storepool_free(pool);
    assert_int_equal(gate.finished, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_thread_is_sequential),
        cmocka_unit_test(a_slow_key_leaves_threads_to_the_others),
        cmocka_unit_test(a_full_queue_is_busy_and_the_end_runs_what_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
