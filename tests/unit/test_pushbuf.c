/* pushbuf: what is let in, in which order, and what gives way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/pushbuf.h"
#include "crc.h"

#define MIB (1u << 20)

static const struct pushbuf_limits limits = {.bytes_max = 4 * MIB,
                                             .entries_max = 8,
                                             .evict_ms = 100,
                                             .expire_ms = 1000};

/* A part of data whose byte at position p is p * 31 + seed, with right CRCs. */
struct made {
    struct pushbuf_part part;
    uint32_t crcs[80];
};

static void make_part(struct made *made, uint8_t id, uint32_t offset, uint32_t len, uint32_t total,
                      uint32_t first_block)
{
    uint32_t at = 0;

    memset(made, 0, sizeof *made);
    made->part.id[0] = id;
    made->part.offset_bytes = offset;
    made->part.total_bytes = total;
    made->part.first_block_bytes = first_block;
    made->part.buf = buf_new(len);
    assert_non_null(made->part.buf);
    made->part.buf->len_bytes = len;
    for (uint32_t i = 0; i < len; i++)
        made->part.buf->data[i] = (uint8_t)((offset + i) * 31 + id);
    made->part.crcs = made->crcs;
    while (at < len) {
        uint32_t pos = offset + at;
        uint32_t room = pos < first_block
                            ? first_block - pos
                            : GFS_BLOCK_SIZE_BYTES - (pos - first_block) % GFS_BLOCK_SIZE_BYTES;
        uint32_t piece = len - at < room ? len - at : room;

        made->crcs[made->part.crc_count++] = crc32c(0, made->part.buf->data + at, piece);
        at += piece;
    }
}

static enum gfs_err add(struct pushbuf *pushbuf, uint8_t id, uint32_t offset, uint32_t len,
                        uint32_t total, uint32_t first_block, uint64_t now_ms)
{
    struct made made;
    enum gfs_err err;

    make_part(&made, id, offset, len, total, first_block);
    err = pushbuf_add(pushbuf, &made.part, now_ms);
    buf_unref(made.part.buf);
    return err;
}

static enum gfs_err pin(struct pushbuf *pushbuf, uint8_t id, uint64_t now_ms,
                        struct pushbuf_data **ret_data)
{
    uint8_t full[PUSHBUF_ID_BYTES] = {id};

    return pushbuf_pin(pushbuf, full, now_ms, ret_data);
}

static void check_data(const struct pushbuf_data *data, uint8_t id, uint32_t total)
{
    size_t count;
    const struct store_piece *pieces = pushbuf_data_pieces(data, &count);
    uint32_t at = 0;

    for (size_t i = 0; i < count; i++) {
        const uint8_t *bytes = pieces[i].data;

        assert_int_equal(crc32c(0, bytes, pieces[i].length_bytes), pieces[i].crc);
        assert_int_equal(bytes[0], (uint8_t)(at * 31 + id));
        at += pieces[i].length_bytes;
    }
    assert_int_equal(at, total);
}

static void parts_in_any_order_make_the_whole(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;
    uint32_t total = 1000 + 5 * 65536 + 77;

    assert_int_equal(add(pushbuf, 1, 1000 + 2 * 65536, 3 * 65536 + 77, total, 1000, 0), GFS_OK);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_ERR_NO_DATA);
    assert_int_equal(add(pushbuf, 1, 0, 1000 + 65536, total, 1000, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 1, 1000 + 65536, 65536, total, 1000, 0), GFS_OK);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_OK);
    assert_int_equal(pushbuf_data_bytes(data), total);
    check_data(data, 1, total);
    assert_true(pushbuf_data_fits(data, 65536 - 1000));
    assert_true(pushbuf_data_fits(data, 3 * 65536 - 1000));
    assert_false(pushbuf_data_fits(data, 65536 - 999));
    assert_false(pushbuf_data_fits(data, 0));
    pushbuf_done(pushbuf, data);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_ERR_NO_DATA);
    pushbuf_free(pushbuf);
}

