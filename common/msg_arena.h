/*
 * msg_arena: a ProtobufCAllocator whose memory is freed all at once. Floor 3.
 * A decoded message can take many times its bytes on the wire; max_bytes bounds it.
 */
#ifndef COMMON_MSG_ARENA_H
#define COMMON_MSG_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

struct msg_arena_block;

struct msg_arena {
    ProtobufCAllocator allocator; /* for protobuf_c_message_unpack */
    uint8_t *at;
    size_t left_bytes;
    struct msg_arena_block *blocks;
    size_t used_bytes; /* taken from the heap */
    size_t max_bytes;
};

/* first: memory of the caller's used before any is taken from the heap; it outlives the arena. */
void msg_arena_init(struct msg_arena *arena, void *first, size_t first_bytes, size_t max_bytes);
void msg_arena_release(struct msg_arena *arena);
/* The bound for a message of so many bytes on the wire. */
size_t msg_arena_limit(size_t message_bytes);

#endif
