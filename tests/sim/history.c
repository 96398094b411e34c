/* The recorder, the text form, and the check of registers. See the header. */
#include "tests/sim/history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const history_verbs[] = {
    [HISTORY_WRITE] = "w",       [HISTORY_READ] = "r",    [HISTORY_CREATE] = "create",
    [HISTORY_REMOVE] = "remove", [HISTORY_STAT] = "stat", [HISTORY_RENAME] = "rename",
    [HISTORY_APPEND] = "a",      [HISTORY_FOUND] = "f",
};

void history_init(struct history *history)
{
    memset(history, 0, sizeof(*history));
}

void history_release(struct history *history)
{
    free(history->ops);
    history_init(history);
}

void history_add(struct history *history, const struct history_op *op)
{
    if (history->count == history->cap) {
        size_t cap = history->cap ? 2 * history->cap : 256;
        struct history_op *ops = realloc(history->ops, cap * sizeof(*ops));
        if (ops == NULL) {
            history->out_of_memory = true;
            return;
        }
        history->ops = ops;
        history->cap = cap;
    }
    history->ops[history->count++] = *op;
}

/* ---- text ---------------------------------------------------------------------------------- */

void history_print(const struct history_op *op, FILE *file)
{
    char until[24] = "-";
    if (op->return_us != HISTORY_OPEN)
        snprintf(until, sizeof(until), "%" PRIu64, op->return_us);
    switch (op->kind) {
    case HISTORY_WRITE:
    case HISTORY_READ:
        fprintf(file, "%s %" PRIu64 " %s %u %" PRIu64 " %" PRIu64 "\n", history_verbs[op->kind],
                op->call_us, until, op->proc, op->object, op->value);
        return;
    case HISTORY_APPEND:
        fprintf(file, "a %" PRIu64 " %s %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                op->call_us, until, op->proc, op->object, op->value, op->offset_bytes,
                op->length_bytes);
        return;
    case HISTORY_FOUND:
        fprintf(file, "f %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", op->object, op->value,
                op->offset_bytes, op->length_bytes);
        return;
    default:
        break;
    }
    const char *outcome = op->return_us == HISTORY_OPEN ? "-"
                          : op->done                    ? "ok"
                          : op->kind == HISTORY_CREATE  ? "exists"
                                                        : "not_found";
    fprintf(file, "n %" PRIu64 " %s %u %s %" PRIu64 " ", op->call_us, until, op->proc,
            history_verbs[op->kind], op->object);
    if (op->kind == HISTORY_RENAME)
        fprintf(file, "%" PRIu64 " ", op->value);
    fprintf(file, "%s\n", outcome);
}

static bool parse_return(const char *text, uint64_t *ret_us)
{
    char *end;
    if (strcmp(text, "-") == 0) {
        *ret_us = HISTORY_OPEN;
        return true;
    }
    *ret_us = strtoull(text, &end, 10);
    return *text != 0 && *end == 0;
}

static bool parse_outcome(const char *text, struct history_op *op)
{
    op->done = strcmp(text, "ok") == 0;
    return op->done || strcmp(text, "-") == 0 ||
           strcmp(text, op->kind == HISTORY_CREATE ? "exists" : "not_found") == 0;
}

static bool parse_name(const char *line, struct history_op *op)
{
    char until[24], verb[16], first[24], second[24] = "";
    int fields = sscanf(line, "n %" SCNu64 " %23s %u %15s %" SCNu64 " %23s %23s", &op->call_us,
                        until, &op->proc, verb, &op->object, first, second);
    if (fields < 6 || !parse_return(until, &op->return_us) || op->object >= HISTORY_NAMES_MAX)
        return false;
    for (int kind = HISTORY_CREATE; kind <= HISTORY_RENAME; kind++) {
        if (strcmp(verb, history_verbs[kind]) != 0)
            continue;
        op->kind = (enum history_kind)kind;
        if (kind != HISTORY_RENAME)
            return fields == 6 && parse_outcome(first, op);
        op->value = strtoull(first, NULL, 10);
        return fields == 7 && op->value < HISTORY_NAMES_MAX && parse_outcome(second, op);
    }
    return false;
}

