/*
 * sim_fault: what goes wrong, and when. Each seed draws which kinds it has and how often, so that
 * some runs have one kind many times, others all of them together. Every fault ends by itself, and
 * all of them when the time of faults is over.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim_disk.h"
#include "sim_int.h"

#define LINK_MIN_US 30u
#define LINK_MAX_US 900u

enum fault_kind {
    FAULT_KILL,
    FAULT_POWER,
    FAULT_CUT,       /* one direction of one link */
    FAULT_PARTITION, /* some nodes from the others */
    FAULT_SLOW_LINK,
    FAULT_PAUSE,
    FAULT_BREAK, /* one connection */
    FAULT_LOSS,  /* many requests or answers take their connection with them */
    FAULT_WALL,  /* somebody sets a wall clock */
    FAULT_DISK,  /* sim_disk.h's own: stalls, full, corrupt blocks */
    FAULT_KINDS,
};

static const char *const NAMES[FAULT_KINDS] = {
    [FAULT_KILL] = "kill",           [FAULT_POWER] = "power",    [FAULT_CUT] = "cut",
    [FAULT_PARTITION] = "partition", [FAULT_SLOW_LINK] = "slow", [FAULT_PAUSE] = "pause",
    [FAULT_BREAK] = "break",         [FAULT_LOSS] = "loss",      [FAULT_WALL] = "wall",
    [FAULT_DISK] = "disk",
};

static struct {
    bool enabled[FAULT_KINDS];
    uint64_t mean_us; /* between two */
    uint64_t end_us;  /* of faults */
    uint32_t epoch;   /* undoing of what was healed already is ignored */
} plan;

static uint64_t draw(uint64_t from, uint64_t to)
{
    return sim_between(SIM_STREAM_PLAN, from, to);
}

/* Of `of` per mille the master, else a server, now and then a client. */
static struct sim_node *draw_node(uint32_t master_per_mille)
{
    if (sim_chance(SIM_STREAM_PLAN, master_per_mille))
        return sim_master();
    if (sim_chance(SIM_STREAM_PLAN, 150))
        return sim_client((uint32_t)draw(0, sim->client_count - 1));
    return sim_server((uint32_t)draw(0, sim->server_count - 1));
}

/* ---- links ----------------------------------------------------------------------------------- */

static void link_reset(uint32_t from, uint32_t to)
{
    sim->links[from][to] =
        (struct sim_link){.delay_min_us = LINK_MIN_US, .delay_max_us = LINK_MAX_US};
}

static void links_reset(void)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        for (uint32_t j = 0; j < sim->node_count; j++)
            link_reset(i, j);
}

struct fault_link {
    uint32_t epoch;
    uint32_t from, to;
};

static void on_link_whole(void *arg)
{
    struct fault_link *fault = arg;

    if (fault->epoch == plan.epoch) {
        link_reset(fault->from, fault->to);
        sim_net_kick();
    }
    free(fault);
}

static void link_whole_later(uint32_t from, uint32_t to, uint64_t delay_us)
{
    struct fault_link *fault = calloc(1, sizeof(*fault));

    assert(fault);
    *fault = (struct fault_link){plan.epoch, from, to};
    sim_after(NULL, delay_us, "link", on_link_whole, fault);
}

static void cut(uint32_t from, uint32_t to, uint64_t for_us)
{
    sim->links[from][to].cut = true;
    link_whole_later(from, to, for_us);
}

static void fault_cut(void)
{
    uint32_t from = draw_node(300)->index, to = draw_node(300)->index;
    uint64_t for_us = draw(20 * SIM_MS, 6 * SIM_S);

    if (from == to)
        return;
    sim_trace("fault: %s cannot reach %s for %llu ms", sim->nodes[from].name, sim->nodes[to].name,
              (unsigned long long)(for_us / SIM_MS));
    cut(from, to, for_us);
}

static void fault_partition(void)
{
    uint64_t side = draw(1, (1u << sim->node_count) - 2), for_us = draw(50 * SIM_MS, 7 * SIM_S);

    if (sim_chance(SIM_STREAM_PLAN, 500))
        side = 1u << draw_node(200)->index;
    sim_trace("fault: partition %llx for %llu ms", (unsigned long long)side,
              (unsigned long long)(for_us / SIM_MS));
    for (uint32_t i = 0; i < sim->node_count; i++)
        for (uint32_t j = 0; j < sim->node_count; j++)
            if ((side >> i & 1) != (side >> j & 1))
                cut(i, j, for_us);
}

