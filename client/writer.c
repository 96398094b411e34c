#include "writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "failure.h"
#include "retry.h"

/* An anonymous file's master hears of it this often: well below any sensible anonymous_ttl_s. */
#define WRITER_KEEP_MS 10000
/* Buffers of small files begin this small. */
#define WRITER_SMALL_BYTES GFS_BLOCK_SIZE_BYTES

/* ---- life ---------------------------------------------------------------------------------- */

static void writer_destroy(struct writer *writer)
{
    if (writer->timers_made) {
        loop_timer_release(&writer->timer);
        loop_timer_release(&writer->keep_timer);
    }
    struct write_mutation *mutation = writer->window.mutations;
    while (mutation != NULL) {
        struct write_mutation *next = mutation->next;
        writer_mutation_unref((struct writer_mutation *)mutation);
        mutation = next;
    }
    write_window_release(&writer->window);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    pthread_mutex_destroy(&writer->user_lock);
    free(writer->path);
    free(writer);
}

static void writer_free_task(struct loop_task *task)
{
    writer_destroy((struct writer *)((char *)task - offsetof(struct writer, free_task)));
}

void writer_ref(struct writer *writer)
{
    writer->refs++;
}

void writer_unlock_unref(struct writer *take)
{
    bool last = --take->refs == 0;
    pthread_mutex_unlock(&take->lock);
    if (!last)
        return;
    if (loop_is_current(take->fs->loop)) {
        writer_destroy(take);
    } else {
        take->free_task.fn = writer_free_task;
        loop_post(take->fs->loop, &take->free_task);
    }
}

void writer_mutation_unref(struct writer_mutation *take)
{
    if (--take->refs > 0)
        return;
    buf_unref(take->data);
    free(take);
}

struct write_moment writer_moment(struct writer *writer)
{
    return (struct write_moment){.now_ms = loop_now_ms(), .random = fs_random(writer->fs)};
}

/* ---- loop thread: timers ------------------------------------------------------------------- */

static void writer_timer_fired(struct loop_timer *timer)
{
    struct writer *writer = (struct writer *)((char *)timer - offsetof(struct writer, timer));
    pthread_mutex_lock(&writer->lock);
    writer_pump(writer);
    pthread_mutex_unlock(&writer->lock);
}

static void writer_keep_fired(struct loop_timer *timer)
{
    struct writer *writer = (struct writer *)((char *)timer - offsetof(struct writer, keep_timer));
    pthread_mutex_lock(&writer->lock);
    writer_send_keep_alive(writer);
    pthread_mutex_unlock(&writer->lock);
    loop_timer_arm(&writer->keep_timer, WRITER_KEEP_MS);
}

/* Lock held. Without timers no retry would come: the window fails then. */
static void writer_make_timers(struct writer *writer)
{
    if (writer->timers_made)
        return;
    enum gfs_err err = loop_timer_init(&writer->timer, writer->fs->loop, writer_timer_fired);
    if (err == GFS_OK) {
        err = loop_timer_init(&writer->keep_timer, writer->fs->loop, writer_keep_fired);
        if (err != GFS_OK)
            loop_timer_release(&writer->timer);
    }
    if (err != GFS_OK) {
        writer->window.err = err;
        return;
    }
    writer->timers_made = true;
    if (writer->anonymous)
        loop_timer_arm(&writer->keep_timer, WRITER_KEEP_MS);
}

static void writer_task(struct loop_task *task)
{
    struct writer *writer = (struct writer *)((char *)task - offsetof(struct writer, task));
    pthread_mutex_lock(&writer->lock);
    writer->task_posted = false;
    writer_make_timers(writer);
    writer_pump(writer);
    writer_unlock_unref(writer);
}

/* Has the loop pump. Lock held. */
static void writer_post(struct writer *writer)
{
    if (writer->task_posted)
        return;
    writer->task_posted = true;
    writer_ref(writer);
    writer->task.fn = writer_task;
    loop_post(writer->fs->loop, &writer->task);
}

