/*
 * The end, 20 s after the last operation, without faults: nothing is pending for ever, every
 * replica that the master thinks up to date holds the same bytes, and the namespace is what its
 * journal says.
 */
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "master/journal.h"
#include "master/service_op.h"
#include "sim_disk.h"
#include "tests/sim/check.h"
#include "tests/sim/work.h"

/* Heartbeats, reports and scrubs go on. */
#define END_CALLS_EACH 3u

static bool was_damaged(void)
{
    return sim_disk_damages(sim_server(0)->disk) > 0;
}

/* ---- nothing is pending for ever ------------------------------------------------------------- */

static void check_server_quiet(const struct sim_node *node, const struct chunkserver *cs)
{
    struct pushbuf_stat pushed;

    pushbuf_stat(cs->pushbuf, &pushed);
    if (pushed.entries || pushed.bytes || pushed.pinned)
        sim_fail("%s still holds %llu pushed bytes", node->name, (unsigned long long)pushed.bytes);
    if (cs->settle.parked_count || cs->append.waiting || cs->sync_count)
        sim_fail("%s: %u reads, appends or %u syncs wait for ever", node->name,
                 cs->settle.parked_count, cs->sync_count);
    if (cs->in_service > END_CALLS_EACH)
        sim_fail("%s has %u requests without an answer", node->name, cs->in_service);
}

static void check_quiet(void)
{
    struct sim_net_stat stat;
    struct service *service = sim_service_of(sim_master());
    const struct chunk *chunk;
    uint32_t at = 0;

    sim_net_stat(&stat);
    if (stat.calls_pending > END_CALLS_EACH * sim->server_count)
        sim_fail("%llu calls are under way for ever", (unsigned long long)stat.calls_pending);
    for (uint32_t i = 0; i < sim->client_count; i++)
        if (sim_tasks_of(sim_client(i)))
            sim_fail("a thread of %s does not end", sim_client(i)->name);
    if (journal_durable(service->parts.journal) != journal_appended(service->parts.journal))
        sim_fail("the journal does not become durable");
    if (service->snapshots || service->cows)
        sim_fail("a snapshot or a copy on write is under way for ever");
    while ((chunk = chunkmap_walk(ns_chunkmap(service->parts.ns), &at)) != NULL)
        if (!chunk_released(chunk) && lease_is_moving(service->leases, chunk->handle) &&
            !was_damaged())
            sim_fail("a round of %016llx is under way for ever", (unsigned long long)chunk->handle);
}

/* ---- replicas -------------------------------------------------------------------------------- */

struct replica {
    const struct sim_node *node;
    struct store_digest digest;
    struct store_append *window;
    size_t window_count;
};

static uint32_t server_of_slot(struct service *service, uint16_t slot)
{
    const struct registry_server *server = registry_get(&service->registry, slot);

    for (uint32_t i = 0; i < sim->server_count; i++)
        if (memcmp(sim_server(i)->server_id, server->uuid, GFS_UUID_BYTES) == 0)
            return i;
    sim_fail("the master knows a server that there is not");
}

/* False: it was damaged. */
static bool replica_read(const struct chunk *chunk, uint32_t server, struct replica *ret_replica)
{
    const struct sim_node *node = sim_server(server);
    struct store *store = sim_chunkserver_of(node)->store;
    enum gfs_err err = store_digest(store, chunk->handle, 0, 0, 0, true, &ret_replica->digest);

    if (err == GFS_OK)
        err = store_window(store, chunk->handle, &ret_replica->window, &ret_replica->window_count);
    if (err != GFS_OK && server == 0 && was_damaged())
        return false;
    if (err != GFS_OK)
        sim_fail("%s cannot read its replica of %016llx: %s", node->name,
                 (unsigned long long)chunk->handle, gfs_err_name(err));
    ret_replica->node = node;
    return true;
}

static void check_one(const struct chunk *chunk, const struct replica *replica)
{
    const struct store_chunk *stored = &replica->digest.chunk;
    const struct chunkserver *cs = sim_chunkserver_of(replica->node);

    /* Where replicas are lost for good, what the others have cannot be settled. */
    if (mutation_is_unsettled(cs->mutations, chunk->handle) && !was_damaged())
        sim_fail("%016llx is unsettled for ever on %s", (unsigned long long)chunk->handle,
                 replica->node->name);

    /* One with a higher version took part in a round that granted nothing. */
    if (stored->version < chunk->version || stored->length_bytes < chunk->length_bytes)
        sim_fail("%s has %016llx at version %u with %u bytes, and counts as one at %u with %u",
                 replica->node->name, (unsigned long long)chunk->handle, stored->version,
                 stored->length_bytes, chunk->version, chunk->length_bytes);
}

