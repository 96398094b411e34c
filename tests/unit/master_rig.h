/*
 * The master's service with its database, on a loop of its own, and chunkservers that are fakes:
 * they keep of a chunk its version, length and serial. For one test program to include.
 */
#ifndef TESTS_UNIT_MASTER_RIG_H
#define TESTS_UNIT_MASTER_RIG_H

#include "namespace_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>

#include "master/journal.h"
#include "master/service_op.h"
#include "rpc.pb-c.h"

#include "chunk.pb-c.h"
#include "control.pb-c.h"
#include "master.pb-c.h"

#define RIG_SERVERS 3
#define RIG_CHUNKS  64
#define RIG_AGE_MS  600000u /* of the service: leases from before its start are over */

struct rig_chunk {
    uint64_t handle; /* 0: free */
    uint32_t version;
    uint32_t length;
    uint64_t serial;
};

struct rig_server {
    struct rpc_client *rpc;
    uint8_t id[GFS_UUID_BYTES];
    struct rig_chunk chunks[RIG_CHUNKS];
    int copies, raises, grants;
    enum gfs_err copy_err; /* OK: none */
    bool holds_raises;     /* keeps SET_VERSION waiting */
    struct rpc_request *held[RIG_CHUNKS];
    size_t held_count;
};

struct rig {
    struct fixture fx;
    struct master_options options;
    struct loop *loop, *client_loop;
    struct journal *journal;
    struct journal_backend backend;
    pthread_mutex_t disk; /* held: nothing becomes durable */
    struct service *service;
    struct rpc_server *net;
    struct rpc_client *client, *other; /* of two connections */
    pthread_mutex_t lock;              /* of the servers */
    struct rig_server servers[RIG_SERVERS];
};

static struct rig rig;

/* ---- calls ---------------------------------------------------------------------------------- */

struct rig_answer {
    sem_t done;
    enum gfs_err err;
    char detail[160];
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
};

static void rig_answered(void *arg, const struct rpc_answer *answer)
{
    struct rig_answer *mine = arg;
    mine->err = answer->err;
    snprintf(mine->detail, sizeof(mine->detail), "%s", answer->detail);
    if (answer->err == GFS_OK) {
        size_t bytes = protobuf_c_message_get_packed_size(answer->msg);
        uint8_t *packed = malloc(bytes + 1);
        protobuf_c_message_pack(answer->msg, packed);
        mine->msg = protobuf_c_message_unpack(answer->msg->descriptor, NULL, bytes, packed);
        free(packed);
    }
    sem_post(&mine->done);
}

static void rig_begin(struct rpc_client *from, enum gfs_msg type, const void *msg,
                      struct rig_answer *answer)
{
    *answer = (struct rig_answer){.err = GFS_OK};
    sem_init(&answer->done, 0, 0);
    struct rpc_call_args args = {
        .type = type, .msg = msg, .timeout_ms = 15000, .done = rig_answered, .arg = answer};
    rpc_client_call(from, rpc_server_addr(rig.net), &args);
}

static enum gfs_err rig_end(struct rig_answer *answer)
{
    while (sem_wait(&answer->done) != 0) {
    }
    sem_destroy(&answer->done);
    return answer->err;
}

static void rig_free_msg(struct rig_answer *answer)
{
    if (answer->msg != NULL) {
        protobuf_c_message_free_unpacked(answer->msg, NULL);
    }
}

static enum gfs_err rig_call(enum gfs_msg type, const void *msg, struct rig_answer *ret_answer)
{
    rig_begin(rig.client, type, msg, ret_answer);
    return rig_end(ret_answer);
}

/* Without a use for the reply. */
static enum gfs_err rig_do(enum gfs_msg type, const void *msg)
{
    struct rig_answer answer;
    enum gfs_err err = rig_call(type, msg, &answer);
    rig_free_msg(&answer);
    return err;
}

static ProtobufCBinaryData rig_bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* ---- chunkservers --------------------------------------------------------------------------- */

