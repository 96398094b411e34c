#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>

#include "kv.h"
#include "loop.h"
#include "master/journal.h"

/* A backend that can be held back and made to fail. */
struct disk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    bool failing;
    uint32_t commits;
    uint32_t appends;
    uint32_t last_key; /* keys must come in order */
};

static void disk_init(struct disk *disk, bool held)
{
    *disk = (struct disk){.held = held};
    pthread_mutex_init(&disk->lock, NULL);
    pthread_cond_init(&disk->changed, NULL);
}

static void disk_let_go(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->held = false;
    pthread_cond_broadcast(&disk->changed);
    pthread_mutex_unlock(&disk->lock);
}

static enum gfs_err disk_commit(void *arg, const struct changes *const *list, size_t count)
{
    struct disk *disk = arg;
    pthread_mutex_lock(&disk->lock);
    while (disk->held) {
        pthread_cond_wait(&disk->changed, &disk->lock);
    }
    bool failing = disk->failing;
    for (size_t i = 0; i < count; i++) {
        struct change change;
        size_t at = 0;
        uint32_t key;
        while (changes_next(list[i], &at, &change)) {
            memcpy(&key, change.key, sizeof(key));
            failing = failing || key != disk->last_key + 1;
            disk->last_key = key;
        }
    }
    disk->commits++;
    disk->appends += (uint32_t)count;
    pthread_mutex_unlock(&disk->lock);
    return failing ? GFS_ERR_IO : GFS_OK;
}

struct fixture {
    struct loop *loop;
    struct journal *journal;
    uint32_t done;
    uint32_t failed;
    uint32_t expected; /* stop the loop then */
    uint64_t last_sequence;
    pthread_t thread; /* the one that runs the loop */
};

struct waiter {
    struct journal_wait wait;
    struct fixture *fixture;
};

static void on_done(struct journal_wait *wait, enum gfs_err err)
{
    struct fixture *fixture = ((struct waiter *)wait)->fixture;
    assert_true(pthread_equal(pthread_self(), fixture->thread));
    assert_true(wait->sequence >= fixture->last_sequence);
    fixture->last_sequence = wait->sequence;
    fixture->done++;
    fixture->failed += err != GFS_OK;
    if (fixture->done == fixture->expected) {
        loop_stop(fixture->loop);
    }
}

static void append(struct fixture *fixture, struct waiter *waiter, uint32_t key)
{
    struct changes changes;
    changes_init(&changes);
    assert_int_equal(changes_reserve(&changes, 64), GFS_OK);
    memcpy(changes_put(&changes, &key, sizeof(key), 5), "value", 5);
    waiter->wait.done = on_done;
    waiter->fixture = fixture;
    journal_append(fixture->journal, &changes, &waiter->wait);
    assert_true(changes_empty(&changes));
    assert_null(changes.data);
}

static void open_journal(struct fixture *fixture, const struct journal_backend *backend,
                         const struct journal_options *options)
{
    *fixture = (struct fixture){.thread = pthread_self()};
    assert_int_equal(loop_new("test", &fixture->loop), GFS_OK);
    assert_int_equal(journal_new(fixture->loop, backend, options, NULL, NULL, &fixture->journal),
                     GFS_OK);
}

static void test_completions_come_in_order_and_in_groups(void **state)
{
    enum { APPENDS = 3000 };
    struct disk disk;
    disk_init(&disk, true);
    struct journal_backend backend = {disk_commit, &disk};
    struct fixture fixture;
    open_journal(&fixture, &backend, NULL);
    struct waiter *waiters = calloc(APPENDS, sizeof(*waiters));
    for (uint32_t i = 0; i < APPENDS; i++) {
        append(&fixture, &waiters[i], i + 1);
    }
    assert_int_equal(journal_appended(fixture.journal), APPENDS);
    assert_int_equal(fixture.done, 0);
    fixture.expected = APPENDS;
    disk_let_go(&disk);
    loop_run(fixture.loop);
    assert_int_equal(fixture.failed, 0);
    assert_int_equal(disk.last_key, APPENDS);
    assert_int_equal(journal_durable(fixture.journal), APPENDS);
    /* What waited while the first commit was held back went in one. */
    assert_true(disk.commits <= 3);
    struct journal_stat stat;
    journal_stat(fixture.journal, &stat);
    assert_int_equal(stat.queue, 0);
    journal_free(fixture.journal);
    loop_free(fixture.loop);
    free(waiters);
}

static void test_barrier_waits_for_what_is_before_it(void **state)
{
    struct disk disk;
    disk_init(&disk, true);
    struct journal_backend backend = {disk_commit, &disk};
    struct fixture fixture;
    open_journal(&fixture, &backend, NULL);
    struct waiter barrier = {{.done = on_done}, &fixture};
    journal_barrier(fixture.journal, &barrier.wait);
    assert_int_equal(fixture.done, 1);
    struct waiter waiter;
    append(&fixture, &waiter, 1);
    journal_barrier(fixture.journal, &barrier.wait);
    assert_int_equal(fixture.done, 1);
    fixture.expected = 3;
    disk_let_go(&disk);
    loop_run(fixture.loop);
    assert_int_equal(fixture.done, 3);
    journal_free(fixture.journal);
    loop_free(fixture.loop);
}

