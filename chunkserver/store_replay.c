/*
 * Replay: the records behind the watermark, in order, through the same delta as in service.
 *
 * The index may be ahead of the watermark, in parts: an unsynced change can survive a power cut
 * while an older one is gone. That does no harm: every record behind the watermark is applied again
 * in order, and what a record covers it covers wholly. It is of use, too: what the index says of a
 * chunk must come true by the end of the replay, else records have vanished.
 *
 * Missing records show in three ways: the sequence has a gap; a record names as its predecessor (of
 * the same chunk) one that was not met; the index knows of a newer record of the chunk than the
 * log.
 */
#include <stdlib.h>
#include <string.h>

#include "store_recover.h"

#define STORE_REPLAY_STEP 1024

static void gap_note(struct store_replay *replay, uint64_t first, uint64_t last)
{
    if (first > last)
        return;
    if (!replay->gap || first < replay->gap_first)
        replay->gap_first = first;
    if (!replay->gap || last > replay->gap_last)
        replay->gap_last = last;
    replay->gap = true;
}

static enum gfs_err pending_flush(struct store_replay *replay)
{
    struct store *store = replay->store;
    if (replay->pending == 0)
        return GFS_OK;
    enum gfs_err err = store_delta_write(&store->delta, replay->last_seq);
    if (err == GFS_OK)
        err = store_delta_publish(&store->delta, &store->table);
    store_delta_clear(&store->delta, store->log.set);
    replay->pending = 0;
    return err;
}

/* May the record follow what the replay knows of its chunk? */
static bool chain_holds(const struct store_replay *replay, const struct store_delta_chunk *chunk,
                        const struct store_record *record)
{
    bool met = chunk->entry.flags & STORE_ENTRY_REPLAYED;
    if (record->prev_seq == (chunk->exists ? chunk->entry.state_seq : 0))
        return true;
    if (record->prev_seq <= replay->marks.watermark_seq)
        return !met || record->prev_seq == 0;
    /* Only what was destroyed by compaction may be missing, and that only when all is replayed. */
    return replay->rebuild && store_set_find(replay->store->log.set, record->prev_seq) == NULL;
}

static enum gfs_err record_apply(struct store_replay *replay, const struct store_record *record)
{
    struct store_delta *delta = &replay->store->delta;
    if (record->kind == STORE_RECORD_HEAD || (record->flags & STORE_RECORD_CARRIED))
        return GFS_OK;
    struct store_delta_chunk *chunk;
    enum gfs_err err = store_delta_chunk(delta, record->handle, &chunk);
    if (err != GFS_OK)
        return err;
    bool holds = chain_holds(replay, chunk, record);
    err = store_delta_state(delta, record);
    if (err == GFS_OK)
        err = store_delta_blocks(delta, record);
    chunk->entry.flags |= STORE_ENTRY_REPLAYED;
    bool blind = (record->flags & STORE_RECORD_MAPPED) && record->map == NULL;
    if ((!holds || blind) && chunk->exists)
        chunk->entry.flags |= STORE_ENTRY_CORRUPT;
    replay->pending++;
    return err;
}

/* A record whose database is gone acts where it once was, through the copy that was carried on. */
static enum gfs_err carried_apply(struct store_replay *replay, uint64_t before_seq)
{
    struct store_delta *delta = &replay->store->delta;
    while (replay->carried_next < replay->carried_count &&
           replay->carried[replay->carried_next].as_of < before_seq) {
        struct store_record record = replay->carried[replay->carried_next++];
        record.seq = record.as_of;
        record.flags &= ~(uint32_t)STORE_RECORD_CARRIED;
        enum gfs_err err = store_delta_state(delta, &record);
        if (err == GFS_OK)
            err = store_delta_blocks(delta, &record);
        if (err != GFS_OK)
            return err;
        replay->pending++;
    }
    return GFS_OK;
}

static enum gfs_err record_next(struct store_replay *replay, struct store_db *db,
                                const struct store_record *record)
{
    if (record->seq > db->counted_seq) {
        db->total_bytes += record->length_bytes;
        db->counted_seq = record->seq;
        db->touched = true;
    }
    enum gfs_err err = carried_apply(replay, record->seq);
    if (err == GFS_OK)
        err = record_apply(replay, record);
    replay->last_seq = record->seq;
    if (err == GFS_OK && replay->pending >= STORE_REPLAY_STEP)
        err = pending_flush(replay);
    return err;
}

/* Was the database behind this one the one made right after it? Then it says where this one ends.
 */
static bool end_is_known(const struct store_replay *replay, size_t at)
{
    const struct store_set *set = replay->store->log.set;
    if (!replay->rebuild)
        return true;
    if (at + 1 >= set->count || set->dbs[at + 1]->kv == NULL)
        return false;
    struct store_scan scan;
    struct store_record head;
    if (store_scan_start(&scan, set->dbs[at + 1], 0) != GFS_OK)
        return false;
    bool known = store_scan_next(&scan, &head) == GFS_OK && head.kind == STORE_RECORD_HEAD &&
                 head.as_of == set->dbs[at]->first_seq;
    store_scan_release(&scan);
    return known;
}