static bool parse_line(const char *line, struct history_op *ret_op)
{
    char until[24];
    struct history_op *op = ret_op;
    memset(op, 0, sizeof(*op));
    switch (line[0]) {
    case 'w':
    case 'r':
        op->kind = line[0] == 'w' ? HISTORY_WRITE : HISTORY_READ;
        return sscanf(line + 1, " %" SCNu64 " %23s %u %" SCNu64 " %" SCNu64, &op->call_us, until,
                      &op->proc, &op->object, &op->value) == 5 &&
               parse_return(until, &op->return_us) &&
               (op->kind == HISTORY_WRITE || op->return_us != HISTORY_OPEN);
    case 'a':
        op->kind = HISTORY_APPEND;
        return sscanf(line + 1, " %" SCNu64 " %23s %u %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                      &op->call_us, until, &op->proc, &op->object, &op->value, &op->offset_bytes,
                      &op->length_bytes) == 7 &&
               parse_return(until, &op->return_us);
    case 'f':
        op->kind = HISTORY_FOUND;
        return sscanf(line + 1, " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &op->object,
                      &op->value, &op->offset_bytes, &op->length_bytes) == 4;
    case 'n':
        return parse_name(line, op);
    default:
        return false;
    }
}

size_t history_load(struct history *history, FILE *file)
{
    char line[256];
    size_t number = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        struct history_op op;
        number++;
        if (!parse_line(line, &op))
            return number;
        history_add(history, &op);
    }
    return 0;
}

/* ---- registers ----------------------------------------------------------------------------- */

struct cluster {                    /* all operations of one value of one register */
    const struct history_op *write; /* NULL: the value at the beginning */
    const struct history_op *first; /* the one that returned first */
    const struct history_op *last;  /* the one that was called last */
    uint64_t min_return_us;
    uint64_t max_call_us;
};

static bool is_forward(const struct cluster *cluster)
{
    return cluster->min_return_us < cluster->max_call_us;
}

static void complain(FILE *out, const char *what, const struct history_op *one,
                     const struct history_op *other)
{
    fprintf(out, "%s:\n", what);
    if (one != NULL) {
        fputs("  ", out);
        history_print(one, out);
    }
    if (other != NULL) {
        fputs("  ", out);
        history_print(other, out);
    }
}

/* ops: of one value, in any order. */
static bool make_cluster(const struct history_op *const *ops, size_t count, FILE *out,
                         struct cluster *ret_cluster, size_t *violations)
{
    struct cluster cluster = {.min_return_us = HISTORY_OPEN};
    bool seen = false;
    if (ops[0]->value == 0)
        cluster.min_return_us = 0;
    for (size_t i = 0; i < count; i++) {
        const struct history_op *op = ops[i];
        if (op->kind == HISTORY_WRITE && cluster.write != NULL) {
            complain(out, "a value was written twice: not a history that can be checked", op, NULL);
            ++*violations;
        }
        if (op->kind == HISTORY_WRITE)
            cluster.write = op;
        seen |= op->kind == HISTORY_READ || op->return_us != HISTORY_OPEN;
        if (op->return_us < cluster.min_return_us || cluster.first == NULL) {
            cluster.first = op;
            if (op->return_us < cluster.min_return_us)
                cluster.min_return_us = op->return_us;
        }
        if (op->call_us >= cluster.max_call_us) {
            cluster.last = op;
            cluster.max_call_us = op->call_us;
        }
    }
    if (ops[0]->value != 0 && cluster.write == NULL) {
        complain(out, "a value was read that nobody wrote", ops[0], NULL);
        ++*violations;
        return false;
    }
    if (cluster.write != NULL && cluster.min_return_us < cluster.write->call_us) {
        complain(out, "a read ended before its write began", cluster.write, cluster.first);
        ++*violations;
        return false;
    }
    *ret_cluster = cluster;
    return seen; /* a write with an open end that nobody saw may never have happened */
}