static void data_within_a_block_fits_where_it_crosses_none(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;

    assert_int_equal(add(pushbuf, 1, 0, 100, 100, 65536, 0), GFS_OK);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_OK);
    assert_true(pushbuf_data_fits(data, 0));
    assert_true(pushbuf_data_fits(data, 65536 - 100));
    assert_false(pushbuf_data_fits(data, 65536 - 99));
    pushbuf_done(pushbuf, data);
    pushbuf_free(pushbuf);
}

static void repeated_and_overlapping_parts_are_harmless(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;
    struct pushbuf_stat stat;
    uint32_t total = 4 * 65536;

    for (int i = 0; i < 3; i++)
        assert_int_equal(add(pushbuf, 1, 0, 2 * 65536, total, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 1, 65536, 3 * 65536, total, 65536, 0), GFS_OK);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.bytes, total);
    assert_int_equal(stat.entries, 1);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_OK);
    check_data(data, 1, total);
    assert_int_equal(add(pushbuf, 1, 0, total, total, 65536, 0), GFS_OK);
    pushbuf_unpin(pushbuf, data, 0);
    pushbuf_free(pushbuf);
}

static void the_same_id_with_other_bytes_is_refused(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct made made;

    assert_int_equal(add(pushbuf, 1, 0, 65536, 2 * 65536, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 1, 0, 65536, 3 * 65536, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 0, 1000, 2 * 65536, 1000, 0), GFS_ERR_INVAL);
    make_part(&made, 1, 0, 65536, 2 * 65536, 65536);
    made.part.buf->data[5] ^= 1;
    made.crcs[0] = crc32c(0, made.part.buf->data, 65536);
    assert_int_equal(pushbuf_add(pushbuf, &made.part, 0), GFS_ERR_INVAL);
    buf_unref(made.part.buf);
    pushbuf_free(pushbuf);
}

static void one_flipped_bit_is_refused_and_not_kept(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_stat stat;
    struct made made;

    make_part(&made, 1, 0, 3 * 65536, 3 * 65536, 65536);
    made.part.buf->data[2 * 65536 + 9] ^= 4;
    assert_int_equal(pushbuf_add(pushbuf, &made.part, 0), GFS_ERR_CORRUPT);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.entries, 0);
    assert_int_equal(made.part.buf->refs, 1);
    buf_unref(made.part.buf);
    pushbuf_free(pushbuf);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct made made;
    uint32_t total = 3 * 65536;

    assert_int_equal(add(pushbuf, 1, 10, 65526, total, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 0, 65535, total, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, total, 65536, total, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 2 * 65536, 2 * 65536, total, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, UINT32_MAX - 65535, 65536, total, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 0, 65536, 0, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 0, 65536, GFS_RECORD_MAX_BYTES + 1, 65536, 0), GFS_ERR_INVAL);
    assert_int_equal(add(pushbuf, 1, 0, 65537, total, 65537, 0), GFS_ERR_INVAL);
    make_part(&made, 1, 0, 65536, total, 65536);
    made.part.crc_count = 2;
    assert_int_equal(pushbuf_add(pushbuf, &made.part, 0), GFS_ERR_INVAL);
    made.part.crc_count = 0;
    assert_int_equal(pushbuf_add(pushbuf, &made.part, 0), GFS_ERR_INVAL);
    made.part.crc_count = 1;
    made.part.first_block_bytes = 0;
    assert_int_equal(pushbuf_add(pushbuf, &made.part, 0), GFS_ERR_INVAL);
    buf_unref(made.part.buf);
    pushbuf_free(pushbuf);
}

