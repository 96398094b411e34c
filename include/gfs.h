/*
 * libgfs: the public C API of the chunk storage service.
 *
 * Blocking and thread-safe: every function may be called from any thread; a `struct gfs_file` may
 * be shared by threads that use gfs_pread/gfs_pwrite, while gfs_read/gfs_write share its one
 * position (each call takes its range of it atomically). The library starts one thread of its own
 * per `struct gfs`, installs no signal handlers and writes nothing to stdout or stderr.
 *
 * Errors: every fallible function returns an enum gfs_err; outputs (`ret_...`) are untouched on
 * failure. gfs_last_error() gives one line about this thread's last failure: what, on which path
 * or server. Paths are absolute byte strings, components of at most 255 bytes, 4096 in all.
 *
 * Durability: what gfs_sync or gfs_close acknowledged is on stable storage of every replica
 * counted. What was written and not yet acknowledged may be lost with the process.
 */
#ifndef GFS_H
#define GFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#ifdef __cplusplus
extern "C" {
#endif

struct gfs;      /* a connection to a cluster */
struct gfs_file; /* an open file */
struct gfs_dir;  /* an open directory listing */

/* All fields 0 or NULL mean the default. Zero the struct first. */
struct gfs_options {
    uint32_t timeout_ms;    /* for one call to give up, default 30000; data calls: per request */
    uint32_t write_window;  /* mutations in flight per file, default 4, at most 64 */
    uint32_t read_window;   /* read requests in flight per file, default 4, at most 64 */
    uint32_t request_bytes; /* of one data request: a power of two, 64 KiB to 4 MiB; 1 MiB */
    /* When a chunkserver that does not answer is given up for another, default 5000; one that does
     * not answer a ping either, after 800 at most. */
    uint32_t server_timeout_ms;
    const char *rack; /* of this host, to push to near servers first; NULL: $GFS_RACK, or none */
    /*
     * Every read asks the master where the chunk is: reads and writes of a region are then
     * linearizable. Without it what the master said is believed for a second, and a reader that is
     * still connected to a chunkserver which the master has cut out may for that long read what the
     * bytes were before.
     */
    bool fresh_reads;
};

enum gfs_type {
    GFS_TYPE_FILE = 1,
    GFS_TYPE_DIR = 2,
};

struct gfs_attr {
    uint64_t inode;
    enum gfs_type type;
    uint64_t size_bytes; /* 0 for a directory */
    uint32_t goal;       /* replicas wanted */
    uint32_t chunk_size_bytes;
    uint32_t chunk_count;
    uint32_t entry_count; /* of a directory */
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_ms; /* since the epoch */
    int64_t ctime_ms;
};

struct gfs_dirent {
    const char *name; /* NUL-terminated; valid until the next gfs_readdir or gfs_closedir */
    struct gfs_attr attr;
};

enum gfs_open_flags {
    GFS_OPEN_READ = 1,
    GFS_OPEN_WRITE = 2,
    GFS_OPEN_CREATE = 4,    /* make it if it is not there */
    GFS_OPEN_EXCLUSIVE = 8, /* with CREATE: fail if it is there */
    GFS_OPEN_TRUNCATE = 16,
    /*
     * With CREATE: the file is invisible under its name until gfs_close, which publishes it
     * atomically with all its bytes; gfs_abandon, or the death of the process, leaves nothing
     * under the name. An existing file is replaced then, unless EXCLUSIVE.
     */
    GFS_OPEN_ATOMIC = 32,
};

struct gfs_create_options {
    uint32_t goal;             /* 0: the directory's */
    uint32_t chunk_size_bytes; /* 0: default; else a power of two, 1 MiB to 1 GiB */
    uint32_t mode;             /* 0: 0644 */
};

struct gfs_statfs {
    uint64_t capacity_bytes;
    uint64_t used_bytes;
    uint64_t files;
    uint64_t directories;
    uint64_t chunks;
    uint64_t under_replicated_chunks;
    uint64_t lost_chunks;
    uint64_t master_memory_bytes;
    uint32_t servers_up;
    uint32_t servers_down;
};

enum gfs_replica_state {
    GFS_REPLICA_OK = 0,
    GFS_REPLICA_STALE = 1,
    GFS_REPLICA_CORRUPT = 2,
    GFS_REPLICA_MISSING = 3,
};

struct gfs_replica {
    char server[37]; /* UUID text */
    char addr[64];   /* host:port, empty when not known */
    enum gfs_replica_state state;
};

struct gfs_chunk_info {
    uint32_t index;
    uint64_t handle; /* 0: a hole */
    uint32_t version;
    uint32_t length_bytes;
    uint32_t goal;
    uint32_t replica_count;
    const struct gfs_replica *replicas;
};

struct gfs_server_info {
    char id[37]; /* UUID text */
    char addr[64];
    char rack[64];
    bool up;
    bool read_only;
    uint64_t capacity_bytes;
    uint64_t used_bytes;
    uint64_t chunks;
    uint64_t heartbeat_age_ms;
};

/*
 * Connects to the master at "host:port" (NULL: $GFS_MASTER, else 127.0.0.1:7400). opts may be
 * NULL. Fails with CONN or TIMEOUT when no master answers within timeout_ms; a connection that is
 * refused is tried again for 5 s at most, since a person may be waiting. Free with gfs_disconnect,
 * after every file and directory of it is closed.
 */
GFS_API enum gfs_err gfs_connect(const char *master, const struct gfs_options *opts,
                                 struct gfs **ret_fs) GFS_MUST_CHECK;
GFS_API void gfs_disconnect(struct gfs *fs);

/* flags: enum gfs_open_flags. create_opts may be NULL; used only when the file is made. */
GFS_API enum gfs_err gfs_open(struct gfs *fs, const char *path, int flags,
                              const struct gfs_create_options *create_opts,
                              struct gfs_file **ret_file) GFS_MUST_CHECK;
/* gfs_open with READ | WRITE | CREATE | TRUNCATE. */
GFS_API enum gfs_err gfs_create(struct gfs *fs, const char *path,
                                const struct gfs_create_options *create_opts,
                                struct gfs_file **ret_file) GFS_MUST_CHECK;
/*
 * Reads at the file's position (gfs_read) or at `offset` (gfs_pread), up to len bytes. Fewer bytes
 * come back only at the end of the file; 0 at or past it. Every byte was checked against the
 * writer's CRC-32C. On an error *ret_len is untouched, buf may hold anything.
 */
GFS_API enum gfs_err gfs_read(struct gfs_file *file, void *buf, size_t len_bytes,
                              size_t *ret_len_bytes) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_pread(struct gfs_file *file, uint64_t offset, void *buf, size_t len_bytes,
                               size_t *ret_len_bytes) GFS_MUST_CHECK;
/*
 * Writes len bytes at the position or at `offset`. The bytes are copied; the call returns when they
 * are in the write window, so an error may show in a later call, in gfs_sync or in gfs_close. After
 * an error every later write and sync of this file fails with it.
 */
GFS_API enum gfs_err gfs_write(struct gfs_file *file, const void *buf,
                               size_t len_bytes) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_pwrite(struct gfs_file *file, uint64_t offset, const void *buf,
                                size_t len_bytes) GFS_MUST_CHECK;
/* Waits until all that was written is durable on every replica and the master knows the length. */
GFS_API enum gfs_err gfs_sync(struct gfs_file *file) GFS_MUST_CHECK;
/*
 * gfs_sync, then publishes an ATOMIC file, then frees `file` whatever the result. NULL is OK.
 * When it fails, an ATOMIC file was not published.
 */
GFS_API enum gfs_err gfs_close(struct gfs_file *file) GFS_MUST_CHECK;
/* Frees `file` without syncing; an ATOMIC file is dropped. NULL is fine. */
GFS_API void gfs_abandon(struct gfs_file *file);
/* Sets the position gfs_read and gfs_write use, in bytes from the start. */
GFS_API void gfs_seek(struct gfs_file *file, uint64_t offset);
/* Attributes of an open file, asked of the master. */
GFS_API enum gfs_err gfs_fstat(struct gfs_file *file, struct gfs_attr *ret_attr) GFS_MUST_CHECK;

GFS_API enum gfs_err gfs_stat(struct gfs *fs, const char *path,
                              struct gfs_attr *ret_attr) GFS_MUST_CHECK;
/*
 * gfs_stat of `count` paths with the requests pipelined: one round trip for many. ret_errs[i] tells
 * of paths[i]; ret_attrs[i] is set where that is GFS_OK. Returns GFS_OK when all are, else one of
 * the errors.
 */
GFS_API enum gfs_err gfs_stat_many(struct gfs *fs, const char *const *paths, size_t count,
                                   struct gfs_attr *ret_attrs,
                                   enum gfs_err *ret_errs) GFS_MUST_CHECK;
/*
 * Makes `count` empty files, pipelined; one that is there already is EXISTS. create_opts may be
 * NULL. Errors as with gfs_stat_many. No order among them.
 */
GFS_API enum gfs_err gfs_create_many(struct gfs *fs, const char *const *paths, size_t count,
                                     const struct gfs_create_options *create_opts,
                                     enum gfs_err *ret_errs) GFS_MUST_CHECK;
/*
 * Lists a directory in byte order of names, fetched in pages. gfs_readdir returns NOT_FOUND after
 * the last entry. An entry that changes while the listing runs is seen before or after, never
 * twice.
 */
GFS_API enum gfs_err gfs_opendir(struct gfs *fs, const char *path,
                                 struct gfs_dir **ret_dir) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_readdir(struct gfs_dir *dir, struct gfs_dirent *ret_entry) GFS_MUST_CHECK;
GFS_API void gfs_closedir(struct gfs_dir *dir);
/* mode 0: 0755. parents: make missing parents, an existing directory is no error. */
GFS_API enum gfs_err gfs_mkdir(struct gfs *fs, const char *path, uint32_t mode,
                               bool parents) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_unlink(struct gfs *fs, const char *path) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_rmdir(struct gfs *fs, const char *path) GFS_MUST_CHECK;
/* A file, or a directory with all below it, atomically. */
GFS_API enum gfs_err gfs_remove_tree(struct gfs *fs, const char *path) GFS_MUST_CHECK;
/* Atomic, of directories too. An existing file (or empty directory) at `to` is replaced. */
GFS_API enum gfs_err gfs_rename(struct gfs *fs, const char *from, const char *to) GFS_MUST_CHECK;
/* Not to be mixed with writing: what a file that was open before writes to the part that is cut may
 * be lost; its sync then fails. Open it anew. */
GFS_API enum gfs_err gfs_truncate(struct gfs *fs, const char *path,
                                  uint64_t size_bytes) GFS_MUST_CHECK;
/* mtime_ms 0: now. */
GFS_API enum gfs_err gfs_set_mtime(struct gfs *fs, const char *path,
                                   int64_t mtime_ms) GFS_MUST_CHECK;
/* Replicas wanted, 1 to 16; of a directory: of what is made in it later; recursive: of all below.
 */
GFS_API enum gfs_err gfs_set_goal(struct gfs *fs, const char *path, uint32_t goal, bool recursive,
                                  uint64_t *ret_changed) GFS_MUST_CHECK;
/*
 * A copy of a file, or of a directory with all below it, at `to`, which must not exist: EXISTS;
 * inside `from`: LOOP. Instant: the chunks are shared until either side writes to them, and then
 * index entries are copied, not data. What gfs_sync acknowledged before is in it (GFS paper 3.4).
 */
GFS_API enum gfs_err gfs_snapshot(struct gfs *fs, const char *from, const char *to) GFS_MUST_CHECK;

/* ---- records (GFS paper 3.3, but exactly once) ---- */
/*
 * Appends a record, atomically, at an offset that the service chooses: any number of producers may
 * append to one file. Retries inside are recognized: each record is in the file once. When it
 * returns GFS_OK the record is on stable storage of every replica counted and visible to every
 * reader. *ret_offset (may be NULL) is where the record begins: gfs_read_record takes it. TOO_LARGE
 * above gfs_record_max. After any other error the record may or may not be in the file, once.
 * The file is open for WRITE, not ATOMIC. Thread-safe; appends of one `file` are done in turn.
 */
GFS_API enum gfs_err gfs_append(struct gfs_file *file, const void *record, size_t len_bytes,
                                uint64_t *ret_offset) GFS_MUST_CHECK;
struct gfs_record {
    const void *data;
    size_t len_bytes;
};
/* gfs_append of many, with several in flight; in no promised order. ret_offsets may be NULL. On an
 * error any of them may or may not be in the file; *ret_done (may be NULL) of the first are. */
GFS_API enum gfs_err gfs_append_many(struct gfs_file *file, const struct gfs_record *records,
                                     size_t count, uint64_t *ret_offsets,
                                     size_t *ret_done) GFS_MUST_CHECK;
/* The largest record the file takes: a quarter of a chunk, 16 MiB at most, less its header. */
GFS_API size_t gfs_record_max(const struct gfs_file *file);
/*
 * Reads the record at *offset, or the next one behind padding, into a buffer of the library that is
 * valid until the file's next gfs_read_record; *offset moves behind it. At the end of the file
 * *ret_record is NULL. BAD_RECORD: bytes that are neither record nor padding: the file was not
 * (only) appended to, or *offset is not where a record begins. One thread at a time a file.
 */
GFS_API enum gfs_err gfs_read_record(struct gfs_file *file, uint64_t *offset,
                                     const void **ret_record, size_t *ret_len_bytes) GFS_MUST_CHECK;
/*
 * Waits, without polling, until the file is longer than `offset`, at most timeout_ms. *ret_size is
 * its size then. TIMEOUT: it is not. STALE_HANDLE: it was removed.
 */
GFS_API enum gfs_err gfs_wait(struct gfs_file *file, uint64_t offset, uint32_t timeout_ms,
                              uint64_t *ret_size_bytes) GFS_MUST_CHECK;

/* CRC-32C of a whole file from the block CRCs that its replicas keep: no data is moved. */
GFS_API enum gfs_err gfs_checksum(struct gfs *fs, const char *path, uint32_t *ret_crc,
                                  uint64_t *ret_size_bytes) GFS_MUST_CHECK;
struct gfs_scrub {
    bool running;
    uint64_t chunks; /* to check in this pass */
    uint64_t chunks_done;
    uint64_t bytes_done;
    uint64_t bad_chunks; /* found in this pass; their repair has begun */
    uint64_t passes;     /* ended since the server started */
};
/* Starts (start) a scrub of all chunks of the chunkserver at "host:port", or asks how it stands. */
GFS_API enum gfs_err gfs_scrub_server(struct gfs *fs, const char *server, bool start,
                                      struct gfs_scrub *ret_scrub) GFS_MUST_CHECK;
/* Has every replica of every chunk of a file read and checked now. *ret_bad: replicas that were
 * found bad, and reported so that they are repaired. */
GFS_API enum gfs_err gfs_scrub_file(struct gfs *fs, const char *path, uint64_t *ret_replicas,
                                    uint64_t *ret_bad) GFS_MUST_CHECK;
GFS_API enum gfs_err gfs_statfs(struct gfs *fs, struct gfs_statfs *ret_statfs) GFS_MUST_CHECK;

/*
 * The chunks of a file with every known replica. *ret_chunks is one allocation, replicas
 * included; free it with gfs_free.
 */
GFS_API enum gfs_err gfs_chunks(struct gfs *fs, const char *path,
                                struct gfs_chunk_info **ret_chunks,
                                size_t *ret_count) GFS_MUST_CHECK;
/* All chunkservers the master knows. Free *ret_servers with gfs_free. */
GFS_API enum gfs_err gfs_servers(struct gfs *fs, struct gfs_server_info **ret_servers,
                                 size_t *ret_count) GFS_MUST_CHECK;
GFS_API void gfs_free(void *memory);

/* One line about the calling thread's last failure, never NULL; valid until its next gfs call. */
GFS_API const char *gfs_last_error(void);
/* "0.1.0" */
GFS_API const char *gfs_version(void);

#ifdef __cplusplus
}
#endif
#endif