static int by_zone(const void *a, const void *b)
{
    const struct cluster *x = a, *y = b;
    uint64_t low_x = is_forward(x) ? x->min_return_us : x->max_call_us;
    uint64_t low_y = is_forward(y) ? y->min_return_us : y->max_call_us;
    return low_x < low_y ? -1 : low_x > low_y;
}

/* Sorted by the zones' lower ends. */
static size_t check_zones(const struct cluster *clusters, size_t count, FILE *out)
{
    const struct cluster *forward = NULL; /* the one that ends last so far */
    size_t violations = 0;
    for (size_t i = 0; i < count; i++) {
        const struct cluster *now = &clusters[i];
        uint64_t low_us = is_forward(now) ? now->min_return_us : now->max_call_us;
        uint64_t high_us = is_forward(now) ? now->max_call_us : now->min_return_us;
        if (forward != NULL && is_forward(now) && low_us < forward->max_call_us) {
            complain(out, "two values were both current in turn: seen before", now->first,
                     now->last);
            complain(out, "  and", forward->first, forward->last);
            violations++;
        } else if (forward != NULL && !is_forward(now) && low_us > forward->min_return_us &&
                   high_us < forward->max_call_us) {
            complain(out, "a value was current within the time of another: seen before", now->first,
                     now->last);
            complain(out, "  and", forward->first, forward->last);
            violations++;
        }
        if (is_forward(now) && (forward == NULL || now->max_call_us > forward->max_call_us))
            forward = now;
    }
    return violations;
}

/* ops: of one register, sorted by value. */
static size_t check_register(const struct history_op *const *ops, size_t count, FILE *out)
{
    struct cluster *clusters = calloc(count, sizeof(*clusters));
    size_t made = 0, violations = 0;
    if (clusters == NULL)
        return 1;
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && ops[end]->value == ops[i]->value)
            end++;
        if (make_cluster(ops + i, end - i, out, &clusters[made], &violations))
            made++;
        i = end;
    }
    qsort(clusters, made, sizeof(*clusters), by_zone);
    violations += check_zones(clusters, made, out);
    free(clusters);
    return violations;
}

/* ---- all ----------------------------------------------------------------------------------- */

static int group_of(const struct history_op *op)
{
    switch (op->kind) {
    case HISTORY_WRITE:
    case HISTORY_READ:
        return 0;
    case HISTORY_APPEND:
    case HISTORY_FOUND:
        return 1;
    default:
        return 2;
    }
}

/* Names are one group, whatever the name. */
static uint64_t object_of(const struct history_op *op)
{
    return group_of(op) == 2 ? 0 : op->object;
}

static int by_object(const void *a, const void *b)
{
    const struct history_op *x = *(const struct history_op *const *)a;
    const struct history_op *y = *(const struct history_op *const *)b;
    if (group_of(x) != group_of(y))
        return group_of(x) - group_of(y);
    if (object_of(x) != object_of(y))
        return object_of(x) < object_of(y) ? -1 : 1;
    if (group_of(x) != 2 && x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->call_us < y->call_us ? -1 : x->call_us > y->call_us;
}

struct history_result history_check(struct history *history, FILE *out)
{
    struct history_result result = {.violations = history->out_of_memory};
    const struct history_op **ops = calloc(history->count + 1, sizeof(*ops));
    if (ops == NULL) {
        result.violations++;
        return result;
    }
    for (size_t i = 0; i < history->count; i++)
        ops[i] = &history->ops[i];
    qsort(ops, history->count, sizeof(*ops), by_object);
    for (size_t i = 0; i < history->count;) {
        size_t end = i;
        while (end < history->count && group_of(ops[end]) == group_of(ops[i]) &&
               object_of(ops[end]) == object_of(ops[i]))
            end++;
        struct history_result part = {0};
        if (group_of(ops[i]) == 0)
            part.violations = check_register(ops + i, end - i, out);
        else if (group_of(ops[i]) == 1)
            part = history_check_log(ops + i, end - i, out);
        else
            part = history_check_names(ops + i, end - i, out);
        result.violations += part.violations;
        result.undecided += part.undecided;
        i = end;
    }
    free(ops);
    return result;
}
