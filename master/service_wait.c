/*
 * WAIT: readers that follow a file are answered when it is longer than they know.
 *
 *   by_inode: file -> its waiters --grown--> op_finish (when durable)
 *   by_conn:  connection -> how many it has, and which: dropped with it
 *
 * Whoever lengthens a file calls service_wait_wake after the change is in the journal; the answer
 * waits for the journal, so nobody is told of bytes that a crash could take back. A length is
 * looked at when a waiter is added and at every growth, on one thread: no wake-up is lost. Removals
 * only leave a note, and the timer looks for those that wait for a file that is gone. Waiters are
 * not among the requests that ops_max counts: they have limits of their own.
 */
#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#include "master/service_op.h"

#define WAITS_MAX      65536u
#define WAITS_CONN_MAX 256u /* fewer than a connection may have requests: it must stay usable */
#define WAIT_PACE_MS   50u  /* the timer does not run more often */

struct wait_file;
struct wait_conn;

struct waiter {
    struct rpc_request *request;
    struct wait_file *file;
    struct wait_conn *conn;
    uint64_t offset;
    uint64_t until_ms;
    struct waiter *prev, *next;           /* of the file */
    struct waiter *conn_prev, *conn_next; /* of the connection */
};

struct wait_file {
    uint64_t inode;
    struct waiter *waiters;
    UT_hash_handle hh;
};

struct wait_conn {
    const struct rpc_conn *conn;
    struct waiter *waiters;
    uint32_t count;
    UT_hash_handle hh;
};

struct service_waits {
    struct service *service;
    struct wait_file *by_inode;
    struct wait_conn *by_conn;
    uint32_t count;
    uint64_t wakes_ms; /* when the timer is armed for; UINT64_MAX: it is not */
    bool removals;     /* since the timer last ran */
    struct loop_timer timer;
};

/* ---- the table ----------------------------------------------------------------------------- */

/* Takes the waiter out and frees it; the request is the caller's. */
static struct rpc_request *take_waiter(struct service_waits *waits, struct waiter *take_waiter)
{
    struct rpc_request *request = take_waiter->request;
    struct wait_file *file = take_waiter->file;
    struct wait_conn *conn = take_waiter->conn;
    DL_DELETE(file->waiters, take_waiter);
    if (file->waiters == NULL) {
        HASH_DEL(waits->by_inode, file);
        free(file);
    }
    DL_DELETE2(conn->waiters, take_waiter, conn_prev, conn_next);
    if (--conn->count == 0) {
        HASH_DEL(waits->by_conn, conn);
        free(conn);
    }
    free(take_waiter);
    waits->count--;
    return request;
}

static struct wait_file *find_or_add_file(struct service_waits *waits, uint64_t inode)
{
    struct wait_file *file;
    HASH_FIND(hh, waits->by_inode, &inode, sizeof(inode), file);
    if (file == NULL && (file = calloc(1, sizeof(*file))) != NULL) {
        file->inode = inode;
        HASH_ADD(hh, waits->by_inode, inode, sizeof(file->inode), file);
    }
    return file;
}

static struct wait_conn *find_or_add_conn(struct service_waits *waits, const struct rpc_conn *of)
{
    struct wait_conn *conn;
    HASH_FIND_PTR(waits->by_conn, &of, conn);
    if (conn == NULL && (conn = calloc(1, sizeof(*conn))) != NULL) {
        conn->conn = of;
        HASH_ADD_PTR(waits->by_conn, conn, conn);
    }
    return conn;
}

/* False: limits, or memory; the request stays the caller's. */
static bool add_waiter(struct service_waits *waits, struct rpc_request *request, uint64_t inode,
                       uint64_t offset, uint64_t until_ms)
{
    if (waits->count >= WAITS_MAX) {
        return false;
    }
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    struct wait_file *file = find_or_add_file(waits, inode);
    struct wait_conn *conn = find_or_add_conn(waits, request->conn);
    if (waiter == NULL || file == NULL || conn == NULL || conn->count >= WAITS_CONN_MAX) {
        free(waiter);
        if (file != NULL && file->waiters == NULL) {
            HASH_DEL(waits->by_inode, file);
            free(file);
        }
        if (conn != NULL && conn->count == 0) {
            HASH_DEL(waits->by_conn, conn);
            free(conn);
        }
        return false;
    }
    *waiter = (struct waiter){request, file, conn, offset, until_ms, NULL, NULL, NULL, NULL};
    DL_APPEND(file->waiters, waiter);
    DL_APPEND2(conn->waiters, waiter, conn_prev, conn_next);
    conn->count++;
    waits->count++;
    return true;
}

/* ---- answers ------------------------------------------------------------------------------- */

/* With the attributes now, once they are durable. */
static void answer(struct service *service, struct rpc_request *take_request,
                   const struct inode *inode)
{
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    if (inode == NULL) {
        op_fail(op, GFS_ERR_STALE_HANDLE, 0, NULL);
        return;
    }
    Gfs__WaitReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Attr *attr = op_alloc(op, 1, sizeof(*attr));
    if (reply != NULL && attr != NULL) {
        gfs__wait_reply__init(reply);
        op_set_attr(op, inode, attr);
        reply->attr = attr;
        op->reply = &reply->base;
    }
    op_finish(op);
}

/* NULL: removed, or about to be given back with the directory it was in. */
static struct inode *find_file(const struct service *service, uint64_t id)
{
    struct inode *inode;
    enum gfs_err err = ns_inode(service->parts.ns, id, &inode);
    return err == GFS_OK && !ns_is_removed(service->parts.ns, inode) ? inode : NULL;
}

