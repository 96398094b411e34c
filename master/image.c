#include "master/image.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kv.h"
#include "master/entries.h"
#include "master/record.h"
#include "store.pb-c.h"

#define IMAGE_ARENA_BYTES 8192u
#define IMAGE_KEY_BYTES   48u /* about what a key takes in a table */
#define IMAGE_PRESIZE_MAX (64u << 20)

struct image {
    struct namespace *ns;
    struct opwindow *window;
    int64_t now_ms;
    char *detail;
    struct image_stat stat;
    struct inode *dir; /* of the last entry: entries of a directory come together */
    /* Where protobuf-c puts the record being read: no allocation per record, and a bound. */
    ProtobufCAllocator allocator;
    size_t arena_used;
    _Alignas(16) uint8_t arena[IMAGE_ARENA_BYTES];
};

struct image_record {
    const uint8_t *key;
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
};

static void *image_alloc(void *arg, size_t bytes)
{
    struct image *image = arg;
    size_t at = (image->arena_used + 15) & ~(size_t)15;
    if (bytes > IMAGE_ARENA_BYTES || at > IMAGE_ARENA_BYTES - bytes) {
        return NULL;
    }
    image->arena_used = at + bytes;
    return image->arena + at;
}

static void image_free(void *arg, void *memory)
{
}

static enum gfs_err image_damage(struct image *image, const struct image_record *record,
                                 const char *format, ...) __attribute__((format(printf, 3, 4)));

static enum gfs_err image_damage(struct image *image, const struct image_record *record,
                                 const char *format, ...)
{
    size_t used = 0;
    if (record != NULL) {
        used += (size_t)snprintf(image->detail, IMAGE_DETAIL_BYTES, "key ");
        for (size_t i = 0; i < record->key_bytes && i < 24; i++) {
            used += (size_t)snprintf(image->detail + used, IMAGE_DETAIL_BYTES - used, "%02x",
                                     record->key[i]);
        }
        used += (size_t)snprintf(image->detail + used, IMAGE_DETAIL_BYTES - used, ": ");
    }
    va_list args;
    va_start(args, format);
    vsnprintf(image->detail + used, IMAGE_DETAIL_BYTES - used, format, args);
    va_end(args);
    return GFS_ERR_CORRUPT;
}

/* NULL: does not parse. Valid until the next call. */
static void *image_unpack(struct image *image, const ProtobufCMessageDescriptor *type,
                          const struct image_record *record)
{
    image->arena_used = 0;
    return protobuf_c_message_unpack(type, &image->allocator, record->value_bytes, record->value);
}

/* ---- one function a kind of key ------------------------------------------------------------ */
static enum gfs_err image_super(struct image *image, const struct image_record *record)
{
    struct namespace *ns = image->ns;
    const Gfs__SuperRecord *super = image_unpack(image, &gfs__super_record__descriptor, record);
    if (super == NULL || record->key_bytes != 1 || super->cluster_id.len != GFS_UUID_BYTES) {
        return image_damage(image, record, "bad super record");
    }
    if (super->format != RECORD_FORMAT) {
        image_damage(image, record, "format %u, this program knows %u", super->format,
                     RECORD_FORMAT);
        return GFS_ERR_BAD_FORMAT;
    }
    if (super->next_inode <= NS_ROOT_INODE || super->next_inode > NS_ID_MAX ||
        super->next_handle == 0) {
        return image_damage(image, record, "bad id ranges");
    }
    memcpy(ns->cluster_id, super->cluster_id.data, GFS_UUID_BYTES);
    ns->inode_ids.next = super->next_inode;
    ns->handle_ids.next = super->next_handle;
    return GFS_OK;
}

