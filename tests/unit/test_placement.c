/* Where new chunks go: racks, distinct servers, free space, who is left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "master/placement.h"

#define GIB (1ull << 30)

static struct registry registry;
static uint64_t random_state;
static uint16_t slots[GFS_GOAL_MAX];

static int setup(void **state)
{
    registry_init(&registry, 10000);
    random_state = 42;
    return 0;
}

static int teardown(void **state)
{
    registry_release(&registry);
    return 0;
}

static struct registry_server *add(const char *rack, uint64_t free_bytes)
{
    static int link;
    uint8_t uuid[GFS_UUID_BYTES] = {(uint8_t)(registry.count + 1)};
    struct registry_claim args = {
        .uuid = uuid,
        .addr = "h:1",
        .rack = rack,
        .version = "",
        .load = {.capacity_bytes = free_bytes + GIB, .used_bytes = GIB},
        .link = &link,
    };
    struct registry_server *server;
    void *old;
    assert_int_equal(registry_register(&registry, &args, 0, &server, &old), GFS_OK);
    return server;
}

static size_t choose(uint32_t goal)
{
    struct placement_want want = {.goal = goal};
    return placement_choose(&registry, &want, &random_state, slots);
}

static void every_replica_has_its_own_server(void **state)
{
    for (int i = 0; i < 5; i++) {
        add("r", 100 * GIB);
    }
    for (int round = 0; round < 200; round++) {
        uint32_t seen = 0;
        assert_int_equal(choose(5), 5);
        for (int i = 0; i < 5; i++) {
            seen |= 1u << slots[i];
        }
        assert_int_equal(seen, 0x1f);
    }
}

static void goal_above_the_servers_gives_what_there_is(void **state)
{
    assert_int_equal(choose(3), 0);
    add("r", GIB);
    add("r", GIB);
    assert_int_equal(choose(3), 2);
    assert_int_equal(choose(GFS_GOAL_MAX), 2);
}

static void racks_come_first(void **state)
{
    for (int i = 0; i < 6; i++) {
        add("big", 1000 * GIB);
    }
    add("b", GIB);
    add("c", GIB);
    for (int round = 0; round < 200; round++) {
        assert_int_equal(choose(3), 3);
        uint16_t a = registry.servers[slots[0]]->rack_id;
        uint16_t b = registry.servers[slots[1]]->rack_id;
        uint16_t c = registry.servers[slots[2]]->rack_id;
        assert_true(a != b && a != c && b != c);
    }
}

static void unfit_servers_get_nothing(void **state)
{
    add("r", GIB)->load.read_only = true;
    add("r", GIB)->up = false;
    struct registry_server *excluded = add("r", GIB);
    struct registry_server *fit = add("r", GIB);
    struct placement_want want = {.goal = 3, .exclude = &excluded->slot, .exclude_count = 1};
    assert_int_equal(placement_choose(&registry, &want, &random_state, slots), 1);
    assert_int_equal(slots[0], fit->slot);
}

static void doubtful_servers_are_the_last_resort(void **state)
{
    struct registry_server *doubtful = add("r", GIB);
    struct registry_server *fit = add("r", GIB);
    registry_doubt(&registry, doubtful->slot);
    assert_int_equal(choose(3), 1);
    assert_int_equal(slots[0], fit->slot);
    fit->up = false;
    assert_int_equal(choose(3), 1);
    assert_int_equal(slots[0], doubtful->slot);
}

static void free_space_weighs(void **state)
{
    add("r", 30 * GIB);
    add("r", 10 * GIB);
    int hits[2] = {0};
    for (int i = 0; i < 8000; i++) {
        assert_int_equal(choose(1), 1);
        hits[slots[0]]++;
    }
    /* 6000 expected; 5 standard deviations are about 200. */
    assert_in_range(hits[0], 5800, 6200);
}

static void recent_creations_weigh(void **state)
{
    add("r", 1000 * GIB); /* new and empty */
    for (int i = 0; i < 4; i++) {
        add("r", 100 * GIB);
    }
    int hits[5] = {0};
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(choose(1), 1);
        hits[slots[0]]++;
        placement_note(&registry, slots[0]);
    }
    /* By space alone it would be 3571; with what it got lately counted, shares move together. */
    assert_true(hits[0] < 3000);
    assert_true(hits[0] > hits[1]);
    uint32_t before = registry.servers[0]->recent;
    registry_decay(&registry);
    assert_int_equal(registry.servers[0]->recent, before / 2);
}

static void same_seed_same_choice(void **state)
{
    uint16_t first[50];
    for (int i = 0; i < 7; i++) {
        add("r", GIB);
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(choose(1), 1);
        first[i] = slots[0];
    }
    random_state = 42;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(choose(1), 1);
        assert_int_equal(slots[0], first[i]);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_replica_has_its_own_server),
        T(goal_above_the_servers_gives_what_there_is),
        T(racks_come_first),
        T(unfit_servers_get_nothing),
        T(doubtful_servers_are_the_last_resort),
        T(free_space_weighs),
        T(recent_creations_weigh),
        T(same_seed_same_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
