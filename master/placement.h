/*
 * placement: which chunkservers get a new chunk. Floor 5, pure: the random state is an argument.
 *
 * Replicas are spread over racks first: each next one goes to a rack that holds the fewest of this
 * chunk so far. Within those, a server is drawn with a chance that grows with its free space and
 * falls with what was placed on it lately, so that an empty new server is not drowned in writes.
 * A server that a client has just seen fail gets nothing until it has shown that it lives, unless
 * there is no other: one replica fewer is better than a writer that waits for a hanging server.
 */
#ifndef MASTER_PLACEMENT_H
#define MASTER_PLACEMENT_H

#include "master/registry.h"

struct placement_want {
    uint32_t goal;           /* at most GFS_GOAL_MAX */
    const uint16_t *exclude; /* slots */
    size_t exclude_count;
};

/* Writes up to want->goal slots, no two alike; the first one is to be the primary. Returns how
 * many: fewer than the goal when there are fewer servers up, writable and not excluded. */
size_t placement_choose(const struct registry *registry, const struct placement_want *want,
                        uint64_t *random_state, uint16_t ret_slots[GFS_GOAL_MAX]);
/* Remembers that a chunk was placed there. */
void placement_note(struct registry *registry, uint16_t slot);
/* splitmix64; state may start at any value. */
uint64_t placement_random(uint64_t *random_state);

#endif
