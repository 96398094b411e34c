/* What the chaos clients write down. tests/sim/history.h has the format. */
#include <string.h>

#include "chaos_client.h"
#include "tests/sim/history.h"

static void note(struct chaos_log *log, const struct history_op *op)
{
    pthread_mutex_lock(&log->lock);
    history_print(op, log->file);
    pthread_mutex_unlock(&log->lock);
}

static uint64_t register_of(uint32_t file, uint32_t region)
{
    return (uint64_t)file * CHAOS_REGIONS + region;
}

void chaos_note_write(struct chaos_log *log, uint32_t thread, uint64_t called_us, bool done,
                      uint32_t file, uint32_t region, uint64_t value)
{
    note(log, &(struct history_op){.kind = HISTORY_WRITE,
                                   .proc = thread,
                                   .call_us = called_us,
                                   .return_us = done ? chaos_now_us() : HISTORY_OPEN,
                                   .object = register_of(file, region),
                                   .value = value});
}

void chaos_note_append(struct chaos_log *log, uint32_t thread, uint64_t called_us, bool done,
                       uint64_t value, uint64_t offset, size_t len_bytes)
{
    note(log, &(struct history_op){.kind = HISTORY_APPEND,
                                   .proc = thread,
                                   .call_us = called_us,
                                   .return_us = done ? chaos_now_us() : HISTORY_OPEN,
                                   .value = value,
                                   .offset_bytes = offset,
                                   .length_bytes = GFS_RECORD_HEADER_BYTES + len_bytes});
}

void chaos_note_record(struct chaos_log *log, uint64_t value, uint64_t offset, size_t len_bytes)
{
    note(log, &(struct history_op){.kind = HISTORY_FOUND,
                                   .value = value,
                                   .offset_bytes = offset,
                                   .length_bytes = GFS_RECORD_HEADER_BYTES + len_bytes});
}

void chaos_note_name(struct chaos_log *log, uint32_t thread, uint64_t called_us,
                     enum chaos_name_verb verb, uint32_t name, uint32_t other, enum gfs_err err)
{
    static const enum history_kind kinds[] = {
        [CHAOS_CREATE] = HISTORY_CREATE,
        [CHAOS_REMOVE] = HISTORY_REMOVE,
        [CHAOS_STAT] = HISTORY_STAT,
        [CHAOS_RENAME] = HISTORY_RENAME,
    };
    enum gfs_err no = verb == CHAOS_CREATE ? GFS_ERR_EXISTS : GFS_ERR_NOT_FOUND;
    note(log, &(struct history_op){.kind = kinds[verb],
                                   .proc = thread,
                                   .call_us = called_us,
                                   .return_us =
                                       err == GFS_OK || err == no ? chaos_now_us() : HISTORY_OPEN,
                                   .object = name,
                                   .value = other,
                                   .done = err == GFS_OK});
}

bool chaos_read_region(struct chaos *chaos, uint32_t thread, struct gfs_file *reader, uint32_t file,
                       uint32_t region)
{
    uint64_t words[CHAOS_REGION_BYTES / 8];
    uint64_t called_us = chaos_now_us();
    size_t len = 0;
    enum gfs_err err =
        gfs_pread(reader, (uint64_t)region * CHAOS_REGION_STRIDE, words, sizeof(words), &len);
    uint64_t value = words[0];
    if (err != GFS_OK)
        return false;
    /* Torn: a value that nobody wrote. */
    for (size_t i = 0; i < CHAOS_REGION_BYTES / 8; i++)
        if (len != sizeof(words) || words[i] != words[0])
            value = UINT64_MAX;
    note(&chaos->log, &(struct history_op){.kind = HISTORY_READ,
                                           .proc = thread,
                                           .call_us = called_us,
                                           .return_us = chaos_now_us(),
                                           .object = register_of(file, region),
                                           .value = value});
    return true;
}
