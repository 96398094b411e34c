/* Appends against what is found at the end. See history.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "tests/sim/history.h"

static size_t complain(FILE *out, const char *what, const struct history_op *one,
                       const struct history_op *other)
{
    fprintf(out, "%s:\n  ", what);
    history_print(one, out);
    if (other != NULL) {
        fputs("  ", out);
        history_print(other, out);
    }
    return 1;
}

/* ops: of one value. */
static size_t check_value(const struct history_op *const *ops, size_t count, FILE *out)
{
    const struct history_op *append = NULL, *found = NULL;
    size_t violations = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i]->kind == HISTORY_FOUND && found != NULL)
            violations += complain(out, "a record is there twice", found, ops[i]);
        else if (ops[i]->kind == HISTORY_FOUND)
            found = ops[i];
        else if (append != NULL)
            violations +=
                complain(out, "a value was appended twice by the test itself", ops[i], append);
        else
            append = ops[i];
    }
    if (append == NULL)
        return violations + complain(out, "a record is there that nobody appended", found, NULL);
    if (found == NULL && append->return_us != HISTORY_OPEN)
        return violations + complain(out, "an acknowledged record is not there", append, NULL);
    if (found != NULL && append->return_us != HISTORY_OPEN &&
        found->offset_bytes != append->offset_bytes)
        violations += complain(out, "a record is not where its append said", append, found);
    return violations;
}

static int by_offset(const void *a, const void *b)
{
    const struct history_op *x = *(const struct history_op *const *)a;
    const struct history_op *y = *(const struct history_op *const *)b;
    return x->offset_bytes < y->offset_bytes ? -1 : x->offset_bytes > y->offset_bytes;
}

static size_t check_overlap(const struct history_op **found, size_t count, FILE *out)
{
    size_t violations = 0;
    qsort(found, count, sizeof(*found), by_offset);
    for (size_t i = 1; i < count; i++)
        if (found[i - 1]->offset_bytes + found[i - 1]->length_bytes > found[i]->offset_bytes)
            violations += complain(out, "two records overlap", found[i - 1], found[i]);
    return violations;
}

/* In order of offsets, nothing may have been called after something behind it had returned. */
static size_t check_order(const struct history_op **acked, size_t count, FILE *out)
{
    const struct history_op *behind = NULL; /* of those behind, the one that returned first */
    qsort(acked, count, sizeof(*acked), by_offset);
    for (size_t i = count; i > 0; i--) {
        if (behind != NULL && behind->return_us < acked[i - 1]->call_us)
            return complain(out, "an append lies in front of one that had returned before",
                            acked[i - 1], behind);
        if (behind == NULL || acked[i - 1]->return_us < behind->return_us)
            behind = acked[i - 1];
    }
    return 0;
}

/* ops: sorted by value. */
struct history_result history_check_log(const struct history_op *const *ops, size_t count,
                                        FILE *out)
{
    struct history_result result = {0};
    const struct history_op **found = calloc(count, sizeof(*found));
    const struct history_op **acked = calloc(count, sizeof(*acked));
    size_t found_count = 0, acked_count = 0;
    if (found == NULL || acked == NULL) {
        result.violations = 1;
        goto out;
    }
    for (size_t i = 0; i < count;) {
        size_t end = i;
        while (end < count && ops[end]->value == ops[i]->value)
            end++;
        result.violations += check_value(ops + i, end - i, out);
        i = end;
    }
    for (size_t i = 0; i < count; i++) {
        if (ops[i]->kind == HISTORY_FOUND)
            found[found_count++] = ops[i];
        else if (ops[i]->return_us != HISTORY_OPEN)
            acked[acked_count++] = ops[i];
    }
    result.violations += check_overlap(found, found_count, out);
    result.violations += check_order(acked, acked_count, out);
out:
    free(found);
    free(acked);
    return result;
}
