/*
 * collect: which chunks chunkservers are to delete, and when. Floor 5, pure.
 *
 *   released by the namespace --------------> due[server] --batch--> sent --> done
 *   unknown, reported --quarantine, again --> due[server]        \-> failed: due again
 *
 * A chunk that a server holds and the master does not know is deleted only when it is still
 * unknown in a report at least quarantine_ms after the first: never on a first report. What is
 * forgotten here (full tables, a server that goes down) is reported again and starts over.
 */
#ifndef MASTER_COLLECT_H
#define MASTER_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define COLLECT_BATCH_MAX      1000u
#define COLLECT_DUE_MAX        100000u /* of one server */
#define COLLECT_QUARANTINE_MAX 1000000u

struct collect;

enum gfs_err collect_new(uint64_t quarantine_ms, struct collect **ret_collect) GFS_MUST_CHECK;
void collect_free(struct collect *collect);

/* The server reported a chunk that nobody knows. */
void collect_unknown(struct collect *collect, uint16_t slot, uint64_t handle, uint64_t now_ms);
/* The server is to delete it. BUSY: it has too many waiting; try later. */
enum gfs_err collect_add(struct collect *collect, uint16_t slot, uint64_t handle) GFS_MUST_CHECK;
/* The next batch for the server, none while one is out. Returns how many. */
size_t collect_take(struct collect *collect, uint16_t slot,
                    uint64_t ret_handles[COLLECT_BATCH_MAX]);
/* The batch that is out was carried out, or not: then it waits again. */
void collect_done(struct collect *collect, uint16_t slot, bool deleted);
/* The server is gone: all of it is forgotten. */
void collect_server_down(struct collect *collect, uint16_t slot);
/* Forgets what has been in quarantine for so long that no report can still mean it. */
void collect_tick(struct collect *collect, uint64_t now_ms);

size_t collect_due_count(const struct collect *collect, uint16_t slot);
size_t collect_quarantined(const struct collect *collect);

#endif
