#include "master/record.h"

#include <assert.h>
#include <string.h>

#include "master/entries.h"
#include "store.pb-c.h"

static uint8_t *record_set_u64(uint8_t *at, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8) {
        at[i] = (uint8_t)value;
    }
    return at + 8;
}

uint64_t record_get_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return __builtin_bswap64(value);
}

uint32_t record_get_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return __builtin_bswap32(value);
}

static void record_put(struct changes *changes, const uint8_t *key, size_t key_bytes,
                       const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    protobuf_c_message_pack(message, changes_put(changes, key, key_bytes, bytes));
}

void record_put_super(const struct namespace *ns, struct changes *changes)
{
    uint8_t key = RECORD_KIND_SUPER;
    Gfs__SuperRecord record = GFS__SUPER_RECORD__INIT;
    record.cluster_id.data = (uint8_t *)(uintptr_t)ns->cluster_id;
    record.cluster_id.len = GFS_UUID_BYTES;
    record.format = RECORD_FORMAT;
    record.next_inode = ns->inode_ids.limit;
    record.next_handle = ns->handle_ids.limit;
    record_put(changes, &key, 1, &record.base);
}

static void record_key(uint8_t key[RECORD_NAME_KEY_BYTES], enum record_kind kind, uint64_t id)
{
    key[0] = (uint8_t)kind;
    record_set_u64(key + 1, id);
}

void record_put_chunk(const struct namespace *ns, const struct chunk *chunk,
                      struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES];
    record_key(key, RECORD_KIND_CHUNK, chunk->handle);
    Gfs__ChunkRecord record = GFS__CHUNK_RECORD__INIT;
    record.version = chunk->version;
    record.length = chunk->length_bytes;
    record.goal = chunk->goal;
    record.refcount = chunk->references;
    record.truncating = chunk->truncating;
    record.cuts = chunk->cuts;
    record.family = chunk->copied ? chunk_family(&ns->chunkmap, chunk) : 0;
    record_put(changes, key, sizeof(key), &record.base);
}

void record_delete_chunk(const struct chunk *chunk, struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES];
    record_key(key, RECORD_KIND_CHUNK, chunk->handle);
    changes_delete(changes, key, sizeof(key));
}

void record_put_inode(const struct namespace *ns, const struct inode *inode,
                      struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES];
    record_key(key, RECORD_KIND_INODE, inode->id);
    Gfs__InodeRecord record = GFS__INODE_RECORD__INIT;
    record.type = inode_type(inode);
    record.length = inode->length_bytes;
    record.goal = inode->goal;
    record.chunk_size = inode->is_dir ? 0 : 1u << inode->chunk_shift;
    record.mtime_ms = inode->mtime_ms;
    record.ctime_ms = inode->ctime_ms;
    record.mode = inode->mode;
    record.uid = ns->owners[inode->owner].uid;
    record.gid = ns->owners[inode->owner].gid;
    record.anonymous = inode->anonymous;
    record.trash = inode->trash;
    if (!inode->is_dir) {
        const struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, inode, 0));
        record.first_handle = chunk != NULL ? chunk->handle : 0;
    }
    record_put(changes, key, sizeof(key), &record.base);
}

void record_delete_inode(const struct inode *inode, struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES];
    record_key(key, RECORD_KIND_INODE, inode->id);
    changes_delete(changes, key, sizeof(key));
}

static size_t record_name_key(const struct namespace *ns, const struct inode *inode,
                              uint8_t key[RECORD_NAME_KEY_BYTES + GFS_NAME_MAX_BYTES])
{
    struct path_name name = entries_name(ns, inode);
    record_key(key, RECORD_KIND_NAME, inode_at(ns, inode->parent)->id);
    memcpy(key + RECORD_NAME_KEY_BYTES, name.data, name.len_bytes);
    return RECORD_NAME_KEY_BYTES + name.len_bytes;
}

void record_put_name(const struct namespace *ns, const struct inode *inode, struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES + GFS_NAME_MAX_BYTES];
    size_t key_bytes = record_name_key(ns, inode, key);
    Gfs__EntryRecord record = GFS__ENTRY_RECORD__INIT;
    record.inode = inode->id;
    record_put(changes, key, key_bytes, &record.base);
}

void record_delete_name(const struct namespace *ns, const struct inode *inode,
                        struct changes *changes)
{
    uint8_t key[RECORD_NAME_KEY_BYTES + GFS_NAME_MAX_BYTES];
    size_t key_bytes = record_name_key(ns, inode, key);
    changes_delete(changes, key, key_bytes);
}

void record_put_segment(const struct namespace *ns, const struct inode *file, uint32_t segment,
                        struct changes *changes)
{
    uint8_t key[RECORD_SEGMENT_KEY_BYTES];
    record_key(key, RECORD_KIND_SEGMENT, file->id);
    uint32_t number = __builtin_bswap32(segment);
    memcpy(key + RECORD_NAME_KEY_BYTES, &number, sizeof(number));

    uint64_t handles[NS_SEGMENT];
    size_t used = 0;
    for (uint32_t i = 0; i < NS_SEGMENT; i++) {
        uint32_t at = segment * NS_SEGMENT + i;
        const struct chunk *chunk = chunkmap_at(&ns->chunkmap, inode_chunk_ref(ns, file, at));
        handles[i] = at > 0 && chunk != NULL ? chunk->handle : 0;
        if (handles[i] != 0) {
            used = i + 1;
        }
    }
    if (used == 0) {
        changes_delete(changes, key, sizeof(key));
        return;
    }
    Gfs__ChunkSegmentRecord record = GFS__CHUNK_SEGMENT_RECORD__INIT;
    record.n_handles = used;
    record.handles = handles;
    record_put(changes, key, sizeof(key), &record.base);
}
