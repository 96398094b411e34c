/*
 * sim_wrap: what the code asks of the kernel and of its files besides threads: clocks, random
 * numbers, addresses, the log, the epoch and the stamp. Answered from the node that is running.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "addr.h"
#include "daemon.h"
#include "log.h"
#include "master/epoch.h"
#include "master/lease.h"
#include "sim_int.h"

#define WRAP_SYNC_MIN_US 200u
#define WRAP_SYNC_MAX_US 9000u

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    uint64_t us;

    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME)
        us = sim_local_us(sim->current);
    else
        us = (uint64_t)sim_wall_ms(sim->current) * 1000;
    ret_now->tv_sec = (time_t)(us / SIM_S);
    ret_now->tv_nsec = (long)(us % SIM_S) * 1000;
    return 0;
}

uint64_t sim_real_ms(void)
{
    struct timespec now;

    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

time_t __wrap_time(time_t *ret_now);
time_t __wrap_time(time_t *ret_now)
{
    time_t now = (time_t)(sim_wall_ms(sim->current) / 1000);

    if (ret_now)
        *ret_now = now;
    return now;
}

int __wrap_RAND_bytes(unsigned char *ret_bytes, int count);
int __wrap_RAND_bytes(unsigned char *ret_bytes, int count)
{
    assert(sim->current);
    for (int i = 0; i < count; i++)
        ret_bytes[i] = (unsigned char)(sim_mix64(&sim->current->random_state) >> 24);
    return 1;
}

void __wrap_log_event(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    char text[240];
    va_list args;

    if (!sim_is_traced())
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sim_trace("log %s %s", event, text);
}

/* ---- addresses ------------------------------------------------------------------------------- */

struct wrap_ifaddr {
    struct ifaddrs list;
    struct sockaddr_in addr;
};

int __wrap_getifaddrs(struct ifaddrs **ret_list);
int __wrap_getifaddrs(struct ifaddrs **ret_list)
{
    struct wrap_ifaddr *only = calloc(1, sizeof(*only));

    assert(only && sim->current);
    only->addr.sin_family = AF_INET;
    inet_pton(AF_INET, sim->current->ip, &only->addr.sin_addr);
    only->list.ifa_addr = (struct sockaddr *)&only->addr;
    *ret_list = &only->list;
    return 0;
}

void __wrap_freeifaddrs(struct ifaddrs *list);
void __wrap_freeifaddrs(struct ifaddrs *list)
{
    free(list);
}

/* Numeric ones only, and no resolver: "ip:port", "ip". */
enum gfs_err __wrap_addr_resolve(const char *text, int default_port, char *ret_addr);
enum gfs_err __wrap_addr_resolve(const char *text, int default_port, char *ret_addr)
{
    int len = strchr(text, ':')
                  ? snprintf(ret_addr, ADDR_TEXT_MAX_BYTES, "%s", text)
                  : snprintf(ret_addr, ADDR_TEXT_MAX_BYTES, "%s:%d", text, default_port);

    return len < ADDR_TEXT_MAX_BYTES ? GFS_OK : GFS_ERR_INVAL;
}

/* ---- small files ----------------------------------------------------------------------------- */

/* A crash before the sync returns leaves the old one, or the new. */
static void slow_sync(void)
{
    if (sim_in_task())
        sim_sleep_us(sim_between(SIM_STREAM_DISK, WRAP_SYNC_MIN_US, WRAP_SYNC_MAX_US));
}

enum gfs_err epoch_next(const char *dir, uint32_t least, uint32_t *ret_epoch)
{
    struct sim_node *node = sim->current;
    uint32_t epoch = node->epoch > least ? node->epoch : least;

    if (epoch >= UINT32_MAX >> LEASE_EPOCH_SHIFT)
        return GFS_ERR_TOO_LARGE;
    if (sim_chance(SIM_STREAM_DISK, 500)) {
        node->epoch = epoch + 1;
        slow_sync();
    } else {
        slow_sync();
        node->epoch = epoch + 1;
    }
    *ret_epoch = epoch + 1;
    return GFS_OK;
}

enum gfs_err __wrap_daemon_dir_stamp(struct daemon_dir *dir, const char *role);
enum gfs_err __wrap_daemon_dir_stamp(struct daemon_dir *dir, const char *role)
{
    struct sim_node *node = sim->current;

    slow_sync();
    memcpy(node->cluster_id, dir->cluster_id, GFS_UUID_BYTES);
    memcpy(node->server_id, dir->server_id, GFS_UUID_BYTES);
    return GFS_OK;
}
