/* rpc: a chunkserver that stands still is told from one that is only slow. */
#include "rpc_rig.h"

#define SILENCE_MS 600u

/* A loop that stands still: its process is frozen, as far as anybody can see. */
static struct frozen {
    struct loop_task task;
    sem_t begun, thaw;
} frozen;

static void stand_still(struct loop_task *task)
{
    sem_post(&frozen.begun);
    sem_wait(&frozen.thaw);
}

static void freeze(struct loop *loop)
{
    sem_init(&frozen.begun, 0, 0);
    sem_init(&frozen.thaw, 0, 0);
    frozen.task.fn = stand_still;
    loop_post(loop, &frozen.task);
    sem_wait(&frozen.begun);
}

static void thaw(void)
{
    sem_post(&frozen.thaw);
}

/* A server with one loop, and a client that waits for it no longer than SILENCE_MS. */
static void start(const struct rpc_identity *identity, const struct rpc_limits *limits)
{
    struct rpc_events events = {.on_request = on_request, .on_close = on_close};
    const struct rpc_limits ours = {.silence_ms = SILENCE_MS};

    assert_int_equal(rpc_server_new("127.0.0.1:0", t.loops, 1, identity, limits, &events,
                                    &t.server),
                     GFS_OK);
    start_client(&client_identity, &ours);
}

static void make_connection(void)
{
    struct result result;
    struct rpc_call_args args = ping_args();

    assert_int_equal(call(&result, &args), GFS_OK);
}

static void one_that_stands_still_is_given_up_with_all_calls(void **state)
{
    struct result results[3], again;
    struct rpc_call_args args = write_args();
    uint64_t began_ms;

    start(&chunkserver_identity, NULL);
    make_connection();
    freeze(t.loops[0]);
    began_ms = loop_now_ms();
    for (size_t i = 0; i < 3; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(finish(&results[i]), GFS_ERR_CONN);
        assert_non_null(strstr(results[i].detail, "not even a ping"));
    }
    assert_true(loop_now_ms() - began_ms >= SILENCE_MS);
    assert_true(loop_now_ms() - began_ms < 5000);
    /* Its kernel takes connections still: the hello has no more time than that now. */
    began_ms = loop_now_ms();
    begin(&again, rpc_server_addr(t.server), &args);
    assert_int_equal(finish(&again), GFS_ERR_CONN);
    assert_true(loop_now_ms() - began_ms < 5000);
    thaw();
    args = ping_args();
    WAIT_FOR(call(&again, &args) == GFS_OK);
}

static void a_payload_that_it_does_not_take_is_no_sign_of_life(void **state)
{
    struct result results[8];
    Gfs__PushRequest msg = GFS__PUSH_REQUEST__INIT;
    struct rpc_piece piece = {t.pattern, LARGE};
    struct rpc_payload payload = {.pieces = &piece, .piece_count = 1};
    struct rpc_call_args args = {.type = GFS_MSG_PUSH, .msg = &msg.base, .payload = &payload};

    start(&chunkserver_identity, NULL);
    make_connection();
    freeze(t.loops[0]);
    for (size_t i = 0; i < 8; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(finish(&results[i]), GFS_ERR_CONN);
    thaw();
}

static void a_slow_one_is_waited_for(void **state)
{
    struct result result;
    struct rpc_call_args args = write_args();

    start(&chunkserver_identity, NULL);
    begin(&result, rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 1);
    poll(NULL, 0, 4 * SILENCE_MS);
    assert_int_equal(atomic_load(&t.closes), 0);
    let_go();
    assert_int_equal(finish(&result), GFS_OK);
}

/* It cannot see the ping, behind a request for which it has no room. */
static void one_that_does_not_read_for_now_is_waited_for(void **state)
{
    struct result results[3];
    struct rpc_limits limits = {.requests_max = 1};
    struct rpc_call_args args = write_args();

    start(&chunkserver_identity, &limits);
    for (size_t i = 0; i < 3; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 1);
    poll(NULL, 0, 4 * SILENCE_MS);
    assert_int_equal(atomic_load(&t.closes), 0);
    for (size_t i = 0; i < 3; i++) {
        WAIT_FOR(held_count() == 1);
        let_go();
        assert_int_equal(finish(&results[i]), GFS_OK);
    }
}

/* That we stood still ourselves is not the peer's silence. */
static void after_a_stop_of_our_own_the_peer_is_asked_first(void **state)
{
    struct result result;
    struct rpc_call_args args = write_args();

    start(&chunkserver_identity, NULL);
    begin(&result, rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 1);
    for (int i = 0; i < 3; i++) {
        freeze(t.client_loop);
        poll(NULL, 0, 2 * SILENCE_MS);
        thaw();
        poll(NULL, 0, SILENCE_MS / 2);
    }
    assert_int_equal(atomic_load(&t.closes), 0);
    let_go();
    assert_int_equal(finish(&result), GFS_OK);
}

/* The master has no second one: it is waited for as long as the call has time. */
static void a_master_is_waited_for(void **state)
{
    struct result result;
    struct rpc_call_args args = write_args();
    int calls;

    start(&server_identity, NULL);
    make_connection();
    freeze(t.loops[0]);
    begin(&result, rpc_server_addr(t.server), &args);
    poll(NULL, 0, 3 * SILENCE_MS);
    calls = atomic_load(&result.calls);
    thaw();
    assert_int_equal(calls, 0);
    WAIT_FOR(held_count() == 1);
    let_go();
    assert_int_equal(finish(&result), GFS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RPC_TEST(one_that_stands_still_is_given_up_with_all_calls),
        RPC_TEST(a_payload_that_it_does_not_take_is_no_sign_of_life),
        RPC_TEST(a_slow_one_is_waited_for),
        RPC_TEST(one_that_does_not_read_for_now_is_waited_for),
        RPC_TEST(after_a_stop_of_our_own_the_peer_is_asked_first),
        RPC_TEST(a_master_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
