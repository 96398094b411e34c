#include "append.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_crc.h"
#include "buf.h"
#include "call.h"
#include "chunk.pb-c.h"
#include "crc.h"
#include "failure.h"
#include "file.h"
#include "record.h"
#include "retry.h"

#define APPEND_NOWHERE    UINT32_MAX /* not bound to a chunk */
#define APPEND_PART_BYTES (1u << 20)
#define APPEND_CRCS_MAX   (GFS_RECORD_MAX_BYTES / GFS_BLOCK_SIZE_BYTES)
#define APPEND_SILENCES   2u /* then the primary is given up */

void append_init(struct append *append, struct gfs *fs)
{
    pthread_mutex_init(&append->lock, NULL);
    append->producer = fs_producer(fs);
}

void append_release(struct append *append)
{
    pthread_mutex_destroy(&append->lock);
}

/* ---- one record on its way ------------------------------------------------------------------ */

struct round;

struct item {
    struct round *round;
    struct buf *frame;
    uint64_t sequence;
    uint32_t crcs[APPEND_CRCS_MAX];
    uint8_t data_id[FS_ID_BYTES];
    uint32_t index; /* bound to it, or APPEND_NOWHERE */
    bool done;
    uint64_t offset;
    bool in_round;

    /* under the round's lock */
    enum gfs_err err; /* of the step under way; the first failure */
    uint32_t chunk_offset;
};

/* Calls under way. */
struct round {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct append *append;
    uint32_t pending;
    uint32_t blamed;
    uint32_t hint_ms;
    enum gfs_err err; /* why it has to be tried again; GFS_OK: all is done */
    char detail[RPC_DETAIL_MAX_BYTES];
};

static void round_answer(struct round *round, struct item *item, const struct rpc_answer *answer)
{
    if (answer->err != GFS_OK && item->err == GFS_OK) {
        item->err = answer->err;
        if (answer->err != GFS_ERR_CHUNK_FULL) {
            round->blamed |= writer_blame(&round->append->lease, answer);
            round->err = answer->err;
            round->hint_ms = answer->retry_after_ms;
            snprintf(round->detail, sizeof(round->detail), "%s", answer->detail);
        }
    }
    round->pending--;
    pthread_cond_signal(&round->changed);
}

static void push_done(void *arg, const struct rpc_answer *answer)
{
    struct item *item = arg;
    struct round *round = item->round;
    pthread_mutex_lock(&round->lock);
    round_answer(round, item, answer);
    pthread_mutex_unlock(&round->lock);
}

static void append_done(void *arg, const struct rpc_answer *answer)
{
    struct item *item = arg;
    struct round *round = item->round;
    pthread_mutex_lock(&round->lock);
    if (answer->err == GFS_OK)
        item->chunk_offset = ((const Gfs__AppendReply *)answer->msg)->offset;
    round_answer(round, item, answer);
    pthread_mutex_unlock(&round->lock);
}

static void frame_release(void *arg)
{
    buf_unref(arg);
}

static void round_begin_call(struct round *round)
{
    pthread_mutex_lock(&round->lock);
    round->pending++;
    pthread_mutex_unlock(&round->lock);
}

static void round_wait(struct round *round)
{
    pthread_mutex_lock(&round->lock);
    while (round->pending > 0)
        pthread_cond_wait(&round->changed, &round->lock);
    pthread_mutex_unlock(&round->lock);
}

static bool goes_inline(const struct item *item)
{
    return item->frame->len_bytes <= GFS_WRITE_INLINE_MAX_BYTES;
}

static uint32_t first_block_bytes(const struct item *item)
{
    return item->frame->len_bytes < GFS_BLOCK_SIZE_BYTES ? (uint32_t)item->frame->len_bytes
                                                         : GFS_BLOCK_SIZE_BYTES;
}

/* Where the push goes: the others of the lease, in its order; the primary is the first. */
static size_t others(const struct write_lease *lease, char *ret_addrs[GFS_GOAL_MAX])
{
    for (uint32_t i = 1; i < lease->replica_count; i++)
        ret_addrs[i - 1] = (char *)lease->replicas[i].addr;
    return lease->replica_count - 1;
}

