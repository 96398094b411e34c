#include "suspect.h"

#include <string.h>

void suspect_add(struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES], uint64_t until_ms)
{
    size_t victim = 0;
    for (size_t i = 0; i < SUSPECT_MAX; i++) {
        if (memcmp(list->entries[i].server, server, GFS_UUID_BYTES) == 0) {
            victim = i;
            break;
        }
        if (list->entries[i].until_ms < list->entries[victim].until_ms)
            victim = i;
    }
    memcpy(list->entries[victim].server, server, GFS_UUID_BYTES);
    list->entries[victim].until_ms = until_ms;
}

void suspect_clear(struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES])
{
    for (size_t i = 0; i < SUSPECT_MAX; i++)
        if (memcmp(list->entries[i].server, server, GFS_UUID_BYTES) == 0)
            list->entries[i].until_ms = 0;
}

bool suspect_has(const struct suspect_list *list, const uint8_t server[GFS_UUID_BYTES],
                 uint64_t now_ms)
{
    for (size_t i = 0; i < SUSPECT_MAX; i++)
        if (list->entries[i].until_ms > now_ms &&
            memcmp(list->entries[i].server, server, GFS_UUID_BYTES) == 0)
            return true;
    return false;
}
