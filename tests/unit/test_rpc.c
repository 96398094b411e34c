/* rpc: calls and replies between a real client and a real server over loopback. */
#include "rpc_rig.h"

static void payloads_of_all_sizes_arrive_whole(void **state)
{
    static const uint32_t sizes[] = {0, 1, 100, 16383, 16384, 65536, 65537, 1u << 20, LARGE};
    static const Gfs__PushRequest push = GFS__PUSH_REQUEST__INIT;
    static uint8_t dest[LARGE];
    struct result result;
    Gfs__ReadRequest msg;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rpc_call_args args = read_args(&msg, sizes[i]);
        struct rpc_piece piece = {t.pattern, sizes[i] ? sizes[i] : 1};
        struct rpc_payload payload = {&piece, 1, on_released, NULL};

        assert_int_equal(call(&result, &args), GFS_OK);
        assert_int_equal(result.payload_bytes, sizes[i]);
        assert_int_equal(result.had_payload, sizes[i] > 0);
        assert_true(result.payload_right || sizes[i] == 0);
        memset(dest, 0, sizeof(dest));
        args.dest = dest;
        args.dest_bytes = sizeof(dest);
        assert_int_equal(call(&result, &args), GFS_OK);
        assert_false(result.had_payload);
        assert_int_equal(result.payload_bytes, sizes[i]);
        assert_memory_equal(dest, t.pattern, sizes[i]);
        args = (struct rpc_call_args){.type = GFS_MSG_PUSH, .msg = &push.base, .payload = &payload};
        assert_int_equal(call(&result, &args), GFS_OK);
        assert_int_equal(atomic_load(&t.wrong_bytes), 0);
    }
    WAIT_FOR(atomic_load(&t.released) == 3 * (int)(sizeof(sizes) / sizeof(sizes[0])));
}

static void errors_carry_code_hint_and_detail(void **state)
{
    static const Gfs__ApplyRequest apply = GFS__APPLY_REQUEST__INIT;
    struct rpc_call_args args = {.type = GFS_MSG_APPLY, .msg = &apply.base};
    struct result result;

    start_server("127.0.0.1:0", NULL);
    start_client(&chunkserver_identity, NULL);
    assert_int_equal(call(&result, &args), GFS_ERR_NOT_FOUND);
    assert_int_equal(result.retry_after_ms, 123);
    assert_string_equal(result.detail, "nothing of the kind");
}

static void a_reply_longer_than_asked_for_is_refused(void **state)
{
    uint8_t dest[101];
    struct rpc_call_args args;
    struct result result;
    Gfs__ReadRequest msg;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    args = read_args(&msg, 200000);
    args.dest = dest;
    args.dest_bytes = 100;
    dest[100] = 99;
    assert_int_equal(call(&result, &args), GFS_ERR_PROTO);
    assert_int_equal(dest[100], 99);
    args = read_args(&msg, 100);
    args.dest = dest;
    args.dest_bytes = 100;
    assert_int_equal(call(&result, &args), GFS_OK);
    assert_memory_equal(dest, t.pattern, 100);
    assert_int_equal(dest[100], 99);
}

static void the_server_calls_back_on_the_same_connection(void **state)
{
    static const Gfs__HeartbeatRequest msg = GFS__HEARTBEAT_REQUEST__INIT;
    struct rpc_call_args args = {.type = GFS_MSG_HEARTBEAT, .msg = &msg.base};
    struct result result;

    start_server("127.0.0.1:0", NULL);
    start_client(&chunkserver_identity, NULL);
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(call(&result, &args), GFS_OK);
        assert_int_equal(atomic_load(&t.called_back), i);
    }
}

static void a_request_that_the_role_may_not_send_ends_the_connection(void **state)
{
    static const Gfs__HeartbeatRequest msg = GFS__HEARTBEAT_REQUEST__INIT;
    struct rpc_call_args args = {.type = GFS_MSG_HEARTBEAT, .msg = &msg.base};
    struct result result;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    assert_int_equal(call(&result, &args), GFS_ERR_CONN);
    assert_int_equal(atomic_load(&t.served), 0);
    args = ping_args(); /* and a new one is made */
    assert_int_equal(call(&result, &args), GFS_OK);
}