/* Promise: all replicas of a chunk at one version hold the same bytes, and know the same appends.
 */
static void check_two(const struct replica *one, const struct replica *other)
{
    const struct store_digest *a = &one->digest, *b = &other->digest;

    if (a->chunk.length_bytes != b->chunk.length_bytes || a->chunk.serial != b->chunk.serial)
        sim_fail("%s has %u bytes and serial %llx of %016llx, %s has %u and %llx", one->node->name,
                 a->chunk.length_bytes, (unsigned long long)a->chunk.serial,
                 (unsigned long long)a->chunk.handle, other->node->name, b->chunk.length_bytes,
                 (unsigned long long)b->chunk.serial);
    for (uint32_t i = 0; i < a->count; i++)
        if (a->crcs[i] != b->crcs[i])
            sim_fail("block %u of %016llx differs between %s and %s", i,
                     (unsigned long long)a->chunk.handle, one->node->name, other->node->name);
}

/* An append that one knows and that is in the chunk, the other knows. */
static void check_windows(const struct replica *one, const struct replica *other)
{
    for (size_t i = 0; i < one->window_count; i++) {
        const struct store_append *append = &one->window[i];
        bool found = append->length_bytes == 0;

        for (size_t j = 0; j < other->window_count && !found; j++)
            found = other->window[j].producer == append->producer &&
                    ((other->window[j].sequence == append->sequence &&
                      other->window[j].offset_bytes == append->offset_bytes) ||
                     /* too old to be asked for */
                     other->window[j].sequence >= append->sequence + GFS_APPEND_WINDOW);
        if (!found)
            sim_fail("%s knows append %llu of %016llx to %016llx at %u, and %s does not",
                     one->node->name, (unsigned long long)append->sequence,
                     (unsigned long long)append->producer,
                     (unsigned long long)one->digest.chunk.handle, append->offset_bytes,
                     other->node->name);
    }
}

static bool is_of_log(struct namespace *ns, const struct chunk *chunk)
{
    for (uint32_t i = 0; i < sim->work->log_count; i++) {
        const char *path = sim->work->logs[i].path;
        struct inode_attr attr;
        struct inode *inode;

        if (ns_lookup(ns, path, strlen(path), &inode) != GFS_OK)
            continue;
        ns_attr(ns, inode, &attr);
        for (uint32_t j = 0; j < attr.chunk_count; j++)
            if (ns_chunk_at(ns, inode, j) == chunk)
                return true;
    }
    return false;
}

static void check_chunk_replicas(struct service *service, const struct chunk *chunk)
{
    const struct chunkmap *map = ns_chunkmap(service->parts.ns);
    struct replica replicas[SIM_SERVERS_MAX] = {0};
    uint32_t count = 0;

    for (uint32_t i = 0; i < chunk->location_count; i++) {
        struct chunk_location location = chunk_location(map, chunk, i);
        uint32_t server = server_of_slot(service, location.server);

        if (location.state == CHUNK_LOCATION_OK && replica_read(chunk, server, &replicas[count])) {
            check_one(chunk, &replicas[count]);
            count++;
        }
    }
    if (count == 0)
        sim_fail("%016llx, of %u bytes, has no good replica", (unsigned long long)chunk->handle,
                 chunk->length_bytes);
    for (uint32_t i = 1; i < count; i++) {
        /* Some may be cut, and some not yet; the next lease cuts them all. */
        if (!chunk->truncating)
            check_two(&replicas[0], &replicas[i]);
        /* An index made anew knows of appends, and not of writes any more; and the window of a copy
         * made again by a replay may know of more of the source's, which nobody asks it of. */
        if (!is_of_log(service->parts.ns, chunk) || chunk->copied || chunk->truncating)
            continue;
        check_windows(&replicas[0], &replicas[i]);
        check_windows(&replicas[i], &replicas[0]);
    }
}

static void check_replicas(void)
{
    struct service *service = sim_service_of(sim_master());
    const struct chunk *chunk;
    uint32_t at = 0;

    while ((chunk = chunkmap_walk(ns_chunkmap(service->parts.ns), &at)) != NULL)
        /* Of what nobody committed to there may be nothing. */
        if (!chunk_released(chunk) && chunk->length_bytes > 0)
            check_chunk_replicas(service, chunk);
}

void check_at_end(void)
{
    if (!sim_master()->up || !sim_service_of(sim_master()))
        sim_fail("the master is down, long after the last fault");
    for (uint32_t i = 0; i < sim->server_count; i++) {
        const struct sim_node *node = sim_server(i);

        if (!node->up || !sim_chunkserver_of(node))
            sim_fail("%s is down, long after the last fault", node->name);
        check_server_quiet(node, sim_chunkserver_of(node));
    }
    check_quiet();
    check_replicas();
    check_namespace();
}
