/* Calls of gfs.h that show where data is: chunks of a file, chunkservers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "daemon.h"
#include "failure.h"
#include "master.pb-c.h"

#define CHUNKS_PAGE 256

static void server_text(const ProtobufCBinaryData *id, char ret_text[37])
{
    ret_text[0] = '\0';
    if (id->len == GFS_UUID_BYTES)
        uuid_format(id->data, ret_text);
}

/* ---- chunks -------------------------------------------------------------------------------- */

/* Grown page by page; replicas as an index until all are in, since the array moves. */
struct chunks_list {
    struct gfs_chunk_info *chunks;
    size_t count;
    size_t *first_replica;
    struct gfs_replica *replicas;
    size_t replica_count;
    uint32_t next_index;
    uint64_t chunks_in_file;
};

static enum gfs_err chunks_grow(struct chunks_list *list, const Gfs__ChunksReply *reply)
{
    size_t replicas = list->replica_count;
    for (size_t i = 0; i < reply->n_chunks; i++)
        replicas += reply->chunks[i]->n_replicas;
    size_t chunks = list->count + reply->n_chunks;
    void *grown = realloc(list->chunks, (chunks + 1) * sizeof(list->chunks[0]));
    if (grown == NULL)
        return GFS_ERR_NO_MEMORY;
    list->chunks = grown;
    grown = realloc(list->first_replica, (chunks + 1) * sizeof(list->first_replica[0]));
    if (grown == NULL)
        return GFS_ERR_NO_MEMORY;
    list->first_replica = grown;
    grown = realloc(list->replicas, (replicas + 1) * sizeof(list->replicas[0]));
    if (grown == NULL)
        return GFS_ERR_NO_MEMORY;
    list->replicas = grown;
    return GFS_OK;
}

static void replica_take(const Gfs__Replica *from, struct gfs_replica *ret_replica)
{
    memset(ret_replica, 0, sizeof(*ret_replica));
    server_text(&from->server, ret_replica->server);
    snprintf(ret_replica->addr, sizeof(ret_replica->addr), "%s", from->addr);
    ret_replica->state = from->state >= GFS__REPLICA_STATE__REPLICA_OK &&
                                 from->state <= GFS__REPLICA_STATE__REPLICA_MISSING
                             ? (enum gfs_replica_state)from->state
                             : GFS_REPLICA_MISSING;
}

static enum gfs_err chunks_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ChunksReply *reply = (const Gfs__ChunksReply *)msg;
    struct chunks_list *list = arg;
    struct gfs_attr attr;
    enum gfs_err err = attr_take(reply->attr, &attr);
    if (err == GFS_OK && attr.type != GFS_TYPE_FILE)
        err = GFS_ERR_PROTO;
    if (err == GFS_OK)
        err = chunks_grow(list, reply);
    if (err != GFS_OK)
        return err;
    list->chunks_in_file = (attr.size_bytes + attr.chunk_size_bytes - 1) / attr.chunk_size_bytes;
    for (size_t i = 0; i < reply->n_chunks; i++) {
        const Gfs__ChunkInfo *chunk = reply->chunks[i];
        if (chunk->index < list->next_index)
            return GFS_ERR_PROTO;
        list->next_index = chunk->index + 1;
        list->first_replica[list->count] = list->replica_count;
        list->chunks[list->count++] = (struct gfs_chunk_info){
            .index = chunk->index,
            .handle = chunk->handle,
            .version = chunk->version,
            .length_bytes = chunk->length,
            .goal = chunk->goal,
            .replica_count = (uint32_t)chunk->n_replicas,
        };
        for (size_t k = 0; k < chunk->n_replicas; k++)
            replica_take(chunk->replicas[k], &list->replicas[list->replica_count++]);
    }
    return GFS_OK;
}