static void full_means_busy_until_the_oldest_may_go(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;

    /* The first parts take the room of the whole. */
    assert_int_equal(add(pushbuf, 1, 0, 65536, 2 * MIB, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 2, 0, 65536, 2 * MIB, 65536, 50), GFS_OK);
    assert_int_equal(add(pushbuf, 3, 0, 100, 100, 65536, 99), GFS_ERR_BUSY);
    assert_int_equal(add(pushbuf, 2, 65536, 65536, 2 * MIB, 65536, 99), GFS_OK);
    assert_int_equal(add(pushbuf, 3, 0, 100, 100, 65536, 100), GFS_OK);
    /* 1 went: its second part begins anew, and there is no room for it now. */
    assert_int_equal(add(pushbuf, 1, 65536, 65536, 2 * MIB, 65536, 100), GFS_ERR_BUSY);
    assert_int_equal(pin(pushbuf, 3, 100, &data), GFS_OK);
    pushbuf_unpin(pushbuf, data, 100);
    pushbuf_free(pushbuf);
}

static void what_was_used_last_stays_longest(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;

    assert_int_equal(add(pushbuf, 1, 0, 2 * MIB, 2 * MIB, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 2, 0, 2 * MIB, 2 * MIB, 65536, 1), GFS_OK);
    assert_int_equal(pin(pushbuf, 1, 2, &data), GFS_OK);
    pushbuf_unpin(pushbuf, data, 2);
    assert_int_equal(add(pushbuf, 3, 0, MIB, MIB, 65536, 110), GFS_OK);
    assert_int_equal(pin(pushbuf, 2, 110, &data), GFS_ERR_NO_DATA);
    assert_int_equal(pin(pushbuf, 1, 110, &data), GFS_OK);
    pushbuf_unpin(pushbuf, data, 110);
    pushbuf_free(pushbuf);
}

static void pinned_data_never_gives_way(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data, *again;
    struct pushbuf_stat stat;

    assert_int_equal(add(pushbuf, 1, 0, 4 * MIB, 4 * MIB, 65536, 0), GFS_OK);
    assert_int_equal(pin(pushbuf, 1, 0, &data), GFS_OK);
    assert_int_equal(add(pushbuf, 2, 0, 100, 100, 65536, 100000), GFS_ERR_BUSY);
    assert_int_equal(pin(pushbuf, 1, 100000, &again), GFS_OK);
    pushbuf_done(pushbuf, again);
    check_data(data, 1, 4 * MIB);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.bytes, 4 * MIB);
    pushbuf_unpin(pushbuf, data, 100000);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.bytes, 0);
    assert_int_equal(add(pushbuf, 2, 0, 100, 100, 65536, 100000), GFS_OK);
    pushbuf_free(pushbuf);
}

static void old_data_goes_without_need(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_stat stat;

    assert_int_equal(add(pushbuf, 1, 0, 100, 100, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 2, 0, 100, 100, 65536, 999), GFS_OK);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.entries, 2);
    assert_int_equal(add(pushbuf, 3, 0, 100, 100, 65536, 1000), GFS_OK);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.entries, 2);
    pushbuf_free(pushbuf);
}

static enum gfs_err add_on_its_way(struct pushbuf *pushbuf, uint8_t id, uint32_t offset,
                                   uint32_t len, uint32_t total, uint32_t hops_left)
{
    struct made made;
    enum gfs_err err;

    make_part(&made, id, offset, len, total, 65536);
    made.part.hops_left = hops_left;
    err = pushbuf_add(pushbuf, &made.part, 0);
    buf_unref(made.part.buf);
    return err;
}

static void the_end_of_a_chain_finds_room_when_its_beginning_does_not(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    uint32_t third = 4 * MIB / 3 / 65536 * 65536;

    assert_int_equal(add_on_its_way(pushbuf, 1, 0, third, third, 2), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 2, 0, third, third, 2), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 3, 0, MIB / 4, MIB / 4, 2), GFS_ERR_BUSY);
    assert_int_equal(add_on_its_way(pushbuf, 4, 0, MIB / 4, MIB / 4, 1), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 5, 0, MIB / 4, MIB / 4, 1), GFS_ERR_BUSY);
    assert_int_equal(add_on_its_way(pushbuf, 6, 0, MIB, MIB, 0), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 7, 0, MIB / 4, MIB / 4, 0), GFS_ERR_BUSY);
    pushbuf_free(pushbuf);
}

