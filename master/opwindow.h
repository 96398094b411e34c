/*
 * opwindow: recent operations by their id, so that a retry finds its first try. Floor 5, pure.
 *
 * A ring of OPWINDOW_SLOTS, each mirrored to its own key in the batch of the operation itself, so
 * that a retry after a restart is recognised too. Only successes are kept: a failed operation had
 * no effect, and doing it again is as good as doing it first.
 */
#ifndef MASTER_OPWINDOW_H
#define MASTER_OPWINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "master/changes.h"

#define OPWINDOW_SLOTS    65536u
#define OPWINDOW_ID_BYTES 16u

struct opwindow;

struct opwindow_result {
    uint32_t kind;  /* message number: an id found under another kind is not a retry */
    uint64_t inode; /* of what was made, 0 if nothing */
    bool created;
};

enum gfs_err opwindow_new(uint64_t seed, struct opwindow **ret_window) GFS_MUST_CHECK;
void opwindow_free(struct opwindow *window);
/* true: it was done already. id_bytes other than 16 (no id): false. */
bool opwindow_find(const struct opwindow *window, const void *id, size_t id_bytes, uint32_t kind,
                   struct opwindow_result *ret_result);
/* Holds room in changes for one opwindow_record; call before the operation itself. */
enum gfs_err opwindow_reserve(struct changes *changes) GFS_MUST_CHECK;
/* After the operation succeeded, into its changes, behind an opwindow_reserve. Only gives the held
 * room back when id_bytes is not 16. */
void opwindow_record(struct opwindow *window, const void *id, size_t id_bytes,
                     const struct opwindow_result *result, struct changes *changes);
/* For the load: an operation as it was recorded. */
void opwindow_restore(struct opwindow *window, const void *id, uint64_t sequence,
                      const struct opwindow_result *result);

#endif
