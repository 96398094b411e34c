/* Requests about chunks: where they are, leases to write them, replicas that failed a reader. */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "master/placement.h"
#include "master/service_op.h"

/* ---- locations ----------------------------------------------------------------------------- */

struct replica_list {
    uint32_t count;
    uint16_t slots[CHUNK_LOCATIONS_MAX];
    Gfs__ReplicaState states[CHUNK_LOCATIONS_MAX];
};

static Gfs__ReplicaState shown_state(const struct service *service,
                                     const struct chunk_location *location)
{
    if (!registry_is_up(&service->registry, location->server)) {
        return GFS__REPLICA_STATE__REPLICA_MISSING;
    }
    switch (location->state) {
    case CHUNK_LOCATION_OK:
        return GFS__REPLICA_STATE__REPLICA_OK;
    case CHUNK_LOCATION_STALE:
        return GFS__REPLICA_STATE__REPLICA_STALE;
    default:
        return GFS__REPLICA_STATE__REPLICA_CORRUPT;
    }
}

static void list_add(struct replica_list *list, uint16_t slot, Gfs__ReplicaState state)
{
    if (list->count < CHUNK_LOCATIONS_MAX) {
        list->slots[list->count] = slot;
        list->states[list->count++] = state;
    }
}

static void list_all(const struct service *service, const struct chunk *chunk,
                     struct replica_list *ret_list)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        list_add(ret_list, location.server, shown_state(service, &location));
    }
}

/* Good replicas on servers that are up. When there are none, what may still give some of the
 * bytes, which the reader checks anyway: corrupt ones, then those on servers that are down. */
static void list_readable(struct service *service, const struct chunk *chunk,
                          struct replica_list *ret_list)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    uint32_t turn = (uint32_t)placement_random(&service->random_state);
    uint32_t version;
    uint16_t primary = CHUNK_SERVER_MAX;
    enum chunk_location_state state;
    /* What the others do not know to be everywhere, it does. */
    if (lease_holder(service->leases, chunk->handle, &version, &primary) &&
        registry_is_up(&service->registry, primary) &&
        chunk_find_location(map, chunk, primary, &state) && state == CHUNK_LOCATION_OK) {
        list_add(ret_list, primary, GFS__REPLICA_STATE__REPLICA_OK);
    } else {
        primary = CHUNK_SERVER_MAX;
    }
    for (int pass = 0; pass < 3 && (pass == 0 || ret_list->count == 0); pass++) {
        for (uint32_t i = 0; i < chunk->location_count; i++) {
            struct chunk_location location =
                chunk_location(map, chunk, (i + turn % 64) % chunk->location_count);
            bool up = registry_is_up(&service->registry, location.server);
            if (location.server == primary) {
                continue;
            }
            bool fits = pass == 0   ? up && location.state == CHUNK_LOCATION_OK
                        : pass == 1 ? up && location.state == CHUNK_LOCATION_CORRUPT
                                    : !up && location.state == CHUNK_LOCATION_OK;
            if (fits) {
                list_add(ret_list, location.server, shown_state(service, &location));
            }
        }
    }
}

static bool fill_replicas(struct op *op, const struct replica_list *list, Gfs__ChunkInfo *info)
{
    if (list->count == 0) {
        return true;
    }
    Gfs__Replica **pointers = op_alloc(op, list->count, sizeof(*pointers));
    Gfs__Replica *replicas = op_alloc(op, list->count, sizeof(*replicas));
    if (pointers == NULL || replicas == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < list->count; i++) {
        struct registry_server *server = registry_get(&op->service->registry, list->slots[i]);
        gfs__replica__init(&replicas[i]);
        replicas[i].server = op_copy(op, server->uuid, GFS_UUID_BYTES);
        replicas[i].addr = (char *)op_copy(op, server->addr, strlen(server->addr) + 1).data;
        replicas[i].rack = (char *)op_copy(op, server->rack, strlen(server->rack) + 1).data;
        replicas[i].state = list->states[i];
        pointers[i] = &replicas[i];
    }
    info->replicas = pointers;
    info->n_replicas = list->count;
    return op->err == GFS_OK;
}

