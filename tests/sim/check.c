/* What is looked at after events: versions only rise, nothing live is deleted. See check.h. */
#include "tests/sim/check.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/chunkserver.h"
#include "master/service_op.h"
#include "sim_disk.h"

#define CHECK_EVERY        8u  /* events of a server */
#define CHECK_MASTER_EVERY 64u /* events of the master */
#define CHECK_LIST         256u

static struct check the_check;

struct check_chunk *check_chunk_of(uint64_t handle)
{
    struct check_chunk *chunk;

    HASH_FIND(hh, sim->check->chunks, &handle, sizeof(handle), chunk);
    if (chunk)
        return chunk;
    chunk = calloc(1, sizeof(*chunk));
    assert(chunk);
    chunk->handle = handle;
    HASH_ADD(hh, sim->check->chunks, handle, sizeof(chunk->handle), chunk);
    return chunk;
}

void check_begin(void)
{
    memset(&the_check, 0, sizeof(the_check));
    sim->check = &the_check;
}

/* ---- servers --------------------------------------------------------------------------------- */

static bool is_damaged(uint32_t server)
{
    return sim_disk_damages(sim_server(server)->disk) > 0;
}

static uint32_t copies_of(const struct check_chunk *chunk, uint32_t version)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sim->server_count; i++)
        count += chunk->there[i] && chunk->versions[i] >= version && !chunk->corrupt[i];
    return count;
}

/* Promise: nothing live is collected. */
static void check_deleted(struct check_chunk *chunk, uint32_t server)
{
    struct namespace *ns = sim_namespace_of(sim_master());
    const struct chunk *live = ns ? chunkmap_find(ns_chunkmap(ns), chunk->handle) : NULL;
    uint32_t version = chunk->versions[server];

    chunk->there[server] = false;
    if (!live || chunk_released(live) || version < live->version || is_damaged(server) ||
        chunk->corrupt[server])
        return;
    if (copies_of(chunk, live->version) < live->goal)
        sim_fail("%s has deleted %016llx, a good replica at version %u of a chunk of goal %u",
                 sim_server(server)->name, (unsigned long long)chunk->handle, version, live->goal);
}

/* Promise: versions only rise, over restarts and power cuts. */
static void check_stored(const struct store_chunk *stored, uint32_t server)
{
    struct check_chunk *chunk = check_chunk_of(stored->handle);

    if (chunk->there[server] && stored->version < chunk->versions[server] && !is_damaged(server))
        sim_fail("%s had %016llx at version %u, and has it at %u", sim_server(server)->name,
                 (unsigned long long)stored->handle, chunk->versions[server], stored->version);
    chunk->there[server] = true;
    chunk->versions[server] = stored->version;
    chunk->corrupt[server] = stored->corrupt;
    chunk->looks[server] = (uint32_t)sim->check->looks;
}

static void check_store(struct store *store, uint32_t server)
{
    static struct store_chunk list[CHECK_LIST];
    struct check_chunk *chunk, *next;
    uint64_t from = 0;
    size_t count;

    sim->check->looks++;
    do {
        count = store_list(store, from, list, CHECK_LIST);
        for (size_t i = 0; i < count; i++) {
            check_stored(&list[i], server);
            from = list[i].handle + 1;
        }
    } while (count == CHECK_LIST);
    HASH_ITER (hh, sim->check->chunks, chunk, next)
        if (chunk->there[server] && chunk->looks[server] != (uint32_t)sim->check->looks)
            check_deleted(chunk, server);
}

/* ---- the master ------------------------------------------------------------------------------ */

/* Promise: what a lease was used under is durable at the master: its next start knows it. */
static void check_master(struct namespace *ns)
{
    const struct chunk *chunk;
    uint32_t at = 0;

    while ((chunk = chunkmap_walk(ns_chunkmap(ns), &at)) != NULL) {
        struct check_chunk *known = check_chunk_of(chunk->handle);

        if (chunk_released(chunk))
            continue;
        if (chunk->version < known->used_version)
            sim_fail("%016llx was led under version %u, and the master has %u",
                     (unsigned long long)chunk->handle, known->used_version, chunk->version);
        if (known->master_incarnation == sim_master()->incarnation &&
            chunk->version < known->master_version)
            sim_fail("the master had %016llx at version %u, and has it at %u",
                     (unsigned long long)chunk->handle, known->master_version, chunk->version);
        known->master_version = chunk->version;
        known->master_incarnation = sim_master()->incarnation;
    }
}

void check_after_event(void)
{
    const struct sim_node *node = sim->ran;
    struct chunkserver *cs;

    if (!node || !node->up)
        return;
    cs = sim_chunkserver_of(node);
    if (cs) {
        check_leases(node->index - 1);
        if (sim->events % CHECK_EVERY == 0)
            check_store(cs->store, node->index - 1);
    } else if (sim_namespace_of(node) && sim->events % CHECK_MASTER_EVERY == 0) {
        check_master(sim_namespace_of(node));
    }
}
