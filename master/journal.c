#include "master/journal.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "clock.h"
#include "loop.h"

#define JOURNAL_QUEUE_MAX        65536u
#define JOURNAL_QUEUE_MAX_BYTES  (64u << 20)
#define JOURNAL_COMMIT_MAX_BYTES (4u << 20)
/* After a small commit that was not alone the next one waits a moment for company: fewer syncs. */
#define JOURNAL_GATHER_US    500u
#define JOURNAL_GATHER_BYTES (64u << 10)

struct journal_entry {
    struct changes changes;
    struct journal_entry *next;
};

/* On the heap of its own, since it may lie in the loop's mailbox when the journal is freed. */
struct journal_wake {
    struct loop_task task;
    struct journal *journal; /* NULL: freed */
};

struct journal {
    struct loop *loop;
    struct journal_backend backend;
    struct journal_options options;
    pthread_t thread;

    /* Both threads, under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct journal_entry *first;
    struct journal_entry *last;
    uint64_t queued_bytes; /* with what is being committed */
    uint64_t committed;
    uint64_t commits;
    enum gfs_err error; /* of a commit: final */
    bool stopping;
    bool wake_posted;

    /* Loop's thread. */
    struct journal_wake *wake;
    struct journal_wait *wait_first; /* in order of sequence */
    struct journal_wait *wait_last;
    uint64_t appended;
    uint64_t durable;
    uint64_t bytes;
    bool failed;
    void (*on_failed)(void *arg);
    void *on_failed_arg;

    /* Journal's thread. */
    const struct changes **batch;
    bool gathers;
};

/* ---- journal thread ------------------------------------------------------------------------ */
/* Cuts what the next commit takes off the queue. Under the lock. */
static struct journal_entry *journal_cut(struct journal *journal, size_t *ret_count,
                                         uint64_t *ret_bytes)
{
    struct journal_entry *first = journal->first;
    struct journal_entry *entry = first;
    size_t count = 0;
    uint64_t bytes = 0;
    for (;;) {
        journal->batch[count++] = &entry->changes;
        bytes += entry->changes.len_bytes;
        if (entry->next == NULL || count == journal->options.queue_max ||
            bytes + entry->next->changes.len_bytes > journal->options.commit_max_bytes) {
            break;
        }
        entry = entry->next;
    }
    journal->first = entry->next;
    if (journal->first == NULL) {
        journal->last = NULL;
    }
    entry->next = NULL;
    *ret_count = count;
    *ret_bytes = bytes;
    return first;
}

static void journal_free_entries(struct journal_entry *entry)
{
    while (entry != NULL) {
        struct journal_entry *next = entry->next;
        changes_release(&entry->changes);
        free(entry);
        entry = next;
    }
}

/* Under the lock. */
static void journal_post_wake(struct journal *journal)
{
    if (!journal->wake_posted) {
        journal->wake_posted = true;
        loop_post(journal->loop, &journal->wake->task);
    }
}

/* Under the lock, which it gives up meanwhile. */
static void journal_await_work(struct journal *journal)
{
    while (journal->first == NULL && !journal->stopping) {
        pthread_cond_wait(&journal->work, &journal->lock);
    }
    if (journal->gathers && !journal->stopping) {
        pthread_mutex_unlock(&journal->lock);
        clock_sleep_us(JOURNAL_GATHER_US);
        pthread_mutex_lock(&journal->lock);
    }
}

static void *journal_run(void *arg)
{
    struct journal *journal = arg;
    pthread_mutex_lock(&journal->lock);
    for (;;) {
        journal_await_work(journal);
        if (journal->first == NULL || journal->error != GFS_OK) {
            break;
        }
        size_t count;
        uint64_t bytes;
        struct journal_entry *entries = journal_cut(journal, &count, &bytes);
        pthread_mutex_unlock(&journal->lock);
        journal->gathers = count > 1 && bytes < JOURNAL_GATHER_BYTES;
        enum gfs_err err = journal->backend.commit(journal->backend.arg, journal->batch, count);
        journal_free_entries(entries);
        pthread_mutex_lock(&journal->lock);
        journal->queued_bytes -= bytes;
        if (err == GFS_OK) {
            journal->committed += count;
            journal->commits++;
        } else {
            journal->error = err;
        }
        journal_post_wake(journal);
        if (err != GFS_OK) {
            break;
        }
    }
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}

/* ---- loop thread --------------------------------------------------------------------------- */
/* Ends the waits up to what is durable; all of them, with `rest`, when that is an error. */
static void journal_complete(struct journal *journal, enum gfs_err rest)
{
    while (journal->wait_first != NULL) {
        struct journal_wait *wait = journal->wait_first;
        bool durable = wait->sequence <= journal->durable;
        if (!durable && rest == GFS_OK) {
            return;
        }
        journal->wait_first = wait->next;
        if (journal->wait_first == NULL) {
            journal->wait_last = NULL;
        }
        wait->next = NULL;
        wait->done(wait, durable ? GFS_OK : rest);
    }
}

static void journal_fail(struct journal *journal)
{
    if (!journal->failed) {
        journal->failed = true;
        if (journal->on_failed != NULL) {
            journal->on_failed(journal->on_failed_arg);
        }
    }
}

static void journal_on_wake(struct loop_task *task)
{
    struct journal_wake *wake = (struct journal_wake *)task;
    struct journal *journal = wake->journal;
    if (journal == NULL) {
        free(wake);
        return;
    }
    pthread_mutex_lock(&journal->lock);
    journal->wake_posted = false;
    journal->durable = journal->committed;
    bool failed = journal->error != GFS_OK;
    pthread_mutex_unlock(&journal->lock);
    if (failed) {
        journal_fail(journal);
    }
    journal_complete(journal, failed ? GFS_ERR_IO : GFS_OK);
}

