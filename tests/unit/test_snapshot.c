/* Snapshots and copies on write, through the master's service. */
#include "master_calls.h"

static enum gfs_err snapshot_as(const char *from, const char *to, const char *id)
{
    Gfs__SnapshotRequest msg = GFS__SNAPSHOT_REQUEST__INIT;
    msg.from = rig_bytes(from);
    msg.to = rig_bytes(to);
    msg.op_id = rig_bytes(id);
    return rig_do(GFS_MSG_SNAPSHOT, &msg);
}

static enum gfs_err snapshot(const char *from, const char *to)
{
    return snapshot_as(from, to, "");
}

struct seen {
    uint64_t handle;
    uint32_t version, length;
    uint64_t file_length;
    size_t replicas;
};

static struct seen look(uint64_t inode)
{
    Gfs__ChunksRequest msg = GFS__CHUNKS_REQUEST__INIT;
    struct rig_answer answer;
    msg.inode = inode;
    assert_int_equal(rig_call(GFS_MSG_CHUNKS, &msg, &answer), GFS_OK);
    const Gfs__ChunksReply *reply = (const void *)answer.msg;
    assert_int_equal(reply->n_chunks, 1);
    struct seen seen = {reply->chunks[0]->handle, reply->chunks[0]->version,
                        reply->chunks[0]->length, reply->attr->length,
                        reply->chunks[0]->n_replicas};
    rig_free_msg(&answer);
    return seen;
}

static int copies(void)
{
    int sum = 0;
    pthread_mutex_lock(&rig.lock);
    for (size_t i = 0; i < RIG_SERVERS; i++) {
        sum += rig.servers[i].copies;
    }
    pthread_mutex_unlock(&rig.lock);
    return sum;
}