static void an_unanswered_call_times_out_and_its_late_reply_is_ignored(void **state)
{
    struct rpc_call_args args = write_args();
    struct result result;
    uint64_t begin_ms;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    args.timeout_ms = 120;
    begin_ms = loop_now_ms();
    assert_int_equal(call(&result, &args), GFS_ERR_TIMEOUT);
    assert_true(loop_now_ms() - begin_ms >= 120);
    let_go();
    args = ping_args();
    assert_int_equal(call(&result, &args), GFS_OK);
    assert_int_equal(atomic_load(&t.closes), 0);
}

static void nobody_there_is_said_at_once(void **state)
{
    struct rpc_call_args args = ping_args();
    struct result result;
    char addr[64];
    uint64_t begin_ms;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    strcpy(addr, rpc_server_addr(t.server));
    rpc_server_free(t.server);
    t.server = NULL;
    begin_ms = loop_now_ms();
    begin(&result, addr, &args);
    assert_int_equal(finish(&result), GFS_ERR_CONN);
    assert_true(loop_now_ms() - begin_ms < 5000);
    assert_non_null(strstr(result.detail, addr));
    args.timeout_ms = 10; /* within the pause after the failure */
    begin(&result, addr, &args);
    assert_true(finish(&result) != GFS_OK);
    begin(&result, "not-an-address", &args);
    assert_true(finish(&result) != GFS_OK);
    begin(&result, "10.0.0.1:1 and far more text than any address in the world could ever have",
          &args);
    assert_int_equal(finish(&result), GFS_ERR_INVAL);
}

static void a_restarted_server_is_found_again(void **state)
{
    struct rpc_call_args args = ping_args();
    struct result result;
    char addr[64];
    uint64_t begin_ms = loop_now_ms();

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    strcpy(addr, rpc_server_addr(t.server));
    assert_int_equal(call(&result, &args), GFS_OK);
    rpc_server_free(t.server);
    start_server(addr, NULL);
    do {
        begin(&result, addr, &args);
        assert_true(loop_now_ms() - begin_ms < WAIT_MAX_MS);
    } while (finish(&result) == GFS_ERR_CONN);
    assert_int_equal(result.err, GFS_OK);
}

static void dropping_ends_pending_calls_only(void **state)
{
    struct rpc_call_args args = write_args();
    struct result pending, later;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    begin(&pending, rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 1);
    rpc_client_drop(t.client, rpc_server_addr(t.server));
    args = ping_args();
    assert_int_equal(call(&later, &args), GFS_OK);
    assert_int_equal(finish(&pending), GFS_ERR_CONN);
    WAIT_FOR(atomic_load(&t.closes) == 1);
    let_go(); /* a reply on a dead connection */
}

static void a_call_on_a_closed_connection_ends_in_conn(void **state)
{
    static const Gfs__SetVersionRequest msg = GFS__SET_VERSION_REQUEST__INIT;
    struct rpc_call_args write = write_args(), args;
    struct result pending, result;
    struct rpc_conn *conn;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    begin(&pending, rpc_server_addr(t.server), &write);
    WAIT_FOR(held_count() == 1);
    pthread_mutex_lock(&t.lock);
    conn = rpc_conn_ref(t.held->conn);
    pthread_mutex_unlock(&t.lock);
    assert_string_equal(rpc_conn_local_addr(conn), rpc_server_addr(t.server));
    rpc_conn_close(conn);
    assert_int_equal(finish(&pending), GFS_ERR_CONN);
    WAIT_FOR(atomic_load(&t.closes) == 1);
    rpc_conn_close(conn);
    result_init(&result);
    args = (struct rpc_call_args){.type = GFS_MSG_SET_VERSION,
                                  .msg = &msg.base,
                                  .done = on_done,
                                  .arg = &result};
    rpc_call(conn, &args);
    assert_int_equal(finish(&result), GFS_ERR_CONN);
    rpc_conn_unref(conn);
}

static void an_unused_connection_is_closed_and_made_again(void **state)
{
    struct rpc_limits limits = {.idle_timeout_ms = 50};
    struct rpc_call_args args = ping_args();
    struct result result;
    uint64_t begin_ms;

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, &limits);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(call(&result, &args), GFS_OK);
        WAIT_FOR(atomic_load(&t.closes) == i);
    }
    args = write_args(); /* one that waits for its reply is in use */
    begin(&result, rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 1);
    begin_ms = loop_now_ms();
    WAIT_FOR(loop_now_ms() > begin_ms + 200);
    let_go();
    assert_int_equal(finish(&result), GFS_OK);
}

