/*
 * The calls a writer makes on behalf of its window, and whom to blame when one fails.
 *
 * A server is blamed when it cannot be reached, when it says itself that it cannot go on, or when
 * another one names it, by address or id, in the text of its error (see chunk.proto). Silence names
 * nobody, since the server behind the one we asked may be the silent one: then the window has all
 * of them probed.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.pb-c.h"
#include "daemon.h"
#include "rpc.pb-c.h"
#include "writer.h"

/* A part of a push: forwarded along the chain while the next one comes in. */
#define PUSH_PART_BYTES  (256u << 10)
#define LEASE_TIMEOUT_MS 10000u
#define PROBE_TIMEOUT_MS 1500u

/* ---- blame --------------------------------------------------------------------------------- */

/* Whether the text holds the word, and not within a longer number or name. */
static bool text_names(const char *text, const char *word)
{
    size_t word_bytes = strlen(word);
    for (const char *at = strstr(text, word); at != NULL && word_bytes > 0;
         at = strstr(at + 1, word)) {
        unsigned char before = at == text ? ' ' : (unsigned char)at[-1];
        unsigned char after = (unsigned char)at[word_bytes];
        if (!isalnum(before) && before != '.' && !isalnum(after))
            return true;
    }
    return false;
}

static uint32_t blame_named(const struct write_lease *lease, const char *detail)
{
    uint32_t named = 0;
    for (uint32_t i = 0; i < lease->replica_count; i++) {
        char id[37];
        uuid_format(lease->replicas[i].server, id);
        if (text_names(detail, lease->replicas[i].addr) || text_names(detail, id))
            named |= 1u << i;
    }
    return named;
}

uint32_t writer_blame(const struct write_lease *lease, const struct rpc_answer *answer)
{
    const uint32_t asked = 1; /* the first of the lease is the one we call */
    uint32_t named = blame_named(lease, answer->detail);
    switch (answer->err) {
    case GFS_ERR_CONN:
    case GFS_ERR_NO_SPACE:
    case GFS_ERR_READ_ONLY:
    case GFS_ERR_IO:
    case GFS_ERR_CORRUPT:
    case GFS_ERR_STOPPING:
    case GFS_ERR_STARTING:
        return named != 0 ? named : asked;
    case GFS_ERR_REPLICA_FAILED:
        return named;
    case GFS_ERR_TIMEOUT:
        return named != asked ? named : 0;
    default:
        return 0;
    }
}

/* Lock held. */
static void note_detail(struct writer *writer, const char *what, const char *addr,
                        const struct rpc_answer *answer)
{
    if (answer->err == GFS_OK)
        return;
    snprintf(writer->detail, sizeof(writer->detail), "%s %s: %s%s%s", what, addr,
             gfs_err_text(answer->err), answer->detail[0] != '\0' ? ": " : "", answer->detail);
}

/* ---- push and write ------------------------------------------------------------------------ */

/* One attempt at pushing, or at writing, a mutation. The lease it began under is the chunk's as
 * long as the attempt is the mutation's. */
struct mutation_op {
    struct writer *writer;
    struct writer_mutation *mutation;
    uint32_t attempt;
    uint32_t parts_left;
    struct write_result result; /* the first failure */
    char addr[ADDR_TEXT_MAX_BYTES];
};

static struct mutation_op *op_new(struct writer *writer, struct writer_mutation *mutation)
{
    struct mutation_op *op = calloc(1, sizeof(*op));
    if (op == NULL)
        return NULL;
    op->writer = writer;
    op->mutation = mutation;
    op->attempt = mutation->core.attempt;
    memcpy(op->addr, mutation->core.chunk->lease.replicas[0].addr, sizeof(op->addr));
    writer_ref(writer);
    mutation->refs++;
    return op;
}

static void op_note(struct mutation_op *op, const char *what, const struct rpc_answer *answer)
{
    if (answer->err == GFS_OK || op->result.err != GFS_OK)
        return;
    note_detail(op->writer, what, op->addr, answer);
    op->result.err = answer->err;
    op->result.hint_ms = answer->retry_after_ms;
    if (op->attempt == op->mutation->core.attempt)
        op->result.blamed = writer_blame(&op->mutation->core.chunk->lease, answer);
}

/* Lock held: unlocks. */
static void op_end(struct mutation_op *op)
{
    struct writer *writer = op->writer;
    writer_mutation_unref(op->mutation);
    free(op);
    writer_pump(writer);
    writer_unlock_unref(writer);
}

static void push_done(void *arg, const struct rpc_answer *answer)
{
    struct mutation_op *op = arg;
    struct writer *writer = op->writer;
    pthread_mutex_lock(&writer->lock);
    op_note(op, "push to", answer);
    if (--op->parts_left > 0) {
        pthread_mutex_unlock(&writer->lock);
        return;
    }
    write_window_pushed(&writer->window, &op->mutation->core, op->attempt, &op->result,
                        writer_moment(writer));
    op_end(op);
}

