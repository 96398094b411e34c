/* store: its pure parts: records, extents, the table of chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "chunkserver/store_index.h"
#include "chunkserver/store_map.h"
#include "chunkserver/store_record.h"
#include "chunkserver/store_table.h"
#include "gfs_limits.h"

static void records_come_back_and_no_flipped_bit_passes(void **state)
{
    struct store_record record = {
        .seq = 0x0102030405060708,
        .kind = STORE_RECORD_WRITE,
        .flags = STORE_RECORD_MOVED | STORE_RECORD_CORRUPT,
        .handle = 0xfedcba9876543210,
        .serial = 77,
        .prev_seq = 5,
        .as_of = 6,
        .family = 7,
        .source = 8,
        .version = 9,
        .chunk_length = 70000,
        .offset_bytes = 65536 + 10,
        .length_bytes = 100,
        .data_crc = 0xdeadbeef,
    };
    uint8_t key[STORE_RECORD_KEY_BYTES];
    struct store_record back;
    memset(&back, 0, sizeof(back));
    store_record_encode(&record, key);
    assert_int_equal(store_record_decode(key, sizeof(key), &back), GFS_OK);
    assert_int_equal(back.seq, record.seq);
    assert_int_equal(back.kind, record.kind);
    assert_int_equal(back.flags, record.flags);
    assert_int_equal(back.handle, record.handle);
    assert_int_equal(back.serial, record.serial);
    assert_int_equal(back.prev_seq, record.prev_seq);
    assert_int_equal(back.as_of, record.as_of);
    assert_int_equal(back.family, record.family);
    assert_int_equal(back.source, record.source);
    assert_int_equal(back.version, record.version);
    assert_int_equal(back.chunk_length, record.chunk_length);
    assert_int_equal(back.offset_bytes, record.offset_bytes);
    assert_int_equal(back.length_bytes, record.length_bytes);
    assert_int_equal(back.data_crc, record.data_crc);
    assert_int_equal(store_record_decode(key, sizeof(key) - 1, &back), GFS_ERR_CORRUPT);
    for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(store_record_decode(key, sizeof(key), &back), GFS_ERR_CORRUPT);
        key[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void records_that_break_a_limit_are_refused(void **state)
{
    struct store_record record = {.seq = 1, .kind = STORE_RECORD_WRITE};
    uint8_t key[STORE_RECORD_KEY_BYTES];
    record.offset_bytes = 65535;
    record.length_bytes = 2;
    store_record_encode(&record, key);
    assert_int_equal(store_record_decode(key, sizeof(key), &record), GFS_ERR_CORRUPT);
    record.length_bytes = 1;
    record.chunk_length = GFS_CHUNK_SIZE_MAX_BYTES + 1;
    store_record_encode(&record, key);
    assert_int_equal(store_record_decode(key, sizeof(key), &record), GFS_ERR_CORRUPT);
}

/* Extents against a plain array that says which record each byte comes from. */
#define SPAN 200
static void extents_agree_with_a_map_of_bytes(void **state)
{
    static struct store_extent extents[STORE_EXTENTS_MAX];
    unsigned seed = 3;
    for (int round = 0; round < 200; round++) {
        uint64_t map[SPAN] = {0};
        size_t count = 0;
        for (uint64_t seq = 1; seq <= 60; seq++) {
            uint32_t start = (uint32_t)rand_r(&seed) % SPAN;
            uint32_t length = 1 + (uint32_t)rand_r(&seed) % (SPAN - start);
            if (rand_r(&seed) % 3 != 0)
                length = 1 + length % 10;
            length = length < SPAN - start ? length : SPAN - start;
            if (rand_r(&seed) % 10 == 0) {
                uint64_t before = seq - (uint64_t)(rand_r(&seed) % 5);
                count = store_extents_cut(extents, count, start, before);
                for (uint32_t i = start; i < SPAN; i++)
                    map[i] = map[i] < before ? 0 : map[i];
            } else {
                count = store_extents_overlay(extents, count,
                                              (struct store_extent){seq, start, length});
                assert_true(count > 0);
                for (uint32_t i = start; i < start + length; i++)
                    map[i] = seq;
            }
            uint32_t at = 0;
            for (size_t i = 0; i < count; i++) {
                for (; at < extents[i].start_bytes; at++)
                    assert_int_equal(map[at], 0);
                assert_int_equal(at, extents[i].start_bytes);
                assert_true(extents[i].length_bytes > 0);
                for (; at < extents[i].start_bytes + extents[i].length_bytes; at++)
                    assert_int_equal(map[at], extents[i].seq);
            }
            for (; at < SPAN; at++)
                assert_int_equal(map[at], 0);
        }
    }
}

