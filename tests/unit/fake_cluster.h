/*
 * A cluster of fakes in the test's process: one master and three chunkservers in memory, all on one
 * loop, that fail in the ways they are told to. One file, /f. For one test program to include.
 */
#ifndef TESTS_FAKE_CLUSTER_H
#define TESTS_FAKE_CLUSTER_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "chunk.pb-c.h"
#include "client/block_crc.h"
#include "gfs.h"
#include "master.pb-c.h"
#include "rpc.h"
#include "rpc.pb-c.h"

#define SERVERS     3
#define MASTER      SERVERS /* its number among the fakes */
#define CHUNKS      64
#define CHUNK_BYTES (1u << 20)
#define PUSHES      256
#define INODE       5

struct fake_chunk {
    uint64_t handle;
    uint32_t version;
    uint32_t committed;
    bool member[SERVERS];
    uint32_t length[SERVERS];
    uint8_t *data[SERVERS];
};

struct fake_push {
    uint8_t id[16];
    uint8_t *data;
};

/* The next `times` requests of the type at the server end in err; TIMEOUT: they get no answer. */
struct fault {
    int server; /* -1: any */
    enum gfs_msg type;
    int skip, times;
    enum gfs_err err;
    int names; /* server whose address the error tells, -1: none */
};

struct fake {
    struct loop *loop;
    struct rpc_server *servers[SERVERS + 1];
    char addrs[SERVERS + 1][ADDR_TEXT_MAX_BYTES];
    struct gfs *fs;

    pthread_mutex_t lock; /* of the rest */
    uint64_t next_handle;
    struct fake_chunk chunks[CHUNKS];
    struct fake_push pushes[PUSHES];
    size_t next_push;
    struct fault faults[4];
    bool dead[SERVERS + 1];
    bool flip[SERVERS]; /* one bit of every read */
    bool exists, published, abandoned;
    uint64_t size;
    int reports, leases, commits;
    struct rpc_request *held[64];
    size_t held_count;
};

struct fake_end {
    int server;
};
static struct fake fake;
static struct fake_end ends[SERVERS + 1];

/* ---- master -------------------------------------------------------------------------------- */

static void fill_attr(Gfs__Attr *attr)
{
    gfs__attr__init(attr);
    attr->inode = INODE;
    attr->type = GFS__FILE_TYPE__FILE_REGULAR;
    attr->length = fake.size;
    attr->goal = 3;
    attr->chunk_size = CHUNK_BYTES;
}

static uint8_t ids[SERVERS][GFS_UUID_BYTES] = {{1}, {2}, {3}};

static size_t fill_replicas(const struct fake_chunk *chunk, Gfs__Replica *replicas,
                            Gfs__Replica **list)
{
    size_t count = 0;
    for (int i = 0; i < SERVERS; i++) {
        if (!chunk->member[i])
            continue;
        gfs__replica__init(&replicas[count]);
        replicas[count].server = (ProtobufCBinaryData){.len = 16, .data = ids[i]};
        replicas[count].addr = fake.addrs[i];
        list[count] = &replicas[count];
        count++;
    }
    return count;
}

static void on_lookup(struct rpc_request *request)
{
    Gfs__LookupReply reply = GFS__LOOKUP_REPLY__INIT;
    Gfs__Attr attr;
    fill_attr(&attr);
    reply.attr = &attr;
    if (fake.exists && fake.published)
        rpc_reply(request, &reply.base, NULL);
    else
        rpc_reply_error(request, GFS_ERR_NOT_FOUND, 0, NULL);
}

static void on_create(struct rpc_request *request)
{
    const Gfs__CreateRequest *msg = (const void *)request->msg;
    Gfs__CreateReply reply = GFS__CREATE_REPLY__INIT;
    Gfs__Attr attr;
    reply.created = !fake.exists;
    if (!fake.exists) {
        fake.exists = true;
        fake.published = !msg->anonymous;
        fake.size = 0;
    }
    fill_attr(&attr);
    reply.attr = &attr;
    rpc_reply(request, &reply.base, NULL);
}

