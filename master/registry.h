/*
 * registry: the chunkservers the master knows. Floor 5, pure: time is an argument.
 *
 * A server is its UUID; its address is only how to reach it now. A slot, once given, stays with
 * its UUID until the master stops, so that a replica can name its server by a 16-bit number.
 *
 *   absent --register--> UP --connection closed, or silent too long--> DOWN --register--> UP
 */
#ifndef MASTER_REGISTRY_H
#define MASTER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "gfs_limits.h"

#define REGISTRY_SERVERS_MAX       2048u
#define REGISTRY_DOUBTS            2u
#define REGISTRY_ADDR_MAX_BYTES    64u
#define REGISTRY_RACK_MAX_BYTES    64u
#define REGISTRY_VERSION_MAX_BYTES 32u

struct registry_load {
    uint64_t capacity_bytes;
    uint64_t used_bytes;
    uint64_t chunk_count;
    uint32_t requests; /* in flight */
    bool read_only;
};

struct registry_server {
    uint16_t slot;
    uint16_t rack_id; /* equal for equal rack names */
    bool up;
    bool reported; /* a full report has ended since it registered */
    uint8_t uuid[GFS_UUID_BYTES];
    char addr[REGISTRY_ADDR_MAX_BYTES];
    char rack[REGISTRY_RACK_MAX_BYTES];
    char version[REGISTRY_VERSION_MAX_BYTES];
    struct registry_load load;
    uint64_t heard_ms;
    uint32_t doubts; /* heartbeats it still owes since a client saw it fail */
    uint32_t recent; /* chunks placed on it lately, halved every second; in 1/256 */
    void *link;      /* the shell's: how to reach it; NULL when down */
};

struct registry {
    struct registry_server **servers; /* by slot */
    size_t count;
    size_t up_count;
    uint16_t next_rack_id;
    uint64_t dead_after_ms;
};

struct registry_claim {
    const uint8_t *uuid;
    const char *addr;
    const char *rack;
    const char *version;
    struct registry_load load;
    void *link;
};

void registry_init(struct registry *registry, uint64_t dead_after_ms);
void registry_release(struct registry *registry);

/* Makes the server up. BUSY while another link of that UUID is alive, unless it is silent or has
 * the same address (then it can only be the same server, started again: *ret_old is its former
 * link, else NULL). TOO_LARGE when there are too many servers. */
enum gfs_err registry_register(struct registry *registry, const struct registry_claim *claim,
                               uint64_t now_ms, struct registry_server **ret_server,
                               void **ret_old) GFS_MUST_CHECK;
/* UNKNOWN_SERVER when this link is not the server's own. */
enum gfs_err registry_heartbeat(struct registry *registry, const uint8_t *uuid, const void *link,
                                const struct registry_load *load, uint64_t now_ms,
                                struct registry_server **ret_server) GFS_MUST_CHECK;
/* The link is gone. Returns the server that is now down, NULL when the link was nobody's. */
struct registry_server *registry_disconnect(struct registry *registry, const void *link);
/* Next up server at or after *cursor that has been silent too long; NULL when none is left. */
struct registry_server *registry_next_silent(struct registry *registry, uint64_t now_ms,
                                             size_t *cursor);
/* Once a second: what was placed lately counts half. */
void registry_decay(struct registry *registry);

/* A client saw it fail: nothing new is placed on it until it has sent REGISTRY_DOUBTS heartbeats.
 */
void registry_doubt(struct registry *registry, uint16_t slot);

struct registry_server *registry_find(const struct registry *registry, const uint8_t *uuid);
struct registry_server *registry_get(const struct registry *registry, uint16_t slot);
bool registry_is_up(const struct registry *registry, uint16_t slot);

#endif