static void freeing_the_client_ends_every_call(void **state)
{
    struct rpc_call_args args = write_args();
    static struct result results[100];

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < 100; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    rpc_client_free(t.client);
    t.client = NULL;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(finish(&results[i]), GFS_ERR_CONN);
}

static void freeing_the_server_with_requests_held_is_fine(void **state)
{
    struct rpc_call_args args = write_args();
    static struct result results[100];

    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    for (size_t i = 0; i < 100; i++)
        begin(&results[i], rpc_server_addr(t.server), &args);
    WAIT_FOR(held_count() == 100);
    rpc_server_free(t.server);
    t.server = NULL;
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(finish(&results[i]), GFS_ERR_CONN);
    let_go();
}

static void another_cluster_is_refused_and_told_so(void **state)
{
    struct rpc_identity stranger = chunkserver_identity;
    struct rpc_call_args args = ping_args();
    struct result result;

    stranger.cluster_id[0] = 9;
    start_server("127.0.0.1:0", NULL);
    start_client(&stranger, NULL);
    assert_int_equal(call(&result, &args), GFS_ERR_OTHER_CLUSTER);
    assert_non_null(strstr(result.detail, "this is cluster 01000000-"));
    assert_non_null(strstr(result.detail, "09000000-"));
    assert_int_equal(atomic_load(&t.closes), 0);
    rpc_client_set_cluster(t.client, server_identity.cluster_id);
    assert_int_equal(call(&result, &args), GFS_OK);
}

struct ask {
    struct loop_task task;
    sem_t done;
    bool known;
    uint8_t cluster_id[GFS_UUID_BYTES];
};

static void on_ask(struct loop_task *task)
{
    struct ask *ask = (struct ask *)task;

    ask->known = rpc_client_peer_cluster(t.client, rpc_server_addr(t.server), ask->cluster_id);
    sem_post(&ask->done);
}

static void a_client_learns_the_cluster(void **state)
{
    struct rpc_call_args args = ping_args();
    struct ask ask = {.task = {.fn = on_ask}};
    struct result result;

    sem_init(&ask.done, 0, 0);
    start_server("127.0.0.1:0", NULL);
    start_client(&client_identity, NULL);
    loop_post(t.client_loop, &ask.task);
    sem_wait(&ask.done);
    assert_false(ask.known);
    assert_int_equal(call(&result, &args), GFS_OK);
    loop_post(t.client_loop, &ask.task);
    sem_wait(&ask.done);
    assert_true(ask.known);
    assert_memory_equal(ask.cluster_id, server_identity.cluster_id, GFS_UUID_BYTES);
}

static void an_address_in_use_or_absurd_is_an_error(void **state)
{
    struct rpc_events events = {.on_request = on_request};
    struct rpc_server *second = NULL;

    start_server("127.0.0.1:0", NULL);
    assert_int_equal(rpc_server_new(rpc_server_addr(t.server), t.loops, 1, &server_identity, NULL,
                                    &events, &second),
                     GFS_ERR_CONN);
    assert_int_equal(rpc_server_new("1.2.3.4.5:x", t.loops, 1, &server_identity, NULL, &events,
                                    &second),
                     GFS_ERR_INVAL);
    assert_null(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RPC_TEST(payloads_of_all_sizes_arrive_whole),
        RPC_TEST(errors_carry_code_hint_and_detail),
        RPC_TEST(a_reply_longer_than_asked_for_is_refused),
        RPC_TEST(the_server_calls_back_on_the_same_connection),
        RPC_TEST(a_request_that_the_role_may_not_send_ends_the_connection),
        RPC_TEST(an_unanswered_call_times_out_and_its_late_reply_is_ignored),
        RPC_TEST(nobody_there_is_said_at_once),
        RPC_TEST(a_restarted_server_is_found_again),
        RPC_TEST(dropping_ends_pending_calls_only),
        RPC_TEST(a_call_on_a_closed_connection_ends_in_conn),
        RPC_TEST(an_unused_connection_is_closed_and_made_again),
        RPC_TEST(freeing_the_client_ends_every_call),
        RPC_TEST(freeing_the_server_with_requests_held_is_fine),
        RPC_TEST(another_cluster_is_refused_and_told_so),
        RPC_TEST(a_client_learns_the_cluster),
        RPC_TEST(an_address_in_use_or_absurd_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
