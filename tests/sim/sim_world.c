/* sim_world: the queue of events, clocks, random numbers, trace and failure. See sim.h. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim_int.h"

#define SIM_EVENTS_MAX     3000000u
#define SIM_TRACE_LINES    400u
#define SIM_TRACE_LINE_MAX 320u
#define SIM_EXIT_FAILED    3
#define SIM_WALL_BEGIN_MS  1700000000000ll
#define SIM_NOW_BEGIN_US   (1000 * SIM_S)

/* What only this file needs of the world. */
struct sim_core {
    struct sim_event **queue; /* a heap */
    size_t count, capacity;
    uint64_t next_number;
    uint64_t streams[SIM_STREAMS];
    struct sim_result *result;
    bool keeps_trace;
    char (*lines)[SIM_TRACE_LINE_MAX];
    uint64_t line_count;
};

static struct sim sim_the_world;
static struct sim_core core;
struct sim *const sim = &sim_the_world;

/* ---- random numbers -------------------------------------------------------------------------- */

uint64_t sim_mix64(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t sim_random(enum sim_stream stream)
{
    return sim_mix64(&core.streams[stream]);
}

uint64_t sim_below(enum sim_stream stream, uint64_t n)
{
    return n ? sim_random(stream) % n : 0;
}

uint64_t sim_between(enum sim_stream stream, uint64_t from, uint64_t to)
{
    assert(from <= to);
    return from + sim_below(stream, to - from + 1);
}

bool sim_chance(enum sim_stream stream, uint32_t per_mille)
{
    return per_mille && sim_below(stream, 1000) < per_mille;
}

/* ---- the queue ------------------------------------------------------------------------------- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

static void queue_put(size_t place, struct sim_event *event)
{
    core.queue[place] = event;
    event->place = (uint32_t)place + 1;
}

static void queue_up(size_t place, struct sim_event *event)
{
    while (place > 0 && is_before(event, core.queue[(place - 1) / 2])) {
        queue_put(place, core.queue[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    queue_put(place, event);
}

static void queue_down(size_t place, struct sim_event *event)
{
    for (size_t child; (child = 2 * place + 1) < core.count; place = child) {
        if (child + 1 < core.count && is_before(core.queue[child + 1], core.queue[child]))
            child++;
        if (!is_before(core.queue[child], event))
            break;
        queue_put(place, core.queue[child]);
    }
    queue_put(place, event);
}

static void queue_push(struct sim_event *event)
{
    if (core.count == core.capacity) {
        core.capacity = core.capacity ? 2 * core.capacity : 1024;
        core.queue = realloc(core.queue, core.capacity * sizeof(struct sim_event *));
        assert(core.queue);
    }
    event->number = core.next_number++;
    queue_up(core.count++, event);
}

void sim_cancel(struct sim_event *event)
{
    struct sim_event *last;
    size_t place;

    if (!event->place)
        return;
    place = event->place - 1;
    assert(core.queue[place] == event);
    event->place = 0;
    last = core.queue[--core.count];
    if (last == event)
        return;
    if (place > 0 && is_before(last, core.queue[(place - 1) / 2]))
        queue_up(place, last);
    else
        queue_down(place, last);
}

void sim_schedule(struct sim_event *event, struct sim_node *node, uint64_t delay_us)
{
    assert(event->fn && !event->place);
    event->node = node;
    event->incarnation = node ? node->incarnation : 0;
    event->at_us = sim->now_us + delay_us;
    queue_push(event);
}

struct sim_once {
    struct sim_event event;
    void (*fn)(void *arg);
    void *arg;
};

static void run_once(struct sim_event *event)
{
    struct sim_once *once = (struct sim_once *)event;
    void (*fn)(void *arg) = once->fn;
    void *arg = once->arg;

    free(once);
    fn(arg);
}

void sim_after(struct sim_node *node, uint64_t delay_us, const char *what, void (*fn)(void *arg),
               void *arg)
{
    struct sim_once *once = calloc(1, sizeof(*once));

    assert(once);
    once->event.fn = run_once;
    once->event.what = what;
    once->fn = fn;
    once->arg = arg;
    sim_schedule(&once->event, node, delay_us);
}

void sim_drop_events(struct sim_node *node)
{
    size_t kept = 0;

    for (size_t i = 0; i < core.count; i++) {
        if (core.queue[i]->node == node)
            core.queue[i]->place = 0;
        else
            core.queue[kept++] = core.queue[i];
    }
    core.count = 0;
    for (size_t i = 0; i < kept; i++)
        queue_up(core.count++, core.queue[i]);
}

bool sim_step(uint64_t until_us)
{
    struct sim_event *event = core.count ? core.queue[0] : NULL;

    if (!event || event->at_us > until_us)
        return false;
    sim_cancel(event);
    assert(event->at_us >= sim->now_us);
    sim->now_us = event->at_us;
    if (event->node && event->node->paused_until_us > sim->now_us) {
        /* With a new number: those that wait keep their order. */
        event->at_us = event->node->paused_until_us;
        queue_push(event);
        return true;
    }
    if (++sim->events > SIM_EVENTS_MAX)
        sim_fail("more than %u events: something spins", SIM_EVENTS_MAX);
    sim_mix(sim->now_us);
    sim_mix(event->node ? event->node->index + 1 : 0);
    sim->current = sim->ran = event->node;
    event->fn(event);
    sim->current = NULL;
    check_after_event();
    return true;
}