static enum gfs_err db_replay(struct store_replay *replay, size_t at)
{
    struct store_db *db = replay->store->log.set->dbs[at];
    uint64_t next = replay->marks.watermark_seq + 1;
    next = next > db->first_seq ? next : db->first_seq;
    if (next > db->upto_seq)
        return GFS_OK;
    enum gfs_err err = GFS_OK;
    if (db->kv != NULL) {
        struct store_scan scan;
        err = store_scan_start(&scan, db, next);
        if (err != GFS_OK)
            return err;
        struct store_record record;
        /* What a header that is damaged stood for is missing: the next good one shows the gap. */
        while ((err = store_scan_next(&scan, &record)) == GFS_OK || err == GFS_ERR_CORRUPT) {
            if (err == GFS_ERR_CORRUPT)
                continue;
            if (record.seq > next)
                gap_note(replay, next, record.seq - 1);
            next = record.seq + 1;
            err = record_next(replay, db, &record);
            if (err != GFS_OK)
                break;
        }
        store_scan_release(&scan);
        /* An iterator that stops on damage leaves a gap to the end. */
        if (err != GFS_ERR_NOT_FOUND && err != GFS_ERR_IO)
            return err;
    }
    /* Of a database that was set aside all is missing, wherever it ended. */
    if (db->upto_seq != UINT64_MAX && (db->kv == NULL || end_is_known(replay, at)))
        gap_note(replay, next, db->upto_seq);
    else if (db->kv == NULL)
        gap_note(replay, next, next);
    else if (db->upto_seq != UINT64_MAX)
        db->upto_seq = next - 1; /* what came behind it went with a destroyed database */
    return GFS_OK;
}

static int carried_order(const void *a, const void *b)
{
    uint64_t left = ((const struct store_record *)a)->as_of;
    uint64_t right = ((const struct store_record *)b)->as_of;
    return left < right ? -1 : left > right;
}

static enum gfs_err carried_add(struct store_replay *replay, const struct store_record *record)
{
    if (replay->carried_count == replay->carried_cap) {
        size_t cap = replay->carried_cap != 0 ? 2 * replay->carried_cap : 64;
        struct store_record *grown = realloc(replay->carried, cap * sizeof(*grown));
        if (grown == NULL)
            return GFS_ERR_NO_MEMORY;
        replay->carried = grown;
        replay->carried_cap = cap;
    }
    replay->carried[replay->carried_count] = *record;
    replay->carried[replay->carried_count++].map = NULL;
    return GFS_OK;
}

static enum gfs_err carried_collect(struct store_replay *replay)
{
    const struct store_set *set = replay->store->log.set;
    for (size_t i = 0; i < set->count; i++) {
        if (set->dbs[i]->kv == NULL)
            continue;
        struct store_scan scan;
        struct store_record record;
        enum gfs_err err = store_scan_start(&scan, set->dbs[i], 0);
        if (err != GFS_OK)
            return err;
        while ((err = store_scan_next(&scan, &record)) == GFS_OK || err == GFS_ERR_CORRUPT) {
            if (err == GFS_OK && (record.flags & STORE_RECORD_CARRIED))
                err = carried_add(replay, &record);
            if (err == GFS_ERR_NO_MEMORY)
                break;
        }
        store_scan_release(&scan);
        if (err == GFS_ERR_NO_MEMORY)
            return err;
    }
    if (replay->carried_count > 0)
        qsort(replay->carried, replay->carried_count, sizeof(*replay->carried), carried_order);
    return GFS_OK;
}

enum gfs_err store_replay_run(struct store_replay *replay)
{
    struct store *store = replay->store;
    const struct store_set *set = store->log.set;
    store->delta.replay = true;
    store_delta_clear(&store->delta, set);
    replay->last_seq = replay->marks.watermark_seq;
    enum gfs_err err = replay->rebuild ? carried_collect(replay) : GFS_OK;
    for (size_t i = 0; i < set->count && err == GFS_OK; i++)
        err = db_replay(replay, i);
    if (err == GFS_OK)
        err = carried_apply(replay, UINT64_MAX);
    if (err == GFS_OK)
        err = pending_flush(replay);
    store->delta.replay = false;
    if (err != GFS_OK)
        return err;

    /* The end of the log is where the index has been, at least. */
    uint64_t known = replay->marks.applied_seq > replay->marks.watermark_seq
                         ? replay->marks.applied_seq
                         : replay->marks.watermark_seq;
    if (replay->last_seq == replay->marks.watermark_seq)
        replay->last_seq = set->count > 0 ? store_db_last_seq(set->dbs[set->count - 1]) : 0;
    gap_note(replay, replay->last_seq + 1, known);
    return GFS_OK;
}