static struct gfs_chunk_info *chunks_join(const struct chunks_list *list)
{
    size_t chunk_bytes = list->count * sizeof(list->chunks[0]);
    size_t replica_bytes = list->replica_count * sizeof(list->replicas[0]);
    struct gfs_chunk_info *chunks = malloc(chunk_bytes + replica_bytes + 1);
    if (chunks == NULL)
        return NULL;
    struct gfs_replica *replicas = (struct gfs_replica *)(chunks + list->count);
    if (list->count > 0)
        memcpy(chunks, list->chunks, chunk_bytes);
    if (list->replica_count > 0)
        memcpy(replicas, list->replicas, replica_bytes);
    for (size_t i = 0; i < list->count; i++)
        chunks[i].replicas = replicas + list->first_replica[i];
    return chunks;
}

static enum gfs_err chunks_fetch(struct gfs *fs, const char *path, uint64_t inode,
                                 struct chunks_list *list)
{
    uint32_t asked;
    do {
        asked = list->next_index;
        Gfs__ChunksRequest msg = GFS__CHUNKS_REQUEST__INIT;
        msg.inode = inode;
        msg.first = asked;
        msg.limit = CHUNKS_PAGE;
        msg.all_replicas = true;
        struct call call = {.type = GFS_MSG_CHUNKS,
                            .msg = &msg.base,
                            .take = chunks_take,
                            .arg = list,
                            .what = "chunks of",
                            .path = path};
        enum gfs_err err = call_master(fs, &call);
        if (err != GFS_OK)
            return err;
    } while (list->next_index > asked && list->next_index < list->chunks_in_file);
    return GFS_OK;
}

enum gfs_err gfs_chunks(struct gfs *fs, const char *path, struct gfs_chunk_info **ret_chunks,
                        size_t *ret_count)
{
    struct gfs_attr attr;
    enum gfs_err err = gfs_stat(fs, path, &attr);
    if (err != GFS_OK)
        return err;
    if (attr.type != GFS_TYPE_FILE)
        return call_failed(fs, "chunks of", path, GFS_ERR_IS_DIR, "");
    struct chunks_list list = {0};
    err = chunks_fetch(fs, path, attr.inode, &list);
    if (err == GFS_OK) {
        struct gfs_chunk_info *chunks = chunks_join(&list);
        if (chunks == NULL) {
            err = failure_set(GFS_ERR_NO_MEMORY, "chunks of %s: out of memory", path);
        } else {
            *ret_chunks = chunks;
            *ret_count = list.count;
        }
    }
    free(list.chunks);
    free(list.first_replica);
    free(list.replicas);
    return err;
}

/* ---- servers ------------------------------------------------------------------------------- */

struct servers_list {
    struct gfs_server_info *servers;
    size_t count;
};

static enum gfs_err servers_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ServersReply *reply = (const Gfs__ServersReply *)msg;
    struct servers_list *list = arg;
    struct gfs_server_info *servers = calloc(reply->n_servers + 1, sizeof(*servers));
    if (servers == NULL)
        return GFS_ERR_NO_MEMORY;
    for (size_t i = 0; i < reply->n_servers; i++) {
        const Gfs__ServerInfo *from = reply->servers[i];
        struct gfs_server_info *to = &servers[i];
        server_text(&from->id, to->id);
        snprintf(to->addr, sizeof(to->addr), "%s", from->addr);
        snprintf(to->rack, sizeof(to->rack), "%s", from->rack);
        to->up = from->up;
        to->read_only = from->read_only;
        to->capacity_bytes = from->capacity_bytes;
        to->used_bytes = from->used_bytes;
        to->chunks = from->chunks;
        to->heartbeat_age_ms = from->heartbeat_age_ms;
    }
    list->servers = servers;
    list->count = reply->n_servers;
    return GFS_OK;
}

enum gfs_err gfs_servers(struct gfs *fs, struct gfs_server_info **ret_servers, size_t *ret_count)
{
    Gfs__ServersRequest msg = GFS__SERVERS_REQUEST__INIT;
    struct servers_list list = {0};
    struct call call = {.type = GFS_MSG_SERVERS,
                        .msg = &msg.base,
                        .take = servers_take,
                        .arg = &list,
                        .what = "servers"};
    enum gfs_err err = call_master(fs, &call);
    if (err != GFS_OK)
        return err;
    *ret_servers = list.servers;
    *ret_count = list.count;
    return GFS_OK;
}