static void parts_behind_a_refused_one_take_no_room(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    uint8_t first[PUSHBUF_ID_BYTES] = {1};
    struct pushbuf_data *data;
    struct pushbuf_stat stat;

    assert_int_equal(add_on_its_way(pushbuf, 1, 0, 3 * MIB, 3 * MIB, 0), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 2, 0, MIB, 2 * MIB, 0), GFS_ERR_BUSY);
    pushbuf_drop(pushbuf, first);
    assert_int_equal(add_on_its_way(pushbuf, 2, MIB, MIB, 2 * MIB, 0), GFS_ERR_BUSY);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.bytes, 0);
    assert_int_equal(add_on_its_way(pushbuf, 2, 0, MIB, 2 * MIB, 0), GFS_OK);
    assert_int_equal(add_on_its_way(pushbuf, 2, MIB, MIB, 2 * MIB, 0), GFS_OK);
    assert_int_equal(pin(pushbuf, 2, 0, &data), GFS_OK);
    pushbuf_drop(pushbuf, (uint8_t[PUSHBUF_ID_BYTES]){2}); /* pinned: stays */
    check_data(data, 2, 2 * MIB);
    pushbuf_done(pushbuf, data);
    pushbuf_free(pushbuf);
}

/* The time is read before the lock is had: another thread's later time may be there first. */
static void what_a_later_clock_put_in_is_not_old(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_data *data;

    assert_int_equal(add(pushbuf, 1, 0, 4 * MIB, 4 * MIB, 65536, 1001), GFS_OK);
    assert_int_equal(add(pushbuf, 2, 0, 100, 100, 65536, 1000), GFS_ERR_BUSY);
    assert_int_equal(pin(pushbuf, 1, 1000, &data), GFS_OK);
    pushbuf_done(pushbuf, data);
    pushbuf_free(pushbuf);
}

static void old_data_goes_when_asked(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);
    struct pushbuf_stat stat;

    assert_int_equal(add(pushbuf, 1, 0, 65536, 65536, 65536, 0), GFS_OK);
    pushbuf_expire(pushbuf, limits.expire_ms - 1);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.entries, 1);
    pushbuf_expire(pushbuf, limits.expire_ms);
    pushbuf_stat(pushbuf, &stat);
    assert_int_equal(stat.entries, 0);
    assert_int_equal(stat.bytes, 0);
    pushbuf_free(pushbuf);
}

static void many_small_ones_are_bounded_by_number(void **state)
{
    struct pushbuf *pushbuf = pushbuf_new(&limits);

    for (uint8_t id = 0; id < 8; id++)
        assert_int_equal(add(pushbuf, id, 0, 1, 1, 65536, 0), GFS_OK);
    assert_int_equal(add(pushbuf, 8, 0, 1, 1, 65536, 0), GFS_ERR_BUSY);
    pushbuf_free(pushbuf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_in_any_order_make_the_whole),
        cmocka_unit_test(data_within_a_block_fits_where_it_crosses_none),
        cmocka_unit_test(repeated_and_overlapping_parts_are_harmless),
        cmocka_unit_test(the_same_id_with_other_bytes_is_refused),
        cmocka_unit_test(one_flipped_bit_is_refused_and_not_kept),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(full_means_busy_until_the_oldest_may_go),
        cmocka_unit_test(what_was_used_last_stays_longest),
        cmocka_unit_test(pinned_data_never_gives_way),
        cmocka_unit_test(old_data_goes_without_need),
        cmocka_unit_test(the_end_of_a_chain_finds_room_when_its_beginning_does_not),
        cmocka_unit_test(parts_behind_a_refused_one_take_no_room),
        cmocka_unit_test(what_a_later_clock_put_in_is_not_old),
        cmocka_unit_test(old_data_goes_when_asked),
        cmocka_unit_test(many_small_ones_are_bounded_by_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
