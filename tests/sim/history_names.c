/*
 * Names: all states that are possible, carried along. See history.h.
 *
 * A configuration is which names exist and which of the operations under way have taken effect. At
 * a call the operation joins those under way. At a return every configuration in which it has not
 * taken effect is extended by all orders in which it can; those that cannot explain its outcome
 * die. None left: the history is not linearizable. An open operation stays under way for ever.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/history.h"

#define NAMES_UNDER_WAY_MAX 64u
#define NAMES_CONFIGS_MAX   200000u

struct config {
    uint64_t applied; /* bit i: under_way[i] has taken effect */
    uint32_t names;   /* bit i: name i exists */
};

struct configs {
    struct config *items;
    size_t count;
    size_t cap;
};

struct names {
    const struct history_op *under_way[NAMES_UNDER_WAY_MAX]; /* NULL: a free place */
    struct configs now;
    struct configs next;
};

struct event {
    uint64_t at_us;
    bool is_return;
    const struct history_op *op;
};

/* False: no memory, or too many. */
static bool configs_add(struct configs *configs, const struct config *config)
{
    if (configs->count >= NAMES_CONFIGS_MAX)
        return false;
    if (configs->count == configs->cap) {
        size_t cap = configs->cap ? 2 * configs->cap : 64;
        struct config *items = realloc(configs->items, cap * sizeof(*items));
        if (items == NULL)
            return false;
        configs->items = items;
        configs->cap = cap;
    }
    configs->items[configs->count++] = *config;
    return true;
}

static int by_config(const void *a, const void *b)
{
    const struct config *x = a, *y = b;
    if (x->applied != y->applied)
        return x->applied < y->applied ? -1 : 1;
    return x->names < y->names ? -1 : x->names > y->names;
}

static void configs_unique(struct configs *configs)
{
    size_t kept = 0;
    qsort(configs->items, configs->count, sizeof(*configs->items), by_config);
    for (size_t i = 0; i < configs->count; i++)
        if (i == 0 || by_config(&configs->items[i], &configs->items[kept - 1]) != 0)
            configs->items[kept++] = configs->items[i];
    configs->count = kept;
}

/* What the operation does to the names; false: its outcome cannot be had now. */
static bool apply(const struct history_op *op, uint32_t *names)
{
    uint32_t bit = 1u << op->object;
    bool is_there = (*names & bit) != 0;
    bool open = op->return_us == HISTORY_OPEN;
    bool does = op->kind == HISTORY_CREATE ? !is_there : is_there;
    if (!open && does != op->done)
        return false;
    if (!does)
        return true;
    if (op->kind == HISTORY_CREATE)
        *names |= bit;
    else if (op->kind == HISTORY_REMOVE)
        *names &= ~bit;
    else if (op->kind == HISTORY_RENAME)
        *names = (*names & ~bit) | 1u << op->value;
    return true;
}

/* From `config` every way to let `wanted` take effect, others before it. */
static bool extend(struct names *names, const struct config *config, unsigned wanted)
{
    if (config->applied & 1ull << wanted)
        return configs_add(&names->next, config);
    for (unsigned i = 0; i < NAMES_UNDER_WAY_MAX; i++) {
        struct config then = *config;
        const struct history_op *op = names->under_way[i];
        if (op == NULL || config->applied & 1ull << i || !apply(op, &then.names))
            continue;
        /* An open one that changes nothing says nothing. */
        if (op->return_us == HISTORY_OPEN && then.names == config->names)
            continue;
        then.applied |= 1ull << i;
        if (!extend(names, &then, wanted))
            return false;
    }
    return true;
}

