/*
 * chain: what a server in the middle of a push chain tells the one before it. Floor 5, pure.
 * The failing server's address must reach the client unchanged from however deep.
 */
#ifndef CHUNKSERVER_CHAIN_H
#define CHUNKSERVER_CHAIN_H

#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"

/* The next server answered err with detail: what we answer. detail_bytes: of ret_detail. */
enum gfs_err chain_failure(const char *next_addr, enum gfs_err err, const char *detail,
                           char *ret_detail, size_t detail_bytes) GFS_MUST_CHECK;
/* Time for the next server, so that it answers before we are given up ourselves. */
uint32_t chain_timeout_ms(uint64_t now_ms, uint64_t deadline_ms);

#endif
