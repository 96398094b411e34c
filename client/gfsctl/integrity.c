/* integrity: snapshot, checksum, scrub. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "groups.h"
#include "out.h"
#include "progress.h"

#define SCRUB_POLL_US    100000
#define SCRUB_UUID_CHARS 36

enum ctl_exit integrity_snapshot(struct ctl *ctl)
{
    enum gfs_err err = gfs_snapshot(ctl->fs, ctl->args[0], ctl->args[1]);
    if (err == GFS_OK)
        return CTL_OK;
    const char *hint = NULL;
    if (err == GFS_ERR_LOOP)
        hint = "choose a TO outside of FROM";
    else if (err == GFS_ERR_EXISTS)
        hint = "choose a TO that does not exist";
    return ctl_fail_gfs(ctl, err, hint);
}

enum ctl_exit integrity_checksum(struct ctl *ctl)
{
    const char *path = ctl->args[0];
    uint32_t crc;
    uint64_t size;
    enum gfs_err err = gfs_checksum(ctl->fs, path, &crc, &size);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (ctl->json) {
        char text[16];
        snprintf(text, sizeof text, "%08" PRIx32, crc);
        cJSON *object = out_object();
        out_add_text(object, "path", path);
        out_add(object, "crc32c", cJSON_CreateString(text));
        out_add_u64(object, "size", size);
        out_json(object);
        return CTL_OK;
    }
    printf("%08" PRIx32 " %" PRIu64 " ", crc, size);
    out_name(ctl, path);
    putchar('\n');
    return CTL_OK;
}

/* ---- scrub ---- */

static bool scrub_is_id(const char *text)
{
    return strlen(text) == SCRUB_UUID_CHARS && !strchr(text, ':') && !strchr(text, '.');
}

enum ctl_exit integrity_check_scrub(struct ctl *ctl)
{
    const char *what = ctl->args[0];
    const char *colon = strrchr(what, ':');
    const char *port = colon ? colon + 1 : "";
    bool is_port = strlen(port) < 6 && strspn(port, "0123456789") == strlen(port) &&
                   atoi(port) > 0 && atoi(port) <= 65535;
    if (*what == '/' || scrub_is_id(what) || (is_port && colon != what))
        return CTL_OK;
    return ctl_usage(ctl, "'%s' is neither a path nor a chunkserver's ADDR:PORT or id", what);
}

/* The server's address, if it is one that the master knows. */
static enum ctl_exit scrub_server_addr(struct ctl *ctl, const char *server, char ret_addr[64])
{
    struct gfs_server_info *servers;
    size_t count;
    enum ctl_exit result = CTL_FAILED;
    enum gfs_err err = gfs_servers(ctl->fs, &servers, &count);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    for (size_t i = 0; i < count && result != CTL_OK; i++) {
        if (strcmp(servers[i].addr, server) != 0 && strcmp(servers[i].id, server) != 0)
            continue;
        snprintf(ret_addr, 64, "%s", servers[i].addr);
        result = CTL_OK;
    }
    gfs_free(servers);
    if (result != CTL_OK)
        ctl_fail(ctl, "%s: not a chunkserver of this cluster; see gfsctl servers", server);
    return result;
}

/* Bad data was found: that is worth an exit status, though it is being repaired. */
static enum ctl_exit scrub_found(const struct ctl *ctl, const char *what, uint64_t bad,
                                 const char *noun)
{
    if (bad == 0)
        return CTL_OK;
    return ctl_fail(ctl, "%s: %" PRIu64 " bad %s%s found; their repair has begun, see gfsctl stat",
                    what, bad, noun, bad == 1 ? "" : "s");
}

static enum ctl_exit scrub_wait(struct ctl *ctl, const char *addr, struct gfs_scrub *ret_scrub)
{
    struct progress progress;
    enum gfs_err err = gfs_scrub_server(ctl->fs, addr, true, ret_scrub);
    progress_begin(&progress, ctl->err_is_terminal, addr, UINT64_MAX);
    while (err == GFS_OK && ret_scrub->running) {
        progress_update(&progress, ret_scrub->bytes_done);
        usleep(SCRUB_POLL_US);
        err = gfs_scrub_server(ctl->fs, addr, false, ret_scrub);
    }
    progress_end(&progress, ret_scrub->bytes_done, true);
    return err == GFS_OK ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
}

static enum ctl_exit scrub_server(struct ctl *ctl, const char *server)
{
    struct gfs_scrub scrub = {0};
    char addr[64], size[OUT_SIZE_TEXT_BYTES];
    enum ctl_exit result = scrub_server_addr(ctl, server, addr);
    if (result == CTL_OK)
        result = scrub_wait(ctl, addr, &scrub);
    if (result != CTL_OK)
        return result;
    if (ctl->json) {
        cJSON *object = out_object();
        out_add_text(object, "server", addr);
        out_add_u64(object, "chunks", scrub.chunks_done);
        out_add_u64(object, "bytes", scrub.bytes_done);
        out_add_u64(object, "bad", scrub.bad_chunks);
        out_json(object);
    } else {
        out_size(scrub.bytes_done, size);
        printf("%s: %" PRIu64 " chunks checked, %s, %" PRIu64 " bad\n", addr, scrub.chunks_done,
               size, scrub.bad_chunks);
    }
    return scrub_found(ctl, addr, scrub.bad_chunks, "chunk");
}

static enum ctl_exit scrub_file(struct ctl *ctl, const char *path)
{
    uint64_t replicas, bad;
    enum gfs_err err = gfs_scrub_file(ctl->fs, path, &replicas, &bad);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (ctl->json) {
        cJSON *object = out_object();
        out_add_text(object, "path", path);
        out_add_u64(object, "replicas", replicas);
        out_add_u64(object, "bad", bad);
        out_json(object);
    } else {
        out_name(ctl, path);
        printf(": %" PRIu64 " replicas of chunks checked, %" PRIu64 " bad\n", replicas, bad);
    }
    return scrub_found(ctl, path, bad, "replica");
}

enum ctl_exit integrity_scrub(struct ctl *ctl)
{
    const char *what = ctl->args[0];
    return *what == '/' ? scrub_file(ctl, what) : scrub_server(ctl, what);
}
