/* stat: one file or directory, with every chunk and replica of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "groups.h"
#include "out.h"

struct stat_chunks {
    struct gfs_chunk_info *items;
    size_t count;
};

static uint32_t stat_ok_replicas(const struct gfs_chunk_info *chunk)
{
    uint32_t ok = 0;
    for (uint32_t i = 0; i < chunk->replica_count; i++)
        ok += chunk->replicas[i].state == GFS_REPLICA_OK;
    return ok;
}

static cJSON *stat_json_chunk(const struct gfs_chunk_info *chunk)
{
    char handle[24];
    cJSON *object = out_object();
    cJSON *replicas = out_array();
    snprintf(handle, sizeof handle, "%016" PRIx64, chunk->handle);
    out_add_u64(object, "index", chunk->index);
    out_add(object, "handle", cJSON_CreateString(handle));
    out_add_u64(object, "version", chunk->version);
    out_add_u64(object, "length", chunk->length_bytes);
    for (uint32_t i = 0; i < chunk->replica_count; i++) {
        const struct gfs_replica *replica = &chunk->replicas[i];
        cJSON *item = out_object();
        out_add(item, "server", cJSON_CreateString(replica->server));
        out_add(item, "addr", cJSON_CreateString(replica->addr));
        out_add(item, "state", cJSON_CreateString(out_replica_state(replica->state)));
        out_append(replicas, item);
    }
    out_add(object, "replicas", replicas);
    return object;
}

static void stat_json(const char *path, const struct gfs_attr *attr,
                      const struct stat_chunks *chunks)
{
    cJSON *object = out_object();
    cJSON *array = out_array();
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", attr->mode & 07777);
    out_add_text(object, "path", path);
    out_add(object, "type", cJSON_CreateString(out_type(attr->type)));
    out_add_u64(object, "size", attr->size_bytes);
    out_add_u64(object, "goal", attr->goal);
    out_add_u64(object, "chunk_size", attr->chunk_size_bytes);
    out_add_seconds(object, "mtime", attr->mtime_ms);
    out_add_seconds(object, "ctime", attr->ctime_ms);
    out_add(object, "mode", cJSON_CreateString(mode));
    out_add_u64(object, "uid", attr->uid);
    out_add_u64(object, "gid", attr->gid);
    out_add_u64(object, "inode", attr->inode);
    if (attr->type == GFS_TYPE_DIR)
        out_add_u64(object, "entries", attr->entry_count);
    for (size_t i = 0; i < chunks->count; i++)
        out_append(array, stat_json_chunk(&chunks->items[i]));
    out_add(object, "chunks", array);
    out_json(object);
}

static void stat_human_chunk(const struct gfs_chunk_info *chunk)
{
    if (!chunk->handle) {
        printf("  chunk %u: a hole\n", chunk->index);
        return;
    }
    uint32_t ok = stat_ok_replicas(chunk);
    printf("  chunk %u: %016" PRIx64 " version %u, %u bytes, %u of %u replicas ok%s\n",
           chunk->index, chunk->handle, chunk->version, chunk->length_bytes, ok, chunk->goal,
           ok >= chunk->goal ? ""
           : ok              ? " (under-replicated)"
                             : " (LOST while they are away)");
    for (uint32_t i = 0; i < chunk->replica_count; i++) {
        const struct gfs_replica *replica = &chunk->replicas[i];
        printf("    %-7s %s %s\n", out_replica_state(replica->state), replica->server,
               replica->addr);
    }
}

static void stat_human(const struct ctl *ctl, const char *path, const struct gfs_attr *attr,
                       const struct stat_chunks *chunks)
{
    char size[OUT_SIZE_TEXT_BYTES], mtime[OUT_TIME_TEXT_BYTES];
    out_size(attr->size_bytes, size);
    out_time(attr->mtime_ms, mtime);
    out_name(ctl, path);
    printf(": %s", out_type(attr->type));
    if (attr->type == GFS_TYPE_DIR)
        printf(", %u entries", attr->entry_count);
    else
        printf(", %" PRIu64 " bytes (%s)", attr->size_bytes, size);
    printf("\n  goal %u, chunk size %u, mode %04o, uid %u, gid %u, modified %s\n", attr->goal,
           attr->chunk_size_bytes, attr->mode & 07777, attr->uid, attr->gid, mtime);
    size_t short_count = 0;
    for (size_t i = 0; i < chunks->count; i++) {
        const struct gfs_chunk_info *chunk = &chunks->items[i];
        stat_human_chunk(chunk);
        short_count += chunk->handle && stat_ok_replicas(chunk) < chunk->goal;
    }
    if (short_count)
        printf("  %zu of %zu chunks have fewer good replicas than the goal\n", short_count,
               chunks->count);
}

enum ctl_exit stat_run(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    struct gfs_attr attr;
    struct stat_chunks chunks = {0};
    enum gfs_err err = gfs_stat(ctl->fs, path, &attr);
    if (err == GFS_OK && attr.type == GFS_TYPE_FILE)
        err = gfs_chunks(ctl->fs, path, &chunks.items, &chunks.count);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (ctl->json)
        stat_json(path, &attr, &chunks);
    else
        stat_human(ctl, path, &attr, &chunks);
    gfs_free(chunks.items);
    return CTL_OK;
}
