/* sim_disk: the disk as a whole: databases by path, space, waiting, faults. See sim_disk.h. */
#include "sim_disk.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISK_BYTES        (512ull << 20)
#define DISK_DAMAGED_NODE 1u /* index in sim->nodes of the one server whose data is damaged */

struct sim_disk *sim_disk_new(struct sim_node *node)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));

    assert(disk);
    disk->node = node;
    disk->capacity_bytes = DISK_BYTES;
    return disk;
}

struct sim_disk *sim_disk_of_path(const char *path)
{
    if (sim->current && sim->current->disk)
        return sim->current->disk;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        size_t len = strlen(sim->nodes[i].name);

        if (path[0] == '/' && strncmp(path + 1, sim->nodes[i].name, len) == 0 &&
            path[1 + len] == '/')
            return sim->nodes[i].disk;
    }
    sim_fail("%s is on no node's disk", path);
}

/* ---- databases ------------------------------------------------------------------------------- */

struct sim_db *sim_db_find(struct sim_disk *disk, const char *path)
{
    for (struct sim_db *db = disk->dbs; db; db = db->next)
        if (strcmp(db->path, path) == 0)
            return db;
    return NULL;
}

struct sim_db *sim_db_add(struct sim_disk *disk, const char *path)
{
    struct sim_db **last = &disk->dbs;
    struct sim_db *db = calloc(1, sizeof(*db));

    assert(db && strlen(path) < SIM_PATH_MAX);
    snprintf(db->path, sizeof(db->path), "%s", path);
    db->head.levels = SIM_KEY_LEVELS;
    while (*last)
        last = &(*last)->next;
    *last = db;
    return db;
}

/* Its memory leaks, as a crash's does: a reader may still be in it. */
void sim_db_remove(struct sim_disk *disk, const char *path)
{
    for (struct sim_db **at = &disk->dbs; *at; at = &(*at)->next) {
        if (strcmp((*at)->path, path) != 0)
            continue;
        disk->used_bytes -= (*at)->used_bytes;
        *at = (*at)->next;
        return;
    }
}

bool sim_db_holds_data(const struct sim_db *db)
{
    return db->last_number > 0;
}

/* ---- time and space -------------------------------------------------------------------------- */

void sim_disk_wait(struct sim_disk *disk, uint64_t least_us, uint64_t most_us)
{
    if (!sim->current)
        return;
    if (!sim_in_task())
        sim_fail("an event loop would wait for the disk");
    if (most_us)
        sim_sleep_us(sim_between(SIM_STREAM_DISK, least_us, most_us));
    while (sim->now_us < disk->stall_until_us)
        sim_sleep_us(disk->stall_until_us - sim->now_us + 1);
}

static uint64_t capacity(const struct sim_disk *disk)
{
    return sim->now_us < disk->full_until_us ? disk->used_bytes : disk->capacity_bytes;
}

bool sim_disk_is_full(const struct sim_disk *disk, uint64_t more_bytes)
{
    return disk->used_bytes + more_bytes > capacity(disk);
}

uint64_t sim_disk_free_bytes(const struct sim_disk *disk)
{
    return capacity(disk) > disk->used_bytes ? capacity(disk) - disk->used_bytes : 0;
}

/* ---- ends and faults ------------------------------------------------------------------------- */

void sim_disk_crash(struct sim_disk *disk, bool power)
{
    disk->had_failure = false;
    for (struct sim_db *db = disk->dbs; db; db = db->next) {
        db->holder = NULL;
        if (power)
            sim_db_lose(db);
        db->visible_number = db->last_number;
    }
}

static struct sim_db *draw_db(struct sim_disk *disk, const char *part)
{
    struct sim_db *found = NULL;
    uint64_t count = 0;

    for (struct sim_db *db = disk->dbs; db; db = db->next)
        if (strstr(db->path, part) && sim_db_holds_data(db) &&
            sim_below(SIM_STREAM_PLAN, ++count) == 0)
            found = db;
    return found;
}

/* What acknowledged writes need is at least two servers that are not touched by this. */
static void damage(struct sim_disk *disk)
{
    uint64_t kind = sim_below(SIM_STREAM_PLAN, 8);
    struct sim_db *db = draw_db(disk, kind == 7 ? "/index" : "/data-");

    if (!db)
        return;
    if (kind < 4) {
        if (!sim_db_flip(db))
            return;
        sim_trace("fault: a byte of %s is flipped", db->path);
    } else if (kind < 6) {
        db->damaged_log = true;
        sim_trace("fault: the log of %s is damaged", db->path);
    } else {
        db->damaged_manifest = true;
        sim_trace("fault: %s will not open", db->path);
    }
    disk->damages++;
}

void sim_disk_fault(struct sim_node *node)
{
    struct sim_disk *disk = node->disk;
    uint64_t kind = sim_below(SIM_STREAM_PLAN, 10);

    if (node->index == DISK_DAMAGED_NODE && kind < 5) {
        damage(disk);
    } else if (kind < 8) {
        uint64_t for_us = sim_between(SIM_STREAM_PLAN, 10 * SIM_MS, 3 * SIM_S);

        sim_trace("fault: the disk of %s stalls for %llu ms", node->name,
                  (unsigned long long)(for_us / SIM_MS));
        disk->stall_until_us = sim->now_us + for_us;
    } else if (kind < 9) {
        sim_trace("fault: the disk of %s is full", node->name);
        disk->full_until_us = sim->now_us + sim_between(SIM_STREAM_PLAN, 200 * SIM_MS, 5 * SIM_S);
    } else {
        sim_trace("fault: the next sync of %s fails", node->name);
        disk->fails_next_sync = true;
    }
}

static void start_again(void *arg)
{
    struct sim_node *node = arg;

    if (node->up)
        sim_crash(node, false);
    sim_boot(node);
}

/* A store that has seen a failed sync stays read-only until somebody starts it again. */
void sim_disk_heal(struct sim_disk *disk)
{
    disk->stall_until_us = 0;
    disk->full_until_us = 0;
    disk->fails_next_sync = false;
    if (disk->had_failure)
        sim_after(NULL, SIM_S, "start again", start_again, disk->node);
}

uint32_t sim_disk_damages(const struct sim_disk *disk)
{
    return disk->damages;
}