static void fault_slow_link(void)
{
    uint32_t from = draw_node(300)->index, to = draw_node(300)->index;
    uint64_t for_us = draw(100 * SIM_MS, 5 * SIM_S);

    sim->links[from][to].delay_max_us = (uint32_t)draw(5 * SIM_MS, 600 * SIM_MS);
    sim_trace("fault: %s to %s takes up to %u us", sim->nodes[from].name, sim->nodes[to].name,
              sim->links[from][to].delay_max_us);
    link_whole_later(from, to, for_us);
}

static void on_loss_over(void *arg)
{
    sim_net_set_loss(0, 0);
}

static void fault_loss(void)
{
    sim_net_set_loss((uint32_t)draw(0, 40), (uint32_t)draw(0, 80));
    sim_after(NULL, draw(200 * SIM_MS, 4 * SIM_S), "no loss", on_loss_over, NULL);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void on_restart(void *arg)
{
    sim_boot(arg);
}

static void end_node(bool power)
{
    struct sim_node *node = draw_node(200);
    uint64_t down_us = draw(50 * SIM_MS, sim_chance(SIM_STREAM_PLAN, 300) ? 8 * SIM_S : SIM_S);

    if (!node->up)
        return;
    sim_crash(node, power);
    sim_after(NULL, down_us, "restart", on_restart, node);
}

static void fault_pause(void)
{
    struct sim_node *node = draw_node(150);
    uint64_t for_us = draw(5 * SIM_MS, sim_chance(SIM_STREAM_PLAN, 300) ? 8 * SIM_S : SIM_S);

    if (!node->up)
        return;
    sim_trace("fault: %s stands still for %llu ms", node->name,
              (unsigned long long)(for_us / SIM_MS));
    node->paused_until_us = sim->now_us + for_us;
}

static void fault_wall(void)
{
    struct sim_node *node = draw_node(500);

    node->wall_offset_ms = (int64_t)draw(0, 20000) - 10000;
}

static void begin_fault(enum fault_kind kind)
{
    switch (kind) {
    case FAULT_KILL:
        end_node(false);
        break;
    case FAULT_POWER:
        end_node(true);
        break;
    case FAULT_CUT:
        fault_cut();
        break;
    case FAULT_PARTITION:
        fault_partition();
        break;
    case FAULT_SLOW_LINK:
        fault_slow_link();
        break;
    case FAULT_PAUSE:
        fault_pause();
        break;
    case FAULT_BREAK:
        sim_net_break_one();
        break;
    case FAULT_LOSS:
        fault_loss();
        break;
    case FAULT_WALL:
        fault_wall();
        break;
    case FAULT_DISK:
        sim_disk_fault(sim_chance(SIM_STREAM_PLAN, 100)
                           ? sim_master()
                           : sim_server((uint32_t)draw(0, sim->server_count - 1)));
        break;
    case FAULT_KINDS:
        break;
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void on_fault(void *arg)
{
    enum fault_kind kind;

    if (sim->now_us >= plan.end_us)
        return;
    do {
        kind = (enum fault_kind)draw(0, FAULT_KINDS - 1);
    } while (!plan.enabled[kind]);
    begin_fault(kind);
    sim_after(NULL, draw(1, 2 * plan.mean_us), "fault", on_fault, NULL);
}

void sim_fault_init(void)
{
    bool any = false;

    links_reset();
    for (int i = 0; i < FAULT_KINDS; i++) {
        plan.enabled[i] = sim_chance(SIM_STREAM_PLAN, 500);
        if (sim->options.faults)
            plan.enabled[i] = strstr(sim->options.faults, NAMES[i]) != NULL;
        any = any || plan.enabled[i];
    }
    if (!any)
        plan.enabled[FAULT_KILL] = true;
    plan.mean_us = draw(100 * SIM_MS, 1500 * SIM_MS);
    plan.epoch = 1;
}

void sim_fault_begin(void)
{
    uint64_t for_us = draw(6 * SIM_S, 14 * SIM_S);

    plan.end_us = sim->now_us + (sim->options.fault_us ? sim->options.fault_us : for_us);
    if (!sim->options.no_faults)
        sim_after(NULL, draw(0, SIM_S), "fault", on_fault, NULL);
}

uint64_t sim_fault_end_us(void)
{
    return plan.end_us;
}

void sim_fault_heal(void)
{
    sim_trace("all faults end");
    plan.epoch++;
    sim->healed = true;
    links_reset();
    sim_net_set_loss(0, 0);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];

        node->paused_until_us = 0;
        if (node->disk)
            sim_disk_heal(node->disk);
        sim_boot(node);
    }
    sim_net_kick();
}
