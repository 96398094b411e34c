/* Open files of gfs.h: what is read through reader.c, what is written through writer.c. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "failure.h"
#include "file.h"

#define FILE_ABANDON_TIMEOUT_MS 2000u

static bool file_is_atomic(const struct gfs_file *file)
{
    return (file->flags & GFS_OPEN_ATOMIC) != 0;
}

/* ---- open ---------------------------------------------------------------------------------- */

struct create_reply {
    struct gfs_attr attr;
    bool created;
    bool leased;
    struct write_lease lease;
};

static enum gfs_err create_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__CreateReply *reply = (const Gfs__CreateReply *)msg;
    struct create_reply *out = arg;
    enum gfs_err err = attr_take(reply->attr, &out->attr);
    if (err != GFS_OK)
        return err;
    out->created = reply->created;
    out->leased =
        reply->created && reply->lease != NULL &&
        writer_take_lease(reply->lease, out->attr.chunk_size_bytes, &out->lease) == GFS_OK;
    return GFS_OK;
}

static enum gfs_err create_call(struct gfs *fs, const char *path, int flags,
                                const struct gfs_create_options *opts, struct create_reply *reply)
{
    uint8_t id[FS_ID_BYTES];
    fs_make_id(fs, id);
    Gfs__CreateRequest msg = GFS__CREATE_REQUEST__INIT;
    msg.path = call_bytes(path);
    msg.mode = 0644;
    if (opts != NULL) {
        msg.goal = opts->goal;
        msg.chunk_size = opts->chunk_size_bytes;
        msg.mode = opts->mode != 0 ? opts->mode : 0644;
    }
    msg.exclusive = (flags & GFS_OPEN_EXCLUSIVE) != 0;
    msg.anonymous = (flags & GFS_OPEN_ATOMIC) != 0;
    /* Whoever truncates or publishes is about to write: the lease saves a round trip. */
    msg.first_chunk = (flags & (GFS_OPEN_ATOMIC | GFS_OPEN_TRUNCATE)) != 0;
    msg.op_id = (ProtobufCBinaryData){.len = sizeof(id), .data = id};
    struct call call = {.type = GFS_MSG_CREATE,
                        .msg = &msg.base,
                        .take = create_take,
                        .arg = reply,
                        .what = "create",
                        .path = path};
    return call_master(fs, &call);
}

static enum gfs_err truncate_call(struct gfs *fs, const char *path, uint64_t inode)
{
    Gfs__TruncateRequest msg = GFS__TRUNCATE_REQUEST__INIT;
    msg.inode = inode;
    struct call call = {.type = GFS_MSG_TRUNCATE,
                        .msg = &msg.base,
                        .what = "truncate",
                        .path = path};
    return call_master(fs, &call);
}

static enum gfs_err check_flags(const char *path, int flags, const struct gfs_create_options *opts)
{
    const int known = GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_EXCLUSIVE |
                      GFS_OPEN_TRUNCATE | GFS_OPEN_ATOMIC;
    const char *wrong = NULL;
    if ((flags & ~known) != 0 || (flags & (GFS_OPEN_READ | GFS_OPEN_WRITE)) == 0)
        wrong = "flags must hold READ or WRITE and nothing unknown";
    else if (!(flags & GFS_OPEN_WRITE) && (flags & (GFS_OPEN_TRUNCATE | GFS_OPEN_ATOMIC)))
        wrong = "TRUNCATE and ATOMIC need WRITE";
    else if (!(flags & GFS_OPEN_CREATE) && (flags & (GFS_OPEN_EXCLUSIVE | GFS_OPEN_ATOMIC)))
        wrong = "EXCLUSIVE and ATOMIC need CREATE";
    else if (opts != NULL && opts->goal > GFS_GOAL_MAX)
        wrong = "the goal is at most 16 replicas";
    else if (opts != NULL && opts->chunk_size_bytes != 0 &&
             (opts->chunk_size_bytes < GFS_CHUNK_SIZE_MIN_BYTES ||
              opts->chunk_size_bytes > GFS_CHUNK_SIZE_MAX_BYTES ||
              (opts->chunk_size_bytes & (opts->chunk_size_bytes - 1)) != 0))
        wrong = "the chunk size must be a power of two from 1 MiB to 1 GiB";
    if (wrong != NULL)
        return failure_set(GFS_ERR_INVAL, "open %s: %s", path, wrong);
    return GFS_OK;
}