static void fail_copies(size_t servers, enum gfs_err err)
{
    pthread_mutex_lock(&rig.lock);
    for (size_t i = 0; i < RIG_SERVERS; i++) {
        rig.servers[i].copy_err = i < servers ? err : GFS_OK;
    }
    pthread_mutex_unlock(&rig.lock);
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static void test_a_snapshot_ends_leases_and_the_next_write_copies(void **state)
{
    make_dir("/d");
    uint64_t file = make_file("/d/f");
    struct written first = write_file(file, 1000);
    struct rig_answer answer;
    Gfs__Lease *old;
    assert_int_equal(lease(file, &answer, &old), GFS_OK);
    assert_int_equal(snapshot("/d", "/s"), GFS_OK);
    assert_int_equal(copies(), 0);
    assert_false(rig_write(old, 2000)); /* fenced */
    assert_int_equal(commit(file, old->handle, old->version, 2000), GFS_ERR_STALE_VERSION);
    rig_free_msg(&answer);

    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s/f", &copy, &length), GFS_OK);
    assert_int_equal(length, 1000);
    assert_int_equal(look(copy).handle, first.handle);
    assert_int_equal(look(file).handle, first.handle);
    /* Even at the right version nothing makes a shared chunk longer. */
    assert_int_equal(commit(file, first.handle, look(file).version, 2000), GFS_ERR_STALE_VERSION);

    struct written second = write_file(file, 3000);
    assert_int_not_equal(second.handle, first.handle);
    assert_int_equal(second.family, first.handle);
    assert_int_equal(copies(), RIG_SERVERS);
    assert_int_equal(look(copy).handle, first.handle);
    assert_int_equal(look(copy).length, 1000);
    assert_int_equal(look(file).length, 3000);

    /* The last one that holds it writes it in place. */
    struct written third = write_file(copy, 1500);
    assert_int_equal(third.handle, first.handle);
    assert_int_equal(copies(), RIG_SERVERS);
    assert_int_equal(look(file).length, 3000);
}

static void test_a_snapshot_of_a_snapshot_outlives_both(void **state)
{
    uint64_t file = make_file("/f");
    struct written first = write_file(file, 1000);
    assert_int_equal(snapshot("/f", "/s1"), GFS_OK);
    assert_int_equal(snapshot("/s1", "/s2"), GFS_OK);
    uint64_t s1 = 0, s2 = 0, length = 0;
    assert_int_equal(lookup("/s1", &s1, &length), GFS_OK);
    assert_int_equal(lookup("/s2", &s2, &length), GFS_OK);
    struct written second = write_file(s1, 2000);
    assert_int_equal(second.family, first.handle);
    assert_int_equal(delete ("/f"), GFS_OK);
    assert_int_equal(look(s2).handle, first.handle);
    assert_int_equal(look(s2).length, 1000);
    struct written third = write_file(s2, 500);
    assert_int_equal(third.handle, first.handle); /* its own by now, though another made it */
    assert_int_equal(delete ("/s2"), GFS_OK);
    assert_int_equal(look(s1).length, 2000);
}

static void test_a_retry_finds_the_first_try_and_errors_change_nothing(void **state)
{
    make_dir("/d");
    make_file("/d/f");
    assert_int_equal(snapshot_as("/d", "/s", "0123456789abcdef"), GFS_OK);
    assert_int_equal(snapshot_as("/d", "/s", "0123456789abcdef"), GFS_OK);
    assert_int_equal(snapshot_as("/d", "/s", "0123456789abcdeg"), GFS_ERR_EXISTS);
    assert_int_equal(snapshot("/d", "/d/inside"), GFS_ERR_LOOP);
    assert_int_equal(snapshot("/", "/all"), GFS_ERR_LOOP);
    assert_int_equal(snapshot("/none", "/t"), GFS_ERR_NOT_FOUND);
    assert_int_equal(snapshot("/d", "/none/t"), GFS_ERR_NOT_FOUND);
    assert_int_equal(snapshot("/d", "/d/f/t"), GFS_ERR_NOT_DIR);
    assert_int_equal(snapshot("d", "/t"), GFS_ERR_BAD_PATH);
    assert_int_equal(snapshot("/d", ""), GFS_ERR_BAD_PATH);
    assert_int_equal(snapshot("/d", "/"), GFS_ERR_EXISTS);
    uint64_t inode, length;
    assert_int_equal(lookup("/t", &inode, &length), GFS_ERR_NOT_FOUND);
    assert_int_equal(lookup("/s/f", &inode, &length), GFS_OK);
}

static void test_leases_below_are_held_back_meanwhile(void **state)
{
    make_dir("/d");
    uint64_t file = make_file("/d/f");
    uint64_t other = make_file("/g");
    write_file(file, 1000);
    write_file(other, 1000);
    rig_hold_raises(true);
    Gfs__SnapshotRequest msg = GFS__SNAPSHOT_REQUEST__INIT;
    msg.from = rig_bytes("/d");
    msg.to = rig_bytes("/s");
    struct rig_answer answer, leased;
    Gfs__Lease *got;
    rig_begin(rig.client, GFS_MSG_SNAPSHOT, &msg, &answer);
    for (int i = 0; i < RIG_SERVERS; i++) {
        size_t held = 0;
        while (held == 0) {
            pthread_mutex_lock(&rig.lock);
            held = rig.servers[i].held_count;
            pthread_mutex_unlock(&rig.lock);
            poll(NULL, 0, 1);
        }
    }
    assert_int_equal(lease(file, &leased, &got), GFS_ERR_BUSY);
    assert_int_equal(lease(other, &leased, &got), GFS_OK);
    rig_free_msg(&leased);
    Gfs__TruncateRequest cut = GFS__TRUNCATE_REQUEST__INIT;
    cut.inode = file;
    cut.length = 10;
    assert_int_equal(rig_do(GFS_MSG_TRUNCATE, &cut), GFS_ERR_BUSY);
    rig_hold_raises(false);
    assert_int_equal(rig_end(&answer), GFS_OK);
    rig_free_msg(&answer);
    assert_int_equal(rig_do(GFS_MSG_TRUNCATE, &cut), GFS_OK);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s/f", &copy, &length), GFS_OK);
    assert_int_equal(length, 1000);
    assert_int_equal(look(copy).length, 1000);
    assert_int_equal(look(file).length, 10);
    assert_int_not_equal(look(copy).handle, look(file).handle);
}

/* What comes into the source while it is held is settled too. */
static void test_a_file_renamed_into_it_meanwhile_is_settled(void **state)
{
    make_dir("/d");
    uint64_t file = make_file("/d/f");
    uint64_t late = make_file("/late");
    write_file(file, 1000);
    write_file(late, 1000);
    struct rig_answer leased, answer;
    Gfs__Lease *old;
    assert_int_equal(lease(late, &leased, &old), GFS_OK);
    rig_hold_raises(true);
    Gfs__SnapshotRequest msg = GFS__SNAPSHOT_REQUEST__INIT;
    msg.from = rig_bytes("/d");
    msg.to = rig_bytes("/s");
    rig_begin(rig.client, GFS_MSG_SNAPSHOT, &msg, &answer);
    Gfs__RenameRequest move = GFS__RENAME_REQUEST__INIT;
    move.from = rig_bytes("/late");
    move.to = rig_bytes("/d/late");
    assert_int_equal(rig_do(GFS_MSG_RENAME, &move), GFS_OK);
    assert_true(rig_write(old, 1001));
    rig_hold_raises(false);
    assert_int_equal(rig_end(&answer), GFS_OK);
    rig_free_msg(&answer);
    assert_false(rig_write(old, 2000));
    rig_free_msg(&leased);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s/late", &copy, &length), GFS_OK);
    assert_int_equal(length, 1000);
}

static void close_server(size_t i)
{
    rpc_client_free(rig.servers[i].rpc);
    rig.servers[i].rpc = NULL;
    for (uint32_t up = RIG_SERVERS; up == RIG_SERVERS;) {
        Gfs__StatfsRequest msg = GFS__STATFS_REQUEST__INIT;
        struct rig_answer answer;
        assert_int_equal(rig_call(GFS_MSG_STATFS, &msg, &answer), GFS_OK);
        up = ((Gfs__StatfsReply *)answer.msg)->servers_up;
        rig_free_msg(&answer);
    }
}

/* The master forgets the leases of a primary that goes away; the primary may use them still. */
static void test_leases_of_servers_that_went_away_are_ended(void **state)
{
    uint64_t file = make_file("/f");
    write_file(file, 1000);
    struct rig_answer leased;
    Gfs__Lease *old;
    assert_int_equal(lease(file, &leased, &old), GFS_OK);
    size_t primary = old->replicas[0]->server.data[0] - 1u;
    close_server(primary);
    assert_true(rig_write(old, 1001)); /* it has not heard of it */
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    assert_false(rig_write(old, 1002));
    rig_free_msg(&leased);
    assert_int_equal(look(file).replicas, RIG_SERVERS - 1);
}

static void forget_leases(void)
{
    lease_drop_all(rig.service->leases, GFS_ERR_STOPPING);
}

static void forget_leases_and_when_servers_went(void)
{
    forget_leases();
    memset(rig.service->down_ms, 0, sizeof(rig.service->down_ms));
}

/* No lease may be out by now. But it may have a write that nobody acknowledged, and come back. */
static void test_one_that_has_been_away_for_long_cannot_change_a_snapshot(void **state)
{
    uint64_t file = make_file("/f");
    write_file(file, 1000);
    uint32_t version = look(file).version;
    close_server(2);
    rig_on_loop(forget_leases_and_when_servers_went);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    assert_true(look(file).version > version);
    assert_int_equal(look(file).replicas, RIG_SERVERS - 1);
}

static void begin_anew(void)
{
    forget_leases();
    rig.service->started_ms += RIG_AGE_MS;
}

/* A master that has just started does not know the leases of the one before. */
static void test_leases_of_the_master_before_are_ended(void **state)
{
    uint64_t file = make_file("/f");
    write_file(file, 1000);
    uint32_t version = look(file).version;
    rig_on_loop(forget_leases); /* over, as far as an old master knows: nothing to settle */
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    assert_int_equal(look(file).version, version);
    assert_int_equal(delete ("/s"), GFS_OK);
    rig_on_loop(begin_anew);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    assert_true(look(file).version > version);
}

/* ---- copies on write ------------------------------------------------------------------------ */

static void test_a_copy_that_fails_changes_nothing(void **state)
{
    uint64_t file = make_file("/f");
    struct written first = write_file(file, 1000);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    struct rig_answer answer;
    Gfs__Lease *got;
    fail_copies(2, GFS_ERR_NO_SPACE);
    assert_int_equal(lease(file, &answer, &got), GFS_ERR_NO_REPLICA);
    rig_free_msg(&answer);
    assert_int_equal(look(file).handle, first.handle);
    assert_int_equal(look(file).length, 1000);
    fail_copies(1, GFS_ERR_NO_SPACE); /* two will do */
    assert_int_equal(lease(file, &answer, &got), GFS_OK);
    assert_int_not_equal(got->handle, first.handle);
    assert_int_equal(got->n_replicas, RIG_SERVERS - 1);
    assert_true(rig_write(got, 1100));
    rig_free_msg(&answer);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s", &copy, &length), GFS_OK);
    assert_int_equal(look(copy).handle, first.handle);
}

/* The source's replicas are made alike before they are copied. */
static void test_a_source_whose_replicas_differ_is_settled_first(void **state)
{
    uint64_t file = make_file("/f");
    struct written first = write_file(file, 1000);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    uint32_t version = look(file).version;
    pthread_mutex_lock(&rig.lock);
    rig_find(&rig.servers[1], first.handle)->serial++;
    pthread_mutex_unlock(&rig.lock);
    struct rig_answer answer;
    Gfs__Lease *got;
    assert_int_equal(lease(file, &answer, &got), GFS_OK);
    rig_free_msg(&answer);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s", &copy, &length), GFS_OK);
    assert_int_equal(look(copy).handle, first.handle);
    assert_true(look(copy).version > version);
    assert_int_equal(copies(), 2 * RIG_SERVERS);
}

/* How long the replica is that a lease of the file leads to. */
static uint32_t leased_length(uint64_t inode)
{
    struct rig_answer answer;
    Gfs__Lease *got;
    assert_int_equal(lease(inode, &answer, &got), GFS_OK);
    pthread_mutex_lock(&rig.lock);
    uint32_t length = rig_find(&rig.servers[0], got->handle)->length;
    pthread_mutex_unlock(&rig.lock);
    rig_free_msg(&answer);
    return length;
}

/* What was written, but not committed when the snapshot was made, stays with the file it was
 * written to. */
static void test_uncommitted_bytes_stay_with_their_file(void **state)
{
    static const char *const names[][2] = {{"/f", "/s"}, {"/g", "/t"}};
    for (int first = 0; first < 2; first++) {
        uint64_t file = make_file(names[first][0]);
        struct rig_answer answer;
        Gfs__Lease *got;
        write_file(file, 100);
        assert_int_equal(lease(file, &answer, &got), GFS_OK);
        assert_true(rig_write(got, 500));
        rig_free_msg(&answer);
        assert_int_equal(snapshot(names[first][0], names[first][1]), GFS_OK);
        uint64_t copy = 0, length = 0;
        assert_int_equal(lookup(names[first][1], &copy, &length), GFS_OK);
        if (first == 0) { /* either may be the one that gets the copy */
            assert_int_equal(leased_length(file), 500);
            assert_int_equal(leased_length(copy), 100);
        } else {
            assert_int_equal(leased_length(copy), 100);
            assert_int_equal(leased_length(file), 500);
        }
    }
}

/* Chunks that have a handle, but were never written. */
static void test_an_empty_chunk_is_shared_and_copied(void **state)
{
    uint64_t file = make_file("/f");
    struct rig_answer answer;
    Gfs__Lease *got;
    assert_int_equal(lease(file, &answer, &got), GFS_OK);
    uint64_t handle = got->handle;
    rig_free_msg(&answer);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s", &copy, &length), GFS_OK);
    struct written written = write_file(file, 700);
    assert_int_not_equal(written.handle, handle);
    assert_int_equal(look(copy).handle, handle);
    assert_int_equal(look(copy).length, 0);
    /* With nothing committed and nobody left to copy it, it is made anew. */
    assert_int_equal(snapshot("/s", "/t"), GFS_OK);
    fail_copies(RIG_SERVERS, GFS_ERR_NO_CHUNK);
    written = write_file(copy, 800);
    assert_int_not_equal(written.handle, handle);
    assert_int_equal(written.family, written.handle);
}

/* One that comes back with what nobody copied must not show it in the snapshot. */
static void test_a_replica_that_was_away_is_stale_for_the_snapshot_too(void **state)
{
    uint64_t file = make_file("/f");
    write_file(file, 1000);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    uint32_t version = look(file).version;
    close_server(2);
    struct rig_answer answer;
    Gfs__Lease *got;
    assert_int_equal(lease(file, &answer, &got), GFS_OK);
    assert_int_equal(got->n_replicas, RIG_SERVERS - 1);
    rig_free_msg(&answer);
    uint64_t copy = 0, length = 0;
    assert_int_equal(lookup("/s", &copy, &length), GFS_OK);
    assert_true(look(copy).version > version);
}

static void test_those_who_ask_at_once_share_one_copy(void **state)
{
    enum { CALLERS = 8 };
    uint64_t file = make_file("/f");
    write_file(file, 1000);
    assert_int_equal(snapshot("/f", "/s"), GFS_OK);
    struct rig_answer answers[CALLERS];
    Gfs__LeaseRequest msg = GFS__LEASE_REQUEST__INIT;
    msg.inode = file;
    for (int i = 0; i < CALLERS; i++) {
        rig_begin(rig.client, GFS_MSG_LEASE, &msg, &answers[i]);
    }
    uint64_t handle = 0;
    for (int i = 0; i < CALLERS; i++) {
        assert_int_equal(rig_end(&answers[i]), GFS_OK);
        const Gfs__Lease *got = ((Gfs__LeaseReply *)answers[i].msg)->lease;
        handle = i == 0 ? got->handle : handle;
        assert_int_equal(got->handle, handle);
        rig_free_msg(&answers[i]);
    }
    assert_int_equal(copies(), RIG_SERVERS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_snapshot_ends_leases_and_the_next_write_copies),
        TEST(test_a_snapshot_of_a_snapshot_outlives_both),
        TEST(test_a_retry_finds_the_first_try_and_errors_change_nothing),
        TEST(test_leases_below_are_held_back_meanwhile),
        TEST(test_a_file_renamed_into_it_meanwhile_is_settled),
        TEST(test_leases_of_servers_that_went_away_are_ended),
        TEST(test_a_source_whose_replicas_differ_is_settled_first),
        TEST(test_uncommitted_bytes_stay_with_their_file),
        TEST(test_leases_of_the_master_before_are_ended),
        TEST(test_one_that_has_been_away_for_long_cannot_change_a_snapshot),
        TEST(test_an_empty_chunk_is_shared_and_copied),
        TEST(test_a_replica_that_was_away_is_stale_for_the_snapshot_too),
        TEST(test_a_copy_that_fails_changes_nothing),
        TEST(test_those_who_ask_at_once_share_one_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