static void on_lease(struct rpc_request *request)
{
    const Gfs__LeaseRequest *msg = (const void *)request->msg;
    struct fake_chunk *chunk = &fake.chunks[msg->index];
    fake.leases++;
    if (chunk->handle == 0) {
        chunk->handle = ++fake.next_handle;
        chunk->version = 1;
        for (int i = 0; i < SERVERS; i++)
            chunk->member[i] = !fake.dead[i];
    }
    if (msg->n_failed > 0 && msg->failed_version == chunk->version) {
        chunk->version++;
        for (size_t f = 0; f < msg->n_failed; f++)
            chunk->member[msg->failed[f].data[0] - 1] = false;
    }
    Gfs__LeaseReply reply = GFS__LEASE_REPLY__INIT;
    Gfs__Lease lease = GFS__LEASE__INIT;
    Gfs__Replica replicas[SERVERS];
    Gfs__Replica *list[SERVERS];
    lease.handle = chunk->handle;
    lease.version = chunk->version;
    lease.index = msg->index;
    lease.chunk_size = CHUNK_BYTES;
    lease.remaining_ms = 15000;
    lease.replicas = list;
    lease.n_replicas = fill_replicas(chunk, replicas, list);
    reply.lease = &lease;
    if (lease.n_replicas > 0)
        rpc_reply(request, &reply.base, NULL);
    else
        rpc_reply_error(request, GFS_ERR_NO_REPLICA, 0, NULL);
}

static enum gfs_err commit(const Gfs__CommitRequest *msg)
{
    fake.commits++;
    for (size_t i = 0; i < msg->n_chunks; i++)
        if (fake.chunks[msg->chunks[i]->index].version != msg->chunks[i]->version)
            return GFS_ERR_STALE_VERSION;
    for (size_t i = 0; i < msg->n_chunks; i++) {
        struct fake_chunk *chunk = &fake.chunks[msg->chunks[i]->index];
        if (msg->chunks[i]->length > chunk->committed)
            chunk->committed = msg->chunks[i]->length;
    }
    if (msg->length > fake.size)
        fake.size = msg->length;
    return GFS_OK;
}

static void on_commit(struct rpc_request *request)
{
    Gfs__EmptyReply reply = GFS__EMPTY_REPLY__INIT;
    enum gfs_err err = commit((const void *)request->msg);
    if (err == GFS_OK)
        rpc_reply(request, &reply.base, NULL);
    else
        rpc_reply_error(request, err, 0, NULL);
}

static void on_publish(struct rpc_request *request)
{
    const Gfs__PublishRequest *msg = (const void *)request->msg;
    Gfs__PublishReply reply = GFS__PUBLISH_REPLY__INIT;
    Gfs__Attr attr;
    enum gfs_err err = commit(msg->commit);
    fill_attr(&attr);
    reply.attr = &attr;
    if (err == GFS_OK) {
        fake.published = true;
        rpc_reply(request, &reply.base, NULL);
    } else {
        rpc_reply_error(request, err, 0, NULL);
    }
}

static void on_chunks(struct rpc_request *request)
{
    const Gfs__ChunksRequest *msg = (const void *)request->msg;
    Gfs__ChunksReply reply = GFS__CHUNKS_REPLY__INIT;
    Gfs__Attr attr;
    Gfs__ChunkInfo infos[CHUNKS];
    Gfs__ChunkInfo *list[CHUNKS];
    Gfs__Replica replicas[CHUNKS][SERVERS];
    Gfs__Replica *replica_lists[CHUNKS][SERVERS];
    fill_attr(&attr);
    reply.attr = &attr;
    reply.chunks = list;
    for (uint32_t i = msg->first; i < CHUNKS && reply.n_chunks < msg->limit; i++) {
        if ((uint64_t)i * CHUNK_BYTES >= fake.size && fake.chunks[i].handle == 0)
            break;
        Gfs__ChunkInfo *info = list[reply.n_chunks] = &infos[reply.n_chunks];
        gfs__chunk_info__init(info);
        info->index = i;
        info->handle = fake.chunks[i].handle;
        info->version = fake.chunks[i].version;
        info->length = fake.chunks[i].committed;
        info->replicas = replica_lists[reply.n_chunks];
        info->n_replicas = fill_replicas(&fake.chunks[i], replicas[reply.n_chunks], info->replicas);
        reply.n_chunks++;
    }
    rpc_reply(request, &reply.base, NULL);
}

static void on_empty(struct rpc_request *request)
{
    Gfs__EmptyReply reply = GFS__EMPTY_REPLY__INIT;
    fake.reports += request->type == GFS_MSG_REPORT_BAD;
    fake.abandoned |= request->type == GFS_MSG_ABANDON;
    rpc_reply(request, &reply.base, NULL);
}

/* ---- chunkservers -------------------------------------------------------------------------- */

static uint8_t *pushed(const ProtobufCBinaryData *id, bool make)
{
    for (size_t i = 0; i < PUSHES; i++)
        if (fake.pushes[i].data != NULL && memcmp(fake.pushes[i].id, id->data, 16) == 0)
            return fake.pushes[i].data;
    if (!make)
        return NULL;
    struct fake_push *push = &fake.pushes[fake.next_push++ % PUSHES];
    if (push->data == NULL)
        push->data = malloc(CHUNK_BYTES);
    memcpy(push->id, id->data, 16);
    return push->data;
}