static void send_push(struct gfs *fs, struct item *item)
{
    const struct write_lease *lease = &item->round->append->lease;
    char *chain[GFS_GOAL_MAX];
    Gfs__PushRequest msg = GFS__PUSH_REQUEST__INIT;
    uint32_t length_bytes = (uint32_t)item->frame->len_bytes;
    msg.data_id = (ProtobufCBinaryData){.len = FS_ID_BYTES, .data = item->data_id};
    msg.total_length = length_bytes;
    msg.first_block_bytes = first_block_bytes(item);
    msg.chain = chain;
    msg.n_chain = others(lease, chain);
    while (msg.offset < length_bytes) {
        uint32_t left = length_bytes - msg.offset;
        uint32_t part = left < APPEND_PART_BYTES ? left : APPEND_PART_BYTES;
        struct rpc_piece piece = {.data = item->frame->data + msg.offset, .len_bytes = part};
        struct rpc_payload payload = {.pieces = &piece,
                                      .piece_count = 1,
                                      .release = frame_release,
                                      .arg = buf_ref(item->frame)};
        msg.crcs = item->crcs + msg.offset / GFS_BLOCK_SIZE_BYTES;
        msg.n_crcs = block_crc_count(0, part);
        round_begin_call(item->round);
        rpc_client_call(fs->rpc, lease->replicas[0].addr,
                        &(struct rpc_call_args){.type = GFS_MSG_PUSH,
                                                .msg = &msg.base,
                                                .payload = &payload,
                                                .timeout_ms = fs->opts.server_timeout_ms,
                                                .done = push_done,
                                                .arg = item});
        msg.offset += part;
    }
}

static void send_append(struct gfs *fs, struct item *item)
{
    const struct append *append = item->round->append;
    const struct write_lease *lease = &append->lease;
    char *secondaries[GFS_GOAL_MAX];
    Gfs__AppendRequest msg = GFS__APPEND_REQUEST__INIT;
    struct rpc_piece piece = {.data = item->frame->data, .len_bytes = item->frame->len_bytes};
    struct rpc_payload payload = {.pieces = &piece, .piece_count = 1, .release = frame_release};
    struct rpc_call_args args = {.type = GFS_MSG_APPEND,
                                 .msg = &msg.base,
                                 .timeout_ms = fs->opts.server_timeout_ms,
                                 .done = append_done,
                                 .arg = item};
    msg.handle = lease->handle;
    msg.version = lease->version;
    msg.length = (uint32_t)item->frame->len_bytes;
    msg.data_id = (ProtobufCBinaryData){.len = FS_ID_BYTES, .data = item->data_id};
    msg.producer = append->producer;
    msg.sequence = item->sequence;
    msg.secondaries = secondaries;
    msg.n_secondaries = others(lease, secondaries);
    if (goes_inline(item)) {
        msg.first_block_bytes = first_block_bytes(item);
        msg.crcs = item->crcs;
        msg.n_crcs = block_crc_count(0, msg.length);
        payload.arg = buf_ref(item->frame);
        args.payload = &payload;
    }
    round_begin_call(item->round);
    rpc_client_call(fs->rpc, lease->replicas[0].addr, &args);
}

/* ---- the lease ------------------------------------------------------------------------------ */

struct tail_reply {
    uint32_t chunk_size_bytes;
    uint32_t index;
    struct write_lease lease;
};

static enum gfs_err tail_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__LeaseReply *reply = (const Gfs__LeaseReply *)msg;
    struct tail_reply *out = arg;
    enum gfs_err err = writer_take_lease(reply->lease, out->chunk_size_bytes, &out->lease);
    if (err == GFS_OK)
        out->index = reply->lease->index;
    return err;
}

/* index APPEND_NOWHERE: the tail. */
static enum gfs_err get_lease(struct gfs_file *file, uint32_t index, uint32_t budget_ms)
{
    struct append *append = &file->append;
    Gfs__LeaseRequest msg = GFS__LEASE_REQUEST__INIT;
    ProtobufCBinaryData failed[GFS_GOAL_MAX];
    struct tail_reply reply = {.chunk_size_bytes = file->reader.chunk_size_bytes};
    msg.inode = file->inode;
    msg.append = index == APPEND_NOWHERE;
    msg.index = msg.append ? 0 : index;
    for (uint32_t i = 0; i < append->failed_count; i++)
        failed[i] = (ProtobufCBinaryData){.len = GFS_UUID_BYTES, .data = append->failed[i]};
    msg.failed = failed;
    msg.n_failed = append->failed_count;
    msg.failed_version = append->failed_version;
    struct call call = {.type = GFS_MSG_LEASE,
                        .msg = &msg.base,
                        .take = tail_take,
                        .arg = &reply,
                        .what = "append",
                        .path = file->path,
                        .budget_ms = budget_ms};
    enum gfs_err err = call_master(file->fs, &call);
    if (err != GFS_OK)
        return err;
    append->lease = reply.lease;
    append->index = reply.index;
    append->leased = true;
    append->failed_count = 0;
    append->failed_version = 0;
    return GFS_OK;
}

