/* Waiting for a file to grow, through the master's service. */
#include "master_calls.h"

static void begin_wait(uint64_t inode, uint64_t offset, uint32_t timeout_ms,
                       struct rig_answer *answer)
{
    Gfs__WaitRequest msg = GFS__WAIT_REQUEST__INIT;
    msg.inode = inode;
    msg.offset = offset;
    msg.timeout_ms = timeout_ms;
    rig_begin(rig.client, GFS_MSG_WAIT, &msg, answer);
}

/* The length that it ended with. */
static uint64_t end_wait(struct rig_answer *answer)
{
    assert_int_equal(rig_end(answer), GFS_OK);
    uint64_t length = ((Gfs__WaitReply *)answer->msg)->attr->length;
    rig_free_msg(answer);
    return length;
}

static void test_waiters_are_told_of_growth(void **state)
{
    uint64_t file = make_file("/f");
    struct rig_answer near, far, late;
    begin_wait(file, 0, 10000, &near);
    begin_wait(file, 999, 10000, &far);
    begin_wait(file, 1000, 300, &late);
    write_file(file, 500);
    assert_int_equal(end_wait(&near), 500);
    write_file(file, 1000);
    assert_int_equal(end_wait(&far), 1000);
    assert_int_equal(end_wait(&late), 1000); /* by its time */
    begin_wait(file, 999, 10000, &near);
    assert_int_equal(end_wait(&near), 1000);
    begin_wait(file, 1000, 0, &near);
    assert_int_equal(end_wait(&near), 1000);
}

/* Answers of one connection come in order: one that was given too early would be here first. */
static void test_a_waiter_is_told_of_what_is_durable_only(void **state)
{
    uint64_t file = make_file("/f");
    struct rig_answer leased, waits, grows, refused;
    Gfs__Lease *got;
    assert_int_equal(lease(file, &leased, &got), GFS_OK);
    assert_true(rig_write(got, 100));
    begin_wait(file, 0, 10000, &waits);
    Gfs__CommitChunk chunk = GFS__COMMIT_CHUNK__INIT;
    Gfs__CommitChunk *chunks[] = {&chunk};
    Gfs__CommitRequest msg = GFS__COMMIT_REQUEST__INIT;
    chunk.handle = got->handle;
    chunk.version = got->version;
    chunk.length = 100;
    msg.inode = file;
    msg.n_chunks = 1;
    msg.chunks = chunks;
    rig_free_msg(&leased);
    pthread_mutex_lock(&rig.disk);
    rig_begin(rig.client, GFS_MSG_COMMIT, &msg, &grows);
    begin_wait(NS_ROOT_INODE, 0, 10000, &refused);
    assert_int_equal(rig_end(&refused), GFS_ERR_IS_DIR);
    assert_int_equal(sem_trywait(&waits.done), -1);
    pthread_mutex_unlock(&rig.disk);
    assert_int_equal(end_wait(&waits), 100);
    assert_int_equal(rig_end(&grows), GFS_OK);
    rig_free_msg(&grows);
}

static void test_waiters_are_told_of_a_removal(void **state)
{
    make_dir("/d");
    uint64_t file = make_file("/d/f");
    struct rig_answer answer;
    begin_wait(file, 0, 10000, &answer);
    make_dir("/e"); /* behind it on the connection: it waits by now */
    assert_int_equal(delete ("/d"), GFS_OK);
    assert_int_equal(rig_end(&answer), GFS_ERR_STALE_HANDLE);
    begin_wait(file, 0, 10000, &answer);
    assert_int_equal(rig_end(&answer), GFS_ERR_STALE_HANDLE);
    uint64_t dir = 0, length = 0;
    assert_int_equal(lookup("/e", &dir, &length), GFS_OK);
    begin_wait(dir, 0, 10000, &answer);
    assert_int_equal(rig_end(&answer), GFS_ERR_IS_DIR);
}

static void test_one_connection_has_so_many_waiters(void **state)
{
    enum { MANY = 300, MAX = 256 };
    uint64_t file = make_file("/f");
    struct rig_answer *answers = calloc(MANY, sizeof(*answers));
    for (int i = 0; i < MANY; i++) {
        begin_wait(file, 0, 10000, &answers[i]);
    }
    for (int i = MAX; i < MANY; i++) {
        assert_int_equal(rig_end(&answers[i]), GFS_ERR_BUSY);
    }
    write_file(file, 1);
    for (int i = 0; i < MAX; i++) {
        assert_int_equal(end_wait(&answers[i]), 1);
    }
    free(answers);
}

static void test_a_closed_connection_leaves_no_waiters(void **state)
{
    enum { MANY = 256 };
    uint64_t file = make_file("/f");
    struct rig_answer *answers = calloc(MANY, sizeof(*answers));
    Gfs__WaitRequest msg = GFS__WAIT_REQUEST__INIT;
    msg.inode = file;
    msg.timeout_ms = 10000;
    for (int i = 0; i < MANY; i++) {
        rig_begin(rig.other, GFS_MSG_WAIT, &msg, &answers[i]);
    }
    Gfs__WaitRequest now = GFS__WAIT_REQUEST__INIT;
    struct rig_answer last;
    now.inode = file;
    rig_begin(rig.other, GFS_MSG_WAIT, &now, &last); /* behind them: they wait by now */
    assert_int_equal(rig_end(&last), GFS_OK);
    rig_free_msg(&last);
    rpc_client_drop(rig.other, rpc_server_addr(rig.net));
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(rig_end(&answers[i]), GFS_ERR_CONN);
    }
    free(answers);
    write_file(file, 1);
}

static void test_a_stop_answers_all(void **state)
{
    uint64_t file = make_file("/f");
    struct rig_answer answer;
    begin_wait(file, 0, 10000, &answer);
    make_dir("/e");
    rig_on_loop(rig_stop_service);
    assert_int_equal(rig_end(&answer), GFS_ERR_STOPPING);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_waiters_are_told_of_growth),
        TEST(test_a_waiter_is_told_of_what_is_durable_only),
        TEST(test_waiters_are_told_of_a_removal),
        TEST(test_one_connection_has_so_many_waiters),
        TEST(test_a_closed_connection_leaves_no_waiters),
        TEST(test_a_stop_answers_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
