#include "master/service.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "master/epoch.h"
#include "master/service_op.h"

/* ---- dispatch ------------------------------------------------------------------------------ */

static service_handler_fn *handler_of(enum gfs_msg type)
{
    switch (type) {
    case GFS_MSG_LOOKUP:
        return service_lookup;
    case GFS_MSG_READDIR:
        return service_readdir;
    case GFS_MSG_CREATE:
        return service_create;
    case GFS_MSG_PUBLISH:
        return service_publish;
    case GFS_MSG_ABANDON:
        return service_abandon;
    case GFS_MSG_MKDIR:
        return service_mkdir;
    case GFS_MSG_REMOVE:
        return service_remove;
    case GFS_MSG_RENAME:
        return service_rename;
    case GFS_MSG_SETATTR:
        return service_setattr;
    case GFS_MSG_TRUNCATE:
        return service_truncate;
    case GFS_MSG_COMMIT:
        return service_commit;
    case GFS_MSG_SNAPSHOT:
        return service_snapshot;
    case GFS_MSG_WAIT:
        return service_wait;
    case GFS_MSG_STATFS:
        return service_statfs;
    case GFS_MSG_SERVERS:
        return service_servers;
    case GFS_MSG_CHUNKS:
        return service_chunks;
    case GFS_MSG_LEASE:
        return service_lease;
    case GFS_MSG_REPORT_BAD:
        return service_report_bad;
    case GFS_MSG_REGISTER:
        return service_register;
    case GFS_MSG_HEARTBEAT:
        return service_heartbeat;
    case GFS_MSG_CHUNK_REPORT:
        return service_chunk_report;
    case GFS_MSG_APPENDED:
        return service_appended;
    default:
        return NULL;
    }
}

static void handle(struct service *service, struct rpc_request *take_request)
{
    service_handler_fn *handler = handler_of(take_request->type);
    if (handler == NULL) {
        service_refuse(take_request, GFS_ERR_PROTO, "not a request to a master");
    } else if (service->stopping) {
        service_refuse(take_request, GFS_ERR_STOPPING, NULL);
    } else if (journal_failed(service->parts.journal)) {
        service_refuse(take_request, GFS_ERR_IO, "the master's journal failed");
    } else if (loop_now_ms() >= take_request->deadline_ms) {
        service_refuse(take_request, GFS_ERR_TIMEOUT, "waited too long at the master");
    } else {
        handler(service, take_request);
    }
}

static void request_task(struct loop_task *task)
{
    struct rpc_request *request =
        (struct rpc_request *)((char *)task - offsetof(struct rpc_request, task));
    handle(request->arg, request);
}

/* A chunkserver's connection carries this, and that of a client that waits for a file, so that its
 * end reaches the metadata loop. */
struct peer {
    struct service *service;
    struct rpc_conn *conn;
    struct loop_task task;
};

static void watch_conn(struct service *service, struct rpc_conn *conn)
{
    if (rpc_conn_user(conn) != NULL) {
        return;
    }
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer != NULL) { /* without it the server's silence will tell */
        peer->service = service;
        peer->conn = conn;
        rpc_conn_set_user(conn, peer);
    }
}

void service_on_request(void *arg, struct rpc_request *take_request)
{
    struct service *service = arg;
    if (take_request->type == GFS_MSG_REGISTER || take_request->type == GFS_MSG_WAIT) {
        watch_conn(service, take_request->conn);
    }
    if (loop_is_current(service->parts.loop)) {
        handle(service, take_request);
        return;
    }
    take_request->arg = service;
    take_request->task.fn = request_task;
    loop_post(service->parts.loop, &take_request->task);
}

static void close_task(struct loop_task *task)
{
    struct peer *peer = (struct peer *)((char *)task - offsetof(struct peer, task));
    service_forget_link(peer->service, peer->conn);
    service_wait_forget(peer->service, peer->conn);
    rpc_conn_unref(peer->conn);
    free(peer);
}

void service_on_close(void *arg, struct rpc_conn *conn)
{
    struct service *service = arg;
    struct peer *peer = rpc_conn_user(conn);
    if (peer == NULL) {
        return;
    }
    rpc_conn_set_user(conn, NULL);
    rpc_conn_ref(conn);
    peer->task.fn = close_task;
    loop_post(service->parts.loop, &peer->task);
}

