/*
 * read_job: one READ on its way. Private to read.c and settle.c.
 */
#ifndef CHUNKSERVER_READ_JOB_H
#define CHUNKSERVER_READ_JOB_H

#include "chunkserver/chunkserver.h"

#define READ_PARKED_MAX        1024u
#define READ_PARK_PRIMARY_MS   1000u /* until what is under way is everywhere */
#define READ_PARK_SECONDARY_MS 30u   /* until the primary has told us */

struct read_job {
    struct storepool_job job; /* first */
    struct loop_task task;
    struct chunkserver *cs;
    struct rpc_request *request;
    struct store_read *read;
    uint64_t until_ms;            /* parked */
    struct read_job *prev, *next; /* parked */
};

/* Answers parked reads that may be answered now, or will wait no longer; end: all of them. */
void read_parked_check(struct chunkserver *cs, bool end);

#endif
