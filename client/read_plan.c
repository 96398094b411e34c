#include "read_plan.h"

struct read_piece read_plan_cut(uint64_t offset, uint64_t end, uint32_t chunk_size_bytes,
                                uint32_t request_bytes)
{
    struct read_piece piece = {
        .file_offset = offset,
        .chunk_index = (uint32_t)(offset / chunk_size_bytes),
        .chunk_offset = (uint32_t)(offset % chunk_size_bytes),
    };
    uint64_t length = request_bytes - piece.chunk_offset % request_bytes;
    if (length > chunk_size_bytes - piece.chunk_offset)
        length = chunk_size_bytes - piece.chunk_offset;
    if (length > end - offset)
        length = end - offset;
    piece.length_bytes = (uint32_t)length;
    return piece;
}

uint32_t read_plan_real_bytes(const struct read_piece *piece, const struct location *location)
{
    if (location->handle == 0 || piece->chunk_offset >= location->length_bytes)
        return 0;
    uint32_t real = location->length_bytes - piece->chunk_offset;
    return real < piece->length_bytes ? real : piece->length_bytes;
}

bool read_plan_outdated(const struct read_piece *piece, const struct location *location,
                        uint64_t file_size_bytes)
{
    return file_size_bytes > location->file_size_bytes &&
           read_plan_real_bytes(piece, location) < piece->length_bytes;
}

int read_plan_pick(const struct read_tries *tries, const struct location *location,
                   const struct suspect_list *suspects, uint32_t random, uint64_t now_ms)
{
    int best = -1;
    int best_rank = 0;
    for (uint32_t n = 0; n < location->replica_count; n++) {
        uint32_t i = (n + random) % location->replica_count;
        const struct location_replica *replica = &location->replicas[i];
        if (tries->asked & (1u << i))
            continue;
        int rank =
            1 + (replica->near ? 1 : 0) + (suspect_has(suspects, replica->server, now_ms) ? 0 : 2);
        if (rank > best_rank) {
            best_rank = rank;
            best = (int)i;
        }
    }
    return best;
}

bool read_plan_is_bad_replica(enum gfs_err err)
{
    return err == GFS_ERR_CORRUPT || err == GFS_ERR_SHORT;
}

uint32_t read_plan_suspect_ms(enum gfs_err err)
{
    switch (err) {
    case GFS_ERR_TIMEOUT:
        return 30000;
    case GFS_ERR_CONN:
    case GFS_ERR_STOPPING:
    case GFS_ERR_STARTING:
    case GFS_ERR_IO:
        return 15000;
    default:
        return 0;
    }
}

bool read_plan_may_heal(enum gfs_err err)
{
    enum gfs_err_class class = gfs_err_class(err);
    return class == GFS_ERR_CLASS_RETRY || class == GFS_ERR_CLASS_ELSE;
}
