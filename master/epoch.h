/*
 * epoch: a number that is higher at every start of the master, kept durably in DIR/EPOCH, so that
 * no chunk version is ever given out twice (lease.h). Floor 6. Blocks on the disk.
 */
#ifndef MASTER_EPOCH_H
#define MASTER_EPOCH_H

#include <stdint.h>

#include "gfs_err.h"

/* The number kept, or `least` if that is higher, plus one; it is on stable storage when this
 * returns. CORRUPT: the file is not one of ours. TOO_LARGE: there are none left. */
enum gfs_err epoch_next(const char *dir, uint32_t least, uint32_t *ret_epoch) GFS_MUST_CHECK;

#endif