static void push_release(void *arg)
{
    buf_unref(arg);
}

static void push_part(struct mutation_op *op, Gfs__PushRequest *msg, uint32_t part_bytes)
{
    struct writer_mutation *mutation = op->mutation;
    uint32_t chunk_offset = mutation->core.offset_bytes;
    msg->crcs = mutation->crcs + block_crc_count(chunk_offset, msg->offset);
    msg->n_crcs = block_crc_count(chunk_offset + msg->offset, part_bytes);
    struct rpc_piece piece = {.data = mutation->data->data + msg->offset, .len_bytes = part_bytes};
    struct rpc_payload payload = {.pieces = &piece,
                                  .piece_count = 1,
                                  .release = push_release,
                                  .arg = buf_ref(mutation->data)};
    struct rpc_call_args args = {
        .type = GFS_MSG_PUSH,
        .msg = &msg->base,
        .payload = &payload,
        .timeout_ms = op->writer->fs->opts.server_timeout_ms,
        .done = push_done,
        .arg = op,
    };
    rpc_client_call(op->writer->fs->rpc, op->addr, &args);
}

static void fail_no_memory(struct writer *writer)
{
    if (writer->window.err == GFS_OK)
        writer->window.err = GFS_ERR_NO_MEMORY;
}

static uint32_t part_bytes_at(uint32_t chunk_offset, uint32_t left_bytes)
{
    uint32_t bytes = PUSH_PART_BYTES - chunk_offset % PUSH_PART_BYTES;
    return bytes < left_bytes ? bytes : left_bytes;
}

static bool goes_inline(const struct writer_mutation *mutation)
{
    return mutation->core.length_bytes <= GFS_WRITE_INLINE_MAX_BYTES;
}

/* Little data goes with WRITE: nothing is pushed, half the messages are saved. */
static void skip_push(struct writer *writer, struct writer_mutation *mutation)
{
    const struct write_result pushed = {.err = GFS_OK};
    fs_make_id(writer->fs, mutation->id);
    write_window_pushed(&writer->window, &mutation->core, mutation->core.attempt, &pushed,
                        writer_moment(writer));
}

void writer_send_push(struct writer *writer, struct writer_mutation *mutation)
{
    if (goes_inline(mutation)) {
        skip_push(writer, mutation);
        return;
    }
    const struct write_lease *lease = &mutation->core.chunk->lease;
    struct mutation_op *op = op_new(writer, mutation);
    if (op == NULL) {
        fail_no_memory(writer);
        return;
    }
    fs_make_id(writer->fs, mutation->id);
    char *chain[GFS_GOAL_MAX];
    for (uint32_t i = 1; i < lease->replica_count; i++)
        chain[i - 1] = (char *)lease->replicas[i].addr;
    Gfs__PushRequest msg = GFS__PUSH_REQUEST__INIT;
    msg.data_id = (ProtobufCBinaryData){.len = FS_ID_BYTES, .data = mutation->id};
    msg.total_length = mutation->core.length_bytes;
    msg.first_block_bytes =
        GFS_BLOCK_SIZE_BYTES - mutation->core.offset_bytes % GFS_BLOCK_SIZE_BYTES;
    msg.chain = chain;
    msg.n_chain = lease->replica_count - 1;
    uint32_t length_bytes = mutation->core.length_bytes;
    uint32_t offset_bytes = mutation->core.offset_bytes;
    for (uint32_t at = 0; at < length_bytes; op->parts_left++)
        at += part_bytes_at(offset_bytes + at, length_bytes - at);
    /* The answers are taken under the lock, which we hold: op stays while parts are sent. */
    while (msg.offset < length_bytes) {
        uint32_t part_bytes = part_bytes_at(offset_bytes + msg.offset, length_bytes - msg.offset);
        push_part(op, &msg, part_bytes);
        msg.offset += part_bytes;
    }
}

