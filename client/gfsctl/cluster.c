/* cluster: df and servers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "groups.h"
#include "out.h"

enum ctl_exit cluster_df(struct ctl *ctl)
{
    struct gfs_statfs fs;
    enum gfs_err err = gfs_statfs(ctl->fs, &fs);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    uint64_t free_bytes = fs.capacity_bytes > fs.used_bytes ? fs.capacity_bytes - fs.used_bytes : 0;
    if (ctl->json) {
        cJSON *object = out_object();
        out_add_u64(object, "capacity", fs.capacity_bytes);
        out_add_u64(object, "used", fs.used_bytes);
        out_add_u64(object, "free", free_bytes);
        out_add_u64(object, "files", fs.files);
        out_add_u64(object, "directories", fs.directories);
        out_add_u64(object, "chunks", fs.chunks);
        out_add_u64(object, "under_replicated_chunks", fs.under_replicated_chunks);
        out_add_u64(object, "lost_chunks", fs.lost_chunks);
        out_add_u64(object, "servers_up", fs.servers_up);
        out_add_u64(object, "servers_down", fs.servers_down);
        out_add_u64(object, "master_memory", fs.master_memory_bytes);
        out_json(object);
        return CTL_OK;
    }
    char capacity[OUT_SIZE_TEXT_BYTES], used[OUT_SIZE_TEXT_BYTES], rest[OUT_SIZE_TEXT_BYTES];
    out_size(fs.capacity_bytes, capacity);
    out_size(fs.used_bytes, used);
    out_size(free_bytes, rest);
    printf("space    %s used of %s, %s free, all replicas counted\n", used, capacity, rest);
    printf("files    %" PRIu64 " in %" PRIu64 " directories\n", fs.files, fs.directories);
    printf("chunks   %" PRIu64 ", %" PRIu64 " under-replicated, %" PRIu64 " lost\n", fs.chunks,
           fs.under_replicated_chunks, fs.lost_chunks);
    printf("servers  %u up, %u down\n", fs.servers_up, fs.servers_down);
    return CTL_OK;
}

static void cluster_server_json(struct out_list *list, const struct gfs_server_info *server)
{
    cJSON *object = out_object();
    out_add(object, "id", cJSON_CreateString(server->id));
    out_add_text(object, "addr", server->addr);
    out_add_text(object, "rack", server->rack);
    out_add(object, "state", cJSON_CreateString(server->up ? "up" : "down"));
    out_add_u64(object, "capacity", server->capacity_bytes);
    out_add_u64(object, "used", server->used_bytes);
    out_add_u64(object, "chunks", server->chunks);
    out_add(object, "read_only", cJSON_CreateBool(server->read_only));
    out_add_u64(object, "heartbeat_age_ms", server->heartbeat_age_ms);
    out_list_add(list, object);
}

static void cluster_server_human(const struct ctl *ctl, const struct gfs_server_info *server)
{
    char capacity[OUT_SIZE_TEXT_BYTES], used[OUT_SIZE_TEXT_BYTES];
    out_size(server->capacity_bytes, capacity);
    out_size(server->used_bytes, used);
    printf("%s %-21s %-9s %11s %11s %8" PRIu64 " ", server->id, server->addr,
           !server->up         ? "down"
           : server->read_only ? "up (full)"
                               : "up",
           used, capacity, server->chunks);
    out_name(ctl, server->rack);
    putchar('\n');
}

enum ctl_exit cluster_servers(struct ctl *ctl)
{
    struct gfs_server_info *servers;
    size_t count;
    struct out_list list = {0};
    enum gfs_err err = gfs_servers(ctl->fs, &servers, &count);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (!ctl->json)
        printf("%-36s %-21s %-9s %11s %11s %8s %s\n", "ID", "ADDRESS", "STATE", "USED", "CAPACITY",
               "CHUNKS", "RACK");
    for (size_t i = 0; i < count; i++) {
        if (ctl->json)
            cluster_server_json(&list, &servers[i]);
        else
            cluster_server_human(ctl, &servers[i]);
    }
    if (ctl->json)
        out_list_end(&list);
    gfs_free(servers);
    return CTL_OK;
}
