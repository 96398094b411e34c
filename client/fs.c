#include "fs.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "chunk.pb-c.h"
#include "daemon.h"
#include "failure.h"
#include "master.pb-c.h"
#include "rpc.pb-c.h"
#include "write_window.h"

#define FS_SILENCE_MS         800 /* of a chunkserver that does not even answer a ping */
#define FS_CONNECT_REFUSED_MS 5000
#define FS_HOSTS_MAX          64
#define FS_REPORTS_PER_SECOND 8

uint64_t fs_reserve_ids(struct gfs *fs, uint64_t count)
{
    return __atomic_fetch_add(&fs->counter, count, __ATOMIC_RELAXED);
}

void fs_id(const struct gfs *fs, uint64_t number, uint8_t ret_id[FS_ID_BYTES])
{
    memcpy(ret_id, fs->client_id, 8);
    memcpy(ret_id + 8, &number, 8);
}

void fs_make_id(struct gfs *fs, uint8_t ret_id[FS_ID_BYTES])
{
    fs_id(fs, fs_reserve_ids(fs, 1), ret_id);
}

uint64_t fs_producer(struct gfs *fs)
{
    uint64_t mix = fs_reserve_ids(fs, 1) * 0x9e3779b97f4a7c15u;
    uint64_t producer;
    memcpy(&producer, fs->client_id, sizeof(producer));
    producer ^= mix ^ mix >> 29;
    return producer != 0 ? producer : 1;
}

uint32_t fs_random(struct gfs *fs)
{
    uint64_t x = __atomic_add_fetch(&fs->chance, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(x >> 32);
}

bool fs_is_near(const struct gfs *fs, const char *addr)
{
    const char *colon = strrchr(addr, ':');
    if (colon == NULL)
        return false;
    size_t host_bytes = (size_t)(colon - addr);
    for (size_t i = 0; i < fs->host_count; i++)
        if (strlen(fs->hosts[i]) == host_bytes && memcmp(fs->hosts[i], addr, host_bytes) == 0)
            return true;
    return false;
}

void fs_suspects(struct gfs *fs, struct suspect_list *ret_suspects)
{
    pthread_mutex_lock(&fs->lock);
    *ret_suspects = fs->suspects;
    pthread_mutex_unlock(&fs->lock);
}

void fs_suspect(struct gfs *fs, const uint8_t server[GFS_UUID_BYTES], uint32_t for_ms)
{
    pthread_mutex_lock(&fs->lock);
    suspect_add(&fs->suspects, server, loop_now_ms() + for_ms);
    pthread_mutex_unlock(&fs->lock);
}

static void report_done(void *arg, const struct rpc_answer *answer)
{
}

void fs_report_bad(struct gfs *fs, uint64_t handle, uint32_t version,
                   const uint8_t server[GFS_UUID_BYTES], enum gfs_err err)
{
    uint64_t now_ms = loop_now_ms();
    pthread_mutex_lock(&fs->lock);
    if (now_ms - fs->report_ms >= 1000) {
        fs->report_ms = now_ms;
        fs->report_count = 0;
    }
    bool send = fs->report_count++ < FS_REPORTS_PER_SECOND;
    pthread_mutex_unlock(&fs->lock);
    if (!send)
        return;
    Gfs__ReportBadRequest msg = GFS__REPORT_BAD_REQUEST__INIT;
    msg.handle = handle;
    msg.version = version;
    msg.server = (ProtobufCBinaryData){.len = GFS_UUID_BYTES, .data = (uint8_t *)server};
    msg.error = err;
    struct rpc_call_args args = {
        .type = GFS_MSG_REPORT_BAD,
        .msg = &msg.base,
        .timeout_ms = 5000,
        .done = report_done,
    };
    rpc_client_call(fs->rpc, fs->master, &args);
}

/* ---- connect ------------------------------------------------------------------------------- */

static enum gfs_err options_fill(struct gfs_options *opts, const struct gfs_options *given)
{
    if (given != NULL)
        *opts = *given;
    if (opts->timeout_ms == 0)
        opts->timeout_ms = 30000;
    if (opts->write_window == 0)
        opts->write_window = 4;
    if (opts->read_window == 0)
        opts->read_window = 4;
    if (opts->request_bytes == 0)
        opts->request_bytes = 1u << 20;
    if (opts->server_timeout_ms == 0)
        opts->server_timeout_ms = 5000;
    if (opts->write_window > WRITE_WINDOW_MAX || opts->read_window > WRITE_WINDOW_MAX)
        return failure_set(GFS_ERR_INVAL, "connect: a window is at most %d requests",
                           WRITE_WINDOW_MAX);
    if (opts->request_bytes > GFS_MUTATION_MAX_BYTES ||
        opts->request_bytes < GFS_BLOCK_SIZE_BYTES ||
        (opts->request_bytes & (opts->request_bytes - 1)) != 0)
        return failure_set(GFS_ERR_INVAL,
                           "connect: request_bytes must be a power of two, 64 KiB to 4 MiB");
    return GFS_OK;
}

/* Fewer addresses than there are only means that fewer replicas are taken for near ones. */
static void hosts_fill(struct gfs *fs)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return;
    fs->hosts = calloc(FS_HOSTS_MAX, sizeof(fs->hosts[0]));
    for (struct ifaddrs *i = list; i != NULL && fs->hosts != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || fs->host_count == FS_HOSTS_MAX)
            continue;
        char *host = fs->hosts[fs->host_count];
        const void *in = i->ifa_addr->sa_family == AF_INET
                             ? (const void *)&((struct sockaddr_in *)i->ifa_addr)->sin_addr
                             : NULL;
        if (in != NULL && inet_ntop(AF_INET, in, host, ADDR_TEXT_MAX_BYTES) != NULL)
            fs->host_count++;
    }
    freeifaddrs(list);
}