static enum gfs_err image_chunk(struct image *image, const struct image_record *record)
{
    const Gfs__ChunkRecord *stored = image_unpack(image, &gfs__chunk_record__descriptor, record);
    if (stored == NULL || record->key_bytes != RECORD_NAME_KEY_BYTES) {
        return image_damage(image, record, "bad chunk record");
    }
    uint64_t handle = record_get_u64(record->key + 1);
    if (handle == 0 || handle >= image->ns->handle_ids.next || stored->version == 0 ||
        stored->length > GFS_CHUNK_SIZE_MAX_BYTES || stored->goal == 0 ||
        stored->goal > GFS_GOAL_MAX || stored->refcount == 0 || stored->cuts > UINT16_MAX ||
        stored->refcount > CHUNK_REFERENCES_MAX || stored->family == handle ||
        stored->family >= image->ns->handle_ids.next) {
        return image_damage(image, record, "chunk with impossible values");
    }
    enum gfs_err err = chunkmap_reserve(&image->ns->chunkmap);
    if (err != GFS_OK) {
        return err;
    }
    if (stored->family != 0) {
        err = chunkmap_reserve_family(&image->ns->chunkmap);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct chunk *chunk = chunkmap_add(&image->ns->chunkmap, handle);
    if (stored->family != 0) {
        chunkmap_set_family(&image->ns->chunkmap, chunk, stored->family);
    }
    chunk->version = stored->version;
    chunk->length_bytes = stored->length;
    chunk->goal = stored->goal;
    chunk->truncating = stored->truncating;
    chunk->cuts = (uint16_t)stored->cuts;
    /* Kept to compare with what the files say, until image_check: there are no locations yet. */
    chunk->overflow = stored->refcount;
    image->stat.chunks++;
    return GFS_OK;
}

static bool image_inode_sane(const struct image *image, uint64_t id, const Gfs__InodeRecord *stored)
{
    if (id == 0 || id >= image->ns->inode_ids.next || stored->goal == 0 ||
        stored->goal > GFS_GOAL_MAX || stored->mode > 07777 ||
        (stored->anonymous && stored->trash) ||
        stored->mtime_ms != ns_clamp_time(stored->mtime_ms) ||
        stored->ctime_ms != ns_clamp_time(stored->ctime_ms)) {
        return false;
    }
    if (stored->type == INODE_DIR) {
        return stored->length == 0 && stored->first_handle == 0 && !stored->anonymous;
    }
    uint32_t size = stored->chunk_size;
    return stored->type == INODE_FILE && size >= GFS_CHUNK_SIZE_MIN_BYTES &&
           size <= GFS_CHUNK_SIZE_MAX_BYTES && (size & (size - 1)) == 0 &&
           stored->length <= (uint64_t)NS_FILE_CHUNKS_MAX * size;
}

/* Gives the file its chunk at an index. */
static enum gfs_err image_hold(struct image *image, const struct image_record *record,
                               struct inode *file, uint32_t chunk_index, uint64_t handle)
{
    struct chunkmap *map = &image->ns->chunkmap;
    struct chunk *chunk = chunkmap_find(map, handle);
    if (chunk == NULL) {
        return image_damage(image, record, "chunk %016llx has no record",
                            (unsigned long long)handle);
    }
    uint32_t size_shift = file->chunk_shift - CHUNK_SIZE_SHIFT_MIN;
    if (chunk->references == chunk->overflow ||
        (chunk->references > 0 && chunk->size_shift != size_shift)) {
        return image_damage(image, record, "chunk %016llx is held by too many files, or others",
                            (unsigned long long)handle);
    }
    enum gfs_err err = inode_chunks_reserve(image->ns, file, chunk_index);
    if (err != GFS_OK) {
        return err;
    }
    chunk->size_shift = size_shift;
    chunkmap_hold(map, chunk, inode_ref(image->ns, file));
    inode_chunk_set(image->ns, file, chunk_index, chunkmap_ref(map, chunk));
    return GFS_OK;
}

static enum gfs_err image_inode(struct image *image, const struct image_record *record)
{
    struct namespace *ns = image->ns;
    const Gfs__InodeRecord *stored = image_unpack(image, &gfs__inode_record__descriptor, record);
    if (stored == NULL || record->key_bytes != RECORD_NAME_KEY_BYTES) {
        return image_damage(image, record, "bad inode record");
    }
    uint64_t id = record_get_u64(record->key + 1);
    if (!image_inode_sane(image, id, stored)) {
        return image_damage(image, record, "inode with impossible values");
    }
    uint16_t owner = 0;
    enum gfs_err err = slab_reserve(&ns->inodes, 1);
    if (err == GFS_OK) {
        err = index_reserve(&ns->by_id, 1);
    }
    if (err == GFS_OK) {
        err = ns_intern_owner(ns, stored->uid, stored->gid, &owner);
    }
    if (err != GFS_OK) {
        return err;
    }
    struct inode *inode = ns_add_inode(ns, id, stored->type == INODE_DIR);
    inode->goal = stored->goal;
    inode->mode = stored->mode;
    inode->owner = owner;
    inode->mtime_ms = stored->mtime_ms;
    inode->ctime_ms = stored->ctime_ms;
    if (!inode->is_dir) {
        inode->chunk_shift = (uint32_t)__builtin_ctz(stored->chunk_size);
        ns_set_length(ns, inode, stored->length);
    }
    if (stored->anonymous) {
        inode->anonymous = 1;
        inode->seen_ms = image->now_ms;
        ns_list_append(ns, &ns->anonymous, inode);
    } else if (stored->trash) {
        inode->trash = 1;
        ns_list_append(ns, &ns->trash, inode);
    }
    if (id == NS_ROOT_INODE) {
        ns->root = inode_ref(ns, inode);
    }
    image->stat.inodes++;
    return stored->first_handle != 0 ? image_hold(image, record, inode, 0, stored->first_handle)
                                     : GFS_OK;
}

static bool image_name_sane(const struct path_name *name)
{
    if (name->len_bytes == 0 || name->len_bytes > GFS_NAME_MAX_BYTES ||
        memchr(name->data, '/', name->len_bytes) != NULL ||
        memchr(name->data, 0, name->len_bytes) != NULL) {
        return false;
    }
    return name->len_bytes > 2 || memcmp(name->data, "..", name->len_bytes) != 0;
}

static enum gfs_err image_name(struct image *image, const struct image_record *record)
{
    struct namespace *ns = image->ns;
    const Gfs__EntryRecord *stored = image_unpack(image, &gfs__entry_record__descriptor, record);
    if (stored == NULL || record->key_bytes <= RECORD_NAME_KEY_BYTES ||
        record->key_bytes > RECORD_NAME_KEY_BYTES + GFS_NAME_MAX_BYTES) {
        return image_damage(image, record, "bad entry record");
    }
    struct path_name name = {record->key + RECORD_NAME_KEY_BYTES,
                             (uint32_t)(record->key_bytes - RECORD_NAME_KEY_BYTES)};
    uint64_t parent = record_get_u64(record->key + 1);
    if (image->dir == NULL || image->dir->id != parent) {
        image->dir = inode_find(ns, parent);
    }
    if (image->dir == NULL || !image->dir->is_dir || !image_name_sane(&name)) {
        return image_damage(image, record, "entry in no directory, or with a bad name");
    }
    struct inode *inode = inode_find(ns, stored->inode);
    if (inode == NULL || inode->parent != 0 || inode->anonymous || inode->trash ||
        inode->id == NS_ROOT_INODE) {
        return image_damage(image, record, "entry of inode %llu, which is %s",
                            (unsigned long long)stored->inode,
                            inode == NULL ? "missing" : "not one to have this name");
    }
    enum gfs_err err = GFS_OK;
    if (image->stat.entries == 0) {
        err = index_presize(&ns->by_name, ns->inodes.used_count);
    }
    if (err == GFS_OK) {
        err = entries_reserve(ns, name.len_bytes, 1);
    }
    if (err == GFS_OK) {
        entries_insert(ns, image->dir, &name, inode);
        image->stat.entries++;
    }
    return err;
}

static enum gfs_err image_op(struct image *image, const struct image_record *record)
{
    const Gfs__OpRecord *stored = image_unpack(image, &gfs__op_record__descriptor, record);
    if (stored == NULL || record->key_bytes != 3 || stored->id.len != OPWINDOW_ID_BYTES ||
        stored->kind == 0 || stored->sequence == UINT64_MAX ||
        stored->sequence % OPWINDOW_SLOTS != ((uint32_t)record->key[1] << 8 | record->key[2])) {
        return image_damage(image, record, "bad operation record");
    }
    struct opwindow_result result = {stored->kind, stored->inode, stored->created};
    opwindow_restore(image->window, stored->id.data, stored->sequence, &result);
    return GFS_OK;
}

static enum gfs_err image_segment(struct image *image, const struct image_record *record)
{
    const Gfs__ChunkSegmentRecord *stored =
        image_unpack(image, &gfs__chunk_segment_record__descriptor, record);
    if (stored == NULL || record->key_bytes != RECORD_SEGMENT_KEY_BYTES || stored->n_handles == 0 ||
        stored->n_handles > NS_SEGMENT) {
        return image_damage(image, record, "bad segment record");
    }
    struct inode *file = inode_find(image->ns, record_get_u64(record->key + 1));
    uint32_t segment = record_get_u32(record->key + RECORD_NAME_KEY_BYTES);
    if (file == NULL || file->is_dir || segment >= NS_FILE_CHUNKS_MAX / NS_SEGMENT ||
        (segment == 0 && stored->handles[0] != 0)) {
        return image_damage(image, record, "segment of no file, or at an impossible place");
    }
    enum gfs_err err = GFS_OK;
    for (uint32_t i = 0; err == GFS_OK && i < stored->n_handles; i++) {
        if (stored->handles[i] != 0) {
            err = image_hold(image, record, file, segment * NS_SEGMENT + i, stored->handles[i]);
        }
    }
    return err;
}

/* Splitting buckets of what was loaded before costs more cache misses than all else: the indexes
 * begin at about the size they will have. A wrong guess costs only time or a little memory. */
static enum gfs_err image_presize(struct image *image, struct kv *kv)
{
    static const uint8_t kinds[] = {RECORD_KIND_CHUNK, RECORD_KIND_INODE};
    struct index *const tables[] = {&image->ns->chunkmap.by_handle, &image->ns->by_id};
    enum gfs_err err = GFS_OK;
    for (size_t i = 0; err == GFS_OK && i < 2; i++) {
        uint8_t to = kinds[i] + 1;
        uint64_t count = kv_approximate_bytes(kv, &kinds[i], 1, &to, 1) / IMAGE_KEY_BYTES;
        err = index_presize(tables[i],
                            count < IMAGE_PRESIZE_MAX ? (uint32_t)count : IMAGE_PRESIZE_MAX);
    }
    return err;
}

/* ---- the whole ----------------------------------------------------------------------------- */
static enum gfs_err image_record_load(struct image *image, const struct image_record *record)
{
    uint8_t kind = record->key_bytes > 0 ? record->key[0] : 0;
    if (image->ns->inode_ids.next == 0 && kind != RECORD_KIND_SUPER) {
        return image_damage(image, record, "there is no super record before it");
    }
    image->stat.keys++;
    switch (kind) {
    case RECORD_KIND_SUPER:
        return image_super(image, record);
    case RECORD_KIND_CHUNK:
        return image_chunk(image, record);
    case RECORD_KIND_INODE:
        return image_inode(image, record);
    case RECORD_KIND_NAME:
        return image_name(image, record);
    case RECORD_KIND_OP:
        return image_op(image, record);
    case RECORD_KIND_SEGMENT:
        return image_segment(image, record);
    default:
        return image_damage(image, record, "unknown kind of key");
    }
}

/* What only shows when everything is there. */
static enum gfs_err image_check(struct image *image)
{
    struct namespace *ns = image->ns;
    if (ns->root == 0 || !inode_at(ns, ns->root)->is_dir || inode_at(ns, ns->root)->trash) {
        return image_damage(image, NULL, "there is no root directory");
    }
    for (uint32_t ref = slab_next_used(&ns->inodes, 1); ref != 0;
         ref = slab_next_used(&ns->inodes, ref + 1)) {
        const struct inode *inode = inode_at(ns, ref);
        if (inode->parent == 0 && !inode->anonymous && !inode->trash && ref != ns->root) {
            return image_damage(image, NULL, "inode %llu has no entry",
                                (unsigned long long)inode->id);
        }
    }
    uint32_t at = 0;
    struct chunk *chunk;
    while ((chunk = chunkmap_walk(&ns->chunkmap, &at)) != NULL) {
        uint32_t files = chunk->references;
        uint32_t stored = chunk->overflow;
        chunk->overflow = 0;
        if (files != stored) {
            return image_damage(image, NULL, "chunk %016llx is held by %u files, not by %u",
                                (unsigned long long)chunk->handle, files, stored);
        }
    }
    return GFS_OK;
}

enum gfs_err image_load(struct kv *kv, struct namespace *ns, struct opwindow *window,
                        int64_t now_ms, char *ret_detail, struct image_stat *ret_stat)
{
    struct image image = {.ns = ns, .window = window, .now_ms = now_ms, .detail = ret_detail};
    image.allocator = (ProtobufCAllocator){image_alloc, image_free, &image};
    struct kv_iter *iter = kv_iter_new(kv);
    if (iter == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    enum gfs_err err = image_presize(&image, kv);
    kv_iter_seek_first(iter);
    bool empty = !kv_iter_valid(iter);
    for (; err == GFS_OK && kv_iter_valid(iter); kv_iter_next(iter)) {
        struct image_record record;
        record.key = kv_iter_key(iter, &record.key_bytes);
        record.value = kv_iter_value(iter, &record.value_bytes);
        err = image_record_load(&image, &record);
    }
    if (err == GFS_OK) {
        err = kv_iter_err(iter);
        if (err != GFS_OK) {
            image_damage(&image, NULL, "the database: %s", gfs_err_text(err));
        }
    }
    kv_iter_free(iter);
    if (err == GFS_OK) {
        err = empty ? GFS_ERR_NOT_FOUND : image_check(&image);
    }
    if (err == GFS_OK && ret_stat != NULL) {
        *ret_stat = image.stat;
    }
    return err;
}