static struct rig_chunk *rig_find(struct rig_server *server, uint64_t handle)
{
    for (size_t i = 0; i < RIG_CHUNKS; i++) {
        if (server->chunks[i].handle == handle) {
            return &server->chunks[i];
        }
    }
    return NULL;
}

static struct rig_chunk *rig_add(struct rig_server *server, uint64_t handle, uint32_t version)
{
    struct rig_chunk *chunk = rig_find(server, handle);
    chunk = chunk != NULL ? chunk : rig_find(server, 0);
    assert_non_null(chunk);
    *chunk = (struct rig_chunk){.handle = handle, .version = version};
    return chunk;
}

static void rig_set_version(struct rig_server *server, struct rpc_request *request)
{
    const Gfs__SetVersionRequest *msg = (const void *)request->msg;
    Gfs__SetVersionReply reply = GFS__SET_VERSION_REPLY__INIT;
    struct rig_chunk *chunk = rig_find(server, msg->handle);
    server->raises++;
    if (chunk == NULL && msg->create) {
        chunk = rig_add(server, msg->handle, msg->version);
    }
    if (chunk == NULL || chunk->version > msg->version || chunk->version < msg->from_version) {
        rpc_reply_error(request, chunk == NULL ? GFS_ERR_NO_CHUNK : GFS_ERR_STALE_VERSION, 0, NULL);
        return;
    }
    chunk->version = msg->version;
    if (msg->truncate && chunk->length > msg->length) {
        chunk->length = msg->length;
    }
    reply.length = chunk->length;
    reply.serial = chunk->serial;
    rpc_reply(request, &reply.base, NULL);
}

static void rig_copy(struct rig_server *server, struct rpc_request *request)
{
    const Gfs__CopyChunkRequest *msg = (const void *)request->msg;
    Gfs__CopyChunkReply reply = GFS__COPY_CHUNK_REPLY__INIT;
    const struct rig_chunk *from = rig_find(server, msg->handle);
    server->copies++;
    enum gfs_err err = server->copy_err;
    if (err == GFS_OK) {
        err = from == NULL                    ? GFS_ERR_NO_CHUNK
              : from->version != msg->version ? GFS_ERR_STALE_VERSION
                                              : GFS_OK;
    }
    if (err != GFS_OK) {
        rpc_reply_error(request, err, 0, NULL);
        return;
    }
    struct rig_chunk *to = rig_add(server, msg->to_handle, msg->to_version);
    to->length = from->length;
    to->serial = from->serial;
    reply.length = to->length;
    reply.serial = to->serial;
    rpc_reply(request, &reply.base, NULL);
}

static void rig_sync(struct rig_server *server, struct rpc_request *request)
{
    const Gfs__SyncChunkRequest *msg = (const void *)request->msg;
    Gfs__SyncChunkReply reply = GFS__SYNC_CHUNK_REPLY__INIT;
    unsigned source = (unsigned)(strrchr(msg->source, ':')[1 + 3] - '1'); /* 127.0.0.1:100N */
    struct rig_chunk *to = rig_find(server, msg->handle);
    const struct rig_chunk *from = rig_find(&rig.servers[source], msg->handle);
    if (to == NULL || from == NULL || to->version != msg->version) {
        rpc_reply_error(request, GFS_ERR_NO_CHUNK, 0, NULL);
        return;
    }
    to->serial = from->serial;
    to->length = from->length;
    reply.serial = to->serial;
    reply.length = to->length;
    rpc_reply(request, &reply.base, NULL);
}

static void rig_on_request(void *arg, struct rpc_request *request)
{
    static const Gfs__EmptyReply empty = GFS__EMPTY_REPLY__INIT;
    struct rig_server *server = arg;
    const Gfs__GrantLeaseRequest *grant;
    pthread_mutex_lock(&rig.lock);
    switch (request->type) {
    case GFS_MSG_SET_VERSION:
        if (server->holds_raises) {
            server->held[server->held_count++] = request;
        } else {
            rig_set_version(server, request);
        }
        break;
    case GFS_MSG_COPY_CHUNK:
        rig_copy(server, request);
        break;
    case GFS_MSG_SYNC_CHUNK:
        rig_sync(server, request);
        break;
    case GFS_MSG_GRANT_LEASE:
        server->grants++;
        grant = (const void *)request->msg;
        if (!grant->revoke && grant->chunk_size != GFS_CHUNK_SIZE_MIN_BYTES) {
            abort(); /* not the test's thread: no assert */
        }
        rpc_reply(request, &empty.base, NULL);
        break;
    default:
        rpc_reply(request, &empty.base, NULL);
    }
    pthread_mutex_unlock(&rig.lock);
}

