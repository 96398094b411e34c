/* msg_arena: bump allocation out of blocks that double. */
#include "msg_arena.h"

#include <stdlib.h>

#define MSG_ARENA_ALIGN           16
#define MSG_ARENA_BLOCK_MIN_BYTES 4096
#define MSG_ARENA_BLOCK_MAX_BYTES ((size_t)1 << 20)
#define MSG_ARENA_LIMIT_BYTES     ((size_t)32 << 20)

struct msg_arena_block {
    struct msg_arena_block *next;
    size_t bytes;
};

static void *msg_arena_alloc(void *allocator_data, size_t size)
{
    struct msg_arena *arena = allocator_data;
    struct msg_arena_block *block;
    size_t bytes;
    void *memory;

    if (size > arena->max_bytes)
        return NULL;
    size = size ? size : 1;
    size = (size + MSG_ARENA_ALIGN - 1) & ~(size_t)(MSG_ARENA_ALIGN - 1);
    if (size > arena->left_bytes) {
        bytes = arena->blocks ? arena->blocks->bytes * 2 : MSG_ARENA_BLOCK_MIN_BYTES;
        if (bytes > MSG_ARENA_BLOCK_MAX_BYTES)
            bytes = MSG_ARENA_BLOCK_MAX_BYTES;
        if (bytes < size)
            bytes = size;
        if (arena->used_bytes + bytes > arena->max_bytes)
            return NULL;
        block = malloc(MSG_ARENA_ALIGN + bytes);
        if (!block)
            return NULL;
        block->next = arena->blocks;
        block->bytes = bytes;
        arena->blocks = block;
        arena->used_bytes += bytes;
        arena->at = (uint8_t *)block + MSG_ARENA_ALIGN;
        arena->left_bytes = bytes;
    }
    memory = arena->at;
    arena->at += size;
    arena->left_bytes -= size;
    return memory;
}

static void msg_arena_free(void *allocator_data, void *pointer)
{
}

void msg_arena_init(struct msg_arena *arena, void *first, size_t first_bytes, size_t max_bytes)
{
    size_t skip = (MSG_ARENA_ALIGN - (uintptr_t)first % MSG_ARENA_ALIGN) % MSG_ARENA_ALIGN;

    if (skip > first_bytes)
        skip = first_bytes;
    *arena = (struct msg_arena){
        .allocator = {.alloc = msg_arena_alloc, .free = msg_arena_free, .allocator_data = arena},
        .at = (uint8_t *)first + skip,
        .left_bytes = first_bytes - skip,
        .max_bytes = max_bytes,
    };
}

void msg_arena_release(struct msg_arena *arena)
{
    while (arena->blocks) {
        struct msg_arena_block *block = arena->blocks;

        arena->blocks = block->next;
        free(block);
    }
    arena->at = NULL;
    arena->left_bytes = 0;
}

size_t msg_arena_limit(size_t message_bytes)
{
    size_t bytes = ((size_t)64 << 10) + 64 * message_bytes;

    return bytes < MSG_ARENA_LIMIT_BYTES ? bytes : MSG_ARENA_LIMIT_BYTES;
}
