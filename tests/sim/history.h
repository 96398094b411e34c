/*
 * history: what clients saw of a cluster, and whether a single correct copy could have shown it.
 * Used by the simulator, in memory, and by check_history, from a file.
 *
 * Regions are registers whose writes all have different values; 0 is what is there before the first
 * write. The check is Gibbons and Korach's (Testing shared memories, 1997): all operations of one
 * value are a cluster; its zone lies between its earliest return and its latest call; the history
 * is linearizable if no read ends before its write begins, no two forward zones overlap and no
 * backward zone lies within a forward one.
 *
 * Names are checked together, since a rename touches two: all states that are possible after each
 * return are carried along (just-in-time linearization; Lowe, Testing for linearizability, 2017).
 *
 * Logs: every acknowledged append is found once, at its offset; one whose outcome is open at most
 * once; nothing else is found; records do not overlap; of two appends of which one returned before
 * the other was called, the first lies in front.
 *
 * An operation that failed in a way that leaves its outcome open has no return: HISTORY_OPEN.
 *
 * Text form, one operation a line; times in microseconds, "-" for an open return:
 *   w CALL RETURN PROC REGISTER VALUE
 *   r CALL RETURN PROC REGISTER VALUE
 *   n CALL RETURN PROC create|remove|stat NAME ok|exists|not_found
 *   n CALL RETURN PROC rename FROM TO ok|not_found          (of an open one: "-")
 *   a CALL RETURN PROC LOG VALUE OFFSET LENGTH
 *   f LOG VALUE OFFSET LENGTH                               found at the end
 * REGISTER, NAME, LOG: numbers; names below HISTORY_NAMES_MAX.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define HISTORY_OPEN      UINT64_MAX
#define HISTORY_NAMES_MAX 16u

enum history_kind {
    HISTORY_WRITE,
    HISTORY_READ,
    HISTORY_CREATE,
    HISTORY_REMOVE,
    HISTORY_STAT,
    HISTORY_RENAME,
    HISTORY_APPEND,
    HISTORY_FOUND,
};

struct history_op {
    enum history_kind kind;
    uint32_t proc;
    uint64_t call_us;
    uint64_t return_us;
    uint64_t object; /* register, name, log */
    uint64_t value;  /* of a rename: the other name */
    uint64_t offset_bytes;
    uint64_t length_bytes; /* of an append: all the bytes it takes in the file */
    bool done;             /* names: it did; false: EXISTS or NOT_FOUND */
};

struct history {
    struct history_op *ops;
    size_t count;
    size_t cap;
    bool out_of_memory;
};

void history_init(struct history *history);
void history_release(struct history *history);
void history_add(struct history *history, const struct history_op *op);
/* Reads the text form. 0, or the number of the line that is wrong. */
size_t history_load(struct history *history, FILE *file);
void history_print(const struct history_op *op, FILE *file);

struct history_result {
    size_t violations;
    size_t undecided; /* too many open operations to try all orders */
};
/* Says on `out` what is wrong, with the operations. Changes the order of the ops. */
struct history_result history_check(struct history *history, FILE *out);

/* By part, for history_check: history_names.c, history_logs.c. */
struct history_result history_check_names(const struct history_op *const *ops, size_t count,
                                          FILE *out);
struct history_result history_check_log(const struct history_op *const *ops, size_t count,
                                        FILE *out);

#endif
