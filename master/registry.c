#include "master/registry.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void registry_init(struct registry *registry, uint64_t dead_after_ms)
{
    memset(registry, 0, sizeof(*registry));
    registry->dead_after_ms = dead_after_ms;
}

void registry_release(struct registry *registry)
{
    for (size_t i = 0; i < registry->count; i++) {
        free(registry->servers[i]);
    }
    free(registry->servers);
    memset(registry, 0, sizeof(*registry));
}

struct registry_server *registry_find(const struct registry *registry, const uint8_t *uuid)
{
    for (size_t i = 0; i < registry->count; i++) {
        if (memcmp(registry->servers[i]->uuid, uuid, GFS_UUID_BYTES) == 0) {
            return registry->servers[i];
        }
    }
    return NULL;
}

struct registry_server *registry_get(const struct registry *registry, uint16_t slot)
{
    return slot < registry->count ? registry->servers[slot] : NULL;
}

bool registry_is_up(const struct registry *registry, uint16_t slot)
{
    return slot < registry->count && registry->servers[slot]->up;
}

static enum gfs_err add_server(struct registry *registry, const uint8_t *uuid,
                               struct registry_server **ret_server)
{
    if (registry->count == REGISTRY_SERVERS_MAX) {
        return GFS_ERR_TOO_LARGE;
    }
    if ((registry->count & (registry->count - 1)) == 0) {
        size_t cap = registry->count == 0 ? 1 : registry->count * 2;
        void *grown = realloc(registry->servers, cap * sizeof(*registry->servers));
        if (grown == NULL) {
            return GFS_ERR_NO_MEMORY;
        }
        registry->servers = grown;
    }
    struct registry_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    server->slot = (uint16_t)registry->count;
    memcpy(server->uuid, uuid, GFS_UUID_BYTES);
    registry->servers[registry->count++] = server;
    *ret_server = server;
    return GFS_OK;
}

static uint16_t rack_id(struct registry *registry, const struct registry_server *of)
{
    for (size_t i = 0; i < registry->count; i++) {
        const struct registry_server *server = registry->servers[i];
        if (server != of && strcmp(server->rack, of->rack) == 0) {
            return server->rack_id;
        }
    }
    return registry->next_rack_id++;
}

static bool is_silent(const struct registry *registry, const struct registry_server *server,
                      uint64_t now_ms)
{
    return now_ms > server->heard_ms && now_ms - server->heard_ms > registry->dead_after_ms;
}

enum gfs_err registry_register(struct registry *registry, const struct registry_claim *claim,
                               uint64_t now_ms, struct registry_server **ret_server, void **ret_old)
{
    struct registry_server *server = registry_find(registry, claim->uuid);
    if (server != NULL && server->up && server->link != claim->link &&
        strcmp(server->addr, claim->addr) != 0 && !is_silent(registry, server, now_ms)) {
        return GFS_ERR_BUSY;
    }
    if (server == NULL) {
        enum gfs_err err = add_server(registry, claim->uuid, &server);
        if (err != GFS_OK) {
            return err;
        }
    }
    *ret_old = server->up && server->link != claim->link ? server->link : NULL;
    if (!server->up) {
        registry->up_count++;
    }
    server->up = true;
    server->reported = false;
    server->doubts = 0;
    server->link = claim->link;
    server->load = claim->load;
    server->heard_ms = now_ms;
    snprintf(server->addr, sizeof(server->addr), "%s", claim->addr);
    snprintf(server->rack, sizeof(server->rack), "%s", claim->rack);
    snprintf(server->version, sizeof(server->version), "%s", claim->version);
    server->rack_id = rack_id(registry, server);
    *ret_server = server;
    return GFS_OK;
}

enum gfs_err registry_heartbeat(struct registry *registry, const uint8_t *uuid, const void *link,
                                const struct registry_load *load, uint64_t now_ms,
                                struct registry_server **ret_server)
{
    struct registry_server *server = registry_find(registry, uuid);
    if (server == NULL || !server->up || server->link != link) {
        return GFS_ERR_UNKNOWN_SERVER;
    }
    server->load = *load;
    server->heard_ms = now_ms;
    server->doubts -= server->doubts > 0;
    *ret_server = server;
    return GFS_OK;
}

struct registry_server *registry_disconnect(struct registry *registry, const void *link)
{
    for (size_t i = 0; i < registry->count; i++) {
        struct registry_server *server = registry->servers[i];
        if (server->up && server->link == link) {
            assert(registry->up_count > 0);
            server->up = false;
            server->link = NULL;
            server->reported = false;
            registry->up_count--;
            return server;
        }
    }
    return NULL;
}

struct registry_server *registry_next_silent(struct registry *registry, uint64_t now_ms,
                                             size_t *cursor)
{
    for (; *cursor < registry->count; (*cursor)++) {
        struct registry_server *server = registry->servers[*cursor];
        if (server->up && is_silent(registry, server, now_ms)) {
            (*cursor)++;
            return server;
        }
    }
    return NULL;
}

void registry_decay(struct registry *registry)
{
    for (size_t i = 0; i < registry->count; i++) {
        registry->servers[i]->recent /= 2;
    }
}

void registry_doubt(struct registry *registry, uint16_t slot)
{
    if (slot < registry->count) {
        registry->servers[slot]->doubts = REGISTRY_DOUBTS;
    }
}