void writer_pump(struct writer *writer)
{
    struct write_effect effect;
    while (!writer->abandoned && write_window_next(&writer->window, loop_now_ms(), &effect)) {
        switch (effect.kind) {
        case WRITE_EFFECT_LEASE:
            writer_send_lease(writer, effect.chunk);
            break;
        case WRITE_EFFECT_PROBE:
            writer_send_probe(writer, effect.chunk);
            break;
        case WRITE_EFFECT_PUSH:
            writer_send_push(writer, (struct writer_mutation *)effect.mutation);
            break;
        case WRITE_EFFECT_WRITE:
            writer_send_write(writer, (struct writer_mutation *)effect.mutation);
            break;
        }
    }
    if (writer->window.err != GFS_OK)
        pthread_cond_broadcast(&writer->changed);
    if (writer->abandoned || writer->window.wake_ms == 0)
        return;
    if (!loop_is_current(writer->fs->loop) || !writer->timers_made) {
        writer_post(writer);
        return;
    }
    uint64_t now_ms = loop_now_ms();
    uint64_t wake_ms = writer->window.wake_ms;
    loop_timer_arm(&writer->timer, wake_ms > now_ms ? wake_ms - now_ms : 0);
}

/* ---- user threads -------------------------------------------------------------------------- */

enum gfs_err writer_new(struct gfs *fs, const char *path, uint64_t inode, uint32_t chunk_size_bytes,
                        bool anonymous, const struct write_lease *lease, struct writer **ret_writer)
{
    struct writer *writer = calloc(1, sizeof(*writer));
    char *path_copy = strdup(path);
    if (writer == NULL || path_copy == NULL) {
        free(writer);
        free(path_copy);
        return failure_set(GFS_ERR_NO_MEMORY, "open %s: out of memory", path);
    }
    writer->fs = fs;
    writer->path = path_copy;
    writer->inode = inode;
    writer->chunk_size_bytes = chunk_size_bytes;
    writer->anonymous = anonymous;
    writer->producer = fs_producer(fs);
    writer->refs = 1;
    pthread_mutex_init(&writer->user_lock, NULL);
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->changed, NULL);
    write_window_init(&writer->window, fs->opts.write_window, fs->opts.timeout_ms);
    enum gfs_err err = GFS_OK;
    pthread_mutex_lock(&writer->lock);
    if (lease != NULL)
        err = write_window_seed(&writer->window, 0, lease);
    if (err == GFS_OK && anonymous)
        writer_post(writer); /* the keep-alive timer */
    pthread_mutex_unlock(&writer->lock);
    if (err != GFS_OK) {
        writer_free(writer);
        return failure_set(err, "open %s: %s", path, gfs_err_text(err));
    }
    *ret_writer = writer;
    return GFS_OK;
}

void writer_free(struct writer *writer)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->abandoned = true;
    if (writer->filling != NULL)
        writer_mutation_unref(writer->filling);
    writer->filling = NULL;
    writer_unlock_unref(writer);
}

static const char *writer_hint(enum gfs_err err)
{
    switch (err) {
    case GFS_ERR_STARTING:
        return "; the master waits for its chunkservers, see `gfsctl servers`";
    case GFS_ERR_NO_SERVERS:
    case GFS_ERR_NO_REPLICA:
    case GFS_ERR_NO_SPACE:
    case GFS_ERR_READ_ONLY:
        return "; see `gfsctl servers` for the chunkservers that are up and have room";
    case GFS_ERR_CONN:
    case GFS_ERR_TIMEOUT:
        return "; are gfs-master and the chunkservers running?";
    default:
        return "";
    }
}

enum gfs_err writer_failed(struct writer *writer)
{
    const struct write_window *window = &writer->window;
    char handle[48] = "";
    if (window->err_handle != 0)
        snprintf(handle, sizeof(handle), " (handle %016llx)",
                 (unsigned long long)window->err_handle);
    return failure_set(window->err, "write %s: chunk %u%s: %s%s", writer->path,
                       window->err_chunk_index, handle,
                       writer->detail[0] != '\0' ? writer->detail : gfs_err_text(window->err),
                       writer_hint(window->err));
}

void writer_note_lost(struct writer *writer, enum gfs_err err)
{
    snprintf(writer->detail, sizeof(writer->detail), "it was %s before what was written to it %s",
             err == GFS_ERR_STALE_VERSION ? "truncated" : "placed anew", "could be committed");
}

