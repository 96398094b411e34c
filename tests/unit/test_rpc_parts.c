/* rpc's pure parts: frame, table, arena, input parser, output queue, pending calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "frame.h"
#include "gfs_limits.h"
#include "master.pb-c.h"
#include "msg_arena.h"
#include "rpc.pb-c.h"
#include "rpc_calls.h"
#include "rpc_in.h"
#include "rpc_out.h"
#include "rpc_table.h"

/* ---- frame -------------------------------------------------------------------------------------
 */

static void make_frame(uint8_t *frame, uint16_t type, uint64_t id, const char *message,
                       uint32_t payload_bytes)
{
    struct frame_header header = {.version = GFS_PROTO_VERSION,
                                  .type = type,
                                  .id = id,
                                  .message_bytes = (uint32_t)strlen(message),
                                  .payload_bytes = payload_bytes,
                                  .timeout_ms = 1234};

    memcpy(frame + FRAME_HEADER_BYTES, message, strlen(message));
    frame_encode(&header, frame);
}

static void a_frame_stands_as_documented(void **state)
{
    /* magic, version, type, id, flags, reserved, sizes, timeout, reserved, crc */
    static const uint8_t head[36] = {'G', 'F', 'S', '1', 1,    0, 200, 0, 8, 7, 6, 5,
                                     4,   3,   2,   1,   0,    0, 0,   0, 3, 0, 0, 0,
                                     0,   0,   1,   0,   0xd2, 4, 0,   0, 0, 0, 0, 0};
    uint8_t frame[64];

    make_frame(frame, 200, 0x0102030405060708, "abc", 65536);
    assert_memory_equal(frame, head, sizeof(head));
}

