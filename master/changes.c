#include "master/changes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES_FIRST_BYTES 512u

void changes_init(struct changes *changes)
{
    *changes = (struct changes){0};
}

void changes_release(struct changes *changes)
{
    free(changes->data);
    changes_init(changes);
}

void changes_clear(struct changes *changes)
{
    changes->len_bytes = 0;
    changes->held_bytes = 0;
    changes->count = 0;
}

enum gfs_err changes_reserve(struct changes *changes, size_t more_bytes)
{
    size_t taken = changes->len_bytes + changes->held_bytes;
    if (taken > CHANGES_MAX_BYTES || more_bytes > CHANGES_MAX_BYTES - taken) {
        return GFS_ERR_TOO_LARGE;
    }
    size_t need = taken + more_bytes;
    if (need <= changes->cap_bytes) {
        return GFS_OK;
    }
    size_t cap = changes->cap_bytes > 0 ? changes->cap_bytes : CHANGES_FIRST_BYTES;
    while (cap < need) {
        cap *= 2;
    }
    uint8_t *data = realloc(changes->data, cap);
    if (data == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    changes->data = data;
    changes->cap_bytes = cap;
    return GFS_OK;
}

enum gfs_err changes_hold(struct changes *changes, size_t bytes)
{
    enum gfs_err err = changes_reserve(changes, bytes);
    if (err == GFS_OK) {
        changes->held_bytes += bytes;
    }
    return err;
}

void changes_unhold(struct changes *changes, size_t bytes)
{
    assert(changes->held_bytes >= bytes);
    changes->held_bytes -= bytes;
}

static uint8_t *changes_add(struct changes *changes, bool put, const void *key, size_t key_bytes,
                            size_t value_bytes)
{
    size_t need = CHANGES_HEAD_BYTES + key_bytes + value_bytes;
    assert(key_bytes <= UINT16_MAX && changes->cap_bytes - changes->len_bytes >= need);
    uint8_t *at = changes->data + changes->len_bytes;
    at[0] = put ? 1 : 0;
    uint16_t key_len = (uint16_t)key_bytes;
    uint32_t value_len = (uint32_t)value_bytes;
    memcpy(at + 1, &key_len, sizeof(key_len));
    memcpy(at + 3, &value_len, sizeof(value_len));
    memcpy(at + CHANGES_HEAD_BYTES, key, key_bytes);
    changes->len_bytes += need;
    changes->count++;
    return at + CHANGES_HEAD_BYTES + key_bytes;
}

uint8_t *changes_put(struct changes *changes, const void *key, size_t key_bytes, size_t value_bytes)
{
    return changes_add(changes, true, key, key_bytes, value_bytes);
}

void changes_delete(struct changes *changes, const void *key, size_t key_bytes)
{
    changes_add(changes, false, key, key_bytes, 0);
}

bool changes_next(const struct changes *changes, size_t *at, struct change *ret_change)
{
    if (*at >= changes->len_bytes) {
        return false;
    }
    const uint8_t *head = changes->data + *at;
    uint16_t key_len;
    uint32_t value_len;
    memcpy(&key_len, head + 1, sizeof(key_len));
    memcpy(&value_len, head + 3, sizeof(value_len));
    *ret_change = (struct change){
        .put = head[0] == 1,
        .key = head + CHANGES_HEAD_BYTES,
        .key_bytes = key_len,
        .value = head + CHANGES_HEAD_BYTES + key_len,
        .value_bytes = value_len,
    };
    *at += CHANGES_HEAD_BYTES + key_len + value_len;
    return true;
}