static void journal_set_options(struct journal *journal, const struct journal_options *options)
{
    if (options != NULL) {
        journal->options = *options;
    }
    if (journal->options.queue_max == 0) {
        journal->options.queue_max = JOURNAL_QUEUE_MAX;
    }
    if (journal->options.queue_max_bytes == 0) {
        journal->options.queue_max_bytes = JOURNAL_QUEUE_MAX_BYTES;
    }
    if (journal->options.commit_max_bytes == 0) {
        journal->options.commit_max_bytes = JOURNAL_COMMIT_MAX_BYTES;
    }
}

enum gfs_err journal_new(struct loop *loop, const struct journal_backend *backend,
                         const struct journal_options *options, void (*on_failed)(void *arg),
                         void *arg, struct journal **ret_journal)
{
    struct journal *journal = calloc(1, sizeof(*journal));
    if (journal == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    journal_set_options(journal, options);
    journal->loop = loop;
    journal->backend = *backend;
    journal->on_failed = on_failed;
    journal->on_failed_arg = arg;
    pthread_mutex_init(&journal->lock, NULL);
    pthread_cond_init(&journal->work, NULL);
    journal->batch = calloc(journal->options.queue_max, sizeof(*journal->batch));
    journal->wake = calloc(1, sizeof(*journal->wake));
    if (journal->batch == NULL || journal->wake == NULL) {
        goto out;
    }
    journal->wake->task.fn = journal_on_wake;
    journal->wake->journal = journal;
    if (pthread_create(&journal->thread, NULL, journal_run, journal) != 0) {
        goto out;
    }
    pthread_setname_np(journal->thread, "journal");
    *ret_journal = journal;
    return GFS_OK;
out:
    pthread_cond_destroy(&journal->work);
    pthread_mutex_destroy(&journal->lock);
    free(journal->wake);
    free(journal->batch);
    free(journal);
    return GFS_ERR_NO_MEMORY;
}

void journal_free(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    pthread_mutex_lock(&journal->lock);
    journal->stopping = true;
    pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->lock);
    pthread_join(journal->thread, NULL);
    journal->durable = journal->committed;
    journal_complete(journal, journal->error != GFS_OK ? GFS_ERR_IO : GFS_ERR_CANCELLED);
    journal_free_entries(journal->first);
    if (journal->wake_posted) {
        journal->wake->journal = NULL; /* its turn on the loop frees it */
    } else {
        free(journal->wake);
    }
    pthread_cond_destroy(&journal->work);
    pthread_mutex_destroy(&journal->lock);
    free(journal->batch);
    free(journal);
}

bool journal_full(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    uint64_t bytes = journal->queued_bytes;
    uint64_t committed = journal->committed;
    pthread_mutex_unlock(&journal->lock);
    return journal->appended - committed >= journal->options.queue_max ||
           bytes >= journal->options.queue_max_bytes;
}

static void journal_wait_add(struct journal *journal, struct journal_wait *wait)
{
    wait->sequence = journal->appended;
    wait->next = NULL;
    if (journal->wait_last != NULL) {
        journal->wait_last->next = wait;
    } else {
        journal->wait_first = wait;
    }
    journal->wait_last = wait;
}

void journal_barrier(struct journal *journal, struct journal_wait *wait)
{
    wait->sequence = journal->appended;
    if (journal->failed) {
        wait->done(wait, GFS_ERR_IO);
    } else if (journal->durable == journal->appended && journal->wait_first == NULL) {
        wait->done(wait, GFS_OK);
    } else {
        journal_wait_add(journal, wait);
    }
}

/* The change is in memory but will never be durable. */
static void journal_lose(struct journal *journal, struct journal_wait *wait)
{
    journal_fail(journal);
    if (wait != NULL) {
        wait->done(wait, GFS_ERR_IO);
    }
}

void journal_append(struct journal *journal, struct changes *changes, struct journal_wait *wait)
{
    if (changes_empty(changes)) {
        if (wait != NULL) {
            journal_barrier(journal, wait);
        }
        return;
    }
    struct journal_entry *entry = journal->failed ? NULL : malloc(sizeof(*entry));
    if (entry == NULL) {
        changes_release(changes);
        journal_lose(journal, wait);
        return;
    }
    entry->changes = *changes;
    entry->next = NULL;
    changes_init(changes);
    journal->appended++;
    journal->bytes += entry->changes.len_bytes;
    if (wait != NULL) {
        journal_wait_add(journal, wait);
    }
    pthread_mutex_lock(&journal->lock);
    journal->queued_bytes += entry->changes.len_bytes;
    bool idle = journal->first == NULL;
    if (idle) {
        journal->first = entry;
    } else {
        journal->last->next = entry;
    }
    journal->last = entry;
    if (idle) {
        pthread_cond_signal(&journal->work);
    }
    pthread_mutex_unlock(&journal->lock);
}

uint64_t journal_appended(const struct journal *journal)
{
    return journal->appended;
}

uint64_t journal_durable(const struct journal *journal)
{
    return journal->durable;
}

bool journal_failed(const struct journal *journal)
{
    return journal->failed;
}

void journal_stat(struct journal *journal, struct journal_stat *ret_stat)
{
    pthread_mutex_lock(&journal->lock);
    *ret_stat = (struct journal_stat){
        .commits = journal->commits,
        .appends = journal->appended,
        .bytes = journal->bytes,
        .queue = journal->appended - journal->committed,
    };
    pthread_mutex_unlock(&journal->lock);
}
