/* addr: "host:port" texts. Floor 2. */
#ifndef COMMON_ADDR_H
#define COMMON_ADDR_H

#include <stddef.h>

#include "gfs_err.h"

#define ADDR_TEXT_MAX_BYTES 64

/* Resolves "host:port" (host empty or missing: 127.0.0.1; port missing: default_port) to a numeric
 * "ip:port". Blocks: never on a loop. INVAL for nonsense, CONN when the name is not known. */
enum gfs_err addr_resolve(const char *text, int default_port,
                          char ret_addr[ADDR_TEXT_MAX_BYTES]) GFS_MUST_CHECK;

#endif