static void on_push(struct rpc_request *request)
{
    const Gfs__PushRequest *msg = (const void *)request->msg;
    Gfs__EmptyReply reply = GFS__EMPTY_REPLY__INIT;
    uint32_t at = GFS_BLOCK_SIZE_BYTES - msg->first_block_bytes + msg->offset;
    if (msg->total_length > CHUNK_BYTES ||
        msg->offset + request->payload->len_bytes > msg->total_length ||
        block_crc_verify(request->payload->data, at, (uint32_t)request->payload->len_bytes,
                         msg->crcs, msg->n_crcs) != GFS_OK) {
        rpc_reply_error(request, GFS_ERR_INVAL, 0, "bad push");
        return;
    }
    memcpy(pushed(&msg->data_id, true) + msg->offset, request->payload->data,
           request->payload->len_bytes);
    rpc_reply(request, &reply.base, NULL);
}

static struct fake_chunk *chunk_of(uint64_t handle)
{
    for (int i = 0; i < CHUNKS; i++)
        if (handle != 0 && fake.chunks[i].handle == handle)
            return &fake.chunks[i];
    return NULL;
}

static void apply(struct fake_chunk *chunk, int server, const Gfs__WriteRequest *msg,
                  const uint8_t *data)
{
    if (chunk->data[server] == NULL)
        chunk->data[server] = calloc(1, CHUNK_BYTES);
    memcpy(chunk->data[server] + msg->offset, data, msg->length);
    if (msg->offset + msg->length > chunk->length[server])
        chunk->length[server] = msg->offset + msg->length;
}

/* Data that came with the order. */
static bool take_inline(struct rpc_request *request, const Gfs__WriteRequest *msg)
{
    if (request->payload == NULL)
        return true;
    uint32_t at = GFS_BLOCK_SIZE_BYTES - msg->first_block_bytes;
    if (request->payload->len_bytes != msg->length || msg->length > GFS_WRITE_INLINE_MAX_BYTES ||
        block_crc_verify(request->payload->data, at, msg->length, msg->crcs, msg->n_crcs) != GFS_OK)
        return false;
    memcpy(pushed(&msg->data_id, true), request->payload->data, msg->length);
    return true;
}

static void on_write(int server, struct rpc_request *request)
{
    const Gfs__WriteRequest *msg = (const void *)request->msg;
    struct fake_chunk *chunk = chunk_of(msg->handle);
    if (!take_inline(request, msg)) {
        rpc_reply_error(request, GFS_ERR_INVAL, 0, "bad data");
        return;
    }
    const uint8_t *data = pushed(&msg->data_id, false);
    char detail[RPC_DETAIL_MAX_BYTES] = "";
    enum gfs_err err = GFS_OK;
    int primary = 0;
    while (chunk != NULL && primary < SERVERS && !chunk->member[primary])
        primary++;
    if (chunk == NULL || msg->version != chunk->version)
        err = GFS_ERR_STALE_VERSION;
    else if (primary != server)
        err = GFS_ERR_NO_LEASE;
    else if (data == NULL)
        err = GFS_ERR_NO_DATA;
    for (int i = 0; err == GFS_OK && i < SERVERS; i++) {
        if (chunk->member[i] && fake.dead[i]) {
            err = GFS_ERR_REPLICA_FAILED;
            snprintf(detail, sizeof(detail), "%s: CONN", fake.addrs[i]);
        } else if (chunk->member[i]) {
            apply(chunk, i, msg, data);
        }
    }
    Gfs__WriteReply reply = GFS__WRITE_REPLY__INIT;
    if (err == GFS_OK)
        rpc_reply(request, &reply.base, NULL);
    else
        rpc_reply_error(request, err, 0, detail);
}

static void on_read(int server, struct rpc_request *request)
{
    const Gfs__ReadRequest *msg = (const void *)request->msg;
    struct fake_chunk *chunk = chunk_of(msg->handle);
    if (chunk == NULL || !chunk->member[server] || chunk->data[server] == NULL) {
        rpc_reply_error(request, GFS_ERR_NO_CHUNK, 0, NULL);
        return;
    }
    if (msg->offset + msg->length > chunk->length[server]) {
        rpc_reply_error(request, GFS_ERR_SHORT, 0, NULL);
        return;
    }
    uint8_t *copy = malloc(msg->length);
    memcpy(copy, chunk->data[server] + msg->offset, msg->length);
    uint32_t crcs[BLOCK_CRC_MAX];
    Gfs__ReadReply reply = GFS__READ_REPLY__INIT;
    reply.version = chunk->version;
    reply.crcs = crcs;
    reply.n_crcs = block_crc_make(copy, msg->offset, msg->length, crcs);
    copy[msg->length / 2] ^= fake.flip[server] ? 1 : 0;
    struct rpc_piece piece = {.data = copy, .len_bytes = msg->length};
    struct rpc_payload payload = {.pieces = &piece, .piece_count = 1, .release = free, .arg = copy};
    rpc_reply(request, &reply.base, &payload);
}

