/* Calls of gfs.h that ask chunkservers about the bytes they hold: checksums and scrubbing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "call.h"
#include "chunk.pb-c.h"
#include "crc.h"
#include "daemon.h"
#include "failure.h"
#include "fs.h"
#include "master.pb-c.h"

#define INTEGRITY_TIMEOUT_MS 60000u /* a whole chunk is read */
#define INTEGRITY_PORT       7401

/* ---- one call to a chunkserver ----------------------------------------------------------------
 */

struct server_wait {
    call_take_fn *take;
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    enum gfs_err err;
    char detail[RPC_DETAIL_MAX_BYTES];
};

static void server_done(void *arg, const struct rpc_answer *answer)
{
    struct server_wait *wait = arg;
    enum gfs_err err = answer->err == GFS_OK ? wait->take(wait->arg, answer->msg) : answer->err;
    pthread_mutex_lock(&wait->lock);
    wait->err = err;
    snprintf(wait->detail, sizeof(wait->detail), "%s", answer->detail);
    wait->done = true;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->lock);
}

static enum gfs_err call_server(struct gfs *fs, const char *addr, enum gfs_msg type,
                                const ProtobufCMessage *msg, struct server_wait *wait)
{
    pthread_mutex_init(&wait->lock, NULL);
    pthread_cond_init(&wait->changed, NULL);
    wait->done = false;
    rpc_client_call(fs->rpc, addr,
                    &(struct rpc_call_args){.type = type,
                                            .msg = msg,
                                            .timeout_ms = INTEGRITY_TIMEOUT_MS,
                                            .done = server_done,
                                            .arg = wait});
    pthread_mutex_lock(&wait->lock);
    while (!wait->done)
        pthread_cond_wait(&wait->changed, &wait->lock);
    pthread_mutex_unlock(&wait->lock);
    pthread_cond_destroy(&wait->changed);
    pthread_mutex_destroy(&wait->lock);
    return wait->err;
}

/* ---- checksums ---------------------------------------------------------------------------------
 */

struct digest {
    uint32_t length_bytes;
    uint32_t count;
    uint32_t *crcs;
};

static enum gfs_err digest_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__DigestReply *reply = (const Gfs__DigestReply *)msg;
    struct digest *out = arg;
    uint64_t blocks = ((uint64_t)reply->chunk_length + GFS_BLOCK_SIZE_BYTES - 1) >> GFS_BLOCK_SHIFT;
    if (reply->n_crcs != blocks)
        return GFS_ERR_PROTO;
    out->crcs = malloc((blocks + 1) * sizeof(*out->crcs));
    if (out->crcs == NULL)
        return GFS_ERR_NO_MEMORY;
    if (blocks > 0)
        memcpy(out->crcs, reply->crcs, blocks * sizeof(*out->crcs));
    out->count = (uint32_t)blocks;
    out->length_bytes = reply->chunk_length;
    return GFS_OK;
}

/* From the first good replica that answers. */
static enum gfs_err chunk_digest(struct gfs *fs, const char *path,
                                 const struct gfs_chunk_info *chunk, struct digest *ret_digest)
{
    struct server_wait wait = {.take = digest_take, .arg = ret_digest};
    enum gfs_err err = GFS_ERR_NO_REPLICA;
    for (uint32_t i = 0; i < chunk->replica_count; i++) {
        Gfs__DigestRequest msg = GFS__DIGEST_REQUEST__INIT;
        if (chunk->replicas[i].state != GFS_REPLICA_OK)
            continue;
        msg.handle = chunk->handle;
        msg.version = chunk->version;
        msg.verify = true;
        err = call_server(fs, chunk->replicas[i].addr, GFS_MSG_DIGEST, &msg.base, &wait);
        if (err == GFS_OK)
            return GFS_OK;
    }
    return failure_set(err, "checksum %s: chunk %u (handle %016llx): no good replica answered: %s",
                       path, chunk->index, (unsigned long long)chunk->handle, gfs_err_text(err));
}

static uint32_t crc_zeros(uint64_t len_bytes)
{
    uint32_t crc = 0, unit = crc32c(0, "", 1); /* of the terminating NUL */
    uint64_t unit_bytes = 1;
    for (; len_bytes > 0; len_bytes >>= 1, unit_bytes *= 2) {
        if (len_bytes & 1)
            crc = crc32c_combine(crc, unit, unit_bytes);
        unit = crc32c_combine(unit, unit, unit_bytes);
    }
    return crc;
}