static enum gfs_err runtime_start(struct gfs *fs)
{
    enum gfs_err err = loop_new("gfs", &fs->loop);
    if (err != GFS_OK)
        return failure_set(err, "connect: cannot make an event loop: %s", gfs_err_text(err));
    struct rpc_identity identity = {.role = GFS_ROLE_CLIENT};
    memcpy(identity.peer_id, fs->client_id, GFS_UUID_BYTES);
    static const struct rpc_events events = {0};
    uint32_t patience_ms = fs->opts.server_timeout_ms;
    const struct rpc_limits limits = {.silence_ms = patience_ms < FS_SILENCE_MS ? patience_ms
                                                                                : FS_SILENCE_MS};
    err = rpc_client_new(fs->loop, &identity, &limits, &events, &fs->rpc);
    if (err == GFS_OK)
        err = loop_start(fs->loop);
    if (err != GFS_OK)
        return failure_set(err, "connect: cannot start a thread: %s", gfs_err_text(err));
    return GFS_OK;
}

static enum gfs_err master_ping(struct gfs *fs)
{
    Gfs__Ping ping = GFS__PING__INIT;
    struct call call = {
        .type = GFS_MSG_PING,
        .msg = &ping.base,
        .what = "connect",
        .budget_ms = fs->opts.timeout_ms < FS_CONNECT_REFUSED_MS ? fs->opts.timeout_ms
                                                                 : FS_CONNECT_REFUSED_MS,
    };
    return call_master(fs, &call);
}

enum gfs_err gfs_connect(const char *master, const struct gfs_options *opts, struct gfs **ret_fs)
{
    if (master == NULL)
        master = getenv("GFS_MASTER");
    if (master == NULL || master[0] == '\0')
        master = "127.0.0.1";
    struct gfs *fs = calloc(1, sizeof(*fs));
    if (fs == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "connect: out of memory");
    pthread_mutex_init(&fs->lock, NULL);
    uuid_make(fs->client_id);
    memcpy(&fs->chance, fs->client_id + 8, 8);
    enum gfs_err err = options_fill(&fs->opts, opts);
    if (err != GFS_OK)
        goto out;
    err = addr_resolve(master, GFS_PORT_MASTER_DEFAULT, fs->master);
    if (err != GFS_OK) {
        failure_set(err, "connect %s: %s; the master's address is HOST:PORT", master,
                    err == GFS_ERR_INVAL ? "not an address" : "the name cannot be resolved");
        goto out;
    }
    hosts_fill(fs);
    err = runtime_start(fs);
    if (err == GFS_OK)
        err = master_ping(fs);
out:
    if (err != GFS_OK)
        gfs_disconnect(fs);
    else
        *ret_fs = fs;
    return err;
}

void gfs_disconnect(struct gfs *fs)
{
    if (fs == NULL)
        return;
    if (fs->rpc != NULL)
        rpc_client_free(fs->rpc);
    loop_free(fs->loop);
    pthread_mutex_destroy(&fs->lock);
    free(fs->hosts);
    free(fs);
}

const char *gfs_version(void)
{
    return GFS_VERSION_TEXT;
}

void gfs_free(void *memory)
{
    free(memory);
}
