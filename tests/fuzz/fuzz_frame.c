/*
 * Frame header and every message decoder. Byte 0 picks the decoder: 0 the header, else a message of
 * the table (odd: request, even: reply) that is decoded within its bound and packed again.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "msg_arena.h"
#include "rpc_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void fuzz_header(const uint8_t *data, size_t len_bytes)
{
    struct frame_header header;
    uint8_t again[FRAME_HEADER_BYTES];

    if (len_bytes < FRAME_HEADER_BYTES || frame_decode(data, &header))
        return;
    if (header.message_bytes > len_bytes - FRAME_HEADER_BYTES || frame_check(data, &header))
        return;
    if (header.message_bytes == 0) {
        frame_encode(&header, again);
        assert(memcmp(again, data, 18) == 0);
    }
}

static void fuzz_message(const ProtobufCMessageDescriptor *type, const uint8_t *data,
                         size_t len_bytes)
{
    _Alignas(16) uint8_t memory[512];
    struct msg_arena arena;
    ProtobufCMessage *msg;
    size_t packed_bytes;
    uint8_t *packed;

    msg_arena_init(&arena, memory, sizeof(memory), msg_arena_limit(len_bytes));
    msg = protobuf_c_message_unpack(type, &arena.allocator, len_bytes, data);
    assert(arena.used_bytes <= msg_arena_limit(len_bytes));
    if (msg) {
        packed_bytes = protobuf_c_message_get_packed_size(msg);
        packed = malloc(packed_bytes + 1);
        assert(packed && protobuf_c_message_pack(msg, packed) == packed_bytes);
        free(packed);
    }
    msg_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    unsigned pick;

    if (len_bytes == 0)
        return 0;
    pick = data[0];
    if (pick == 0) {
        fuzz_header(data + 1, len_bytes - 1);
        return 0;
    }
    for (unsigned number = 0; number < RPC_TABLE_SIZE; number++) {
        const struct rpc_type *type = rpc_table_find(number);

        if (type && --pick == 0)
            fuzz_message(type->request, data + 1, len_bytes - 1);
        else if (type && --pick == 0)
            fuzz_message(type->reply, data + 1, len_bytes - 1);
        if (pick == 0)
            break;
    }
    return 0;
}