/* What the master knows of the file, made or truncated as the flags say. */
static enum gfs_err file_resolve(struct gfs *fs, const char *path, int flags,
                                 const struct gfs_create_options *opts, struct create_reply *reply)
{
    enum gfs_err err = flags & GFS_OPEN_CREATE ? create_call(fs, path, flags, opts, reply)
                                               : gfs_stat(fs, path, &reply->attr);
    if (err != GFS_OK)
        return err;
    if (reply->attr.type != GFS_TYPE_FILE)
        return call_failed(fs, "open", path, GFS_ERR_IS_DIR, "");
    if ((flags & GFS_OPEN_TRUNCATE) && !reply->created && reply->attr.size_bytes > 0) {
        err = truncate_call(fs, path, reply->attr.inode);
        reply->attr.size_bytes = 0;
    }
    return err;
}

static void file_free(struct gfs_file *file)
{
    readahead_release(&file->ahead);
    append_release(&file->append);
    free(file->records.data);
    writer_free(file->writer);
    reader_release(&file->reader);
    pthread_mutex_destroy(&file->position_lock);
    free(file->path);
    free(file);
}

enum gfs_err gfs_open(struct gfs *fs, const char *path, int flags,
                      const struct gfs_create_options *create_opts, struct gfs_file **ret_file)
{
    enum gfs_err err = call_check_path("open", path);
    if (err == GFS_OK)
        err = check_flags(path, flags, create_opts);
    if (err != GFS_OK)
        return err;
    struct create_reply reply = {0};
    err = file_resolve(fs, path, flags, create_opts, &reply);
    if (err != GFS_OK)
        return err;
    struct gfs_file *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "open %s: out of memory", path);
    pthread_mutex_init(&file->position_lock, NULL);
    append_init(&file->append, fs);
    file->fs = fs;
    file->flags = flags;
    file->inode = reply.attr.inode;
    file->path = strdup(path);
    err = reader_init(&file->reader, fs, file->path, file->inode, reply.attr.chunk_size_bytes,
                      reply.attr.size_bytes);
    readahead_init(&file->ahead, &file->reader);
    if (err != GFS_OK || file->path == NULL)
        err = failure_set(GFS_ERR_NO_MEMORY, "open %s: out of memory", path);
    else if (flags & GFS_OPEN_WRITE)
        err = writer_new(fs, path, file->inode, reply.attr.chunk_size_bytes,
                         (flags & GFS_OPEN_ATOMIC) != 0, reply.leased ? &reply.lease : NULL,
                         &file->writer);
    if (err != GFS_OK)
        file_free(file);
    else
        *ret_file = file;
    return err;
}

enum gfs_err gfs_create(struct gfs *fs, const char *path,
                        const struct gfs_create_options *create_opts, struct gfs_file **ret_file)
{
    return gfs_open(fs, path, GFS_OPEN_READ | GFS_OPEN_WRITE | GFS_OPEN_CREATE | GFS_OPEN_TRUNCATE,
                    create_opts, ret_file);
}

/* ---- read ---------------------------------------------------------------------------------- */

/* Readers see what this file object wrote. */
static enum gfs_err file_settle(struct gfs_file *file, bool *ret_changed)
{
    *ret_changed = false;
    if (!(file->flags & GFS_OPEN_READ))
        return failure_set(GFS_ERR_INVAL, "read %s: the file is not open for reading", file->path);
    if (file->writer == NULL || !writer_is_dirty(file->writer))
        return GFS_OK;
    enum gfs_err err = writer_sync(file->writer);
    if (err == GFS_OK) {
        reader_forget(&file->reader);
        *ret_changed = true;
    }
    return err;
}

static enum gfs_err check_range(const struct gfs_file *file, uint64_t offset, size_t len_bytes)
{
    if (offset > INT64_MAX || len_bytes > INT64_MAX - offset)
        return failure_set(GFS_ERR_INVAL, "%s: offset %llu and length %zu are too large",
                           file->path, (unsigned long long)offset, len_bytes);
    return GFS_OK;
}

enum gfs_err gfs_pread(struct gfs_file *file, uint64_t offset, void *buf, size_t len_bytes,
                       size_t *ret_len_bytes)
{
    bool changed;
    enum gfs_err err = check_range(file, offset, len_bytes);
    if (err == GFS_OK)
        err = file_settle(file, &changed);
    uint64_t size_bytes = 0;
    if (err == GFS_OK && file->fs->opts.fresh_reads)
        err = reader_refresh(&file->reader, offset);
    if (err == GFS_OK)
        err = reader_size_for(&file->reader, offset + len_bytes, &size_bytes);
    if (err != GFS_OK)
        return err;
    uint64_t left_bytes = offset < size_bytes ? size_bytes - offset : 0;
    if (left_bytes > len_bytes)
        left_bytes = len_bytes;
    if (left_bytes > 0)
        err = reader_read(&file->reader, offset, buf, left_bytes);
    if (err == GFS_OK)
        *ret_len_bytes = left_bytes;
    return err;
}

