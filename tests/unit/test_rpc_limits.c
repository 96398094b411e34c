/* rpc: nothing grows without bound, and many threads may share a connection. */
#include "rpc_rig.h"

static void requests_beyond_the_limit_wait(void **state)
{
    struct rpc_limits limits = {.requests_max = 8};
    struct rpc_call_args args = write_args();
    static struct result results[50];

    start_server("127.0.0.1:0", &limits);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < 50; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    for (int done = 0; done < 50;) {
        int now = 50 - done < 8 ? 50 - done : 8;

        WAIT_FOR(held_count() == now);
        assert_int_equal(atomic_load(&t.served), done + now);
        let_go();
        done += now;
    }
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(finish(&results[i]), GFS_OK);
}

static void unsent_replies_and_payloads_are_bounded(void **state)
{
    struct rpc_limits limits = {.reply_bytes = 1u << 20, .request_bytes = 1u << 20};
    static const Gfs__PushRequest push = GFS__PUSH_REQUEST__INIT;
    static struct result results[64];
    struct rpc_piece piece = {t.pattern, 900000};
    struct rpc_payload payload = {&piece, 1, NULL, NULL};
    Gfs__ReadRequest msg;

    start_server("127.0.0.1:0", &limits);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < 64; i++) {
        struct rpc_call_args args = read_args(&msg, 1u << 20);

        if (i % 2)
            args = (struct rpc_call_args){.type = GFS_MSG_PUSH,
                                          .msg = &push.base,
                                          .payload = &payload};
        begin(&results[i], rpc_server_addr(t.server), &args);
    }
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(finish(&results[i]), GFS_OK);
        assert_true(i % 2 || results[i].payload_right);
    }
    assert_int_equal(atomic_load(&t.wrong_bytes), 0);
}

static void the_total_of_all_connections_is_bounded(void **state)
{
    struct rpc_limits limits = {.total_bytes = 1};
    struct rpc_piece piece = {t.pattern, 1000};
    struct rpc_payload payload = {&piece, 1, NULL, NULL};
    struct rpc_call_args write = write_args(), ping = ping_args();
    static struct result holding, waiting;

    start_server("127.0.0.1:0", &limits);
    start_client(&client_identity, NULL);
    write.payload = &payload;
    begin(&holding, rpc_server_addr(t.server), &write);
    WAIT_FOR(held_count() == 1);
    rpc_client_drop(t.client, rpc_server_addr(t.server));
    assert_int_equal(finish(&holding), GFS_ERR_CONN);
    assert_int_equal(call(&waiting, &ping), GFS_OK); /* a dead connection's part is given back */
    begin(&holding, rpc_server_addr(t.server), &write);
    WAIT_FOR(held_count() == 2);
    ping.timeout_ms = 150;
    assert_int_equal(call(&waiting, &ping), GFS_ERR_TIMEOUT);
    let_go();
    assert_int_equal(finish(&holding), GFS_OK);
    ping.timeout_ms = 0;
    assert_int_equal(call(&waiting, &ping), GFS_OK);
}

static void too_many_unsent_calls_are_busy(void **state)
{
    struct rpc_limits limits = {.reply_bytes = 1u << 20}; /* calls: four times that */
    static const Gfs__PushRequest push = GFS__PUSH_REQUEST__INIT;
    static struct result results[64];
    struct rpc_piece piece = {t.pattern, 1u << 20};
    struct rpc_payload payload = {&piece, 1, on_released, NULL};
    struct rpc_call_args args = {.type = GFS_MSG_PUSH, .msg = &push.base, .payload = &payload};
    int busy = 0, done = 0;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, &limits);
    for (size_t i = 0; i < 64; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    for (size_t i = 0; i < 64; i++) {
        enum gfs_err err = finish(&results[i]);

        assert_true(err == GFS_OK || (err == GFS_ERR_BUSY && results[i].retry_after_ms > 0));
        *(err ? &busy : &done) += 1;
    }
    assert_true(done >= 3);
    WAIT_FOR(atomic_load(&t.released) == 64);
}

static void oversize_calls_fail_without_being_sent(void **state)
{
    static const Gfs__PushRequest push = GFS__PUSH_REQUEST__INIT;
    struct rpc_piece pieces[2] = {{t.pattern, LARGE}, {t.pattern, 1}};
    struct rpc_payload payload = {pieces, 2, on_released, NULL};
    struct rpc_call_args args = {.type = GFS_MSG_PUSH, .msg = &push.base, .payload = &payload};
    struct result result;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    assert_int_equal(call(&result, &args), GFS_ERR_TOO_LARGE);
    assert_int_equal(atomic_load(&t.released), 1);
    assert_int_equal(atomic_load(&t.served), 0);
}

#define THREADS      4
#define THREAD_CALLS 3000

static void *call_many(void *arg)
{
    struct result *results = calloc(64, sizeof(*results));
    Gfs__ReadRequest msg;

    for (int i = 0; i < THREAD_CALLS + 64; i++) {
        struct rpc_call_args args = i % 3 ? ping_args() : read_args(&msg, (uint32_t)i * 7);
        struct result *result = &results[i % 64];

        if (i >= 64 && (finish(result) || (result->had_payload && !result->payload_right)))
            return results; /* leaked on purpose: the test has failed */
        if (i < THREAD_CALLS)
            begin(result, rpc_server_addr(t.server), &args);
    }
    free(results);
    return NULL;
}

static void threads_share_a_connection(void **state)
{
    pthread_t threads[THREADS];
    void *failed;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_many, NULL), 0);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RPC_TEST(requests_beyond_the_limit_wait),
        RPC_TEST(unsent_replies_and_payloads_are_bounded),
        RPC_TEST(the_total_of_all_connections_is_bounded),
        RPC_TEST(too_many_unsent_calls_are_busy),
        RPC_TEST(oversize_calls_fail_without_being_sent),
        RPC_TEST(threads_share_a_connection),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
