/*
 * record: keys and values of the master's database, into changes and out of bytes. Floor 5, pure.
 * The layout is in docs/disk-format.md, the values in include/proto/store.proto.
 */
#ifndef MASTER_RECORD_H
#define MASTER_RECORD_H

#include "master/inode.h"

/* Letters sort so that a forward pass meets what is referred to before what refers to it. */
enum record_kind {
    RECORD_KIND_SUPER = 'A',
    RECORD_KIND_CHUNK = 'C',
    RECORD_KIND_INODE = 'I',
    RECORD_KIND_NAME = 'N',
    RECORD_KIND_OP = 'O',
    RECORD_KIND_SEGMENT = 'S',
};

#define RECORD_FORMAT 1u

/* At most so many bytes of changes each, head and key included: for changes_reserve. */
#define RECORD_SUPER_MAX_BYTES   96u
#define RECORD_CHUNK_MAX_BYTES   64u
#define RECORD_INODE_MAX_BYTES   128u
#define RECORD_NAME_MAX_BYTES    (32u + GFS_NAME_MAX_BYTES)
#define RECORD_OP_MAX_BYTES      96u
#define RECORD_SEGMENT_MAX_BYTES (32u + 8u * NS_SEGMENT)

#define RECORD_NAME_KEY_BYTES    9u /* before the name */
#define RECORD_SEGMENT_KEY_BYTES 13u

uint64_t record_get_u64(const uint8_t *at); /* big-endian, as in keys */
uint32_t record_get_u32(const uint8_t *at);

void record_put_super(const struct namespace *ns, struct changes *changes);
void record_put_chunk(const struct namespace *ns, const struct chunk *chunk,
                      struct changes *changes);
void record_delete_chunk(const struct chunk *chunk, struct changes *changes);
void record_put_inode(const struct namespace *ns, const struct inode *inode,
                      struct changes *changes);
void record_delete_inode(const struct inode *inode, struct changes *changes);
/* Of an inode that has its name. */
void record_put_name(const struct namespace *ns, const struct inode *inode,
                     struct changes *changes);
void record_delete_name(const struct namespace *ns, const struct inode *inode,
                        struct changes *changes);
/* What the file has in this segment now; deletes the key when that is nothing. */
void record_put_segment(const struct namespace *ns, const struct inode *file, uint32_t segment,
                        struct changes *changes);

#endif