static void a_flipped_bit_is_found(void **state)
{
    struct frame_header header, sane;
    uint8_t frame[64];

    make_frame(frame, 200, 42, "abcdef", 7);
    assert_int_equal(frame_decode(frame, &sane), GFS_OK);
    assert_int_equal(frame_check(frame, &sane), GFS_OK);
    for (size_t bit = 0; bit < 8 * (FRAME_HEADER_BYTES + 6); bit++) {
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(frame_decode(frame, &header) || header.message_bytes > 20 ||
                    frame_check(frame, &header));
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void oversize_and_unknown_flags_are_refused(void **state)
{
    struct frame_header header = {.version = 1, .type = 1}, back;
    uint8_t frame[FRAME_HEADER_BYTES];
    struct frame_header bad = header;

    bad.message_bytes = 0;
    bad.payload_bytes = GFS_PAYLOAD_MAX_BYTES + 1;
    frame_encode(&bad, frame);
    assert_int_equal(frame_decode(frame, &back), GFS_ERR_PROTO);
    bad = header;
    bad.flags = 4;
    frame_encode(&bad, frame);
    assert_int_equal(frame_decode(frame, &back), GFS_ERR_PROTO);
    bad.flags = FRAME_FLAG_ERROR; /* an error that is no reply */
    frame_encode(&bad, frame);
    assert_int_equal(frame_decode(frame, &back), GFS_ERR_PROTO);
    frame_encode(&header, frame);
    frame[22] = 0xff; /* message bytes */
    assert_int_equal(frame_decode(frame, &back), GFS_ERR_PROTO);
}

/* ---- table and arena ---------------------------------------------------------------------------
 */

static void the_table_has_every_type_with_its_messages(void **state)
{
#define GFS_MSG(label, number, request_name, reply_name, roles)                       \
    assert_non_null(rpc_table_find(number));                                          \
    assert_string_equal(rpc_table_find(number)->name, #label);                        \
    assert_string_equal(rpc_table_find(number)->request->name, "gfs." #request_name); \
    assert_string_equal(rpc_table_find(number)->reply->name, "gfs." #reply_name);     \
    assert_int_equal(rpc_table_allows(rpc_table_find(number), GFS_ROLE_CLIENT),       \
                     strchr(roles, 'C') != NULL);                                     \
    assert_int_equal(rpc_table_allows(rpc_table_find(number), GFS_ROLE_CHUNKSERVER),  \
                     strchr(roles, 'S') != NULL);                                     \
    assert_int_equal(rpc_table_allows(rpc_table_find(number), GFS_ROLE_MASTER),       \
                     strchr(roles, 'M') != NULL);                                     \
    assert_false(rpc_table_allows(rpc_table_find(number), (enum gfs_role)0));
#include "gfs_msg.tbl"
#undef GFS_MSG
    assert_null(rpc_table_find(0));
    assert_null(rpc_table_find(255));
    assert_null(rpc_table_find(65535));
}

static void decoding_cannot_take_more_than_its_bound(void **state)
{
    size_t count = 100000;
    uint8_t *wire = calloc(count, 2);
    struct msg_arena arena;
    ProtobufCMessage *msg;

    for (size_t i = 0; i < count; i++)
        wire[2 * i] = 0x0a; /* field 1 of ReaddirReply, an empty DirEntry */
    msg_arena_init(&arena, NULL, 0, 1u << 20);
    msg = protobuf_c_message_unpack(&gfs__readdir_reply__descriptor, &arena.allocator, 2 * count,
                                    wire);
    assert_null(msg);
    assert_true(arena.used_bytes <= 1u << 20);
    msg_arena_release(&arena);
    msg_arena_init(&arena, NULL, 0, msg_arena_limit(2 * count));
    msg = protobuf_c_message_unpack(&gfs__readdir_reply__descriptor, &arena.allocator, 2 * 1000,
                                    wire);
    assert_non_null(msg);
    assert_int_equal(((Gfs__ReaddirReply *)msg)->n_entries, 1000);
    msg_arena_release(&arena);
    free(wire);
}

/* ---- input -------------------------------------------------------------------------------------
 */

#define STREAM_MAX (1u << 20)

struct stream {
    uint8_t bytes[STREAM_MAX];
    size_t len, fed;
    unsigned frames;
    uint64_t next_id;
    uint8_t payload[200000];
    bool wrong;
};

static void stream_add(struct stream *stream, const char *message, uint32_t payload_bytes)
{
    uint8_t *at = stream->bytes + stream->len;

    make_frame(at, 200, stream->frames, message, payload_bytes);
    at += FRAME_HEADER_BYTES + strlen(message);
    for (uint32_t i = 0; i < payload_bytes; i++)
        at[i] = (uint8_t)(i + stream->frames);
    stream->len += FRAME_HEADER_BYTES + strlen(message) + payload_bytes;
    stream->frames++;
}

static void stream_check_payload(struct stream *stream, const struct rpc_in *in)
{
    for (uint32_t i = 0; i < in->head.payload_bytes && in->head.id % 5 != 4; i++)
        if (stream->payload[i] != (uint8_t)(i + in->head.id))
            stream->wrong = true;
}

static enum gfs_err stream_feed(struct stream *stream, struct rpc_in *in, size_t step)
{
    struct iovec room[RPC_IN_ROOM_MAX];
    enum rpc_in_event event;
    size_t given = 0;
    int count;

    assert_int_equal(rpc_in_room(in, room, &count), GFS_OK);
    for (int i = 0; i < count && given < step && stream->fed < stream->len; i++) {
        size_t bytes = room[i].iov_len < step - given ? room[i].iov_len : step - given;

        if (bytes > stream->len - stream->fed)
            bytes = stream->len - stream->fed;
        memcpy(room[i].iov_base, stream->bytes + stream->fed, bytes);
        stream->fed += bytes;
        given += bytes;
    }
    rpc_in_filled(in, given);
    for (;;) {
        enum gfs_err err = rpc_in_next(in, &event);

        if (err || event == RPC_IN_MORE)
            return err;
        if (event == RPC_IN_PAYLOAD) {
            stream_check_payload(stream, in);
            continue;
        }
        assert_int_equal(rpc_in_next(in, &event), GFS_OK); /* looked at again: the same */
        assert_int_equal(event, RPC_IN_HEAD);
        assert_int_equal(in->head.id, stream->next_id);
        stream->next_id++;
        rpc_in_accept(in, in->head.id % 5 == 4 ? NULL : stream->payload);
    }
}

static void frames_come_out_whole_however_they_are_cut(void **state)
{
    static const size_t steps[] = {1, 3, 39, 40, 41, 100, 4096, 65536, 100000, STREAM_MAX};
    static char message[70000];
    struct stream *stream = calloc(1, sizeof(*stream));
    struct rpc_in in;

    memset(message, 'm', sizeof(message) - 1); /* longer than staging */
    for (int i = 0; i < 4; i++) {
        stream_add(stream, "", 0);
        stream_add(stream, "hello", 0);
        stream_add(stream, "small", 300);
        stream_add(stream, "large", 100000);
        stream_add(stream, "thrown away", 50000);
        if (i == 2)
            stream_add(stream, message, 20);
    }
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        stream->fed = 0;
        stream->next_id = 0;
        rpc_in_init(&in);
        while (stream->fed < stream->len) {
            assert_int_equal(stream_feed(stream, &in, steps[i]), GFS_OK);
            rpc_in_trim(&in);
        }
        assert_int_equal(stream->next_id, stream->frames);
        assert_int_equal(in.frames, stream->frames);
        assert_false(stream->wrong);
        assert_false(rpc_in_is_partial(&in));
        assert_null(in.staging);
        rpc_in_release(&in);
    }
    free(stream);
}

static void limits_of_the_moment_hold(void **state)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    struct rpc_in in;

    rpc_in_init(&in);
    in.message_max_bytes = 4;
    in.payload_max_bytes = 0;
    stream_add(stream, "four", 0);
    assert_int_equal(stream_feed(stream, &in, STREAM_MAX), GFS_OK);
    stream_add(stream, "longer", 0);
    assert_int_equal(stream_feed(stream, &in, STREAM_MAX), GFS_ERR_PROTO);
    rpc_in_release(&in);
    free(stream);
}

static void a_half_frame_is_partial(void **state)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    struct rpc_in in;

    rpc_in_init(&in);
    stream_add(stream, "abc", 1000);
    assert_false(rpc_in_is_partial(&in));
    assert_int_equal(stream_feed(stream, &in, 1), GFS_OK);
    assert_true(rpc_in_is_partial(&in));
    assert_int_equal(stream_feed(stream, &in, 500), GFS_OK);
    assert_true(rpc_in_is_partial(&in));
    assert_int_equal(stream_feed(stream, &in, STREAM_MAX), GFS_OK);
    assert_false(rpc_in_is_partial(&in));
    rpc_in_release(&in);
    free(stream);
}

/* ---- output ------------------------------------------------------------------------------------
 */

static int gone, released;

static void on_gone(struct rpc_out *out, void *arg)
{
    gone++;
}

static void on_released(void *arg)
{
    released++;
}

static void build_out(struct rpc_out *out, size_t message_bytes, const struct rpc_payload *payload)
{
    static uint8_t bytes[5000];
    struct frame_header header = {.version = 1, .type = 100};
    Gfs__LookupRequest msg = GFS__LOOKUP_REQUEST__INIT;

    msg.path.data = bytes;
    msg.path.len = message_bytes;
    out->on_gone = on_gone;
    assert_int_equal(rpc_out_build(out, RPC_OUT_CALL, &header, &msg.base, payload), GFS_OK);
    rpc_out_seal(out);
}

static void the_same_bytes_leave_however_the_socket_takes_them(void **state)
{
    static uint8_t expected[1 << 16], sent[1 << 16];
    struct rpc_piece pieces[4] = {{"aaaa", 4}, {"", 0}, {"bb", 2}, {"ccccccc", 7}};
    struct rpc_payload payload = {pieces, 4, on_released, NULL};

    for (size_t step = 1; step < 600; step += 7) {
        struct rpc_out outs[6];
        struct rpc_out_queue queue = {0};
        size_t len = 0, at = 0;

        gone = released = 0;
        for (size_t i = 0; i < 6; i++) {
            build_out(&outs[i], i * i * 40, i % 2 ? &payload : NULL);
            memcpy(expected + len, outs[i].head, outs[i].head_bytes);
            len += outs[i].head_bytes;
            if (i % 2) {
                memcpy(expected + len, "aaaabbccccccc", 13);
                len += 13;
            }
            rpc_out_push(&queue, &outs[i]);
        }
        assert_int_equal(queue.bytes, len);
        while (queue.first) {
            struct iovec iov[3];
            int count = rpc_out_iov(&queue, iov, 3, NULL);
            size_t left = step, moved = 0;

            for (int i = 0; i < count; i++) {
                size_t bytes = iov[i].iov_len < left ? iov[i].iov_len : left;

                memcpy(sent + at + moved, iov[i].iov_base, bytes);
                moved += bytes;
                left -= bytes;
            }
            assert_true(moved > 0);
            at += moved;
            rpc_out_sent(&queue, moved, NULL);
        }
        assert_int_equal(at, len);
        assert_memory_equal(sent, expected, len);
        assert_int_equal(gone, 6);
        assert_int_equal(released, 3);
        assert_int_equal(queue.bytes, 0);
    }
}

static void cancelled_frames_are_skipped_unless_begun(void **state)
{
    struct rpc_out outs[3];
    struct rpc_out_queue queue = {0};
    struct iovec iov[8];

    gone = 0;
    for (size_t i = 0; i < 3; i++) {
        build_out(&outs[i], 10, NULL);
        rpc_out_push(&queue, &outs[i]);
    }
    assert_int_equal(rpc_out_iov(&queue, iov, 8, NULL), 3);
    rpc_out_sent(&queue, 5, NULL);
    outs[0].is_cancelled = outs[1].is_cancelled = true;
    assert_int_equal(rpc_out_iov(&queue, iov, 8, NULL), 3);
    assert_ptr_equal(iov[0].iov_base, outs[0].head + 5);
    rpc_out_sent(&queue, outs[0].bytes - 5, NULL);
    assert_int_equal(gone, 1);
    assert_int_equal(rpc_out_iov(&queue, iov, 8, NULL), 1);
    assert_int_equal(gone, 2);
    assert_ptr_equal(iov[0].iov_base, outs[2].head);
    rpc_out_drop(&queue, NULL);
    assert_int_equal(gone, 3);
    assert_int_equal(queue.bytes, 0);
}

static void too_much_is_not_built_and_not_released(void **state)
{
    static uint8_t bytes[GFS_MESSAGE_MAX_BYTES];
    struct rpc_piece pieces[2] = {{bytes, SIZE_MAX}, {bytes, 2}};
    struct rpc_payload payload = {pieces, 2, on_released, NULL};
    struct frame_header header = {.version = 1, .type = 100};
    Gfs__LookupRequest msg = GFS__LOOKUP_REQUEST__INIT;
    struct rpc_out out;

    released = 0;
    assert_int_equal(rpc_out_build(&out, RPC_OUT_CALL, &header, &msg.base, &payload),
                     GFS_ERR_TOO_LARGE);
    rpc_out_release(&out);
    msg.path.data = bytes;
    msg.path.len = sizeof(bytes);
    payload.piece_count = 0;
    assert_int_equal(rpc_out_build(&out, RPC_OUT_CALL, &header, &msg.base, &payload),
                     GFS_ERR_TOO_LARGE);
    rpc_out_release(&out);
    assert_int_equal(released, 0);
}

/* ---- pending calls -----------------------------------------------------------------------------
 */

static void calls_expire_in_time_and_never_early(void **state)
{
    static const uint64_t timeouts_ms[] = {1, 49, 50, 51, 1000, 12799, 12800, 12801, 30000, 600000};
    enum { COUNT = sizeof(timeouts_ms) / sizeof(timeouts_ms[0]) };
    struct rpc_calls *calls = calloc(1, sizeof(*calls));
    struct rpc_call list[COUNT], *call;
    uint64_t begin_ms = 123456, now_ms;
    size_t expired = 0;

    for (size_t i = 0; i < COUNT; i++) {
        list[i].out.header.id = i + 1;
        list[i].deadline_ms = begin_ms + timeouts_ms[i];
        assert_int_equal(rpc_calls_add(calls, &list[i], begin_ms), GFS_OK);
    }
    for (now_ms = begin_ms; expired < COUNT; now_ms += 13) {
        assert_true(now_ms < begin_ms + 700000);
        while ((call = rpc_calls_expire(calls, now_ms))) {
            assert_true(call->deadline_ms <= now_ms);
            assert_true(now_ms <= call->deadline_ms + RPC_CALLS_TICK_MS + 13);
            expired++;
        }
    }
    assert_int_equal(calls->count, 0);
    free(calls);
}

static void a_late_look_finds_all_that_expired(void **state)
{
    struct rpc_calls *calls = calloc(1, sizeof(*calls));
    struct rpc_call *list = calloc(1000, sizeof(*list));
    size_t expired = 0;

    for (size_t i = 0; i < 1000; i++) {
        list[i].out.header.id = i;
        list[i].deadline_ms = 1000 + i * 37;
        assert_int_equal(rpc_calls_add(calls, &list[i], 1000), GFS_OK);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_ptr_equal(rpc_calls_find(calls, i), &list[i]);
    assert_null(rpc_calls_find(calls, 1000));
    for (size_t i = 0; i < 1000; i += 2)
        rpc_calls_remove(calls, &list[i]);
    assert_null(rpc_calls_find(calls, 500));
    while (rpc_calls_expire(calls, 1000000))
        expired++;
    assert_int_equal(expired, 500);
    assert_null(rpc_calls_pop(calls));
    free(list);
    free(calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_stands_as_documented),
        cmocka_unit_test(a_flipped_bit_is_found),
        cmocka_unit_test(oversize_and_unknown_flags_are_refused),
        cmocka_unit_test(the_table_has_every_type_with_its_messages),
        cmocka_unit_test(decoding_cannot_take_more_than_its_bound),
        cmocka_unit_test(frames_come_out_whole_however_they_are_cut),
        cmocka_unit_test(limits_of_the_moment_hold),
        cmocka_unit_test(a_half_frame_is_partial),
        cmocka_unit_test(the_same_bytes_leave_however_the_socket_takes_them),
        cmocka_unit_test(cancelled_frames_are_skipped_unless_begun),
        cmocka_unit_test(too_much_is_not_built_and_not_released),
        cmocka_unit_test(calls_expire_in_time_and_never_early),
        cmocka_unit_test(a_late_look_finds_all_that_expired),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
