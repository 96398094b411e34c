#include "master/inode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint32_t inode_chunk_count(const struct inode *file)
{
    return file->is_dir ? 0 : file->count;
}

uint32_t inode_chunk_ref(const struct namespace *ns, const struct inode *file, uint32_t chunk_index)
{
    if (chunk_index >= file->count) {
        return 0;
    }
    if (!file->has_table) {
        return file->first;
    }
    const struct chunk_table *table = slab_at(&ns->tables, file->first);
    uint32_t segment = chunk_index / NS_SEGMENT;
    if (segment >= table->segment_count || table->segments[segment] == 0) {
        return 0;
    }
    const struct chunk_segment *chunks = slab_at(&ns->segments, table->segments[segment]);
    return chunks->chunks[chunk_index % NS_SEGMENT];
}

/* Doubles, so that a growing file costs little; what one write far out costs stays bounded by
 * NS_FILE_CHUNKS_MAX / NS_SEGMENT references. */
static enum gfs_err inode_table_grow(struct namespace *ns, struct chunk_table *table,
                                     uint32_t segment)
{
    if (segment < table->segment_count) {
        return GFS_OK;
    }
    uint32_t count = table->segment_count > 0 ? table->segment_count : 1;
    while (count <= segment) {
        count *= 2;
    }
    uint32_t *segments = realloc(table->segments, count * sizeof(*segments));
    if (segments == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    uint32_t more = count - table->segment_count;
    memset(segments + table->segment_count, 0, more * sizeof(*segments));
    ns->table_bytes += more * sizeof(*segments);
    table->segments = segments;
    table->segment_count = count;
    return GFS_OK;
}

enum gfs_err inode_chunks_reserve(struct namespace *ns, struct inode *file, uint32_t chunk_index)
{
    if (chunk_index == 0 && !file->has_table) {
        return GFS_OK;
    }
    /* One segment for this index, one for chunk 0 when the table is new. */
    enum gfs_err err = slab_reserve(&ns->segments, 2);
    if (err == GFS_OK && !file->has_table) {
        err = slab_reserve(&ns->tables, 1);
    }
    if (err != GFS_OK) {
        return err;
    }
    if (!file->has_table) {
        struct chunk_table table = {0};
        err = inode_table_grow(ns, &table, chunk_index / NS_SEGMENT);
        if (err != GFS_OK) {
            return err;
        }
        uint32_t ref = slab_alloc(&ns->tables);
        *(struct chunk_table *)slab_at(&ns->tables, ref) = table;
        uint32_t first = file->first;
        file->first = ref;
        file->has_table = 1;
        if (first != 0) {
            inode_chunk_set(ns, file, 0, first);
        }
        return GFS_OK;
    }
    return inode_table_grow(ns, slab_at(&ns->tables, file->first), chunk_index / NS_SEGMENT);
}

void inode_chunk_set(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                     uint32_t chunk_ref)
{
    if (chunk_index >= file->count && chunk_ref != 0) {
        file->count = chunk_index + 1;
    }
    if (!file->has_table) {
        file->first = chunk_ref;
        return;
    }
    struct chunk_table *table = slab_at(&ns->tables, file->first);
    uint32_t *segment = &table->segments[chunk_index / NS_SEGMENT];
    if (*segment == 0) {
        if (chunk_ref == 0) {
            return;
        }
        *segment = slab_alloc(&ns->segments);
    }
    struct chunk_segment *chunks = slab_at(&ns->segments, *segment);
    chunks->chunks[chunk_index % NS_SEGMENT] = chunk_ref;
}

uint32_t inode_table_segments(const struct namespace *ns, const struct inode *file)
{
    if (file->is_dir || !file->has_table) {
        return 0;
    }
    return ((const struct chunk_table *)slab_at(&ns->tables, file->first))->segment_count;
}

void inode_chunks_share(struct namespace *ns, struct inode *file, const struct inode *from,
                        uint32_t *take_segments)
{
    assert(file->count == 0 && !file->has_table);
    file->count = from->count;
    if (!from->has_table) {
        file->first = from->first;
        return;
    }
    const struct chunk_table *source = slab_at(&ns->tables, from->first);
    uint32_t ref = slab_alloc(&ns->tables);
    struct chunk_table *table = slab_at(&ns->tables, ref);
    table->segments = take_segments;
    table->segment_count = source->segment_count;
    ns->table_bytes += source->segment_count * sizeof(*table->segments);
    for (uint32_t i = 0; i < source->segment_count; i++) {
        table->segments[i] = source->segments[i] != 0 ? slab_alloc(&ns->segments) : 0;
        if (source->segments[i] != 0) {
            *(struct chunk_segment *)slab_at(&ns->segments, table->segments[i]) =
                *(const struct chunk_segment *)slab_at(&ns->segments, source->segments[i]);
        }
    }
    file->has_table = 1;
    file->first = ref;
}

void inode_chunks_cut(struct namespace *ns, struct inode *file, uint32_t count)
{
    if (count >= file->count) {
        return;
    }
    /* The last index counted is never a hole, as after a load. */
    while (count > 0 && inode_chunk_ref(ns, file, count - 1) == 0) {
        count--;
    }
    if (!file->has_table) {
        file->count = count;
        return;
    }
    struct chunk_table *table = slab_at(&ns->tables, file->first);
    uint32_t only = count == 1 ? inode_chunk_ref(ns, file, 0) : 0;
    uint32_t last = (file->count - 1) / NS_SEGMENT;
    for (uint32_t at = count > 1 ? (count - 1) / NS_SEGMENT + 1 : 0; at <= last; at++) {
        if (at < table->segment_count && table->segments[at] != 0) {
            slab_free(&ns->segments, table->segments[at]);
            table->segments[at] = 0;
        }
    }
    file->count = count;
    if (count <= 1) {
        ns->table_bytes -= table->segment_count * sizeof(*table->segments);
        free(table->segments);
        slab_free(&ns->tables, file->first);
        file->has_table = 0;
        file->first = only;
    }
}
