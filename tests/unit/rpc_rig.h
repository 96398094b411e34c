/* A client and a server with known handlers, for the tests of rpc. */
#ifndef TESTS_UNIT_RPC_RIG_H
#define TESTS_UNIT_RPC_RIG_H

#include <poll.h>
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
            poll(NULL, 0, 1);                                         \
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

static inline void on_released(void *arg)
{
    atomic_fetch_add(&t.released, 1);
}

static inline void serve_read(struct rpc_request *request)
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

static inline void on_called_back(void *arg, const struct rpc_answer *answer)
{
    struct rpc_request *request = arg;
    Gfs__HeartbeatReply reply = GFS__HEARTBEAT_REPLY__INIT;

    if (answer->err)
        rpc_reply_error(request, answer->err, 7, answer->detail);
    else
        rpc_reply(request, &reply.base, NULL);
}

static inline void on_request(void *arg, struct rpc_request *request)
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

static inline int held_count(void)
{
    int count;

    pthread_mutex_lock(&t.lock);
    count = t.held_count;
    pthread_mutex_unlock(&t.lock);
    return count;
}

static inline void let_go(void)
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

static inline void on_request_to_chunkserver(void *arg, struct rpc_request *request)
{
    static const Gfs__SetVersionReply reply = GFS__SET_VERSION_REPLY__INIT;

    assert_int_equal(request->peer_role, GFS_ROLE_MASTER);
    atomic_fetch_add(&t.called_back, 1);
    rpc_reply(request, &reply.base, NULL);
}

static inline void on_close(void *arg, struct rpc_conn *conn)
{
    atomic_fetch_add(&t.closes, 1);
}

static inline void start_server(const char *addr, const struct rpc_limits *limits)
{
    struct rpc_events events = {.on_request = on_request, .on_close = on_close};

    assert_int_equal(rpc_server_new(addr, t.loops, 2, &server_identity, limits, &events, &t.server),
                     GFS_OK);
}

static inline void start_client(const struct rpc_identity *identity,
                                const struct rpc_limits *limits)
{
    struct rpc_events events = {.on_request = on_request_to_chunkserver};

    assert_int_equal(rpc_client_new(t.client_loop, identity, limits, &events, &t.client), GFS_OK);
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

static inline void on_done(void *arg, const struct rpc_answer *answer)
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

static inline void result_init(struct result *result)
{
    memset(result, 0, sizeof(*result));
    sem_init(&result->done, 0, 0);
}

static inline void begin(struct result *result, const char *addr, struct rpc_call_args *args)
{
    result_init(result);
    args->done = on_done;
    args->arg = result;
    rpc_client_call(t.client, addr, args);
}

static inline enum gfs_err finish(struct result *result)
{
    sem_wait(&result->done);
    assert_int_equal(atomic_load(&result->calls), 1);
    return result->err;
}

static inline enum gfs_err call(struct result *result, struct rpc_call_args *args)
{
    begin(result, rpc_server_addr(t.server), args);
    return finish(result);
}

static inline struct rpc_call_args read_args(Gfs__ReadRequest *msg, uint32_t length)
{
    gfs__read_request__init(msg);
    msg->length = length;
    return (struct rpc_call_args){.type = GFS_MSG_READ, .msg = &msg->base};
}

static inline struct rpc_call_args write_args(void)
{
    static const Gfs__WriteRequest msg = GFS__WRITE_REQUEST__INIT;

    return (struct rpc_call_args){.type = GFS_MSG_WRITE, .msg = &msg.base};
}

static inline struct rpc_call_args ping_args(void)
{
    static const Gfs__Ping msg = GFS__PING__INIT;

    return (struct rpc_call_args){.type = GFS_MSG_PING, .msg = &msg.base};
}

#define RPC_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