static bool fill_chunk(struct op *op, const struct chunk *chunk, bool all, Gfs__ChunkInfo *info)
{
    struct replica_list list = {.count = 0};
    info->handle = chunk->handle;
    info->version = chunk->version;
    info->length = chunk->length_bytes;
    info->goal = chunk->goal;
    info->cuts = chunk->cuts;
    info->family = ns_chunk_family(op->service->parts.ns, chunk);
    if (all) {
        list_all(op->service, chunk, &list);
    } else {
        list_readable(op->service, chunk, &list);
    }
    if (list.count == 0 && chunk->length_bytes > 0 && service_is_starting(op->service)) {
        op->err = GFS_ERR_STARTING;
        op->retry_ms = SERVICE_RETRY_MS;
        return false;
    }
    return fill_replicas(op, &list, info);
}

static void fill_chunks(struct op *op, const struct inode *inode, const Gfs__ChunksRequest *msg)
{
    Gfs__ChunksReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Attr *attr = op_alloc(op, 1, sizeof(*attr));
    if (reply == NULL || attr == NULL) {
        return;
    }
    op_set_attr(op, inode, attr);
    gfs__chunks_reply__init(reply);
    reply->attr = attr;
    uint32_t limit =
        msg->limit == 0 || msg->limit > SERVICE_CHUNKS_MAX ? SERVICE_CHUNKS_MAX : msg->limit;
    uint32_t left = msg->first < attr->chunk_count ? attr->chunk_count - msg->first : 0;
    uint32_t count = left < limit ? left : limit;
    Gfs__ChunkInfo **pointers = op_alloc(op, count, sizeof(*pointers));
    Gfs__ChunkInfo *infos = op_alloc(op, count, sizeof(*infos));
    if (pointers == NULL || infos == NULL) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        gfs__chunk_info__init(&infos[i]);
        infos[i].index = msg->first + i;
        pointers[i] = &infos[i];
        const struct chunk *chunk = ns_chunk_at(op->service->parts.ns, inode, msg->first + i);
        if (chunk != NULL && !fill_chunk(op, chunk, msg->all_replicas, &infos[i])) {
            return;
        }
    }
    reply->chunks = pointers;
    reply->n_chunks = count;
    op->reply = &reply->base;
}

void service_chunks(struct service *service, struct rpc_request *take_request)
{
    const Gfs__ChunksRequest *msg = (const void *)take_request->msg;
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct inode *inode;
    enum gfs_err err = ns_inode(service->parts.ns, msg->inode, &inode);
    if (err != GFS_OK) {
        op_fail(op, err, 0, NULL);
        return;
    }
    ns_anonymous_touch(service->parts.ns, inode, service_steady_ms(service));
    fill_chunks(op, inode, msg);
    op_finish(op);
}

/* ---- leases -------------------------------------------------------------------------------- */

static void ask(struct op *op, uint32_t failed_version);

/* The index has no chunk, or one that nothing is left of and nothing was committed to. */
static void ask_fresh(struct op *op, struct inode *inode)
{
    struct service *service = op->service;
    struct fresh *fresh;
    if (journal_full(service->parts.journal)) {
        op_fail(op, GFS_ERR_BUSY, 0, "the journal's queue is full");
        return;
    }
    enum gfs_err err =
        service_fresh_prepare(service, inode, op->index, op->exclude, op->exclude_count, &fresh);
    if (err == GFS_ERR_NO_SERVERS && op->exclude_count > 0) {
        err = service_fresh_prepare(service, inode, op->index, NULL, 0, &fresh);
    }
    if (err == GFS_ERR_NO_SERVERS && service_is_starting(service)) {
        err = GFS_ERR_STARTING;
    }
    if (err != GFS_OK) {
        changes_clear(&service->changes);
        op_fail(op, err, 0,
                err == GFS_ERR_NO_SERVERS || err == GFS_ERR_STARTING ? SERVICE_NO_SERVERS : NULL);
        return;
    }
    service_fresh_begin(service, fresh, op);
}

static void fail_lease(struct op *op, enum gfs_err err)
{
    char detail[96];
    snprintf(detail, sizeof(detail), "chunk %016llx (index %u)", (unsigned long long)op->handle,
             op->index);
    op_fail(op, err, 0, detail);
}

