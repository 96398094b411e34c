/*
 * suspect: chunkservers that failed us lately, asked last until some time has passed. Pure; at
 * most SUSPECT_MAX are remembered, the one that expires first makes room.
 */
#ifndef CLIENT_SUSPECT_H
#define CLIENT_SUSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "gfs_limits.h"

#define SUSPECT_MAX 32

struct suspect_list {
    struct {
        uint8_t server[GFS_UUID_BYTES];
        uint64_t until_ms; /* 0: free */
    } entries[SUSPECT_MAX];
};

void suspect_add(struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES],
                 uint64_t until_ms);
void suspect_clear(struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES]);
bool suspect_has(const struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES],
                 uint64_t now_ms);

#endif