static void lease_failed(struct append *append, struct round *round)
{
    append->leased = false;
    append->silences = round->err == GFS_ERR_TIMEOUT ? append->silences + 1 : 0;
    if (round->err == GFS_ERR_TIMEOUT && round->blamed == 0 && append->silences >= APPEND_SILENCES)
        round->blamed = 1;
    if (round->err == GFS_ERR_BUSY || round->err == GFS_ERR_NO_DATA)
        return;
    append->failed_version = append->lease.version;
    append->failed_count = 0;
    for (uint32_t i = 0; i < append->lease.replica_count; i++)
        if (round->blamed & 1u << i)
            memcpy(append->failed[append->failed_count++], append->lease.replicas[i].server,
                   GFS_UUID_BYTES);
}

/* ---- rounds --------------------------------------------------------------------------------- */

/* Sends the items that go to the lease's chunk, and waits for the answers. */
static void run_round(struct gfs_file *file, struct round *round, struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!items[i].in_round)
            continue;
        items[i].err = GFS_OK;
        fs_make_id(file->fs, items[i].data_id);
        if (!goes_inline(&items[i]))
            send_push(file->fs, &items[i]);
    }
    round_wait(round);
    for (size_t i = 0; i < count; i++) {
        if (!items[i].in_round || items[i].err != GFS_OK)
            continue;
        /* From here on it may be in this chunk. */
        items[i].index = file->append.index;
        send_append(file->fs, &items[i]);
    }
    round_wait(round);
}

/* What goes next: those bound to the first chunk that any is bound to, else all that are left. */
static uint32_t pick_items(struct item *items, size_t count, bool *ret_any)
{
    uint32_t index = APPEND_NOWHERE;
    *ret_any = false;
    for (size_t i = 0; i < count; i++)
        if (!items[i].done && items[i].index < index)
            index = items[i].index;
    for (size_t i = 0; i < count; i++) {
        items[i].in_round = !items[i].done && items[i].index == index;
        *ret_any |= items[i].in_round;
    }
    return index;
}

static enum gfs_err take_answers(struct gfs_file *file, struct item *items, size_t count)
{
    enum gfs_err fatal = GFS_OK;
    for (size_t i = 0; i < count; i++) {
        struct item *item = &items[i];
        if (!item->in_round)
            continue;
        if (item->err == GFS_OK) {
            item->done = true;
            item->offset =
                (uint64_t)item->index * file->reader.chunk_size_bytes + item->chunk_offset;
        } else if (item->err == GFS_ERR_CHUNK_FULL) {
            item->index = APPEND_NOWHERE;
            file->append.leased = false;
        } else if (gfs_err_class(item->err) == GFS_ERR_CLASS_FINAL) {
            fatal = item->err;
        }
    }
    return fatal;
}

static enum gfs_err append_failed(const struct gfs_file *file, enum gfs_err err,
                                  const struct round *round)
{
    return failure_set(err, "append %s: chunk %u at %s: %s%s%s", file->path, file->append.index,
                       file->append.lease.replicas[0].addr, gfs_err_text(err),
                       round->detail[0] != '\0' ? ": " : "", round->detail);
}

/* Appends all of them, or fails; some may be done then. Append lock held. */
static enum gfs_err append_items(struct gfs_file *file, struct item *items, size_t count)
{
    struct append *append = &file->append;
    struct round round = {.lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER,
                          .append = append};
    struct retry retry;
    enum gfs_err err = GFS_OK;
    bool any;
    retry_init(&retry, loop_now_ms(), file->fs->opts.timeout_ms);
    for (size_t i = 0; i < count; i++)
        items[i].round = &round;
    for (;;) {
        uint32_t wait_ms, index = pick_items(items, count, &any);
        if (!any)
            break;
        if (!append->leased || (index != APPEND_NOWHERE && index != append->index) ||
            loop_now_ms() >= append->lease.expires_ms)
            err = get_lease(file, index, retry_left_ms(&retry, loop_now_ms()));
        if (err != GFS_OK)
            break;
        round.err = GFS_OK;
        round.blamed = 0;
        round.hint_ms = 0;
        run_round(file, &round, items, count);
        err = take_answers(file, items, count);
        if (err != GFS_OK) {
            append_failed(file, err, &round);
            break;
        }
        if (round.err == GFS_OK) {
            append->silences = 0;
            continue;
        }
        lease_failed(append, &round);
        /* NO_LEASE and the like heal at the master: any class but a final one is tried again. */
        if (!retry_next(&retry, GFS_ERR_BUSY, round.hint_ms, fs_random(file->fs), loop_now_ms(),
                        &wait_ms)) {
            err = append_failed(file, round.err, &round);
            break;
        }
        if (retry.tries > 1)
            call_sleep_ms(wait_ms);
    }
    pthread_cond_destroy(&round.changed);
    pthread_mutex_destroy(&round.lock);
    return err;
}