/* No replica carries on. Wait for reports, try those the caller gave up, or begin anew. */
static void ask_without_replicas(struct op *op, struct inode *inode, const struct chunk *chunk)
{
    if (service_is_starting(op->service)) {
        fail_lease(op, GFS_ERR_STARTING);
    } else if (chunk->length_bytes == 0 && op->tries++ == 0) {
        ask_fresh(op, inode);
    } else if (op->exclude_count > 0) {
        op->exclude_count = 0;
        ask(op, chunk->version);
    } else {
        fail_lease(op, GFS_ERR_NO_REPLICA);
    }
}

static void lease_leased(struct op *op, enum gfs_err err, const struct lease_grant *grant)
{
    struct service *service = op->service;
    struct inode *inode;
    enum gfs_err gone = ns_inode(service->parts.ns, op->inode, &inode);
    if (gone != GFS_OK) {
        op_fail(op, gone, 0, NULL);
        return;
    }
    const struct chunk *chunk = ns_chunk_at(service->parts.ns, inode, op->index);
    if (err == GFS_ERR_NO_REPLICA && chunk != NULL && chunk->handle == op->handle) {
        ask_without_replicas(op, inode, chunk);
        return;
    }
    /* Truncated away meanwhile, or another chunk took its place: the file is there. */
    if (err == GFS_ERR_STALE_HANDLE ||
        (err == GFS_OK && (chunk == NULL || chunk->handle != grant->handle))) {
        err = GFS_ERR_BUSY;
    }
    if (err != GFS_OK) {
        fail_lease(op, err);
        return;
    }
    Gfs__LeaseReply *reply = op_alloc(op, 1, sizeof(*reply));
    Gfs__Lease *lease = op_make_lease(op, grant);
    if (reply != NULL && lease != NULL) {
        struct inode_attr attr;
        ns_attr(service->parts.ns, inode, &attr);
        lease->length = chunk->length_bytes;
        lease->cuts = chunk->cuts;
        lease->family = ns_chunk_family(service->parts.ns, chunk);
        lease->chunk_size = attr.chunk_size_bytes;
        gfs__lease_reply__init(reply);
        reply->lease = lease;
        op->reply = &reply->base;
    }
    op_finish(op);
}

/* The chunk was shared with a snapshot; the file has one of its own now, or cannot get it. */
static void lease_copied(struct op *op, enum gfs_err err)
{
    struct inode *inode;
    enum gfs_err gone = ns_inode(op->service->parts.ns, op->inode, &inode);
    const struct chunk *chunk =
        gone == GFS_OK ? ns_chunk_at(op->service->parts.ns, inode, op->index) : NULL;
    if (err == GFS_ERR_NO_REPLICA && chunk != NULL && chunk->length_bytes == 0) {
        ask_without_replicas(op, inode, chunk);
    } else if (err != GFS_OK) {
        op_fail(op, err, 0, op->detail);
    } else {
        ask(op, 0);
    }
}

static void ask(struct op *op, uint32_t failed_version)
{
    struct service *service = op->service;
    struct inode *inode;
    enum gfs_err err = ns_inode(service->parts.ns, op->inode, &inode);
    if (err != GFS_OK) {
        op_fail(op, err, 0, NULL);
        return;
    }
    if (service_snapshot_holds(service, inode)) {
        op_fail(op, GFS_ERR_BUSY, 0, "a snapshot of it is being made");
        return;
    }
    struct chunk *chunk = ns_chunk_at(service->parts.ns, inode, op->index);
    if (chunk == NULL) {
        ask_fresh(op, inode);
        return;
    }
    if (chunk->references > 1) {
        op->copied = lease_copied;
        service_cow_begin(op, chunk);
        return;
    }
    if (ns_chunk_claim(service->parts.ns, inode, chunk)) {
        failed_version = chunk->version; /* a lease that is out names another file, or none */
    }
    op->handle = chunk->handle;
    struct lease_chunk state;
    service_lease_chunk(service, chunk, op->exclude, op->exclude_count, &state);
    if (service_awaits_replicas(service, &state, chunk->goal)) {
        fail_lease(op, GFS_ERR_STARTING);
        return;
    }
    if (op->exclude_count > 0 && failed_version == 0) {
        failed_version = chunk->version;
    }
    err = lease_ask(service->leases, &state, failed_version, &op->waiter, loop_now_ms());
    if (err == GFS_ERR_NO_REPLICA) {
        ask_without_replicas(op, inode, chunk);
    } else if (err != GFS_OK) {
        fail_lease(op, err);
    }
    service_run_effects(service);
}