static void rig_hold_raises(bool holds)
{
    pthread_mutex_lock(&rig.lock);
    for (size_t i = 0; i < RIG_SERVERS; i++) {
        struct rig_server *server = &rig.servers[i];
        server->holds_raises = holds;
        while (!holds && server->held_count > 0) {
            rig_set_version(server, server->held[--server->held_count]);
        }
    }
    pthread_mutex_unlock(&rig.lock);
}

/* A client's write, which every member must take: false when one is at another version. */
static bool rig_write(const Gfs__Lease *lease, uint32_t length)
{
    bool taken = true;
    pthread_mutex_lock(&rig.lock);
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < lease->n_replicas && taken; i++) {
            struct rig_server *server = &rig.servers[lease->replicas[i]->server.data[0] - 1];
            struct rig_chunk *chunk = rig_find(server, lease->handle);
            if (chunk == NULL && lease->version == 1) {
                chunk = rig_add(server, lease->handle, 1);
            }
            taken = chunk != NULL && chunk->version == lease->version;
            if (taken && pass == 1) {
                chunk->length = length > chunk->length ? length : chunk->length;
                chunk->serial = (uint64_t)chunk->version << 32 | ((uint32_t)chunk->serial + 1);
            }
        }
    }
    pthread_mutex_unlock(&rig.lock);
    return taken;
}

static void rig_register(struct rig_server *server, uint8_t number)
{
    struct rpc_identity identity = {.role = GFS_ROLE_CHUNKSERVER};
    struct rpc_events events = {.on_request = rig_on_request, .arg = server};
    char addr[32];
    char rack[] = "r";
    server->id[0] = number;
    identity.peer_id[0] = number;
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", 1000u + number);
    assert_int_equal(rpc_client_new(rig.client_loop, &identity, NULL, &events, &server->rpc),
                     GFS_OK);
    Gfs__RegisterRequest msg = GFS__REGISTER_REQUEST__INIT;
    msg.server_id = (ProtobufCBinaryData){GFS_UUID_BYTES, server->id};
    msg.addr = addr;
    msg.rack = rack;
    msg.version = rack;
    msg.capacity_bytes = 1ull << 40;
    struct rig_answer answer;
    rig_begin(server->rpc, GFS_MSG_REGISTER, &msg, &answer);
    assert_int_equal(rig_end(&answer), GFS_OK);
    rig_free_msg(&answer);
    Gfs__ChunkReportRequest report = GFS__CHUNK_REPORT_REQUEST__INIT;
    report.last = UINT64_MAX;
    rig_begin(server->rpc, GFS_MSG_CHUNK_REPORT, &report, &answer);
    assert_int_equal(rig_end(&answer), GFS_OK);
    rig_free_msg(&answer);
}

/* ---- life ----------------------------------------------------------------------------------- */

static enum gfs_err rig_commit(void *arg, const struct changes *const *list, size_t count)
{
    pthread_mutex_lock(&rig.disk);
    enum gfs_err err = rig.backend.commit(rig.backend.arg, list, count);
    pthread_mutex_unlock(&rig.disk);
    return err;
}

static void rig_set_options(struct master_options *options)
{
    options->goal = RIG_SERVERS;
    options->chunk_size = GFS_CHUNK_SIZE_MIN_BYTES;
    options->lease_ms = 60000;
    options->min_replicas = 2;
    options->heartbeat_ms = 60000;
    options->dead_missed = 10;
    options->set_version_timeout_ms = 3000;
    options->sync_timeout_ms = 3000;
    options->lease_margin_ms = 1500;
    options->startup_wait_ms = 0;
    options->anonymous_ttl_s = 3600;
    options->collect_delay_s = 30;
    options->collect_quarantine_s = 60;
    options->ops_max = 1000;
    options->conn_max = 64;
}

