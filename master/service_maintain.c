/*
 * What the master does by the clock, every TICK_MS: chunkservers that fell silent, leases that ran
 * out, files removed or abandoned, chunks to be deleted, counting of replicas. Always in slices.
 */
#include <stdlib.h>

#include "log.h"
#include "master/service_op.h"

#define TICK_MS           100u
#define TICKS_PER_S       (1000u / TICK_MS)
#define REAP_SLICE        1000u
#define RELEASE_SLICE     2000u
#define ANONYMOUS_SLICE   100u
#define COUNT_SLICE       20000u
#define COUNT_AT_ONCE_MAX 100000u /* so many chunks are counted while STATFS waits */

/* ---- counting replicas --------------------------------------------------------------------- */

static void count_chunk(struct service *service, const struct chunk *chunk)
{
    if (chunk_released(chunk) || chunk->length_bytes == 0) {
        return;
    }
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    uint32_t good = 0;
    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        good += location.state == CHUNK_LOCATION_OK &&
                registry_is_up(&service->registry, location.server);
    }
    service->counting_lost += good == 0;
    service->counting_under += good < chunk->goal;
}

/* True: a whole round has ended. */
static bool count_slice(struct service *service, uint32_t max)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (uint32_t i = 0; i < max; i++) {
        const struct chunk *chunk = chunkmap_walk(map, &service->count_at);
        if (chunk == NULL) {
            service->under_replicated = service->counting_under;
            service->lost = service->counting_lost;
            service->count_at = 0;
            service->counting_under = 0;
            service->counting_lost = 0;
            return true;
        }
        count_chunk(service, chunk);
    }
    return false;
}

void service_count_replicas(struct service *service)
{
    if (ns_chunkmap(service->parts.ns)->live_count > COUNT_AT_ONCE_MAX) {
        return; /* the last round of ticks must do */
    }
    service->count_at = 0;
    service->counting_under = 0;
    service->counting_lost = 0;
    while (!count_slice(service, UINT32_MAX)) {
    }
}

/* ---- chunks to delete ---------------------------------------------------------------------- */

struct delete_call {
    struct service *service;
    uint16_t slot;
    void *link; /* the registration it was sent under */
    enum gfs_err err;
    size_t count;
    struct loop_task task;
};

static void delete_arrived(struct loop_task *task)
{
    struct delete_call *call =
        (struct delete_call *)((char *)task - offsetof(struct delete_call, task));
    struct service *service = call->service;
    const struct registry_server *server = registry_get(&service->registry, call->slot);
    if (server->link == call->link) {
        collect_done(service->collect, call->slot, call->err == GFS_OK);
        log_event(call->err == GFS_OK ? LOG_DEBUG : LOG_WARN, "chunks_deleted",
                  "addr=%s count=%zu err=%s", server->addr, call->count, gfs_err_name(call->err));
    }
    free(call);
}

static void delete_done(void *arg, const struct rpc_answer *answer)
{
    struct delete_call *call = arg;
    call->err = answer->err;
    call->task.fn = delete_arrived;
    loop_post(call->service->parts.loop, &call->task);
}

static void send_deletes(struct service *service, const struct registry_server *server)
{
    static_assert(COLLECT_BATCH_MAX * 8 < GFS_MESSAGE_MAX_BYTES, "a batch fits a message");
    uint64_t handles[COLLECT_BATCH_MAX];
    if (collect_due_count(service->collect, server->slot) == 0) {
        return;
    }
    struct delete_call *call = calloc(1, sizeof(*call));
    size_t count = call != NULL ? collect_take(service->collect, server->slot, handles) : 0;
    if (count == 0) {
        free(call);
        return;
    }
    call->service = service;
    call->slot = server->slot;
    call->link = server->link;
    call->count = count;
    Gfs__DeleteChunksRequest msg = GFS__DELETE_CHUNKS_REQUEST__INIT;
    msg.handles = handles;
    msg.n_handles = count;
    struct rpc_call_args args = {
        .type = GFS_MSG_DELETE_CHUNKS,
        .msg = &msg.base,
        .done = delete_done,
        .arg = call,
    };
    rpc_call(server->link, &args);
}

/* Hands the chunk to the lists of the servers that hold it; servers that are down report it as
 * unknown when they come back. False: a list is full. */