static void write_done(void *arg, const struct rpc_answer *answer)
{
    struct mutation_op *op = arg;
    struct writer *writer = op->writer;
    struct writer_mutation *mutation = op->mutation;
    pthread_mutex_lock(&writer->lock);
    op_note(op, "write to", answer);
    const Gfs__WriteReply *reply =
        answer->err == GFS_OK ? (const Gfs__WriteReply *)answer->msg : NULL;
    if (reply != NULL && reply->n_failed > 0) {
        op->result.err = GFS_ERR_REPLICA_FAILED;
        const struct write_lease *lease = &mutation->core.chunk->lease;
        for (size_t f = 0; f < reply->n_failed && op->attempt == mutation->core.attempt; f++)
            for (uint32_t i = 0; i < lease->replica_count; i++)
                if (reply->failed[f].len == GFS_UUID_BYTES &&
                    memcmp(reply->failed[f].data, lease->replicas[i].server, GFS_UUID_BYTES) == 0)
                    op->result.blamed |= 1u << i;
    }
    if (write_window_written(&writer->window, &mutation->core, op->attempt, &op->result,
                             writer_moment(writer))) {
        writer_mutation_unref(mutation);
        pthread_cond_broadcast(&writer->changed);
    }
    op_end(op);
}

void writer_send_write(struct writer *writer, struct writer_mutation *mutation)
{
    const struct write_chunk *chunk = mutation->core.chunk;
    struct mutation_op *op = op_new(writer, mutation);
    if (op == NULL) {
        fail_no_memory(writer);
        return;
    }
    char *secondaries[GFS_GOAL_MAX];
    for (uint32_t i = 1; i < chunk->lease.replica_count; i++)
        secondaries[i - 1] = (char *)chunk->lease.replicas[i].addr;
    Gfs__WriteRequest msg = GFS__WRITE_REQUEST__INIT;
    msg.handle = chunk->lease.handle;
    msg.version = chunk->lease.version;
    msg.offset = mutation->core.offset_bytes;
    msg.length = mutation->core.length_bytes;
    msg.data_id = (ProtobufCBinaryData){.len = FS_ID_BYTES, .data = mutation->id};
    msg.secondaries = secondaries;
    msg.n_secondaries = chunk->lease.replica_count - 1;
    if (mutation->sequence == 0)
        mutation->sequence = ++writer->sequence;
    msg.producer = writer->producer;
    msg.sequence = mutation->sequence;
    msg.retry = mutation->sent;
    mutation->sent = true;
    struct rpc_piece piece = {.data = mutation->data->data, .len_bytes = msg.length};
    struct rpc_payload payload = {.pieces = &piece, .piece_count = 1, .release = push_release};
    struct rpc_call_args args = {
        .type = GFS_MSG_WRITE,
        .msg = &msg.base,
        .timeout_ms = writer->fs->opts.server_timeout_ms,
        .done = write_done,
        .arg = op,
    };
    if (goes_inline(mutation)) {
        msg.first_block_bytes = GFS_BLOCK_SIZE_BYTES - msg.offset % GFS_BLOCK_SIZE_BYTES;
        msg.crcs = mutation->crcs;
        msg.n_crcs = block_crc_count(msg.offset, msg.length);
        payload.arg = buf_ref(mutation->data);
        args.payload = &payload;
    }
    rpc_client_call(writer->fs->rpc, op->addr, &args);
}

/* ---- lease --------------------------------------------------------------------------------- */

enum gfs_err writer_take_replicas(Gfs__Replica *const *msgs, size_t count,
                                  struct write_lease *ret_lease)
{
    if (count > GFS_GOAL_MAX)
        return GFS_ERR_PROTO;
    for (size_t i = 0; i < count; i++)
        if (msgs[i]->server.len != GFS_UUID_BYTES || strlen(msgs[i]->addr) >= ADDR_TEXT_MAX_BYTES)
            return GFS_ERR_PROTO;
    ret_lease->replica_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        memcpy(ret_lease->replicas[i].server, msgs[i]->server.data, GFS_UUID_BYTES);
        snprintf(ret_lease->replicas[i].addr, ADDR_TEXT_MAX_BYTES, "%s", msgs[i]->addr);
    }
    return GFS_OK;
}

enum gfs_err writer_take_lease(const Gfs__Lease *msg, uint32_t chunk_size_bytes,
                               struct write_lease *ret_lease)
{
    if (msg == NULL || msg->handle == 0 || msg->n_replicas == 0 ||
        msg->chunk_size != chunk_size_bytes)
        return GFS_ERR_PROTO;
    enum gfs_err err = writer_take_replicas(msg->replicas, msg->n_replicas, ret_lease);
    if (err != GFS_OK)
        return err;
    ret_lease->handle = msg->handle;
    ret_lease->version = msg->version;
    ret_lease->cuts = msg->cuts;
    ret_lease->family = msg->family;
    /* A fifth less: the answer was under way for a while, and so will the write be. */
    ret_lease->expires_ms = loop_now_ms() + msg->remaining_ms - msg->remaining_ms / 5;
    return GFS_OK;
}

struct chunk_op {
    struct writer *writer;
    struct write_chunk *chunk;
    /* of a probe */
    uint32_t left;
    uint32_t silent;
    struct probe_call {
        struct chunk_op *op;
        uint32_t replica;
    } calls[GFS_GOAL_MAX];
};