static bool on_return(struct names *names, unsigned place)
{
    names->next.count = 0;
    for (size_t i = 0; i < names->now.count; i++) {
        if (!extend(names, &names->now.items[i], place))
            return false;
        if (names->next.count > NAMES_CONFIGS_MAX / 2)
            configs_unique(&names->next);
    }
    for (size_t i = 0; i < names->next.count; i++)
        names->next.items[i].applied &= ~(1ull << place);
    configs_unique(&names->next);
    names->under_way[place] = NULL;
    struct configs swap = names->now;
    names->now = names->next;
    names->next = swap;
    return true;
}

/* Takes effect by now, or not at all as far as can be seen: an open one that has been applied in
 * every configuration needs its place no more. */
static void drop_applied(struct names *names)
{
    uint64_t all = UINT64_MAX;
    for (size_t i = 0; i < names->now.count; i++)
        all &= names->now.items[i].applied;
    for (unsigned p = 0; p < NAMES_UNDER_WAY_MAX; p++) {
        if ((all & 1ull << p) == 0 || names->under_way[p] == NULL ||
            names->under_way[p]->return_us != HISTORY_OPEN)
            continue;
        names->under_way[p] = NULL;
        for (size_t i = 0; i < names->now.count; i++)
            names->now.items[i].applied &= ~(1ull << p);
    }
}

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->at_us != y->at_us)
        return x->at_us < y->at_us ? -1 : 1;
    return x->is_return - y->is_return; /* what meets in one moment may have overlapped */
}

static struct event *make_events(const struct history_op *const *ops, size_t count,
                                 size_t *ret_count)
{
    struct event *events = calloc(2 * count + 1, sizeof(*events));
    size_t made = 0;
    if (events == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (ops[i]->kind == HISTORY_STAT && ops[i]->return_us == HISTORY_OPEN)
            continue;
        events[made++] = (struct event){ops[i]->call_us, false, ops[i]};
        if (ops[i]->return_us != HISTORY_OPEN)
            events[made++] = (struct event){ops[i]->return_us, true, ops[i]};
    }
    qsort(events, made, sizeof(*events), by_time);
    *ret_count = made;
    return events;
}

static unsigned place_of(const struct names *names, const struct history_op *op)
{
    unsigned place = 0;
    while (place < NAMES_UNDER_WAY_MAX && names->under_way[place] != op)
        place++;
    return place;
}

static void complain(const struct names *names, const struct history_op *op, FILE *out)
{
    fprintf(out, "no order of the operations explains what this one returned:\n  ");
    history_print(op, out);
    fprintf(out, "others under way then, or open since:\n");
    for (unsigned i = 0; i < NAMES_UNDER_WAY_MAX; i++) {
        if (names->under_way[i] == NULL)
            continue;
        fputs("  ", out);
        history_print(names->under_way[i], out);
    }
}

static struct history_result run(struct names *names, const struct event *events, size_t count,
                                 FILE *out)
{
    struct history_result result = {0};
    for (size_t i = 0; i < count; i++) {
        const struct history_op *op = events[i].op;
        unsigned place = place_of(names, events[i].is_return ? op : NULL);
        if (place == NAMES_UNDER_WAY_MAX) {
            result.undecided++;
            return result;
        }
        if (!events[i].is_return) {
            names->under_way[place] = op;
            continue;
        }
        if (!on_return(names, place)) {
            result.undecided++;
            return result;
        }
        if (names->now.count == 0) {
            complain(names, op, out);
            result.violations++;
            return result;
        }
        drop_applied(names);
    }
    return result;
}

struct history_result history_check_names(const struct history_op *const *ops, size_t count,
                                          FILE *out)
{
    struct history_result result = {0};
    struct names *names = calloc(1, sizeof(*names));
    const struct config empty = {0};
    size_t event_count = 0;
    struct event *events = make_events(ops, count, &event_count);
    if (names == NULL || events == NULL || !configs_add(&names->now, &empty))
        result.violations = 1;
    else
        result = run(names, events, event_count, out);
    if (names != NULL) {
        free(names->now.items);
        free(names->next.items);
    }
    free(names);
    free(events);
    return result;
}