static void test_full_queue_is_told(void **state)
{
    struct disk disk;
    disk_init(&disk, true);
    struct journal_backend backend = {disk_commit, &disk};
    struct journal_options options = {.queue_max = 10};
    struct fixture fixture;
    open_journal(&fixture, &backend, &options);
    struct waiter waiters[10];
    for (uint32_t i = 0; i < 10; i++) {
        assert_false(journal_full(fixture.journal));
        append(&fixture, &waiters[i], i + 1);
    }
    assert_true(journal_full(fixture.journal));
    fixture.expected = 10;
    disk_let_go(&disk);
    loop_run(fixture.loop);
    assert_false(journal_full(fixture.journal));
    journal_free(fixture.journal);
    loop_free(fixture.loop);
}

static void test_failed_commit_fails_the_journal_for_good(void **state)
{
    struct disk disk;
    disk_init(&disk, true);
    disk.failing = true;
    struct journal_backend backend = {disk_commit, &disk};
    struct fixture fixture;
    open_journal(&fixture, &backend, NULL);
    struct waiter waiters[3];
    append(&fixture, &waiters[0], 1);
    append(&fixture, &waiters[1], 2);
    fixture.expected = 2;
    disk_let_go(&disk);
    loop_run(fixture.loop);
    assert_int_equal(fixture.failed, 2);
    assert_true(journal_failed(fixture.journal));
    append(&fixture, &waiters[2], 3);
    assert_int_equal(fixture.failed, 3);
    journal_free(fixture.journal);
    loop_free(fixture.loop);
}

static void test_free_commits_what_is_queued(void **state)
{
    struct disk disk;
    disk_init(&disk, false);
    struct journal_backend backend = {disk_commit, &disk};
    struct fixture fixture;
    open_journal(&fixture, &backend, NULL);
    struct waiter waiters[50];
    for (uint32_t i = 0; i < 50; i++) {
        append(&fixture, &waiters[i], i + 1);
    }
    journal_free(fixture.journal);
    assert_int_equal(disk.last_key, 50);
    assert_int_equal(fixture.done, 50);
    assert_int_equal(fixture.failed, 0);
    loop_free(fixture.loop);
}

/* ---- kill -9 ------------------------------------------------------------------------------- */
struct killed_child {
    struct fixture fixture;
    struct waiter waiters[64];
    uint32_t next;
    int acks; /* pipe */
};

static struct killed_child *child;

static void on_child_done(struct journal_wait *wait, enum gfs_err err)
{
    uint32_t sequence = (uint32_t)wait->sequence;
    if (err != GFS_OK || write(child->acks, &sequence, sizeof(sequence)) != sizeof(sequence)) {
        _exit(1);
    }
    struct waiter *waiter = (struct waiter *)wait;
    append(&child->fixture, waiter, ++child->next);
    waiter->wait.done = on_child_done;
}

/* Appends for ever, telling each that is durable. */
static void run_child(const char *path, int acks)
{
    struct kv *kv;
    struct kv_options options = {.create = true, .paranoid = true, .verify = true};
    if (kv_open(path, &options, &kv, NULL) != GFS_OK) {
        _exit(1);
    }
    child = calloc(1, sizeof(*child));
    child->acks = acks;
    struct journal_backend backend = journal_backend_kv(kv);
    open_journal(&child->fixture, &backend, NULL);
    for (uint32_t i = 0; i < 64; i++) {
        append(&child->fixture, &child->waiters[i], ++child->next);
        child->waiters[i].wait.done = on_child_done;
    }
    loop_run(child->fixture.loop);
    _exit(1);
}

static void check_survivors(const char *path, uint32_t acknowledged)
{
    struct kv *kv;
    struct kv_options options = {.paranoid = true, .verify = true};
    assert_int_equal(kv_open(path, &options, &kv, NULL), GFS_OK);
    for (uint32_t key = 1; key <= acknowledged; key++) {
        struct kv_value value;
        assert_int_equal(kv_get(kv, &key, sizeof(key), &value), GFS_OK);
        assert_int_equal(value.len_bytes, 5);
        kv_value_release(&value);
    }
    kv_close(kv);
}

static void test_what_was_acknowledged_survives_kill(void **state)
{
    for (uint32_t round = 0; round < 3; round++) {
        char path[] = "/tmp/gfs-journal-XXXXXX";
        assert_non_null(mkdtemp(path));
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(pipes[0]);
            run_child(path, pipes[1]);
        }
        close(pipes[1]);
        uint32_t last = 0;
        uint32_t got;
        bool killed = false;
        while (read(pipes[0], &got, sizeof(got)) == sizeof(got)) {
            assert_int_equal(got, last + 1);
            last = got;
            if (last >= 700 * (round + 1) && !killed) {
                kill(pid, SIGKILL);
                killed = true;
            }
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        close(pipes[0]);
        check_survivors(path, last);
        assert_int_equal(kv_destroy(path, NULL), GFS_OK);
        rmdir(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_acknowledged_survives_kill),
        cmocka_unit_test(test_completions_come_in_order_and_in_groups),
        cmocka_unit_test(test_barrier_waits_for_what_is_before_it),
        cmocka_unit_test(test_full_queue_is_told),
        cmocka_unit_test(test_failed_commit_fails_the_journal_for_good),
        cmocka_unit_test(test_free_commits_what_is_queued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
