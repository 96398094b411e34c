/*
 * Promise: one usable lease holder a chunk. A holder that the master has cut out may not know it
 * yet; its lease is not usable, since a member of it has a higher version and refuses. And no
 * holder believes in its lease for longer than the master does, however their clocks run.
 */
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "chunkserver/mutation_impl.h"
#include "master/lease_impl.h"
#include "master/service_op.h"
#include "tests/sim/check.h"

static const struct mutation_chunk *held(const struct chunkserver *cs, uint64_t handle,
                                         const struct sim_node *node)
{
    const struct mutation_chunk *chunk = mutation_chunk_find(cs->mutations, handle);

    if (!chunk || !chunk->group || chunk->broken != GFS_OK ||
        sim_local_ms(node) >= chunk->lease_expires_ms)
        return NULL;
    return chunk;
}

/* Would the server take an order under this version? */
static bool obeys(uint32_t server, uint64_t handle, uint32_t version)
{
    const struct chunkserver *cs = sim_chunkserver_of(sim_server(server));
    const struct mutation_chunk *chunk = cs ? mutation_chunk_find(cs->mutations, handle) : NULL;
    struct store_chunk stored;

    if (!cs || (chunk && chunk->version > version))
        return false;
    return store_chunk_get(cs->store, handle, &stored) != GFS_OK || stored.version <= version;
}

static bool is_usable(const struct mutation_chunk *chunk, uint32_t server)
{
    /* A fresh chunk whose primary's answer was lost goes to other servers; no client was told. */
    if (chunk->fresh && chunk->next_serial == mutation_serial_first(chunk->version))
        return false;
    if (!obeys(server, chunk->handle, chunk->version))
        return false;
    for (uint32_t i = 0; i < sim->server_count; i++)
        for (uint32_t j = 0; j < chunk->group->count; j++)
            if (strcmp(sim_server(i)->addr, chunk->group->addrs[j]) == 0 &&
                !obeys(i, chunk->handle, chunk->version))
                return false;
    return true;
}

static void check_others(const struct mutation_chunk *chunk, uint32_t server)
{
    for (uint32_t i = 0; i < sim->server_count; i++) {
        const struct sim_node *node = sim_server(i);
        const struct chunkserver *cs = sim_chunkserver_of(node);
        const struct mutation_chunk *other =
            i != server && cs ? held(cs, chunk->handle, node) : NULL;

        if (!other)
            continue;
        if (other->version == chunk->version || (is_usable(other, i) && is_usable(chunk, server)))
            sim_fail("%s and %s both lead %016llx, at versions %u and %u", node->name,
                     sim_server(server)->name, (unsigned long long)chunk->handle, other->version,
                     chunk->version);
    }
}

static uint64_t ends_us(const struct sim_node *node, uint64_t expires_ms)
{
    uint64_t now_ms = sim_local_ms(node);
    uint64_t left_us = expires_ms > now_ms ? (expires_ms - now_ms) * 1000 : 0;

    return sim->now_us + (uint64_t)((int64_t)left_us * 1000000 / (1000000 + node->drift_ppm));
}

static void check_master_view(const struct mutation_chunk *chunk, uint32_t server)
{
    struct service *service = sim_service_of(sim_master());
    const struct registry_server *slot;
    const struct lease *lease;
    uint64_t here_us, there_us;

    if (!service || !sim_master()->up)
        return;
    slot = registry_find(&service->registry, sim_server(server)->server_id);
    lease = lease_find(service->leases, chunk->handle);
    if (!slot || !lease || lease->state != LEASE_GRANTED || lease->version != chunk->version)
        return;
    if (lease->members[0] != slot->slot)
        sim_fail("%s leads %016llx at version %u, which the master gave to another",
                 sim_server(server)->name, (unsigned long long)chunk->handle, chunk->version);
    here_us = ends_us(sim_server(server), chunk->lease_expires_ms);
    there_us = ends_us(sim_master(), lease->expires_ms);
    if (here_us > there_us)
        sim_fail("%s believes in its lease of %016llx for %llu us longer than the master",
                 sim_server(server)->name, (unsigned long long)chunk->handle,
                 (unsigned long long)(here_us - there_us));
}

void check_leases(uint32_t server)
{
    const struct sim_node *node = sim_server(server);
    const struct chunkserver *cs = sim_chunkserver_of(node);

    for (const struct mutation_chunk *chunk = cs->mutations->by_handle; chunk;
         chunk = chunk->hh.next) {
        struct check_chunk *known;

        if (!chunk->group || !held(cs, chunk->handle, node))
            continue;
        known = check_chunk_of(chunk->handle);
        if (chunk->version == known->led[server] &&
            sim->events % 4 != 0) /* every change at once, else now and then */
            continue;
        known->led[server] = chunk->version;
        if (chunk->version > known->used_version)
            known->used_version = chunk->version;
        check_others(chunk, server);
        check_master_view(chunk, server);
    }
}
