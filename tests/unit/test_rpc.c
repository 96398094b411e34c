/* rpc: calls and replies between a real client and a real server over loopback. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "chunk.pb-c.h"
#include "control.pb-c.h"
#include "rpc.h"
#include "rpc.pb-c.h"

#define WAIT_MAX_MS 20000
#define LARGE       (4u << 20)

/* Until the condition holds, for a bounded time. */
#define WAIT_FOR(condition)                                           \
    do {                                                              \
        uint64_t wait_begin_ms = loop_now_ms();                       \
        while (!(condition)) {                                        \
            assert_true(loop_now_ms() - wait_begin_ms < WAIT_MAX_MS); \
            usleep(1000);                                             \
        }                                                             \
    } while (0)

/* READ is answered with `length` bytes of the pattern; PUSH checks its payload; WRITE is held until
 * the test lets go; HEARTBEAT makes the server call SET_VERSION back before it answers. */
static struct {
    struct loop *loops[2], *client_loop;
    struct rpc_server *server;
    struct rpc_client *client;
    uint8_t pattern[LARGE];

    pthread_mutex_t lock;
    struct rpc_request *held;
    int held_count;
    atomic_int served, wrong_bytes, released, called_back, closes;
} t = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const struct rpc_identity server_identity = {GFS_ROLE_MASTER, {1}, {2}};
static const struct rpc_identity client_identity = {GFS_ROLE_CLIENT, {0}, {3}};
static const struct rpc_identity chunkserver_identity = {GFS_ROLE_CHUNKSERVER, {1}, {4}};

static void on_released(void *arg)
{
    atomic_fetch_add(&t.released, 1);
}

static void serve_read(struct rpc_request *request)
{
    const Gfs__ReadRequest *msg = (const Gfs__ReadRequest *)request->msg;
    struct rpc_piece pieces[3] = {{t.pattern, msg->length / 3},
                                  {t.pattern + msg->length / 3, 0},
                                  {t.pattern + msg->length / 3, msg->length - msg->length / 3}};
    struct rpc_payload payload = {pieces, 3, on_released, NULL};
    Gfs__ReadReply reply = GFS__READ_REPLY__INIT;

    reply.chunk_length = msg->length;
    rpc_reply(request, &reply.base, &payload);
}

static void on_called_back(void *arg, const struct rpc_answer *answer)
{
    struct rpc_request *request = arg;
    Gfs__HeartbeatReply reply = GFS__HEARTBEAT_REPLY__INIT;

    if (answer->err)
        rpc_reply_error(request, answer->err, 7, answer->detail);
    else
        rpc_reply(request, &reply.base, NULL);
}

static void on_request(void *arg, struct rpc_request *request)
{
    static const Gfs__EmptyReply empty = GFS__EMPTY_REPLY__INIT;
    static const Gfs__SetVersionRequest set_version = GFS__SET_VERSION_REQUEST__INIT;
    struct rpc_call_args args = {.type = GFS_MSG_SET_VERSION, .msg = &set_version.base};

    atomic_fetch_add(&t.served, 1);
    switch (request->type) {
    case GFS_MSG_READ:
        serve_read(request);
        return;
    case GFS_MSG_PUSH:
        if (!request->payload ||
            memcmp(request->payload->data, t.pattern, request->payload->len_bytes) != 0)
            atomic_fetch_add(&t.wrong_bytes, 1);
        rpc_reply(request, &empty.base, NULL);
        return;
    case GFS_MSG_WRITE:
        pthread_mutex_lock(&t.lock);
        request->next = t.held;
        t.held = request;
        t.held_count++;
        pthread_mutex_unlock(&t.lock);
        return;
    case GFS_MSG_HEARTBEAT:
        args.done = on_called_back;
        args.arg = request;
        rpc_call(request->conn, &args);
        return;
    default:
        rpc_reply_error(request, GFS_ERR_NOT_FOUND, 123, "nothing of the kind");
    }
}

static int held_count(void)
{
    int count;

    pthread_mutex_lock(&t.lock);
    count = t.held_count;
    pthread_mutex_unlock(&t.lock);
    return count;
}

static void let_go(void)
{
    static const Gfs__WriteReply reply = GFS__WRITE_REPLY__INIT;
    struct rpc_request *request;

    pthread_mutex_lock(&t.lock);
    request = t.held;
    t.held = NULL;
    t.held_count = 0;
    pthread_mutex_unlock(&t.lock);
    while (request) {
        struct rpc_request *next = request->next;

        rpc_reply(request, &reply.base, NULL);
        request = next;
    }
}

static void on_request_to_chunkserver(void *arg, struct rpc_request *request)
{
    static const Gfs__SetVersionReply reply = GFS__SET_VERSION_REPLY__INIT;

    assert_int_equal(request->peer_role, GFS_ROLE_MASTER);
    atomic_fetch_add(&t.called_back, 1);
    rpc_reply(request, &reply.base, NULL);
}