static uint64_t length_of(const struct service *service, const struct inode *inode)
{
    struct inode_attr attr;
    ns_attr(service->parts.ns, inode, &attr);
    return attr.length_bytes;
}

void service_wait_wake(struct service *service, uint64_t inode_number)
{
    struct service_waits *waits = service->waits;
    struct wait_file *file;
    HASH_FIND(hh, waits->by_inode, &inode_number, sizeof(inode_number), file);
    if (file == NULL) {
        return;
    }
    const struct inode *inode = find_file(service, inode_number);
    uint64_t length = inode != NULL ? length_of(service, inode) : UINT64_MAX;
    struct waiter *waiter = file->waiters;
    while (waiter != NULL) { /* the file's entry goes with its last waiter */
        struct waiter *next = waiter->next;
        if (length > waiter->offset) {
            answer(service, take_waiter(waits, waiter), inode);
        }
        waiter = next;
    }
}

/* ---- the clock ----------------------------------------------------------------------------- */

static void arm(struct service_waits *waits, uint64_t at_ms)
{
    uint64_t now_ms = loop_now_ms();
    at_ms = at_ms > now_ms + WAIT_PACE_MS ? at_ms : now_ms + WAIT_PACE_MS;
    if (at_ms < waits->wakes_ms) {
        waits->wakes_ms = at_ms;
        loop_timer_arm(&waits->timer, at_ms - now_ms);
    }
}

/* Answers the file's waiters whose time is over, all when it is gone. Returns when the next is. */
static uint64_t end_late(struct service *service, struct wait_file *file, uint64_t now_ms)
{
    const struct inode *inode = find_file(service, file->inode);
    uint64_t next_ms = UINT64_MAX;
    struct waiter *waiter = file->waiters;
    while (waiter != NULL) {
        struct waiter *next = waiter->next;
        if (inode == NULL || now_ms >= waiter->until_ms) {
            answer(service, take_waiter(service->waits, waiter), inode);
        } else {
            next_ms = waiter->until_ms < next_ms ? waiter->until_ms : next_ms;
        }
        waiter = next;
    }
    return next_ms;
}

static void on_timer(struct loop_timer *timer)
{
    struct service_waits *waits =
        (struct service_waits *)((char *)timer - offsetof(struct service_waits, timer));
    uint64_t now_ms = loop_now_ms();
    uint64_t next_ms = UINT64_MAX;
    waits->wakes_ms = UINT64_MAX;
    waits->removals = false;
    struct wait_file *file, *tmp;
    HASH_ITER (hh, waits->by_inode, file, tmp) {
        uint64_t at_ms = end_late(waits->service, file, now_ms);
        next_ms = at_ms < next_ms ? at_ms : next_ms;
    }
    if (next_ms != UINT64_MAX) {
        arm(waits, next_ms);
    }
}

void service_wait_check(struct service *service)
{
    struct service_waits *waits = service->waits;
    if (waits->count > 0 && !waits->removals) {
        waits->removals = true;
        arm(waits, 0);
    }
}

/* ---- the request --------------------------------------------------------------------------- */

void service_wait(struct service *service, struct rpc_request *take_request)
{
    const Gfs__WaitRequest *msg = (const void *)take_request->msg;
    const struct inode *inode = find_file(service, msg->inode);
    uint64_t now_ms = loop_now_ms();
    if (inode == NULL) {
        answer(service, take_request, NULL);
        return;
    }
    struct inode_attr attr;
    ns_attr(service->parts.ns, inode, &attr);
    if (attr.type != INODE_FILE) {
        service_refuse(take_request, GFS_ERR_IS_DIR, NULL);
        return;
    }
    if (attr.length_bytes > msg->offset || msg->timeout_ms == 0) {
        answer(service, take_request, inode);
        return;
    }
    /* Nobody listens any more after the deadline. */
    uint64_t until_ms = now_ms + msg->timeout_ms;
    until_ms = until_ms < take_request->deadline_ms ? until_ms : take_request->deadline_ms;
    if (!add_waiter(service->waits, take_request, msg->inode, msg->offset, until_ms)) {
        service_refuse(take_request, GFS_ERR_BUSY, "too many wait for files to grow");
        return;
    }
    arm(service->waits, until_ms);
}

/* ---- life ---------------------------------------------------------------------------------- */

void service_wait_forget(struct service *service, const struct rpc_conn *of)
{
    struct service_waits *waits = service->waits;
    struct wait_conn *conn;
    HASH_FIND_PTR(waits->by_conn, &of, conn);
    for (uint32_t left = conn != NULL ? conn->count : 0; left > 0; left--) {
        service_refuse(take_waiter(waits, conn->waiters), GFS_ERR_CONN, NULL);
    }
}

enum gfs_err service_wait_init(struct service *service)
{
    struct service_waits *waits = calloc(1, sizeof(*waits));
    if (waits == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    waits->service = service;
    waits->wakes_ms = UINT64_MAX;
    enum gfs_err err = loop_timer_init(&waits->timer, service->parts.loop, on_timer);
    if (err != GFS_OK) {
        free(waits);
        return err;
    }
    service->waits = waits;
    return GFS_OK;
}

void service_wait_stop(struct service *service)
{
    struct service_waits *waits = service->waits;
    if (waits == NULL) {
        return;
    }
    loop_timer_release(&waits->timer);
    while (waits->by_inode != NULL) {
        service_refuse(take_waiter(waits, waits->by_inode->waiters), GFS_ERR_STOPPING, NULL);
    }
}

void service_wait_free(struct service *service)
{
    free(service->waits);
    service->waits = NULL;
}
