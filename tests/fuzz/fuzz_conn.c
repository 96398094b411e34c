/*
 * The input parser of a connection, fed a stream in pieces. Byte 0: bit 0 makes magic and CRC of
 * every frame right first, so that what lies behind them is reached; the rest is the size of the
 * pieces. Payloads go to memory of exactly their size, every third nowhere.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

struct fuzz_stream {
    const uint8_t *bytes;
    size_t left_bytes;
};

/* Makes the frames of the stream valid, as far as their sizes let them be told apart. */
static void fuzz_seal(uint8_t *bytes, size_t len_bytes)
{
    static const uint8_t magic[4] = {'G', 'F', 'S', '1'};
    struct frame_header header;

    while (len_bytes >= FRAME_HEADER_BYTES) {
        size_t step;

        memcpy(bytes, magic, sizeof(magic));
        bytes[16] &= 1; /* flags */
        bytes[17] = 0;
        bytes[22] &= 1; /* sizes */
        bytes[23] = 0;
        bytes[26] &= 1;
        bytes[27] = 0;
        if (frame_decode(bytes, &header))
            return;
        if (header.message_bytes > len_bytes - FRAME_HEADER_BYTES)
            return;
        frame_encode(&header, bytes);
        step = FRAME_HEADER_BYTES + header.message_bytes + header.payload_bytes;
        if (step > len_bytes)
            return;
        bytes += step;
        len_bytes -= step;
    }
}

static size_t fuzz_receive(struct fuzz_stream *stream, const struct iovec *room, int count,
                           size_t piece_bytes)
{
    size_t given = 0;

    for (int i = 0; i < count; i++) {
        size_t bytes = room[i].iov_len;

        if (bytes > piece_bytes - given)
            bytes = piece_bytes - given;
        if (bytes > stream->left_bytes)
            bytes = stream->left_bytes;
        memcpy(room[i].iov_base, stream->bytes, bytes);
        stream->bytes += bytes;
        stream->left_bytes -= bytes;
        given += bytes;
    }
    return given;
}

/* false: the peer broke the rules. */
static bool fuzz_parse(struct rpc_in *in, uint8_t **payload)
{
    enum rpc_in_event event;

    for (;;) {
        if (rpc_in_next(in, &event))
            return false;
        if (event == RPC_IN_MORE)
            return true;
        free(*payload);
        *payload = NULL;
        if (event == RPC_IN_PAYLOAD)
            continue;
        if (in->head.message_bytes)
            assert(rpc_in_message(in)[in->head.message_bytes - 1] <= 255);
        if (in->head.payload_bytes && in->frames % 3)
            *payload = malloc(in->head.payload_bytes);
        rpc_in_accept(in, *payload);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    struct iovec room[RPC_IN_ROOM_MAX];
    struct fuzz_stream stream;
    uint8_t *copy, *payload = NULL;
    size_t piece_bytes;
    struct rpc_in in;
    bool ok = true;
    int count;

    if (len_bytes == 0)
        return 0;
    piece_bytes = (size_t)1 << (data[0] >> 1) % 20;
    copy = malloc(len_bytes);
    memcpy(copy, data + 1, len_bytes - 1);
    if (data[0] & 1)
        fuzz_seal(copy, len_bytes - 1);
    stream = (struct fuzz_stream){.bytes = copy, .left_bytes = len_bytes - 1};
    rpc_in_init(&in);
    while (ok && stream.left_bytes > 0 && !rpc_in_room(&in, room, &count)) {
        rpc_in_filled(&in, fuzz_receive(&stream, room, count, piece_bytes));
        ok = fuzz_parse(&in, &payload);
        rpc_in_trim(&in);
    }
    rpc_in_release(&in);
    free(payload);
    free(copy);
    return 0;
}
