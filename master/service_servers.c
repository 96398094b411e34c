/* Chunkservers: registration, heartbeats, connections that end; what clients ask about them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"
#include "log.h"
#include "master/service_op.h"

/* Enough to be told by a heartbeat; a server with more leases is answered in part. */
#define EXTEND_MAX 65536u

/* ---- registration -------------------------------------------------------------------------- */

static bool text_fits(const char *text, size_t max_bytes)
{
    return text != NULL && strnlen(text, max_bytes) < max_bytes;
}

static const char *register_fault(const struct rpc_request *request,
                                  const Gfs__RegisterRequest *msg)
{
    if (msg->server_id.len != GFS_UUID_BYTES || uuid_is_zero(msg->server_id.data)) {
        return "the server id is not a UUID";
    }
    if (memcmp(msg->server_id.data, request->peer_id, GFS_UUID_BYTES) != 0) {
        return "the server id is not the one of the hello";
    }
    if (!text_fits(msg->addr, REGISTRY_ADDR_MAX_BYTES) || msg->addr[0] == '\0') {
        return "the address is missing or too long";
    }
    if (!text_fits(msg->rack, REGISTRY_RACK_MAX_BYTES)) {
        return "the rack's name is too long";
    }
    if (!text_fits(msg->version, REGISTRY_VERSION_MAX_BYTES)) {
        return "the version is too long";
    }
    return NULL;
}

static void reply_registered(struct service *service, struct rpc_request *take_request)
{
    Gfs__RegisterReply reply = GFS__REGISTER_REPLY__INIT;
    reply.cluster_id.data = service->parts.cluster_id;
    reply.cluster_id.len = GFS_UUID_BYTES;
    reply.heartbeat_ms = (uint32_t)service->parts.options->heartbeat_ms;
    reply.lease_ms = (uint32_t)service->parts.options->lease_ms;
    rpc_reply(take_request, &reply.base, NULL);
}

void service_register(struct service *service, struct rpc_request *take_request)
{
    const Gfs__RegisterRequest *msg = (const void *)take_request->msg;
    const char *fault = register_fault(take_request, msg);
    if (fault != NULL) {
        service_refuse(take_request, GFS_ERR_INVAL, fault);
        return;
    }
    struct registry_claim claim = {
        .uuid = msg->server_id.data,
        .addr = msg->addr,
        .rack = msg->rack,
        .version = msg->version,
        .load = {.capacity_bytes = msg->capacity_bytes,
                 .used_bytes = msg->used_bytes,
                 .chunk_count = msg->chunk_count},
        .link = take_request->conn,
    };
    char text[37];
    uuid_format(msg->server_id.data, text);
    struct registry_server *server;
    void *old;
    const struct registry_server *known = registry_find(&service->registry, claim.uuid);
    bool same_link = known != NULL && known->link == claim.link;
    enum gfs_err err = registry_register(&service->registry, &claim, loop_now_ms(), &server, &old);
    if (err != GFS_OK) {
        char detail[160];
        snprintf(detail, sizeof(detail), "server %s is already here, at %s", text,
                 known != NULL ? known->addr : "?");
        log_event(LOG_WARN, "chunkserver_refused", "server=%s addr=%s err=%s", text, msg->addr,
                  gfs_err_name(err));
        rpc_reply_error(take_request, err, 1000, detail);
        return;
    }
    if (!same_link) {
        service->came_back_ms = loop_now_ms();
        rpc_conn_ref(claim.link);
        lease_server_down(service->leases, server->slot);
        service_snapshot_server_down(service, server->slot);
        /* What was sent to it on the old connection gets no answer that counts. */
        collect_server_down(service->collect, server->slot);
        service_sweep_drop(service, server->slot);
    }
    if (old != NULL) {
        rpc_conn_close(old);
        rpc_conn_unref(old);
    }
    log_event(LOG_INFO, "chunkserver_up", "server=%s addr=%s rack=\"%s\" chunks=%llu", text,
              server->addr, server->rack, (unsigned long long)msg->chunk_count);
    reply_registered(service, take_request);
}

static void server_is_down(struct service *service, const struct registry_server *server,
                           const char *why)
{
    char text[37];
    uuid_format(server->uuid, text);
    log_event(LOG_WARN, "chunkserver_down", "server=%s addr=%s why=\"%s\"", text, server->addr,
              why);
    lease_server_down(service->leases, server->slot);
    service_snapshot_server_down(service, server->slot);
    collect_server_down(service->collect, server->slot);
    service_sweep_drop(service, server->slot);
}

void service_forget_link(struct service *service, struct rpc_conn *conn)
{
    const struct registry_server *server = registry_disconnect(&service->registry, conn);
    if (server != NULL) {
        server_is_down(service, server, "connection closed");
        rpc_conn_unref(conn);
    }
}

void service_drop_silent(struct service *service)
{
    uint64_t now_ms = loop_now_ms();
    size_t cursor = 0;
    struct registry_server *server;
    while ((server = registry_next_silent(&service->registry, now_ms, &cursor)) != NULL) {
        struct rpc_conn *conn = server->link;
        (void)registry_disconnect(&service->registry, conn);
        server_is_down(service, server, "silent");
        rpc_conn_close(conn);
        rpc_conn_unref(conn);
    }
    uint64_t late_ms = 3 * service->parts.options->heartbeat_ms;
    for (size_t i = 0; i < service->registry.count; i++) {
        server = service->registry.servers[i];
        if (server->up && now_ms > server->heard_ms && now_ms - server->heard_ms > late_ms) {
            registry_doubt(&service->registry, server->slot);
        }
    }
}