static bool collect_chunk(struct service *service, struct chunk *chunk)
{
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    while (chunk->location_count > 0) {
        struct chunk_location location = chunk_location(map, chunk, 0);
        if (registry_is_up(&service->registry, location.server) &&
            collect_add(service->collect, location.server, chunk->handle) != GFS_OK) {
            return false;
        }
        (void)chunk_remove_location(map, chunk, location.server);
    }
    lease_drop(service->leases, chunk->handle, GFS_ERR_STALE_HANDLE);
    chunkmap_drop(map, chunk);
    return true;
}

/* The releases before the cutoff are durable: nothing can bring these chunks back. */
static void collect_released(struct journal_wait *wait, enum gfs_err err)
{
    struct service *service =
        (struct service *)((char *)wait - offsetof(struct service, tick_wait));
    service->tick_waiting = false;
    struct chunkmap *map = ns_chunkmap(service->parts.ns);
    for (uint32_t i = 0; err == GFS_OK && i < RELEASE_SLICE; i++) {
        struct chunk *chunk = chunkmap_released_first(map);
        if (chunk == NULL || (int64_t)chunk->released_s >= service->tick_cutoff_s ||
            !collect_chunk(service, chunk)) {
            break;
        }
    }
    service_run_effects(service);
    for (size_t i = 0; i < service->registry.count; i++) {
        const struct registry_server *server = service->registry.servers[i];
        if (server->up) {
            send_deletes(service, server);
        }
    }
}

static void begin_collect(struct service *service)
{
    if (service->tick_waiting) {
        return;
    }
    service->tick_waiting = true;
    service->tick_cutoff_s =
        service_wall_ms() / 1000 - (int64_t)service->parts.options->collect_delay_s;
    service->tick_wait.done = collect_released;
    journal_barrier(service->parts.journal, &service->tick_wait);
}

/* ---- files nobody wants -------------------------------------------------------------------- */

static void drop_anonymous(struct service *service)
{
    int64_t now_ms = service_steady_ms(service);
    int64_t ttl_ms = (int64_t)service->parts.options->anonymous_ttl_s * 1000;
    for (uint32_t i = 0; i < ANONYMOUS_SLICE; i++) {
        int64_t seen_ms;
        struct inode *inode = ns_anonymous_oldest(service->parts.ns, &seen_ms);
        if (inode == NULL || now_ms - seen_ms < ttl_ms || journal_full(service->parts.journal)) {
            return;
        }
        log_event(LOG_INFO, "anonymous_file_dropped", "inode=%llu",
                  (unsigned long long)inode_id(inode));
        enum gfs_err err =
            ns_abandon(service->parts.ns, inode, service_wall_ms(), &service->changes);
        if (err != GFS_OK) {
            changes_clear(&service->changes);
            return;
        }
        journal_append(service->parts.journal, &service->changes, NULL);
    }
}

static void reap(struct service *service)
{
    if (journal_full(service->parts.journal)) {
        return;
    }
    (void)ns_reap(service->parts.ns, REAP_SLICE, service_wall_ms(), &service->changes);
    if (!changes_empty(&service->changes)) {
        journal_append(service->parts.journal, &service->changes, NULL);
    }
}

/* ---- the clock ----------------------------------------------------------------------------- */

static void on_tick(struct loop_timer *timer)
{
    struct service *service = (struct service *)((char *)timer - offsetof(struct service, tick));
    uint64_t now_ms = loop_now_ms();
    if (!journal_failed(service->parts.journal)) {
        service_drop_silent(service);
        lease_tick(service->leases, now_ms);
        service_settle_tick(service);
        reap(service);
        drop_anonymous(service);
        begin_collect(service);
        (void)count_slice(service, COUNT_SLICE);
        if (++service->tick_count % TICKS_PER_S == 0) {
            registry_decay(&service->registry);
            collect_tick(service->collect, now_ms);
        }
        if (lease_epoch_wanted(service->leases)) {
            service_begin_epoch(service);
        }
        service_run_effects(service);
    }
    loop_timer_arm(&service->tick, TICK_MS);
}

enum gfs_err service_maintain_init(struct service *service)
{
    enum gfs_err err = loop_timer_init(&service->tick, service->parts.loop, on_tick);
    if (err == GFS_OK) {
        loop_timer_arm(&service->tick, TICK_MS);
    }
    return err;
}
