/*
 * unsettled: the mutations of one replica of which it is not known that every replica has them.
 * Floor 5, pure. Ordered by serial, which grows over versions too, so that one number settles:
 *
 *    settled |  n+1     n+2     n+3   ...   the last one taken
 *            | [from,to) each; done: on every replica, but one before it is not
 *
 * A bounded row: when it is full on a secondary, what comes is joined to the last entry, which then
 * covers more bytes than need be for a while. Memory is held only while there is something.
 */
#ifndef CHUNKSERVER_UNSETTLED_H
#define CHUNKSERVER_UNSETTLED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

#define UNSETTLED_MAX 1024u /* entries of one chunk */

struct unsettled_entry {
    uint64_t serial;
    uint32_t from_bytes;
    uint32_t to_bytes;
    bool done;
};

struct unsettled {
    struct unsettled_entry *entries; /* NULL: none */
    uint32_t count;
    uint32_t cap;
};

void unsettled_release(struct unsettled *unsettled);
bool unsettled_is_full(const struct unsettled *unsettled);
/* serial: above all before it. NO_MEMORY. */
enum gfs_err unsettled_add(struct unsettled *unsettled, uint64_t serial, uint32_t from_bytes,
                           uint32_t to_bytes) GFS_MUST_CHECK;
/* It will not be applied after all. */
void unsettled_take_back(struct unsettled *unsettled, uint64_t serial);
/* This one is on every replica. */
void unsettled_done(struct unsettled *unsettled, uint64_t serial);
/* All up to it are. */
void unsettled_settle(struct unsettled *unsettled, uint64_t serial);
bool unsettled_overlaps(const struct unsettled *unsettled, uint32_t from_bytes, uint32_t to_bytes);
/* The first serial that is not settled; 0: there is none. */
uint64_t unsettled_first(const struct unsettled *unsettled);

#endif
