/*
 * call: one request to the master and its answer, waited for by the user's thread and tried again
 * until the deadline while the error's class says so. Mutations carry an op_id, so that a retry
 * after a lost answer finds its first try.
 */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include <protobuf-c/protobuf-c.h>

#include "fs.h"

/* Copies out of the answer what is wanted; on the loop's thread, which must not be held up. */
typedef enum gfs_err call_take_fn(void *arg, const ProtobufCMessage *msg);

struct call {
    enum gfs_msg type;
    const ProtobufCMessage *msg;
    call_take_fn *take; /* NULL: nothing is wanted */
    void *arg;
    const char *what;   /* for the error text: "stat" */
    const char *path;   /* likewise, may be NULL */
    uint32_t budget_ms; /* 0: the option timeout_ms */
};

/* Sets the thread's error text on failure. */
enum gfs_err call_master(struct gfs *fs, const struct call *call) GFS_MUST_CHECK;
/* The same request type for many messages, CALL_MANY_WINDOW in flight. msgs(arg, i) gives the
 * i-th, which is consumed before the next is asked for; take(arg, i, msg) its answer; ret_errs[i]
 * its fate. Returns the first error, or GFS_OK. */
struct call_many {
    enum gfs_msg type;
    size_t count;
    const ProtobufCMessage *(*msg)(void *arg, size_t i);
    /* Loop's thread. NULL: not wanted. */
    enum gfs_err (*take)(void *arg, size_t i, const ProtobufCMessage *msg);
    void *arg;
    const char *what;
    const char *const *paths;
    enum gfs_err *ret_errs;
};
enum gfs_err call_many(struct gfs *fs, const struct call_many *many) GFS_MUST_CHECK;
/* The error text for a call to the master that ended in err. Returns err. */
enum gfs_err call_failed(const struct gfs *fs, const char *what, const char *path, enum gfs_err err,
                         const char *detail);
/* GFS_OK, or why the path cannot be sent. Sets the error text. */
enum gfs_err call_check_path(const char *what, const char *path) GFS_MUST_CHECK;
ProtobufCBinaryData call_bytes(const char *text);
void call_sleep_ms(uint32_t ms); /* user threads only */

#endif