struct sum {
    struct gfs *fs;
    struct gfs_file *file; /* for blocks of which a replica has more than counts */
    const char *path;
    uint32_t crc;
    uint64_t len_bytes;
};

static void sum_add(struct sum *sum, uint32_t crc, uint64_t len_bytes)
{
    sum->crc = crc32c_combine(sum->crc, crc, len_bytes);
    sum->len_bytes += len_bytes;
}

static enum gfs_err sum_block_bytes(struct sum *sum, uint32_t len_bytes)
{
    uint8_t *bytes = malloc(len_bytes);
    size_t got = 0;
    if (bytes == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "checksum %s: out of memory", sum->path);
    enum gfs_err err = gfs_pread(sum->file, sum->len_bytes, bytes, len_bytes, &got);
    if (err == GFS_OK && got != len_bytes)
        err = failure_set(GFS_ERR_BUSY, "checksum %s: the file changed meanwhile", sum->path);
    if (err == GFS_OK)
        sum_add(sum, crc32c(0, bytes, len_bytes), len_bytes);
    free(bytes);
    return err;
}

/* `committed` bytes of the chunk, zeros up to `span`. */
static enum gfs_err sum_chunk(struct sum *sum, const struct gfs_chunk_info *chunk,
                              uint32_t committed, uint64_t span)
{
    struct digest digest = {0};
    enum gfs_err err = GFS_OK;
    if (committed > 0)
        err = chunk_digest(sum->fs, sum->path, chunk, &digest);
    if (err == GFS_OK && digest.length_bytes < committed)
        err = failure_set(GFS_ERR_SHORT, "checksum %s: chunk %u is short", sum->path, chunk->index);
    for (uint32_t at = 0; at < committed && err == GFS_OK; at += GFS_BLOCK_SIZE_BYTES) {
        uint32_t wanted = committed - at, stored = digest.length_bytes - at;
        wanted = wanted < GFS_BLOCK_SIZE_BYTES ? wanted : GFS_BLOCK_SIZE_BYTES;
        stored = stored < GFS_BLOCK_SIZE_BYTES ? stored : GFS_BLOCK_SIZE_BYTES;
        if (wanted == stored)
            sum_add(sum, digest.crcs[at >> GFS_BLOCK_SHIFT], wanted);
        else
            err = sum_block_bytes(sum, wanted);
    }
    free(digest.crcs);
    if (err == GFS_OK && span > committed)
        sum_add(sum, crc_zeros(span - committed), span - committed);
    return err;
}

static enum gfs_err sum_file(struct sum *sum, const struct gfs_attr *attr,
                             const struct gfs_chunk_info *chunks, size_t count)
{
    enum gfs_err err = GFS_OK;
    for (uint64_t start = 0; start < attr->size_bytes && err == GFS_OK;
         start += attr->chunk_size_bytes) {
        static const struct gfs_chunk_info hole = {0};
        uint64_t index = start / attr->chunk_size_bytes;
        const struct gfs_chunk_info *chunk = index < count ? &chunks[index] : &hole;
        uint64_t span = attr->size_bytes - start;
        uint32_t committed = chunk->handle != 0 ? chunk->length_bytes : 0;
        if (span > attr->chunk_size_bytes)
            span = attr->chunk_size_bytes;
        if (committed > span)
            committed = (uint32_t)span;
        err = sum_chunk(sum, chunk, committed, span);
    }
    return err;
}

enum gfs_err gfs_checksum(struct gfs *fs, const char *path, uint32_t *ret_crc,
                          uint64_t *ret_size_bytes)
{
    struct sum sum = {.fs = fs, .path = path};
    struct gfs_chunk_info *chunks = NULL;
    struct gfs_attr attr;
    size_t count = 0;
    enum gfs_err err = gfs_open(fs, path, GFS_OPEN_READ, NULL, &sum.file);
    if (err != GFS_OK)
        return err;
    err = gfs_fstat(sum.file, &attr);
    if (err == GFS_OK)
        err = gfs_chunks(fs, path, &chunks, &count);
    if (err == GFS_OK)
        err = sum_file(&sum, &attr, chunks, count);
    if (err == GFS_OK) {
        *ret_crc = sum.crc;
        *ret_size_bytes = attr.size_bytes;
    }
    gfs_free(chunks);
    gfs_abandon(sum.file);
    return err;
}

