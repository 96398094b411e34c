/*
 * digest: the append window as DIGEST's payload carries it. Floor 6.
 */
#ifndef CHUNKSERVER_DIGEST_H
#define CHUNKSERVER_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "chunkserver/store.h"

#define DIGEST_WINDOW_ENTRY_BYTES 24u

/* at: DIGEST_WINDOW_ENTRY_BYTES. */
void digest_window_put(uint8_t *at, const struct store_append *entry);
void digest_window_get(const uint8_t *at, struct store_append *ret_entry);

#endif
