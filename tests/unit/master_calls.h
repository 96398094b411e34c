/* What a client asks of the master of master_rig.h, in few words. */
#ifndef TESTS_UNIT_MASTER_CALLS_H
#define TESTS_UNIT_MASTER_CALLS_H

#include "master_rig.h"

static inline uint64_t make_file(const char *path)
{
    Gfs__CreateRequest msg = GFS__CREATE_REQUEST__INIT;
    struct rig_answer answer;
    msg.path = rig_bytes(path);
    msg.exclusive = true;
    msg.chunk_size = GFS_CHUNK_SIZE_MIN_BYTES;
    assert_int_equal(rig_call(GFS_MSG_CREATE, &msg, &answer), GFS_OK);
    uint64_t inode = ((Gfs__CreateReply *)answer.msg)->attr->inode;
    rig_free_msg(&answer);
    return inode;
}

static inline enum gfs_err lookup(const char *path, uint64_t *ret_inode, uint64_t *ret_length)
{
    Gfs__LookupRequest msg = GFS__LOOKUP_REQUEST__INIT;
    struct rig_answer answer;
    msg.path = rig_bytes(path);
    enum gfs_err err = rig_call(GFS_MSG_LOOKUP, &msg, &answer);
    if (err == GFS_OK) {
        const Gfs__Attr *attr = ((Gfs__LookupReply *)answer.msg)->attr;
        *ret_inode = attr->inode;
        *ret_length = attr->length;
    }
    rig_free_msg(&answer);
    return err;
}

static inline void make_dir(const char *path)
{
    Gfs__MkdirRequest msg = GFS__MKDIR_REQUEST__INIT;
    msg.path = rig_bytes(path);
    assert_int_equal(rig_do(GFS_MSG_MKDIR, &msg), GFS_OK);
}

static inline enum gfs_err delete (const char *path) {
    Gfs__RemoveRequest msg = GFS__REMOVE_REQUEST__INIT; msg.path = rig_bytes(path);
    msg.recursive = true;
    return rig_do(GFS_MSG_REMOVE, &msg);
}

/* The reply is the caller's to free. */
static inline enum gfs_err lease(uint64_t inode, struct rig_answer *ret_answer,
                                 Gfs__Lease **ret_lease)
{
    Gfs__LeaseRequest msg = GFS__LEASE_REQUEST__INIT;
    msg.inode = inode;
    enum gfs_err err = rig_call(GFS_MSG_LEASE, &msg, ret_answer);
    *ret_lease = err == GFS_OK ? ((Gfs__LeaseReply *)ret_answer->msg)->lease : NULL;
    return err;
}

static inline enum gfs_err commit(uint64_t inode, uint64_t handle, uint32_t version,
                                  uint32_t length)
{
    Gfs__CommitChunk chunk = GFS__COMMIT_CHUNK__INIT;
    Gfs__CommitChunk *chunks[] = {&chunk};
    Gfs__CommitRequest msg = GFS__COMMIT_REQUEST__INIT;
    chunk.handle = handle;
    chunk.version = version;
    chunk.length = length;
    msg.inode = inode;
    msg.n_chunks = 1;
    msg.chunks = chunks;
    return rig_do(GFS_MSG_COMMIT, &msg);
}

struct written {
    uint64_t handle, family;
    uint32_t version;
};

/* Lease, write, commit: the file's chunk 0 has `length` bytes. */
static inline struct written write_file(uint64_t inode, uint32_t length)
{
    struct rig_answer answer;
    Gfs__Lease *got;
    assert_int_equal(lease(inode, &answer, &got), GFS_OK);
    assert_int_equal(got->n_replicas, RIG_SERVERS);
    assert_true(rig_write(got, length));
    assert_int_equal(commit(inode, got->handle, got->version, length), GFS_OK);
    struct written written = {got->handle, got->family, got->version};
    rig_free_msg(&answer);
    return written;
}

#endif