/* Where records go: the last chunk, or a new one behind it when it is sealed. */
static uint32_t tail_index(const struct service *service, const struct inode *inode,
                           const struct inode_attr *attr)
{
    /* A file that was extended, or written with holes, ends where its length says. */
    uint64_t last = attr->length_bytes > 0 ? (attr->length_bytes - 1) / attr->chunk_size_bytes : 0;
    const struct chunk *chunk;
    if (attr->chunk_count > last + 1) {
        last = attr->chunk_count - 1;
    }
    chunk = ns_chunk_at(service->parts.ns, inode, (uint32_t)last);
    bool full = chunk != NULL ? chunk->length_bytes >= attr->chunk_size_bytes
                              : attr->length_bytes > last * attr->chunk_size_bytes;
    return (uint32_t)last + full;
}

void service_lease(struct service *service, struct rpc_request *take_request)
{
    const Gfs__LeaseRequest *msg = (const void *)take_request->msg;
    if (msg->index >= NS_FILE_CHUNKS_MAX) {
        service_refuse(take_request, GFS_ERR_TOO_LARGE, "chunk index");
        return;
    }
    struct op *op = service_is_full(service, take_request) ? NULL : op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    op->inode = msg->inode;
    op->index = msg->index;
    op->leased = lease_leased;
    for (size_t i = 0; i < msg->n_failed && op->exclude_count < GFS_GOAL_MAX; i++) {
        const struct registry_server *server =
            msg->failed[i].len == GFS_UUID_BYTES
                ? registry_find(&service->registry, msg->failed[i].data)
                : NULL;
        if (server != NULL) {
            op->exclude[op->exclude_count++] = server->slot;
            registry_doubt(&service->registry, server->slot);
        }
    }
    struct inode *inode;
    enum gfs_err err = ns_inode(service->parts.ns, msg->inode, &inode);
    struct inode_attr attr;
    if (err == GFS_OK) {
        ns_attr(service->parts.ns, inode, &attr);
        err = attr.type == INODE_FILE ? GFS_OK : GFS_ERR_IS_DIR;
    }
    if (err != GFS_OK) {
        op_fail(op, err, 0, NULL);
        return;
    }
    if (msg->append) {
        op->index = tail_index(service, inode, &attr);
    }
    ns_anonymous_touch(service->parts.ns, inode, service_steady_ms(service));
    ask(op, msg->failed_version);
}

/* ---- a replica failed a reader ------------------------------------------------------------- */

/* The location is not handed out any more while there is a better one; it stays known, and a later
 * report of the server itself that the chunk is whole takes it back. */
void service_report_bad(struct service *service, struct rpc_request *take_request)
{
    const Gfs__ReportBadRequest *msg = (const void *)take_request->msg;
    struct op *op = op_new(service, take_request);
    if (op == NULL) {
        return;
    }
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    struct chunk *chunk = chunkmap_find(map, msg->handle);
    const struct registry_server *server = msg->server.len == GFS_UUID_BYTES
                                               ? registry_find(&service->registry, msg->server.data)
                                               : NULL;
    enum chunk_location_state state;
    enum gfs_err error = gfs_err_from_wire(msg->error);
    bool known = chunk != NULL && server != NULL && !chunk_released(chunk) &&
                 msg->version == chunk->version &&
                 chunk_find_location(map, chunk, server->slot, &state) &&
                 state == CHUNK_LOCATION_OK;
    bool bad = error == GFS_ERR_CORRUPT || error == GFS_ERR_SHORT || error == GFS_ERR_NO_CHUNK ||
               error == GFS_ERR_IO;
    if (known && bad) {
        log_event(LOG_WARN, "replica_bad", "handle=%016llx addr=%s err=%s",
                  (unsigned long long)msg->handle, server->addr, gfs_err_name(error));
        enum gfs_err err = chunk_add_location(map, chunk, server->slot, CHUNK_LOCATION_CORRUPT);
        if (err != GFS_OK) {
            op_fail(op, err, 0, NULL);
            return;
        }
        service_settle_want(service, chunk->handle);
    }
    op_answer_empty(op);
    op_finish(op);
}