/* ---- clocks ---------------------------------------------------------------------------------- */

uint64_t sim_local_us(const struct sim_node *node)
{
    uint64_t gone_us = sim->now_us - node->clock_since_us;

    return node->clock_base_us + gone_us + (uint64_t)((int64_t)gone_us * node->drift_ppm / 1000000);
}

uint64_t sim_local_ms(const struct sim_node *node)
{
    return sim_local_us(node) / 1000;
}

uint64_t sim_global_delay_us(const struct sim_node *node, uint64_t local_us)
{
    return node ? (uint64_t)((int64_t)local_us * 1000000 / (1000000 + node->drift_ppm)) : local_us;
}

int64_t sim_wall_ms(const struct sim_node *node)
{
    return SIM_WALL_BEGIN_MS + (int64_t)(sim->now_us / 1000) + (node ? node->wall_offset_ms : 0);
}

/* ---- trace and failure ----------------------------------------------------------------------- */

void sim_mix(uint64_t value)
{
    sim->trace_hash = (sim->trace_hash ^ value) * 0x9fb21c651e98df25u;
    sim->trace_hash ^= sim->trace_hash >> 28;
}

bool sim_is_traced(void)
{
    return core.keeps_trace || sim->options.verbose;
}

void sim_trace(const char *fmt, ...)
{
    char *line;
    va_list args;
    int len;

    if (!sim_is_traced())
        return;
    line = core.lines[core.line_count++ % SIM_TRACE_LINES];
    len = snprintf(line, SIM_TRACE_LINE_MAX, "%10.6f %-3s ",
                   (double)(sim->now_us - SIM_NOW_BEGIN_US) / 1e6,
                   sim->current ? sim->current->name : "-");
    va_start(args, fmt);
    vsnprintf(line + len, SIM_TRACE_LINE_MAX - (size_t)len, fmt, args);
    va_end(args);
    if (sim->options.verbose)
        puts(line);
}

void sim_dump_trace(void)
{
    uint64_t first = core.line_count > SIM_TRACE_LINES ? core.line_count - SIM_TRACE_LINES : 0;

    if (sim->options.verbose || !core.keeps_trace)
        return;
    for (uint64_t i = first; i < core.line_count; i++)
        puts(core.lines[i % SIM_TRACE_LINES]);
}

void sim_fail(const char *fmt, ...)
{
    char text[sizeof(core.result->text)];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sim_trace("FAILED: %s", text);
    sim_dump_trace();
    fflush(stdout);
    snprintf(core.result->text, sizeof(core.result->text), "%s", text);
    core.result->events = sim->events;
    core.result->trace_hash = sim->trace_hash;
    core.result->virtual_us = sim->now_us - SIM_NOW_BEGIN_US;
    _exit(SIM_EXIT_FAILED);
}

uint64_t sim_world_age_us(void)
{
    return sim->now_us - SIM_NOW_BEGIN_US;
}

/* ---- beginning ------------------------------------------------------------------------------- */

void sim_world_begin(const struct sim_options *options, struct sim_result *result, bool keep_trace)
{
    uint64_t state = options->seed * 0xd1342543de82ef95u + 1;

    memset(sim, 0, sizeof(*sim));
    memset(&core, 0, sizeof(core));
    sim->options = *options;
    sim->now_us = SIM_NOW_BEGIN_US;
    core.result = result;
    core.keeps_trace = keep_trace;
    if (sim_is_traced()) {
        core.lines = calloc(SIM_TRACE_LINES, SIM_TRACE_LINE_MAX);
        assert(core.lines);
    }
    for (size_t i = 0; i < SIM_STREAMS; i++)
        core.streams[i] = sim_mix64(&state);
}
