/* The end of a round: everything is read once more, and the replicas of each chunk compared. */
#include <stdlib.h>
#include <string.h>

#include "chaos_client.h"
#include "chunk.pb-c.h"
#include "client/call.h"
#include "client/fs.h"

#define CHECK_TIMEOUT_MS 5000u
#define CHECK_BLOCKS_MAX 64u

static int say_failed(void)
{
    fprintf(stderr, "%s\n", gfs_last_error());
    return 1;
}

static int final_regions(struct chaos *chaos, uint32_t file)
{
    char path[CHAOS_PATH_BYTES];
    struct gfs_file *reader;
    chaos_region_path(chaos, file, path);
    if (gfs_open(chaos->fs, path, GFS_OPEN_READ, NULL, &reader) != GFS_OK)
        return say_failed();
    int failed = 0;
    for (uint32_t region = 0; region < CHAOS_REGIONS; region++)
        if (!chaos_read_region(chaos, CHAOS_FINAL_THREAD, reader, file, region))
            failed = say_failed();
    gfs_abandon(reader);
    return failed;
}

static int final_log(struct chaos *chaos)
{
    char path[CHAOS_PATH_BYTES];
    struct gfs_file *reader;
    const void *record = NULL;
    size_t len = 0;
    uint64_t at = 0;
    enum gfs_err err;
    chaos_log_path(chaos, path);
    if (gfs_open(chaos->fs, path, GFS_OPEN_READ, NULL, &reader) != GFS_OK)
        return say_failed();
    while ((err = gfs_read_record(reader, &at, &record, &len)) == GFS_OK && record != NULL) {
        uint64_t value = 0;
        bool whole = len >= sizeof(value) && len % sizeof(value) == 0;
        if (len >= sizeof(value))
            memcpy(&value, record, sizeof(value));
        for (size_t i = 0; whole && i < len; i += sizeof(value))
            whole = memcmp((const char *)record + i, &value, sizeof(value)) == 0;
        if (!whole) {
            fprintf(stderr, "%s: the record that ends at %llu is torn\n", path,
                    (unsigned long long)at);
            err = GFS_ERR_CORRUPT;
            break;
        }
        chaos_note_record(&chaos->log, value, at - len - GFS_RECORD_HEADER_BYTES, len);
    }
    gfs_abandon(reader);
    return err == GFS_OK ? 0 : say_failed();
}

int chaos_final(struct chaos *chaos)
{
    int failed = 0;
    for (uint32_t file = 0; file < CHAOS_FILES; file++)
        failed |= final_regions(chaos, file);
    return failed | final_log(chaos);
}

/* ---- replicas ------------------------------------------------------------------------------ */

struct digest {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool done;
    enum gfs_err err;
    uint64_t serial;
    uint32_t version;
    uint32_t length_bytes;
    uint32_t count;
    uint32_t crcs[CHECK_BLOCKS_MAX];
};

static void digest_done(void *arg, const struct rpc_answer *answer)
{
    struct digest *digest = arg;
    pthread_mutex_lock(&digest->lock);
    digest->err = answer->err;
    if (answer->err == GFS_OK) {
        const Gfs__DigestReply *reply = (const Gfs__DigestReply *)answer->msg;
        digest->serial = reply->serial;
        digest->version = reply->version;
        digest->length_bytes = reply->chunk_length;
        digest->count =
            reply->n_crcs < CHECK_BLOCKS_MAX ? (uint32_t)reply->n_crcs : CHECK_BLOCKS_MAX;
        for (uint32_t i = 0; i < digest->count; i++)
            digest->crcs[i] = reply->crcs[i];
    }
    digest->done = true;
    pthread_cond_signal(&digest->wake);
    pthread_mutex_unlock(&digest->lock);
}

static void digest_ask(struct chaos *chaos, const char *addr, uint64_t handle, uint32_t version,
                       struct digest *ret_digest)
{
    Gfs__DigestRequest msg = GFS__DIGEST_REQUEST__INIT;
    struct rpc_call_args args = {.type = GFS_MSG_DIGEST,
                                 .msg = &msg.base,
                                 .timeout_ms = CHECK_TIMEOUT_MS,
                                 .done = digest_done,
                                 .arg = ret_digest};
    *ret_digest =
        (struct digest){.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
    msg.handle = handle;
    msg.version = version;
    msg.verify = true;
    rpc_client_call(chaos->fs->rpc, addr, &args);
    pthread_mutex_lock(&ret_digest->lock);
    while (!ret_digest->done)
        pthread_cond_wait(&ret_digest->wake, &ret_digest->lock);
    pthread_mutex_unlock(&ret_digest->lock);
}

/* Their versions may differ: one may have taken part in a round that granted nothing. */
static bool digest_same(const struct digest *a, const struct digest *b)
{
    return a->serial == b->serial && a->length_bytes == b->length_bytes && a->count == b->count &&
           memcmp(a->crcs, b->crcs, a->count * sizeof(a->crcs[0])) == 0;
}

/* The replicas that the master calls good hold the same bytes, at the same serial. */
static int compare_chunk(struct chaos *chaos, const char *path, const struct gfs_chunk_info *chunk)
{
    struct digest first = {.done = false}, other;
    uint32_t good = 0;
    int failed = 0;
    for (uint32_t i = 0; i < chunk->replica_count && !failed; i++) {
        const struct gfs_replica *replica = &chunk->replicas[i];
        if (replica->state != GFS_REPLICA_OK)
            continue;
        digest_ask(chaos, replica->addr, chunk->handle, chunk->version,
                   good == 0 ? &first : &other);
        const struct digest *now = good == 0 ? &first : &other;
        good++;
        failed = now->err != GFS_OK || !digest_same(&first, now);
        if (failed)
            printf("%s: chunk %u (%016llx, version %u) on %s: %s, version %u, serial %llx, %u "
                   "bytes; the first: version %u, serial %llx, %u bytes\n",
                   path, chunk->index, (unsigned long long)chunk->handle, chunk->version,
                   replica->addr, gfs_err_name(now->err), now->version,
                   (unsigned long long)now->serial, now->length_bytes, first.version,
                   (unsigned long long)first.serial, first.length_bytes);
    }
    if (good == 0) {
        printf("%s: chunk %u has no good replica\n", path, chunk->index);
        return 1;
    }
    return failed;
}

static int compare_file(struct chaos *chaos, const char *path)
{
    struct gfs_chunk_info *chunks;
    size_t count;
    if (gfs_chunks(chaos->fs, path, &chunks, &count) != GFS_OK)
        return say_failed();
    int failed = 0;
    for (size_t i = 0; i < count; i++)
        if (chunks[i].handle != 0)
            failed |= compare_chunk(chaos, path, &chunks[i]);
    gfs_free(chunks);
    return failed;
}

int chaos_compare(struct chaos *chaos)
{
    char path[CHAOS_PATH_BYTES];
    int failed = 0;
    for (uint32_t file = 0; file < CHAOS_FILES; file++) {
        chaos_region_path(chaos, file, path);
        failed |= compare_file(chaos, path);
    }
    chaos_log_path(chaos, path);
    return failed | compare_file(chaos, path);
}