static struct chunk_op *chunk_op_new(struct writer *writer, struct write_chunk *chunk)
{
    struct chunk_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        fail_no_memory(writer);
        return NULL;
    }
    op->writer = writer;
    op->chunk = chunk;
    writer_ref(writer);
    return op;
}

static void lease_done(void *arg, const struct rpc_answer *answer)
{
    struct chunk_op *op = arg;
    struct writer *writer = op->writer;
    struct write_lease lease = {0};
    struct write_result result = {.err = answer->err, .hint_ms = answer->retry_after_ms};
    if (result.err == GFS_OK)
        result.err = writer_take_lease(((const Gfs__LeaseReply *)answer->msg)->lease,
                                       writer->chunk_size_bytes, &lease);
    pthread_mutex_lock(&writer->lock);
    note_detail(writer, "lease from master", writer->fs->master, answer);
    enum gfs_err before = writer->window.err;
    if (result.err == GFS_OK) {
        write_window_leased(&writer->window, op->chunk, &lease, writer_moment(writer));
        if (before == GFS_OK && writer->window.err == GFS_ERR_STALE_VERSION)
            writer_note_lost(writer, writer->window.err);
    } else
        write_window_lease_failed(&writer->window, op->chunk, &result, writer_moment(writer));
    free(op);
    writer_pump(writer);
    writer_unlock_unref(writer);
}

void writer_send_lease(struct writer *writer, struct write_chunk *chunk)
{
    struct chunk_op *op = chunk_op_new(writer, chunk);
    if (op == NULL)
        return;
    ProtobufCBinaryData failed[GFS_GOAL_MAX];
    for (uint32_t i = 0; i < chunk->failed_count; i++)
        failed[i] = (ProtobufCBinaryData){.len = GFS_UUID_BYTES, .data = chunk->failed[i]};
    Gfs__LeaseRequest msg = GFS__LEASE_REQUEST__INIT;
    msg.inode = writer->inode;
    msg.index = chunk->index;
    msg.failed = failed;
    msg.n_failed = chunk->failed_count;
    msg.failed_version = write_window_failed_version(chunk);
    uint32_t timeout_ms = writer->fs->opts.timeout_ms;
    struct rpc_call_args args = {
        .type = GFS_MSG_LEASE,
        .msg = &msg.base,
        .timeout_ms = timeout_ms < LEASE_TIMEOUT_MS ? timeout_ms : LEASE_TIMEOUT_MS,
        .done = lease_done,
        .arg = op,
    };
    rpc_client_call(writer->fs->rpc, writer->fs->master, &args);
}

/* ---- probe --------------------------------------------------------------------------------- */

static void probe_done(void *arg, const struct rpc_answer *answer)
{
    const struct probe_call *call = arg;
    struct chunk_op *op = call->op;
    struct writer *writer = op->writer;
    pthread_mutex_lock(&writer->lock);
    if (answer->err != GFS_OK)
        op->silent |= 1u << call->replica;
    if (--op->left > 0) {
        pthread_mutex_unlock(&writer->lock);
        return;
    }
    write_window_probed(&writer->window, op->chunk, op->silent, writer_moment(writer));
    free(op);
    writer_pump(writer);
    writer_unlock_unref(writer);
}

void writer_send_probe(struct writer *writer, struct write_chunk *chunk)
{
    struct chunk_op *op = chunk_op_new(writer, chunk);
    if (op == NULL)
        return;
    Gfs__Ping ping = GFS__PING__INIT;
    op->left = chunk->lease.replica_count;
    for (uint32_t i = 0; i < chunk->lease.replica_count; i++) {
        op->calls[i] = (struct probe_call){.op = op, .replica = i};
        struct rpc_call_args args = {
            .type = GFS_MSG_PING,
            .msg = &ping.base,
            .timeout_ms = PROBE_TIMEOUT_MS,
            .done = probe_done,
            .arg = &op->calls[i],
        };
        rpc_client_call(writer->fs->rpc, chunk->lease.replicas[i].addr, &args);
    }
}

/* ---- keep-alive ---------------------------------------------------------------------------- */

static void keep_alive_done(void *arg, const struct rpc_answer *answer)
{
}

void writer_send_keep_alive(struct writer *writer)
{
    if (writer->abandoned)
        return;
    Gfs__CommitRequest msg = GFS__COMMIT_REQUEST__INIT;
    msg.inode = writer->inode;
    struct rpc_call_args args = {
        .type = GFS_MSG_COMMIT,
        .msg = &msg.base,
        .timeout_ms = LEASE_TIMEOUT_MS,
        .done = keep_alive_done,
    };
    rpc_client_call(writer->fs->rpc, writer->fs->master, &args);
}