/* Puts the mutation into the window, waiting for room. */
static enum gfs_err writer_submit(struct writer *writer, struct writer_mutation *mutation)
{
    uint32_t chunk_index = mutation->chunk_index;
    pthread_mutex_lock(&writer->lock);
    enum gfs_err err = GFS_OK;
    while (err == GFS_OK && writer->window.err == GFS_OK &&
           !write_window_has_room(&writer->window, chunk_index)) {
        bool crowded = write_window_crowded(&writer->window, chunk_index);
        struct write_commit probe;
        if (crowded && write_window_commit_list(&writer->window, &probe, 1) > 0) {
            pthread_mutex_unlock(&writer->lock);
            err = writer_commit(writer, &(struct writer_commit_args){0});
            pthread_mutex_lock(&writer->lock);
        } else {
            pthread_cond_wait(&writer->changed, &writer->lock);
        }
    }
    if (err == GFS_OK && writer->window.err != GFS_OK)
        err = writer_failed(writer);
    if (err == GFS_OK) {
        err = write_window_add(&writer->window, &mutation->core, chunk_index);
        if (err != GFS_OK)
            failure_set(err, "write %s: %s", writer->path, gfs_err_text(err));
    }
    if (err == GFS_OK)
        writer_pump(writer);
    else
        writer_mutation_unref(mutation);
    pthread_mutex_unlock(&writer->lock);
    return err;
}

/* Sends what is being filled. */
static enum gfs_err writer_flush(struct writer *writer)
{
    struct writer_mutation *mutation = writer->filling;
    if (mutation == NULL)
        return GFS_OK;
    writer->filling = NULL;
    mutation->core.length_bytes = (uint32_t)mutation->data->len_bytes;
    mutation->crc_count = block_crc_make(mutation->data->data, mutation->core.offset_bytes,
                                         mutation->core.length_bytes, mutation->crcs);
    return writer_submit(writer, mutation);
}

static enum gfs_err filling_begin(struct writer *writer, uint64_t offset, size_t len_bytes)
{
    uint32_t chunk_offset = (uint32_t)(offset % writer->chunk_size_bytes);
    uint32_t request_bytes = writer->fs->opts.request_bytes;
    uint32_t max_bytes = request_bytes - chunk_offset % request_bytes;
    if (max_bytes > writer->chunk_size_bytes - chunk_offset)
        max_bytes = writer->chunk_size_bytes - chunk_offset;
    size_t cap_bytes = len_bytes < WRITER_SMALL_BYTES && max_bytes > WRITER_SMALL_BYTES
                           ? WRITER_SMALL_BYTES
                           : max_bytes;
    struct writer_mutation *mutation = calloc(1, sizeof(*mutation));
    if (mutation != NULL)
        mutation->data = buf_new(cap_bytes);
    if (mutation == NULL || mutation->data == NULL) {
        free(mutation);
        return failure_set(GFS_ERR_NO_MEMORY, "write %s: out of memory", writer->path);
    }
    mutation->refs = 1;
    mutation->core.offset_bytes = chunk_offset;
    mutation->chunk_index = (uint32_t)(offset / writer->chunk_size_bytes);
    writer->filling = mutation;
    writer->filling_max_bytes = max_bytes;
    return GFS_OK;
}

/* Makes the small buffer a full one. */
static enum gfs_err filling_grow(struct writer *writer)
{
    struct buf *old = writer->filling->data;
    struct buf *data = buf_new(writer->filling_max_bytes);
    if (data == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "write %s: out of memory", writer->path);
    memcpy(data->data, old->data, old->len_bytes);
    data->len_bytes = old->len_bytes;
    buf_unref(old);
    writer->filling->data = data;
    return GFS_OK;
}

static bool filling_continues(const struct writer *writer, uint64_t offset)
{
    const struct writer_mutation *filling = writer->filling;
    return (uint64_t)filling->chunk_index * writer->chunk_size_bytes + filling->core.offset_bytes +
               filling->data->len_bytes ==
           offset;
}

