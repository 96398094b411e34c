/* Chunkservers come, fall silent, come back; two must not share a UUID. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "master/registry.h"

#define DEAD_MS 10000u

static struct registry registry;
static int links[8]; /* their addresses stand for connections */

static int setup(void **state)
{
    registry_init(&registry, DEAD_MS);
    return 0;
}

static int teardown(void **state)
{
    registry_release(&registry);
    return 0;
}

static enum gfs_err claim(uint8_t id, const char *addr, const char *rack, void *link,
                          uint64_t now_ms, struct registry_server **ret_server, void **ret_old)
{
    uint8_t uuid[GFS_UUID_BYTES] = {id};
    struct registry_claim args = {
        .uuid = uuid, .addr = addr, .rack = rack, .version = "1", .link = link};
    return registry_register(&registry, &args, now_ms, ret_server, ret_old);
}

static enum gfs_err beat(uint8_t id, const void *link, uint64_t now_ms)
{
    uint8_t uuid[GFS_UUID_BYTES] = {id};
    struct registry_load load = {.capacity_bytes = 100, .used_bytes = 40};
    struct registry_server *server;
    return registry_heartbeat(&registry, uuid, link, &load, now_ms, &server);
}

static void slot_stays_with_its_uuid(void **state)
{
    struct registry_server *a, *b, *again;
    void *old;
    assert_int_equal(claim(1, "h:1", "r1", &links[0], 0, &a, &old), GFS_OK);
    assert_null(old);
    assert_int_equal(claim(2, "h:2", "r1", &links[1], 0, &b, &old), GFS_OK);
    assert_int_not_equal(a->slot, b->slot);
    assert_int_equal(a->rack_id, b->rack_id);
    assert_ptr_equal(registry_disconnect(&registry, &links[0]), a);
    assert_false(registry_is_up(&registry, a->slot));
    assert_int_equal(registry.up_count, 1);
    uint16_t slot = a->slot;
    assert_int_equal(claim(1, "other:9", "r2", &links[2], 5, &again, &old), GFS_OK);
    assert_int_equal(again->slot, slot);
    assert_string_equal(again->addr, "other:9");
    assert_int_not_equal(again->rack_id, b->rack_id);
    assert_int_equal(registry.count, 2);
}

static void second_server_with_the_uuid_is_refused(void **state)
{
    struct registry_server *server;
    void *old;
    assert_int_equal(claim(1, "h:1", "", &links[0], 0, &server, &old), GFS_OK);
    assert_int_equal(claim(1, "h:2", "", &links[1], 100, &server, &old), GFS_ERR_BUSY);
    assert_int_equal(beat(1, &links[1], 100), GFS_ERR_UNKNOWN_SERVER);
    assert_int_equal(beat(1, &links[0], 100), GFS_OK);
    /* Once the first is silent its place is free. */
    assert_int_equal(claim(1, "h:2", "", &links[1], 100 + DEAD_MS + 1, &server, &old), GFS_OK);
    assert_ptr_equal(old, &links[0]);
    assert_int_equal(registry.up_count, 1);
    assert_int_equal(beat(1, &links[0], 100 + DEAD_MS + 2), GFS_ERR_UNKNOWN_SERVER);
}

static void same_address_is_the_same_server_started_again(void **state)
{
    struct registry_server *server;
    void *old;
    assert_int_equal(claim(1, "h:1", "", &links[0], 0, &server, &old), GFS_OK);
    assert_int_equal(claim(1, "h:1", "", &links[1], 10, &server, &old), GFS_OK);
    assert_ptr_equal(old, &links[0]);
    /* The end of the old connection is no news any more. */
    assert_null(registry_disconnect(&registry, &links[0]));
    assert_true(registry_is_up(&registry, server->slot));
}

static void silent_servers_are_found(void **state)
{
    struct registry_server *server;
    void *old;
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(claim(i + 1, "h:1", "", &links[i], 0, &server, &old), GFS_OK);
    }
    assert_int_equal(beat(2, &links[1], 5000), GFS_OK);
    size_t cursor = 0;
    assert_null(registry_next_silent(&registry, DEAD_MS, &cursor));
    cursor = 0;
    assert_int_equal(registry_next_silent(&registry, DEAD_MS + 1, &cursor)->uuid[0], 1);
    assert_int_equal(registry_next_silent(&registry, DEAD_MS + 1, &cursor)->uuid[0], 3);
    assert_null(registry_next_silent(&registry, DEAD_MS + 1, &cursor));
}

static void doubt_passes_with_heartbeats(void **state)
{
    struct registry_server *server;
    void *old;
    assert_int_equal(claim(1, "h:1", "", &links[0], 0, &server, &old), GFS_OK);
    registry_doubt(&registry, server->slot);
    registry_doubt(&registry, 999); /* nobody */
    assert_true(server->doubts > 0);
    for (uint32_t i = 0; i < REGISTRY_DOUBTS; i++) {
        assert_int_equal(beat(1, &links[0], i), GFS_OK);
    }
    assert_int_equal(server->doubts, 0);
    assert_int_equal(server->load.used_bytes, 40);
}

static void servers_are_bounded(void **state)
{
    struct registry_server *server;
    void *old;
    for (uint32_t i = 0; i <= REGISTRY_SERVERS_MAX; i++) {
        uint8_t uuid[GFS_UUID_BYTES] = {1, (uint8_t)i, (uint8_t)(i >> 8)};
        struct registry_claim args = {
            .uuid = uuid, .addr = "h:1", .rack = "", .version = "", .link = &links[0]};
        enum gfs_err err = registry_register(&registry, &args, 0, &server, &old);
        assert_int_equal(err, i < REGISTRY_SERVERS_MAX ? GFS_OK : GFS_ERR_TOO_LARGE);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(slot_stays_with_its_uuid),
        T(second_server_with_the_uuid_is_refused),
        T(same_address_is_the_same_server_started_again),
        T(silent_servers_are_found),
        T(doubt_passes_with_heartbeats),
        T(servers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
