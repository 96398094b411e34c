/* advertise: the address that others are told to reach us at. Floor 6. */
#ifndef CHUNKSERVER_ADVERTISE_H
#define CHUNKSERVER_ADVERTISE_H

#include "addr.h"
#include "gfs_err.h"

/*
 * given: the option, may be empty; listen: the real listening address. Listening on every address,
 * we tell the one that our packets to the master leave from. Blocks (names): not on a loop.
 */
enum gfs_err advertise_addr(const char *given, const char *listen, const char *master_addr,
                            char ret_addr[ADDR_TEXT_MAX_BYTES]) GFS_MUST_CHECK;

#endif