/* ---- dispatch ------------------------------------------------------------------------------ */

static bool fault_hits(int server, struct rpc_request *request)
{
    for (size_t i = 0; i < sizeof(fake.faults) / sizeof(fake.faults[0]); i++) {
        struct fault *fault = &fake.faults[i];
        if (fault->times == 0 || fault->type != request->type ||
            (fault->server != -1 && fault->server != server))
            continue;
        if (fault->skip > 0) {
            fault->skip--;
            continue;
        }
        fault->times--;
        if (fault->err == GFS_ERR_TIMEOUT && fake.held_count < 64)
            fake.held[fake.held_count++] = request;
        else
            rpc_reply_error(request, fault->err, 0,
                            fault->names >= 0 ? fake.addrs[fault->names] : NULL);
        return true;
    }
    return false;
}

static void serve(int server, struct rpc_request *request)
{
    switch (request->type) {
    case GFS_MSG_LOOKUP:
        on_lookup(request);
        break;
    case GFS_MSG_CREATE:
        on_create(request);
        break;
    case GFS_MSG_LEASE:
        on_lease(request);
        break;
    case GFS_MSG_COMMIT:
        on_commit(request);
        break;
    case GFS_MSG_PUBLISH:
        on_publish(request);
        break;
    case GFS_MSG_CHUNKS:
        on_chunks(request);
        break;
    case GFS_MSG_PUSH:
        on_push(request);
        break;
    case GFS_MSG_WRITE:
        on_write(server, request);
        break;
    case GFS_MSG_READ:
        on_read(server, request);
        break;
    default:
        on_empty(request);
    }
}

static void on_request(void *arg, struct rpc_request *request)
{
    struct fake_end *end = arg;
    pthread_mutex_lock(&fake.lock);
    if (!fault_hits(end->server, request))
        serve(end->server, request);
    pthread_mutex_unlock(&fake.lock);
}

static void start(int server, const char *listen)
{
    struct rpc_identity identity = {.role =
                                        server == MASTER ? GFS_ROLE_MASTER : GFS_ROLE_CHUNKSERVER,
                                    .peer_id = {9}};
    ends[server] = (struct fake_end){.server = server};
    struct rpc_events events = {.on_request = on_request, .arg = &ends[server]};
    assert_int_equal(rpc_server_new(listen, &fake.loop, 1, &identity, NULL, &events,
                                    &fake.servers[server]),
                     GFS_OK);
    snprintf(fake.addrs[server], ADDR_TEXT_MAX_BYTES, "%s", rpc_server_addr(fake.servers[server]));
}

static void stop(int server)
{
    pthread_mutex_lock(&fake.lock);
    fake.dead[server] = true;
    pthread_mutex_unlock(&fake.lock);
    rpc_server_free(fake.servers[server]);
    fake.servers[server] = NULL;
}

static int set_up(void **state)
{
    memset(&fake, 0, sizeof(fake));
    pthread_mutex_init(&fake.lock, NULL);
    assert_int_equal(loop_new("fake", &fake.loop), GFS_OK);
    assert_int_equal(loop_start(fake.loop), GFS_OK);
    for (int i = 0; i <= MASTER; i++)
        start(i, "127.0.0.1:0");
    struct gfs_options opts = {.timeout_ms = 10000,
                               .server_timeout_ms = 300,
                               .write_window = 4,
                               .read_window = 3,
                               .request_bytes = 256u << 10};
    assert_int_equal(gfs_connect(fake.addrs[MASTER], &opts, &fake.fs), GFS_OK);
    return 0;
}

static int tear_down(void **state)
{
    gfs_disconnect(fake.fs);
    for (size_t i = 0; i < fake.held_count; i++)
        rpc_reply_error(fake.held[i], GFS_ERR_TIMEOUT, 0, NULL);
    for (int i = 0; i <= MASTER; i++)
        rpc_server_free(fake.servers[i]);
    loop_free(fake.loop);
    for (int i = 0; i < CHUNKS; i++)
        for (int k = 0; k < SERVERS; k++)
            free(fake.chunks[i].data[k]);
    for (int i = 0; i < PUSHES; i++)
        free(fake.pushes[i].data);
    return 0;
}

#endif
