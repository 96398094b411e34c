#include "master/placement.h"

#include <assert.h>

uint64_t placement_random(uint64_t *random_state)
{
    uint64_t z = (*random_state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool contains(const uint16_t *slots, size_t count, uint16_t slot)
{
    for (size_t i = 0; i < count; i++) {
        if (slots[i] == slot) {
            return true;
        }
    }
    return false;
}

static uint32_t rack_uses(const struct registry *registry, uint16_t rack_id, const uint16_t *chosen,
                          size_t count)
{
    uint32_t uses = 0;
    for (size_t i = 0; i < count; i++) {
        uses += registry->servers[chosen[i]]->rack_id == rack_id;
    }
    return uses;
}

/* Free MiB, divided by what it got lately; never 0. */
static uint64_t weight_of(const struct registry_server *server)
{
    const struct registry_load *load = &server->load;
    uint64_t free_bytes =
        load->capacity_bytes > load->used_bytes ? load->capacity_bytes - load->used_bytes : 0;
    uint64_t free_mib = free_bytes >> 20;
    if (free_mib > UINT32_MAX) {
        free_mib = UINT32_MAX;
    }
    return (free_mib << 8) / (256 + server->recent) + 1;
}

static bool eligible(const struct registry_server *server, const struct placement_want *want,
                     bool doubtful, const uint16_t *chosen, size_t count)
{
    return server->up && !server->load.read_only && (doubtful || server->doubts == 0) &&
           !contains(chosen, count, server->slot) &&
           !contains(want->exclude, want->exclude_count, server->slot);
}

/* Draws one more server; false when none is left. */
static bool choose_one(const struct registry *registry, const struct placement_want *want,
                       bool doubtful, uint64_t *random_state, const uint16_t *chosen, size_t count,
                       uint16_t *ret_slot)
{
    uint32_t least = UINT32_MAX;
    uint64_t total = 0;
    bool found = false;
    for (size_t i = 0; i < registry->count; i++) {
        const struct registry_server *server = registry->servers[i];
        if (!eligible(server, want, doubtful, chosen, count)) {
            continue;
        }
        uint32_t uses = rack_uses(registry, server->rack_id, chosen, count);
        if (uses > least) {
            continue;
        }
        if (uses < least) {
            least = uses;
            total = 0;
        }
        /* Reservoir: each is kept with a chance of its weight over the sum so far. */
        uint64_t weight = weight_of(server);
        total += weight;
        if (placement_random(random_state) % total < weight) {
            *ret_slot = server->slot;
        }
        found = true;
    }
    return found;
}

static size_t choose(const struct registry *registry, const struct placement_want *want,
                     bool doubtful, uint64_t *random_state, uint16_t *ret_slots)
{
    size_t count = 0;
    while (count < want->goal && choose_one(registry, want, doubtful, random_state, ret_slots,
                                            count, &ret_slots[count])) {
        count++;
    }
    return count;
}

size_t placement_choose(const struct registry *registry, const struct placement_want *want,
                        uint64_t *random_state, uint16_t ret_slots[GFS_GOAL_MAX])
{
    assert(want->goal <= GFS_GOAL_MAX);
    size_t count = choose(registry, want, false, random_state, ret_slots);
    return count > 0 ? count : choose(registry, want, true, random_state, ret_slots);
}

void placement_note(struct registry *registry, uint16_t slot)
{
    struct registry_server *server = registry_get(registry, slot);
    if (server != NULL && server->recent < (1u << 24)) {
        server->recent += 256;
    }
}