static enum gfs_err item_make(struct gfs_file *file, const struct gfs_record *record,
                              struct item *item)
{
    struct record_header header = {
        .length_bytes = (uint32_t)record->len_bytes,
        .crc = crc32c(0, record->data, record->len_bytes),
        .producer = file->append.producer,
        .sequence = item->sequence,
    };
    size_t total = GFS_RECORD_HEADER_BYTES + record->len_bytes;
    item->index = APPEND_NOWHERE;
    item->frame = buf_new(total);
    if (item->frame == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "append %s: out of memory", file->path);
    record_encode(&header, item->frame->data);
    if (record->len_bytes > 0)
        memcpy(item->frame->data + GFS_RECORD_HEADER_BYTES, record->data, record->len_bytes);
    item->frame->len_bytes = total;
    for (size_t at = 0, n = 0; at < total; at += GFS_BLOCK_SIZE_BYTES, n++) {
        size_t left = total - at;
        item->crcs[n] = crc32c(0, item->frame->data + at,
                               left < GFS_BLOCK_SIZE_BYTES ? left : GFS_BLOCK_SIZE_BYTES);
    }
    return GFS_OK;
}

/* At most GFS_APPEND_WINDOW. */
static enum gfs_err append_some(struct gfs_file *file, const struct gfs_record *records,
                                size_t count, uint64_t *ret_offsets)
{
    struct item *items = calloc(count, sizeof(*items));
    enum gfs_err err = GFS_OK;
    if (items == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "append %s: out of memory", file->path);
    for (size_t i = 0; i < count && err == GFS_OK; i++) {
        items[i].sequence = ++file->append.sequence;
        err = item_make(file, &records[i], &items[i]);
    }
    if (err == GFS_OK)
        err = append_items(file, items, count);
    for (size_t i = 0; i < count; i++) {
        if (err == GFS_OK && ret_offsets != NULL)
            ret_offsets[i] = items[i].offset;
        buf_unref(items[i].frame);
    }
    free(items);
    return err;
}

size_t gfs_record_max(const struct gfs_file *file)
{
    return record_max(file->reader.chunk_size_bytes);
}

static enum gfs_err check_records(const struct gfs_file *file, const struct gfs_record *records,
                                  size_t count)
{
    if (file->writer == NULL || (file->flags & GFS_OPEN_ATOMIC) != 0)
        return failure_set(GFS_ERR_INVAL, "append %s: the file must be open for WRITE, not ATOMIC",
                           file->path);
    for (size_t i = 0; i < count; i++)
        if (records[i].len_bytes > gfs_record_max(file))
            return failure_set(GFS_ERR_TOO_LARGE,
                               "append %s: a record of %zu bytes; the file takes %zu at most, a "
                               "quarter of its chunk size",
                               file->path, records[i].len_bytes, gfs_record_max(file));
    return GFS_OK;
}

enum gfs_err gfs_append_many(struct gfs_file *file, const struct gfs_record *records, size_t count,
                             uint64_t *ret_offsets, size_t *ret_done)
{
    enum gfs_err err = check_records(file, records, count);
    size_t done = 0;
    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&file->append.lock);
    while (err == GFS_OK && done < count) {
        size_t some = count - done < GFS_APPEND_WINDOW ? count - done : GFS_APPEND_WINDOW;
        err = append_some(file, records + done, some, ret_offsets ? ret_offsets + done : NULL);
        if (err == GFS_OK)
            done += some;
    }
    pthread_mutex_unlock(&file->append.lock);
    if (ret_done != NULL)
        *ret_done = done;
    return err;
}

enum gfs_err gfs_append(struct gfs_file *file, const void *record, size_t len_bytes,
                        uint64_t *ret_offset)
{
    const struct gfs_record one = {record, len_bytes};
    uint64_t offset;
    enum gfs_err err = gfs_append_many(file, &one, 1, &offset, NULL);
    if (err == GFS_OK && ret_offset != NULL)
        *ret_offset = offset;
    return err;
}