/* ---- scrubbing ---------------------------------------------------------------------------------
 */

static enum gfs_err nothing_take(void *arg, const ProtobufCMessage *msg)
{
    return GFS_OK;
}

static enum gfs_err scrub_chunk(struct gfs *fs, const char *path,
                                const struct gfs_chunk_info *chunk, uint64_t *replicas,
                                uint64_t *bad)
{
    for (uint32_t i = 0; i < chunk->replica_count; i++) {
        const struct gfs_replica *replica = &chunk->replicas[i];
        struct server_wait wait = {.take = nothing_take};
        Gfs__DigestRequest msg = GFS__DIGEST_REQUEST__INIT;
        uint8_t server[GFS_UUID_BYTES];
        if (replica->state != GFS_REPLICA_OK)
            continue;
        msg.handle = chunk->handle;
        msg.version = chunk->version;
        msg.verify = true;
        enum gfs_err err = call_server(fs, replica->addr, GFS_MSG_DIGEST, &msg.base, &wait);
        if (err == GFS_ERR_NO_CHUNK && chunk->length_bytes == 0)
            continue; /* placed there, and nobody has written to it yet */
        if (err == GFS_ERR_CORRUPT) {
            ++*bad;
            if (uuid_parse(replica->server, server))
                fs_report_bad(fs, chunk->handle, chunk->version, server, err);
        } else if (err != GFS_OK) {
            return failure_set(err, "scrub %s: chunk %u on %s: %s%s%s", path, chunk->index,
                               replica->addr, gfs_err_text(err), wait.detail[0] != '\0' ? ": " : "",
                               wait.detail);
        }
        ++*replicas;
    }
    return GFS_OK;
}

enum gfs_err gfs_scrub_file(struct gfs *fs, const char *path, uint64_t *ret_replicas,
                            uint64_t *ret_bad)
{
    struct gfs_chunk_info *chunks = NULL;
    size_t count = 0;
    uint64_t replicas = 0, bad = 0;
    enum gfs_err err = gfs_chunks(fs, path, &chunks, &count);
    for (size_t i = 0; i < count && err == GFS_OK; i++)
        if (chunks[i].handle != 0)
            err = scrub_chunk(fs, path, &chunks[i], &replicas, &bad);
    gfs_free(chunks);
    if (err == GFS_OK) {
        *ret_replicas = replicas;
        *ret_bad = bad;
    }
    return err;
}

static enum gfs_err scrub_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ScrubReply *reply = (const Gfs__ScrubReply *)msg;
    struct gfs_scrub *out = arg;
    *out = (struct gfs_scrub){
        .running = reply->running,
        .chunks = reply->chunks,
        .chunks_done = reply->chunks_done,
        .bytes_done = reply->bytes_done,
        .bad_chunks = reply->bad_chunks,
        .passes = reply->passes,
    };
    return GFS_OK;
}

enum gfs_err gfs_scrub_server(struct gfs *fs, const char *server, bool start,
                              struct gfs_scrub *ret_scrub)
{
    char addr[ADDR_TEXT_MAX_BYTES];
    struct gfs_scrub scrub;
    struct server_wait wait = {.take = scrub_take, .arg = &scrub};
    Gfs__ScrubRequest msg = GFS__SCRUB_REQUEST__INIT;
    enum gfs_err err = addr_resolve(server, INTEGRITY_PORT, addr);
    if (err != GFS_OK)
        return failure_set(err, "scrub %s: not an address of a chunkserver", server);
    msg.start = start;
    err = call_server(fs, addr, GFS_MSG_SCRUB, &msg.base, &wait);
    if (err != GFS_OK)
        return failure_set(err, "scrub %s: %s%s%s; see `gfsctl servers`", server, gfs_err_text(err),
                           wait.detail[0] != '\0' ? ": " : "", wait.detail);
    *ret_scrub = scrub;
    return GFS_OK;
}