static void on_close(void *arg, struct rpc_conn *conn)
{
    atomic_fetch_add(&t.closes, 1);
}

static void start_server(const char *addr, const struct rpc_limits *limits)
{
    struct rpc_events events = {.on_request = on_request, .on_close = on_close};

    assert_int_equal(rpc_server_new(addr, t.loops, 2, &server_identity, limits, &events, &t.server),
                     GFS_OK);
}

static void start_client(const struct rpc_identity *identity, const struct rpc_limits *limits)
{
    struct rpc_events events = {.on_request = on_request_to_chunkserver};

    assert_int_equal(rpc_client_new(t.client_loop, identity, limits, &events, &t.client), GFS_OK);
}

static int setup(void **state)
{
    assert_int_equal(loop_new("server-0", &t.loops[0]), GFS_OK);
    assert_int_equal(loop_new("server-1", &t.loops[1]), GFS_OK);
    assert_int_equal(loop_new("client", &t.client_loop), GFS_OK);
    assert_int_equal(loop_start(t.loops[0]), GFS_OK);
    assert_int_equal(loop_start(t.loops[1]), GFS_OK);
    assert_int_equal(loop_start(t.client_loop), GFS_OK);
    for (size_t i = 0; i < LARGE; i++)
        t.pattern[i] = (uint8_t)(i * 31 + i / 4099);
    atomic_store(&t.served, 0);
    atomic_store(&t.wrong_bytes, 0);
    atomic_store(&t.released, 0);
    atomic_store(&t.called_back, 0);
    atomic_store(&t.closes, 0);
    return 0;
}

static int teardown(void **state)
{
    rpc_client_free(t.client);
    rpc_server_free(t.server);
    let_go();
    t.client = NULL;
    t.server = NULL;
    loop_free(t.client_loop);
    loop_free(t.loops[0]);
    loop_free(t.loops[1]);
    return 0;
}

/* ---- a call and its end ------------------------------------------------------------------------
 */

struct result {
    sem_t done;
    atomic_int calls;
    enum gfs_err err;
    uint32_t retry_after_ms;
    size_t payload_bytes;
    bool payload_right, had_payload;
    char detail[256];
};

static void on_done(void *arg, const struct rpc_answer *answer)
{
    struct result *result = arg;

    result->err = answer->err;
    result->retry_after_ms = answer->retry_after_ms;
    result->payload_bytes = answer->payload_bytes;
    result->had_payload = answer->payload != NULL;
    result->payload_right = answer->payload && memcmp(answer->payload->data, t.pattern,
                                                      answer->payload->len_bytes) == 0;
    snprintf(result->detail, sizeof(result->detail), "%s", answer->detail);
    atomic_fetch_add(&result->calls, 1);
    sem_post(&result->done);
}

static void begin(struct result *result, const char *addr, struct rpc_call_args *args)
{
    memset(result, 0, sizeof(*result));
    sem_init(&result->done, 0, 0);
    args->done = on_done;
    args->arg = result;
    rpc_client_call(t.client, addr, args);
}

static enum gfs_err finish(struct result *result)
{
    sem_wait(&result->done);
    assert_int_equal(atomic_load(&result->calls), 1);
    return result->err;
}

static enum gfs_err call(struct result *result, struct rpc_call_args *args)
{
    begin(result, rpc_server_addr(t.server), args);
    return finish(result);
}

static struct rpc_call_args read_args(Gfs__ReadRequest *msg, uint32_t length)
{
    gfs__read_request__init(msg);
    msg->length = length;
    return (struct rpc_call_args){.type = GFS_MSG_READ, .msg = &msg->base};
}

static struct rpc_call_args write_args(void)
{
    static const Gfs__WriteRequest msg = GFS__WRITE_REQUEST__INIT;

    return (struct rpc_call_args){.type = GFS_MSG_WRITE, .msg = &msg.base};
}

static struct rpc_call_args ping_args(void)
{
    static const Gfs__Ping msg = GFS__PING__INIT;

    return (struct rpc_call_args){.type = GFS_MSG_PING, .msg = &msg.base};
}

/* ---- tests -------------------------------------------------------------------------------------
 */

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

#define RPC_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

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
        RPC_TEST(freeing_the_client_ends_every_call),
        RPC_TEST(freeing_the_server_with_requests_held_is_fine),
        RPC_TEST(requests_beyond_the_limit_wait),
        RPC_TEST(unsent_replies_and_payloads_are_bounded),
        RPC_TEST(too_many_unsent_calls_are_busy),
        RPC_TEST(oversize_calls_fail_without_being_sent),
        RPC_TEST(threads_share_a_connection),
        RPC_TEST(another_cluster_is_refused_and_told_so),
        RPC_TEST(a_client_learns_the_cluster),
        RPC_TEST(an_address_in_use_or_absurd_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
