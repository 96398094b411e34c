/*
 * sim_db: a database's ordered map (a skip list) with every version of every key, and what of it is
 * durable. See sim_disk.h. Nothing is freed: a reader may have it pinned, and a seed ends soon.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "chunkserver/store_record.h"
#include "sim_disk.h"

#define DB_RETIRE_1000 20u /* writes after which a new log is begun */

void *sim_copy(const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);

    assert(copy);
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

/* ---- the map --------------------------------------------------------------------------------- */

int sim_key_order(const struct sim_key *key, const void *bytes, size_t len)
{
    size_t both = key->len_bytes < len ? key->len_bytes : len;
    int order = both ? memcmp(key->bytes, bytes, both) : 0;

    return order ? order : key->len_bytes < len ? -1 : key->len_bytes > len;
}

/* The last key below bytes; the head if there is none. ret_before, of each level, may be NULL. */
struct sim_key *sim_key_before(struct sim_db *db, const void *bytes, size_t len,
                               struct sim_key **ret_before)
{
    struct sim_key *at = &db->head;

    for (uint32_t level = SIM_KEY_LEVELS; level-- > 0;) {
        while (at->next[level] && sim_key_order(at->next[level], bytes, len) < 0)
            at = at->next[level];
        if (ret_before)
            ret_before[level] = at;
    }
    return at;
}

static struct sim_key *key_get(struct sim_db *db, const void *bytes, size_t len)
{
    struct sim_key *before[SIM_KEY_LEVELS];
    struct sim_key *key = sim_key_before(db, bytes, len, before)->next[0];
    uint64_t height = ++db->key_count * 0x9e3779b97f4a7c15u;

    if (key && sim_key_order(key, bytes, len) == 0)
        return key;
    key = calloc(1, sizeof(*key));
    assert(key);
    key->bytes = sim_copy(bytes, len);
    key->len_bytes = len;
    key->levels = 1;
    for (height >>= 20; key->levels < SIM_KEY_LEVELS && (height & 3) == 0; height >>= 2)
        key->levels++;
    for (uint32_t level = 0; level < key->levels; level++) {
        key->next[level] = before[level]->next[level];
        before[level]->next[level] = key;
    }
    return key;
}

const struct sim_version *sim_version_at(const struct sim_key *key, uint64_t number)
{
    const struct sim_version *version = key->newest;

    while (version && version->number > number)
        version = version->older;
    return version && version->bytes ? version : NULL;
}

void sim_db_apply(struct sim_disk *disk, struct sim_db *db, const void *bytes, size_t len_bytes,
                  const void *value, size_t value_bytes)
{
    struct sim_key *key = key_get(db, bytes, len_bytes);
    struct sim_version *version = key->newest;

    if (!version || version->number != db->last_number) {
        version = calloc(1, sizeof(*version));
        assert(version);
        version->older = key->newest;
        version->number = db->last_number;
        key->newest = version;
    }
    version->bytes = value ? sim_copy(value, value_bytes) : NULL;
    version->len_bytes = value_bytes;
    db->used_bytes += value_bytes;
    disk->used_bytes += value_bytes;
}

/* ---- durability ------------------------------------------------------------------------------ */

void sim_db_written(struct sim_db *db)
{
    if (db->pending_count == db->pending_capacity) {
        db->pending_capacity = db->pending_capacity ? 2 * db->pending_capacity : 64;
        db->pending = realloc(db->pending, db->pending_capacity * sizeof(*db->pending));
        assert(db->pending);
    }
    db->pending[db->pending_count++] = (struct sim_pending){db->last_number, db->log};
}

void sim_db_maybe_retire(struct sim_db *db)
{
    if (sim_chance(SIM_STREAM_DISK, DB_RETIRE_1000))
        db->log++;
}

void sim_db_make_durable(struct sim_db *db, uint64_t number, uint64_t log)
{
    size_t kept = 0;

    for (size_t i = 0; i < db->pending_count; i++)
        if (db->pending[i].number > number || (log != UINT64_MAX && db->pending[i].log != log))
            db->pending[kept++] = db->pending[i];
    db->pending_count = kept;
}

static bool is_among(const uint64_t *numbers, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        if (numbers[i] == number)
            return true;
    return false;
}

static void versions_drop(struct sim_db *db, const uint64_t *numbers, size_t count)
{
    for (struct sim_key *key = db->head.next[0]; key; key = key->next[0]) {
        struct sim_version **at = &key->newest;

        while (*at) {
            if (is_among(numbers, count, (*at)->number))
                *at = (*at)->older;
            else
                at = &(*at)->older;
        }
    }
}

void sim_db_lose(struct sim_db *db)
{
    uint64_t *lost = calloc(db->pending_count + 1, sizeof(*lost));
    size_t lost_count = 0;

    assert(lost);
    for (size_t i = 0; i < db->pending_count;) {
        size_t end = i, keep;

        while (end < db->pending_count && db->pending[end].log == db->pending[i].log)
            end++;
        keep = sim_chance(SIM_STREAM_DISK, 300) ? 0 : sim_below(SIM_STREAM_DISK, end - i + 1);
        for (size_t j = i + keep; j < end; j++)
            lost[lost_count++] = db->pending[j].number;
        i = end;
    }
    if (lost_count) {
        sim_trace("%s loses %zu of %zu unsynced writes", db->path, lost_count, db->pending_count);
        versions_drop(db, lost, lost_count);
    }
    db->pending_count = 0;
    free(lost);
}

bool sim_db_flip(struct sim_db *db)
{
    struct sim_version *found = NULL;
    uint64_t count = 0;

    for (struct sim_key *key = db->head.next[0]; key; key = key->next[0])
        if (key->newest && key->newest->bytes && key->newest->len_bytes > 0 &&
            sim_below(SIM_STREAM_DISK, ++count) == 0)
            found = key->newest;
    if (!found)
        return false;
    /* Whoever has it pinned keeps what was read. */
    found->bytes = sim_copy(found->bytes, found->len_bytes);
    found->bytes[sim_below(SIM_STREAM_DISK, found->len_bytes)] ^= 0x10;
    return true;
}

void sim_db_drop_record(struct sim_db *db)
{
    struct sim_key *found = NULL;
    uint64_t count = 0;

    for (struct sim_key *key = db->head.next[0]; key; key = key->next[0])
        if (key->newest && key->newest->bytes && sim_below(SIM_STREAM_DISK, ++count) == 0)
            found = key;
    if (!found)
        return;
    if (found->len_bytes == STORE_RECORD_KEY_BYTES) {
        struct store_record record;

        if (store_record_decode(found->bytes, found->len_bytes, &record) == GFS_OK)
            sim_trace("%s loses record %llu, kind %u of %016llx, offset %u, length %u, version %u",
                      db->path, (unsigned long long)record.seq, record.kind,
                      (unsigned long long)record.handle, record.offset_bytes, record.length_bytes,
                      record.version);
    }
    found->newest = NULL;
}