static void the_table_agrees_with_a_plain_array(void **state)
{
    static bool there[3000];
    struct store_table table;
    store_table_init(&table);
    assert_null(store_table_at_least(&table, 0));
    unsigned seed = 9;
    size_t count = 0;
    for (int step = 0; step < 40000; step++) {
        uint64_t handle = (uint64_t)rand_r(&seed) % 3000;
        if (rand_r(&seed) % 3 != 0) {
            struct store_entry entry = {.handle = handle, .family = handle / 2, .version = 4};
            assert_int_equal(store_table_put(&table, &entry), GFS_OK);
            count += !there[handle];
            there[handle] = true;
        } else {
            store_table_remove(&table, handle);
            count -= there[handle];
            there[handle] = false;
        }
        assert_int_equal(table.count, count);
    }
    size_t copies = 0;
    const struct store_entry *entry = store_table_at_least(&table, 0);
    for (uint64_t handle = 0; handle < 3000; handle++) {
        assert_int_equal(store_table_find(&table, handle) != NULL, there[handle]);
        if (!there[handle])
            continue;
        assert_non_null(entry);
        assert_int_equal(entry->handle, handle);
        copies += handle / 2 != handle;
        entry = store_table_at_least(&table, handle + 1);
    }
    assert_null(entry);
    assert_int_equal(table.copy_count, copies);
    store_table_release(&table);
}

/* Enough blocks for several parts, of one to a few extents. */
static void a_map_of_extents_comes_back_part_by_part(void **state)
{
    enum { BLOCKS = 16384 };
    struct store_map map = {0};
    static struct store_extent made[BLOCKS][3];
    static size_t counts[BLOCKS];
    unsigned seed = 4;
    for (uint32_t block = 0; block < BLOCKS; block++) {
        counts[block] = block % 5 == 4 ? 0 : 1 + block % 3;
        for (size_t i = 0; i < counts[block]; i++)
            made[block][i] =
                (struct store_extent){.seq = (uint64_t)rand_r(&seed) << (block % 30),
                                      .start_bytes = (uint32_t)(i * 20000),
                                      .length_bytes = 1 + (uint32_t)rand_r(&seed) % 20000};
        if (counts[block] > 0)
            assert_int_equal(store_map_add(&map, block, made[block], counts[block]), GFS_OK);
    }
    size_t parts = store_map_parts(&map), seen = 0;
    assert_true(parts > 1);
    for (size_t part = 0; part < parts; part++) {
        uint32_t len, block;
        const uint8_t *bytes = store_map_part(&map, part, &len);
        assert_true(len <= STORE_MAP_PART_BYTES);
        static struct store_extent extents[STORE_EXTENTS_MAX];
        struct store_map_reader reader;
        size_t count;
        store_map_read(&reader, bytes, len);
        while (store_map_next(&reader, &block, extents, &count) == GFS_OK) {
            assert_int_equal(count, counts[block]);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(extents[i].seq, made[block][i].seq);
                assert_int_equal(extents[i].start_bytes, made[block][i].start_bytes);
                assert_int_equal(extents[i].length_bytes, made[block][i].length_bytes);
            }
            seen++;
        }
        /* Cut anywhere it ends, or is seen to be damaged: nothing is read behind its end. */
        for (uint32_t cut = 0; cut < len && cut < 300; cut++) {
            store_map_read(&reader, bytes, cut);
            while (store_map_next(&reader, &block, extents, &count) == GFS_OK)
                assert_true(count <= STORE_EXTENTS_MAX);
        }
    }
    assert_int_equal(seen, BLOCKS - BLOCKS / 5);
    store_map_release(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_and_no_flipped_bit_passes),
        cmocka_unit_test(records_that_break_a_limit_are_refused),
        cmocka_unit_test(extents_agree_with_a_map_of_bytes),
        cmocka_unit_test(the_table_agrees_with_a_plain_array),
        cmocka_unit_test(a_map_of_extents_comes_back_part_by_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
