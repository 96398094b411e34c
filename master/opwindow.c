#include "master/opwindow.h"

#include <stdlib.h>
#include <string.h>

#include "master/index.h"
#include "master/record.h"
#include "store.pb-c.h"

#define OPWINDOW_BUCKETS 65536u

/* Chained by slot number + 1; 0 ends a chain. */
struct opwindow_slot {
    uint8_t id[OPWINDOW_ID_BYTES];
    uint64_t inode;
    uint32_t kind; /* 0: empty */
    uint32_t next : 24;
    uint32_t created : 8;
};

struct opwindow {
    uint64_t seed;
    uint64_t sequence; /* of the next operation */
    uint32_t buckets[OPWINDOW_BUCKETS];
    struct opwindow_slot slots[OPWINDOW_SLOTS];
};

enum gfs_err opwindow_new(uint64_t seed, struct opwindow **ret_window)
{
    struct opwindow *window = calloc(1, sizeof(*window));
    if (window == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    window->seed = seed;
    *ret_window = window;
    return GFS_OK;
}

void opwindow_free(struct opwindow *window)
{
    free(window);
}

static uint32_t opwindow_bucket(const struct opwindow *window, const void *id)
{
    return index_hash_bytes(window->seed, id, OPWINDOW_ID_BYTES) % OPWINDOW_BUCKETS;
}

static void opwindow_unlink(struct opwindow *window, uint32_t number)
{
    struct opwindow_slot *slot = &window->slots[number];
    uint32_t *head = &window->buckets[opwindow_bucket(window, slot->id)];
    if (*head == number + 1) {
        *head = slot->next;
        return;
    }
    struct opwindow_slot *before = &window->slots[*head - 1];
    while (before->next != number + 1) {
        before = &window->slots[before->next - 1];
    }
    before->next = slot->next;
}

bool opwindow_find(const struct opwindow *window, const void *id, size_t id_bytes, uint32_t kind,
                   struct opwindow_result *ret_result)
{
    if (id_bytes != OPWINDOW_ID_BYTES) {
        return false;
    }
    for (uint32_t at = window->buckets[opwindow_bucket(window, id)]; at != 0;) {
        const struct opwindow_slot *slot = &window->slots[at - 1];
        if (slot->kind == kind && memcmp(slot->id, id, OPWINDOW_ID_BYTES) == 0) {
            *ret_result = (struct opwindow_result){kind, slot->inode, slot->created};
            return true;
        }
        at = slot->next;
    }
    return false;
}

static void opwindow_store(struct opwindow *window, uint32_t number, const void *id,
                           const struct opwindow_result *result)
{
    struct opwindow_slot *slot = &window->slots[number];
    if (slot->kind != 0) {
        opwindow_unlink(window, number);
    }
    memcpy(slot->id, id, OPWINDOW_ID_BYTES);
    slot->inode = result->inode;
    slot->kind = result->kind;
    slot->created = result->created;
    uint32_t *head = &window->buckets[opwindow_bucket(window, id)];
    slot->next = *head;
    *head = number + 1;
}

enum gfs_err opwindow_reserve(struct changes *changes)
{
    return changes_hold(changes, RECORD_OP_MAX_BYTES);
}

void opwindow_record(struct opwindow *window, const void *id, size_t id_bytes,
                     const struct opwindow_result *result, struct changes *changes)
{
    changes_unhold(changes, RECORD_OP_MAX_BYTES);
    if (id_bytes != OPWINDOW_ID_BYTES || result->kind == 0) {
        return;
    }
    uint32_t number = window->sequence % OPWINDOW_SLOTS;
    opwindow_store(window, number, id, result);
    Gfs__OpRecord record = GFS__OP_RECORD__INIT;
    record.id.data = (uint8_t *)(uintptr_t)id;
    record.id.len = OPWINDOW_ID_BYTES;
    record.sequence = window->sequence++;
    record.kind = result->kind;
    record.inode = result->inode;
    record.created = result->created;
    uint8_t key[3] = {RECORD_KIND_OP, (uint8_t)(number >> 8), (uint8_t)number};
    size_t bytes = gfs__op_record__get_packed_size(&record);
    gfs__op_record__pack(&record, changes_put(changes, key, sizeof(key), bytes));
}

void opwindow_restore(struct opwindow *window, const void *id, uint64_t sequence,
                      const struct opwindow_result *result)
{
    opwindow_store(window, sequence % OPWINDOW_SLOTS, id, result);
    if (sequence >= window->sequence) {
        window->sequence = sequence + 1;
    }
}