/* ---- epochs -------------------------------------------------------------------------------- */

struct service_epoch {
    struct service *service;
    pthread_t thread;
    enum gfs_err err;
    uint32_t epoch;
    struct loop_task task;
};

static void epoch_arrived(struct loop_task *task)
{
    struct service_epoch *next =
        (struct service_epoch *)((char *)task - offsetof(struct service_epoch, task));
    struct service *service = next->service;
    pthread_join(next->thread, NULL);
    if (next->err == GFS_OK) {
        service->parts.epoch = next->epoch;
        lease_set_epoch(service->leases, next->epoch);
    }
    log_event(next->err == GFS_OK ? LOG_INFO : LOG_ERROR, "epoch", "number=%u err=%s", next->epoch,
              gfs_err_name(next->err));
    service->epoch_under_way = NULL;
    free(next);
}

static void *write_next_epoch(void *arg)
{
    struct service_epoch *next = arg;
    struct service *service = next->service;
    next->err = epoch_next(service->parts.data_dir, next->epoch, &next->epoch);
    loop_post(service->parts.loop, &next->task);
    return NULL;
}

void service_begin_epoch(struct service *service)
{
    if (service->epoch_under_way != NULL) {
        return;
    }
    struct service_epoch *next = calloc(1, sizeof(*next));
    if (next == NULL) {
        return; /* the next tick tries again */
    }
    next->service = service;
    next->epoch = service->parts.epoch;
    next->task.fn = epoch_arrived;
    if (pthread_create(&next->thread, NULL, write_next_epoch, next) != 0) {
        free(next);
        return;
    }
    service->epoch_under_way = next;
}

/* ---- life ---------------------------------------------------------------------------------- */

static uint64_t highest_handle(const struct chunkmap *map)
{
    uint64_t highest = 0;
    uint32_t at = 0;
    const struct chunk *chunk;
    while ((chunk = chunkmap_walk(map, &at)) != NULL) {
        highest = chunk->handle > highest ? chunk->handle : highest;
    }
    return highest;
}

enum gfs_err service_new(const struct service_parts *parts, struct service **ret_service)
{
    const struct master_options *options = parts->options;
    struct service *service = calloc(1, sizeof(*service));
    if (service == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    service->parts = *parts;
    service->random_state = parts->random_seed;
    service->started_ms = loop_now_ms();
    service->started_wall_ms = service_wall_ms();
    service->max_handle = highest_handle(ns_chunkmap(parts->ns));
    changes_init(&service->changes);
    registry_init(&service->registry, options->heartbeat_ms * options->dead_missed);
    struct lease_options lease_options = {
        .lease_ms = (uint32_t)options->lease_ms,
        .min_replicas = (uint32_t)options->min_replicas,
        .waiters_max = (uint32_t)options->ops_max,
        .epoch = parts->epoch,
    };
    enum gfs_err err = lease_table_new(&lease_options, &service->leases);
    if (err == GFS_OK) {
        err = collect_new(options->collect_quarantine_s * 1000, &service->collect);
    }
    if (err == GFS_OK) {
        err = service_maintain_init(service);
    }
    if (err == GFS_OK) {
        err = service_wait_init(service);
    }
    if (err != GFS_OK) {
        loop_timer_release(&service->tick);
        service_free(service);
        return err;
    }
    *ret_service = service;
    return GFS_OK;
}

void service_stop(struct service *service)
{
    if (service->stopping) {
        return;
    }
    service->stopping = true;
    loop_timer_release(&service->tick);
    service_wait_stop(service);
    service_snapshot_stop(service);
    service_cow_stop(service);
    lease_drop_all(service->leases, GFS_ERR_STOPPING);
    service_run_effects(service);
}

bool service_is_idle(const struct service *service)
{
    const struct journal *journal = service->parts.journal;
    return service->op_count == 0 && journal_durable(journal) == journal_appended(journal);
}

void service_free(struct service *service)
{
    if (service == NULL) {
        return;
    }
    if (service->epoch_under_way != NULL) {
        pthread_join(service->epoch_under_way->thread, NULL);
        free(service->epoch_under_way);
    }
    service_wait_free(service);
    service_cow_free(service);
    service_settle_free(service);
    collect_free(service->collect);
    lease_table_free(service->leases);
    registry_release(&service->registry);
    changes_release(&service->changes);
    free(service);
}