struct rig_task {
    struct loop_task task;
    void (*fn)(void);
    sem_t done;
};

static void rig_run_task(struct loop_task *task)
{
    struct rig_task *mine = (struct rig_task *)task;
    mine->fn();
    sem_post(&mine->done);
}

/* On the master's loop. */
static void rig_on_loop(void (*fn)(void))
{
    struct rig_task task = {.task.fn = rig_run_task, .fn = fn};
    sem_init(&task.done, 0, 0);
    loop_post(rig.loop, &task.task);
    while (sem_wait(&task.done) != 0) {
    }
    sem_destroy(&task.done);
}

/* The servers registered long ago. */
static void rig_age_servers(void)
{
    memset(rig.service->down_ms, 0, sizeof(rig.service->down_ms));
}

static int rig_setup(void **state)
{
    rig = (struct rig){.lock = PTHREAD_MUTEX_INITIALIZER, .disk = PTHREAD_MUTEX_INITIALIZER};
    struct journal_backend backend = {.commit = rig_commit};
    fixture_open(&rig.fx);
    rig_set_options(&rig.options);
    assert_int_equal(loop_new("master", &rig.loop), GFS_OK);
    assert_int_equal(loop_new("client", &rig.client_loop), GFS_OK);
    rig.backend = journal_backend_kv(rig.fx.kv);
    assert_int_equal(journal_new(rig.loop, &backend, NULL, NULL, NULL, &rig.journal), GFS_OK);
    struct service_parts parts = {
        .options = &rig.options,
        .loop = rig.loop,
        .ns = rig.fx.ns,
        .window = rig.fx.window,
        .journal = rig.journal,
        .random_seed = 7,
        .epoch = 1,
        .data_dir = rig.fx.path,
    };
    assert_int_equal(service_new(&parts, &rig.service), GFS_OK);
    rig.service->started_ms -= RIG_AGE_MS;
    struct rpc_identity identity = {.role = GFS_ROLE_MASTER};
    struct rpc_events events = {.on_request = service_on_request,
                                .on_close = service_on_close,
                                .arg = rig.service};
    assert_int_equal(rpc_server_new("127.0.0.1:0", &rig.loop, 1, &identity, NULL, &events,
                                    &rig.net),
                     GFS_OK);
    assert_int_equal(loop_start(rig.loop), GFS_OK);
    assert_int_equal(loop_start(rig.client_loop), GFS_OK);
    struct rpc_identity client = {.role = GFS_ROLE_CLIENT};
    struct rpc_events none = {.on_request = rig_on_request};
    assert_int_equal(rpc_client_new(rig.client_loop, &client, NULL, &none, &rig.client), GFS_OK);
    assert_int_equal(rpc_client_new(rig.client_loop, &client, NULL, &none, &rig.other), GFS_OK);
    for (uint8_t i = 0; i < RIG_SERVERS; i++) {
        rig_register(&rig.servers[i], i + 1);
    }
    rig_on_loop(rig_age_servers);
    return 0;
}

static void rig_stop_service(void)
{
    service_stop(rig.service);
}

static void rig_free_journal(void)
{
    journal_free(rig.journal);
}

static int rig_teardown(void **state)
{
    (void)pthread_mutex_trylock(&rig.disk); /* a test that failed may hold it */
    pthread_mutex_unlock(&rig.disk);
    rig_hold_raises(false);
    rig_on_loop(rig_stop_service);
    rpc_client_free(rig.client);
    rpc_client_free(rig.other);
    for (size_t i = 0; i < RIG_SERVERS; i++) {
        rpc_client_free(rig.servers[i].rpc);
    }
    loop_free(rig.client_loop);
    rpc_server_free(rig.net);
    rig_on_loop(rig_free_journal);
    loop_free(rig.loop);
    service_free(rig.service);
    fixture_close(&rig.fx);
    return 0;
}

#endif