/* ---- heartbeats ---------------------------------------------------------------------------- */

static void reply_heartbeat(struct service *service, struct rpc_request *take_request,
                            uint16_t slot)
{
    const Gfs__HeartbeatRequest *msg = (const void *)take_request->msg;
    size_t count = msg->n_extend < EXTEND_MAX ? msg->n_extend : EXTEND_MAX;
    uint64_t *extended = malloc((count + 1) * sizeof(*extended));
    Gfs__HeartbeatReply reply = GFS__HEARTBEAT_REPLY__INIT;
    uint64_t now_ms = loop_now_ms();
    for (size_t i = 0; extended != NULL && i < count; i++) {
        if (lease_extend(service->leases, msg->extend[i], slot, now_ms)) {
            extended[reply.n_extended++] = msg->extend[i];
        }
    }
    reply.extended = extended;
    reply.lease_ms = (uint32_t)service->parts.options->lease_ms;
    reply.margin_ms = service_margin_ms(service);
    rpc_reply(take_request, &reply.base, NULL);
    free(extended);
}

void service_heartbeat(struct service *service, struct rpc_request *take_request)
{
    const Gfs__HeartbeatRequest *msg = (const void *)take_request->msg;
    struct registry_load load = {
        .capacity_bytes = msg->capacity_bytes,
        .used_bytes = msg->used_bytes,
        .chunk_count = msg->chunk_count,
        .requests = msg->load,
        .read_only = msg->read_only,
    };
    struct registry_server *server;
    enum gfs_err err = registry_heartbeat(&service->registry, take_request->peer_id,
                                          take_request->conn, &load, loop_now_ms(), &server);
    if (err != GFS_OK) {
        service_refuse(take_request, err, "register first");
        return;
    }
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (size_t i = 0; i < msg->n_gone; i++) {
        struct chunk *chunk = chunkmap_find(map, msg->gone[i]);
        if (chunk != NULL) {
            (void)chunk_remove_location(map, chunk, server->slot);
        }
    }
    for (size_t i = 0; i < msg->n_changed; i++) {
        service_apply_report(service, server->slot, msg->changed[i]);
    }
    reply_heartbeat(service, take_request, server->slot);
}

/* ---- what clients ask ---------------------------------------------------------------------- */

void service_statfs(struct service *service, struct rpc_request *take_request)
{
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    Gfs__StatfsReply *reply = op_alloc(op, 1, sizeof(*reply));
    if (reply != NULL) {
        struct ns_counters counters;
        ns_counters(service->parts.ns, &counters);
        service_count_replicas(service);
        gfs__statfs_reply__init(reply);
        for (size_t i = 0; i < service->registry.count; i++) {
            const struct registry_server *server = service->registry.servers[i];
            reply->capacity_bytes += server->up ? server->load.capacity_bytes : 0;
            reply->used_bytes += server->up ? server->load.used_bytes : 0;
        }
        reply->files = counters.files;
        reply->directories = counters.directories;
        reply->chunks = counters.chunks;
        reply->servers_up = (uint32_t)service->registry.up_count;
        reply->servers_down = (uint32_t)(service->registry.count - service->registry.up_count);
        reply->under_replicated = service->under_replicated;
        reply->lost = service->lost;
        reply->memory_bytes = counters.memory_bytes;
        op->reply = &reply->base;
    }
    op_finish(op);
}

static void fill_server(struct op *op, const struct registry_server *server, uint64_t now_ms,
                        Gfs__ServerInfo *info)
{
    gfs__server_info__init(info);
    info->id = op_copy(op, server->uuid, GFS_UUID_BYTES);
    info->addr = (char *)op_copy(op, server->addr, strlen(server->addr) + 1).data;
    info->rack = (char *)op_copy(op, server->rack, strlen(server->rack) + 1).data;
    info->version = (char *)op_copy(op, server->version, strlen(server->version) + 1).data;
    info->up = server->up;
    info->capacity_bytes = server->load.capacity_bytes;
    info->used_bytes = server->load.used_bytes;
    info->chunks = server->load.chunk_count;
    info->read_only = server->load.read_only;
    info->heartbeat_age_ms = now_ms > server->heard_ms ? now_ms - server->heard_ms : 0;
}

void service_servers(struct service *service, struct rpc_request *take_request)
{
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    size_t count = service->registry.count;
    Gfs__ServersReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__ServerInfo **pointers = op_alloc(op, count, sizeof(*pointers));
    Gfs__ServerInfo *infos = op_alloc(op, count, sizeof(*infos));
    if (reply != NULL && pointers != NULL && infos != NULL) {
        uint64_t now_ms = loop_now_ms();
        gfs__servers_reply__init(reply);
        for (size_t i = 0; i < count; i++) {
            fill_server(op, service->registry.servers[i], now_ms, &infos[i]);
            pointers[i] = &infos[i];
        }
        reply->servers = pointers;
        reply->n_servers = count;
        op->reply = &reply->base;
    }
    op_finish(op);
}