/* Copies as much as the buffer takes; sends it when it is full. */
static enum gfs_err filling_add(struct writer *writer, const uint8_t *data, size_t len_bytes,
                                size_t *ret_taken_bytes)
{
    struct buf *buf = writer->filling->data;
    size_t room_bytes = writer->filling_max_bytes - buf->len_bytes;
    size_t taken_bytes = len_bytes < room_bytes ? len_bytes : room_bytes;
    enum gfs_err err = GFS_OK;
    if (buf->len_bytes + taken_bytes > buf->cap_bytes) {
        err = filling_grow(writer);
        if (err != GFS_OK)
            return err;
        buf = writer->filling->data;
    }
    memcpy(buf->data + buf->len_bytes, data, taken_bytes);
    buf->len_bytes += taken_bytes;
    if (buf->len_bytes == writer->filling_max_bytes)
        err = writer_flush(writer);
    if (err == GFS_OK)
        *ret_taken_bytes = taken_bytes;
    return err;
}

enum gfs_err writer_write(struct writer *writer, uint64_t offset, const void *data,
                          size_t len_bytes)
{
    if (len_bytes > UINT64_MAX - offset ||
        (offset + len_bytes) / writer->chunk_size_bytes >= UINT32_MAX)
        return failure_set(GFS_ERR_TOO_LARGE, "write %s: offset %llu is too large", writer->path,
                           (unsigned long long)offset);
    enum gfs_err err = GFS_OK;
    const uint8_t *bytes = data;
    pthread_mutex_lock(&writer->user_lock);
    while (err == GFS_OK && len_bytes > 0) {
        if (writer->filling != NULL && !filling_continues(writer, offset))
            err = writer_flush(writer);
        if (err == GFS_OK && writer->filling == NULL)
            err = filling_begin(writer, offset, len_bytes);
        size_t taken_bytes = 0;
        if (err == GFS_OK)
            err = filling_add(writer, bytes, len_bytes, &taken_bytes);
        offset += taken_bytes;
        bytes += taken_bytes;
        len_bytes -= taken_bytes;
        if (offset > writer->end_bytes)
            writer->end_bytes = offset;
    }
    pthread_mutex_unlock(&writer->user_lock);
    return err;
}

/* Sends all and waits until it is durable. user_lock held. */
static enum gfs_err writer_drain(struct writer *writer)
{
    enum gfs_err err = writer_flush(writer);
    if (err != GFS_OK)
        return err;
    pthread_mutex_lock(&writer->lock);
    while (writer->window.err == GFS_OK && writer->window.mutation_count > 0)
        pthread_cond_wait(&writer->changed, &writer->lock);
    if (writer->window.err != GFS_OK)
        err = writer_failed(writer);
    pthread_mutex_unlock(&writer->lock);
    return err;
}

bool writer_is_dirty(struct writer *writer)
{
    struct write_commit commit;
    pthread_mutex_lock(&writer->user_lock);
    pthread_mutex_lock(&writer->lock);
    bool dirty = writer->filling != NULL || writer->window.mutation_count > 0 ||
                 writer->end_bytes > writer->committed_end_bytes ||
                 write_window_commit_list(&writer->window, &commit, 1) > 0;
    pthread_mutex_unlock(&writer->lock);
    pthread_mutex_unlock(&writer->user_lock);
    return dirty;
}

enum gfs_err writer_sync(struct writer *writer)
{
    pthread_mutex_lock(&writer->user_lock);
    enum gfs_err err = writer_drain(writer);
    if (err == GFS_OK)
        err =
            writer_commit(writer, &(struct writer_commit_args){.length_bytes = writer->end_bytes});
    pthread_mutex_unlock(&writer->user_lock);
    return err;
}

enum gfs_err writer_publish(struct writer *writer, bool replace)
{
    Gfs__PublishRequest publish = GFS__PUBLISH_REQUEST__INIT;
    publish.inode = writer->inode;
    publish.path = call_bytes(writer->path);
    publish.replace = replace;
    pthread_mutex_lock(&writer->user_lock);
    enum gfs_err err = writer_drain(writer);
    if (err == GFS_OK)
        err = writer_commit(writer, &(struct writer_commit_args){.length_bytes = writer->end_bytes,
                                                                 .publish = &publish});
    pthread_mutex_unlock(&writer->user_lock);
    return err;
}
