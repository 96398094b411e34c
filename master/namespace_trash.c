/*
 * Giving back what was removed, and finding anonymous files nobody writes any more.
 *
 * A removed tree loses its name at once and goes to the trash whole; ns_reap then takes it apart
 * from the leaves, a bounded number of steps at a time, so that removing a million files neither
 * stalls the loop nor makes one huge journal entry. A crash in between leaves a smaller tree in the
 * trash. The walk needs no stack: down to any entry until a leaf, up through the parents.
 */
#include <assert.h>

#include "master/entries.h"
#include "master/inode.h"
#include "master/record.h"

void ns_release_chunk(struct namespace *ns, struct inode *file, uint32_t chunk_index,
                      int64_t now_ms, struct changes *changes)
{
    struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, file, chunk_index));
    if (chunk == NULL) {
        return;
    }
    inode_chunk_set(ns, file, chunk_index, 0);
    if (chunkmap_let_go(&ns->chunkmap, chunk, inode_ref(ns, file), now_ms)) {
        record_delete_chunk(chunk, changes);
    } else {
        record_put_chunk(ns, chunk, changes);
    }
}

void ns_discard_file(struct namespace *ns, struct inode *file, int64_t now_ms,
                     struct changes *changes)
{
    if (file->has_table) {
        ns_discard_tree(ns, file, changes);
        return;
    }
    ns_release_chunk(ns, file, 0, now_ms, changes);
    inode_chunks_cut(ns, file, 0);
    record_delete_inode(file, changes);
    ns_drop_inode(ns, file);
}

void ns_discard_tree(struct namespace *ns, struct inode *inode, struct changes *changes)
{
    inode->trash = 1;
    ns_list_append(ns, &ns->trash, inode);
    record_put_inode(ns, inode, changes);
}

/* Cuts the file to `count` chunks. Room for a RECORD_CHUNK each, and a RECORD_SEGMENT for each
 * segment touched. Chunk 0 stands in the inode's record: the caller writes that. */
static void ns_cut_chunks(struct namespace *ns, struct inode *file, uint32_t count, int64_t now_ms,
                          struct changes *changes)
{
    uint32_t had = inode_chunk_count(file);
    if (count >= had) {
        return;
    }
    for (uint32_t i = had; i > count; i--) {
        ns_release_chunk(ns, file, i - 1, now_ms, changes);
    }
    for (uint32_t at = had; at > count && at > 1;) {
        uint32_t segment = (at - 1) / NS_SEGMENT;
        record_put_segment(ns, file, segment, changes);
        at = segment * NS_SEGMENT;
    }
    inode_chunks_cut(ns, file, count);
}

static size_t ns_cut_room_bytes(uint32_t chunks)
{
    return (size_t)chunks * RECORD_CHUNK_MAX_BYTES +
           (chunks / NS_SEGMENT + 2) * (size_t)RECORD_SEGMENT_MAX_BYTES;
}

/* Down to something without entries. */
static struct inode *ns_reap_leaf(const struct namespace *ns, struct inode *inode)
{
    while (inode->is_dir && inode->count > 0) {
        inode = entries_any(ns, inode);
    }
    return inode;
}

/* Takes a leaf away, or the last chunks of a long file. *inout_leaf: its directory when it is gone,
 * NULL when it was the root of a removed tree. false: no memory for it. */
static bool ns_reap_step(struct namespace *ns, int64_t now_ms, struct changes *changes,
                         struct inode **inout_leaf)
{
    struct inode *leaf = *inout_leaf;
    uint32_t chunks = inode_chunk_count(leaf);
    uint32_t cut = chunks > NS_SEGMENT ? chunks - NS_SEGMENT : 0;
    size_t room = ns_cut_room_bytes(chunks - cut) + RECORD_NAME_MAX_BYTES + RECORD_INODE_MAX_BYTES;
    if (changes_reserve(changes, room) != GFS_OK) {
        return false;
    }
    ns_cut_chunks(ns, leaf, cut, now_ms, changes);
    if (cut > 0) {
        return true;
    }
    *inout_leaf = inode_at(ns, leaf->parent);
    if (leaf->parent != 0) {
        record_delete_name(ns, leaf, changes);
        entries_remove(ns, leaf);
    } else {
        ns_list_remove(ns, &ns->trash, leaf);
    }
    record_delete_inode(leaf, changes);
    ns_drop_inode(ns, leaf);
    return true;
}

bool ns_reap(struct namespace *ns, uint32_t max, int64_t now_ms, struct changes *changes)
{
    struct inode *at = inode_at(ns, ns->trash.first);
    for (uint32_t i = 0; i < max && at != NULL; i++) {
        at = ns_reap_leaf(ns, at);
        if (!ns_reap_step(ns, now_ms, changes, &at)) {
            break;
        }
        at = at != NULL ? at : inode_at(ns, ns->trash.first);
    }
    return ns->trash.first != 0;
}

enum gfs_err ns_truncate(struct namespace *ns, struct inode *inode, uint64_t length_bytes,
                         int64_t now_ms, struct changes *changes, struct chunk **ret_cut)
{
    if (inode->is_dir) {
        return GFS_ERR_IS_DIR;
    }
    if (length_bytes > (uint64_t)NS_FILE_CHUNKS_MAX << inode->chunk_shift) {
        return GFS_ERR_TOO_LARGE;
    }
    uint64_t size = 1ull << inode->chunk_shift;
    uint32_t keep = (uint32_t)((length_bytes + size - 1) >> inode->chunk_shift);
    struct chunk *cut = NULL;
    if (length_bytes < inode->length_bytes && keep > 0 && length_bytes % size != 0) {
        /* Also when no committed byte goes: uncommitted ones behind the cut must not come back. */
        cut = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, inode, keep - 1));
    }
    if (cut != NULL && cut->references > 1) {
        return GFS_ERR_BUSY;
    }
    uint32_t had = inode_chunk_count(inode);
    size_t room = keep < had ? ns_cut_room_bytes(had - keep) : 0;
    enum gfs_err err =
        changes_reserve(changes, room + RECORD_INODE_MAX_BYTES + RECORD_CHUNK_MAX_BYTES);
    if (err != GFS_OK) {
        return err;
    }
    if (keep < had) {
        ns_cut_chunks(ns, inode, keep, now_ms, changes);
    }
    if (cut != NULL) {
        uint32_t rest = (uint32_t)(length_bytes % size);
        cut->truncating = 1;
        cut->cuts++;
        cut->length_bytes = cut->length_bytes < rest ? cut->length_bytes : rest;
        record_put_chunk(ns, cut, changes);
    }
    ns_set_length(ns, inode, length_bytes);
    inode->mtime_ms = inode->ctime_ms = ns_clamp_time(now_ms);
    record_put_inode(ns, inode, changes);
    *ret_cut = cut;
    return GFS_OK;
}

/* ---- anonymous files ----------------------------------------------------------------------- */
void ns_anonymous_touch(struct namespace *ns, struct inode *inode, int64_t now_ms)
{
    if (inode->anonymous) {
        ns_list_remove(ns, &ns->anonymous, inode);
        inode->seen_ms = now_ms;
        ns_list_append(ns, &ns->anonymous, inode);
    }
}

struct inode *ns_anonymous_oldest(const struct namespace *ns, int64_t *ret_seen_ms)
{
    struct inode *inode = inode_at(ns, ns->anonymous.first);
    if (inode != NULL) {
        *ret_seen_ms = inode->seen_ms;
    }
    return inode;
}