enum gfs_err gfs_read(struct gfs_file *file, void *buf, size_t len_bytes, size_t *ret_len_bytes)
{
    bool changed;
    size_t got_bytes = 0;
    pthread_mutex_lock(&file->position_lock);
    enum gfs_err err = check_range(file, file->position, len_bytes);
    if (err == GFS_OK)
        err = file_settle(file, &changed);
    if (err == GFS_OK && changed)
        readahead_reset(&file->ahead);
    /* What was read ahead may be older than this call. */
    if (err == GFS_OK && file->fs->opts.fresh_reads)
        err = gfs_pread(file, file->position, buf, len_bytes, &got_bytes);
    else if (err == GFS_OK)
        err = readahead_read(&file->ahead, file->position, buf, len_bytes, &got_bytes);
    if (err == GFS_OK) {
        file->position += got_bytes;
        *ret_len_bytes = got_bytes;
    }
    pthread_mutex_unlock(&file->position_lock);
    return err;
}

void gfs_seek(struct gfs_file *file, uint64_t offset)
{
    pthread_mutex_lock(&file->position_lock);
    file->position = offset;
    pthread_mutex_unlock(&file->position_lock);
}

enum gfs_err gfs_fstat(struct gfs_file *file, struct gfs_attr *ret_attr)
{
    return reader_stat(&file->reader, ret_attr);
}

/* ---- write --------------------------------------------------------------------------------- */

static enum gfs_err file_check_writable(const struct gfs_file *file)
{
    if (file->writer == NULL)
        return failure_set(GFS_ERR_INVAL, "write %s: the file is not open for writing", file->path);
    return GFS_OK;
}

enum gfs_err gfs_pwrite(struct gfs_file *file, uint64_t offset, const void *buf, size_t len_bytes)
{
    enum gfs_err err = file_check_writable(file);
    if (err == GFS_OK)
        err = check_range(file, offset, len_bytes);
    if (err == GFS_OK)
        err = writer_write(file->writer, offset, buf, len_bytes);
    return err;
}

enum gfs_err gfs_write(struct gfs_file *file, const void *buf, size_t len_bytes)
{
    pthread_mutex_lock(&file->position_lock);
    enum gfs_err err = gfs_pwrite(file, file->position, buf, len_bytes);
    if (err == GFS_OK)
        file->position += len_bytes;
    pthread_mutex_unlock(&file->position_lock);
    return err;
}

enum gfs_err gfs_sync(struct gfs_file *file)
{
    return file->writer != NULL ? writer_sync(file->writer) : GFS_OK;
}

/* ---- close --------------------------------------------------------------------------------- */

/* One try: what does not arrive is collected by the master when it hears no more of the file. */
static void file_drop_anonymous(struct gfs_file *file)
{
    char kept[FAILURE_TEXT_MAX_BYTES];
    strcpy(kept, failure_text());
    Gfs__AbandonRequest msg = GFS__ABANDON_REQUEST__INIT;
    msg.inode = file->inode;
    struct call call = {.type = GFS_MSG_ABANDON,
                        .msg = &msg.base,
                        .what = "abandon",
                        .path = file->path,
                        .budget_ms = FILE_ABANDON_TIMEOUT_MS};
    enum gfs_err err = call_master(file->fs, &call);
    if (err != GFS_OK)
        failure_set(err, "%s", kept);
}

enum gfs_err gfs_close(struct gfs_file *file)
{
    if (file == NULL)
        return GFS_OK;
    enum gfs_err err = GFS_OK;
    if (file_is_atomic(file)) {
        err = writer_publish(file->writer, (file->flags & GFS_OPEN_EXCLUSIVE) == 0);
        if (err != GFS_OK)
            file_drop_anonymous(file);
    } else if (file->writer != NULL) {
        err = writer_sync(file->writer);
    }
    file_free(file);
    return err;
}

void gfs_abandon(struct gfs_file *file)
{
    if (file == NULL)
        return;
    if (file_is_atomic(file))
        file_drop_anonymous(file);
    file_free(file);
}
