/*
 * journal: makes changes durable, in order, off the loop. Floor 6.
 *
 *   loop thread                         journal thread
 *   journal_append --> [ queue ] --> takes all that waits, one commit() ... durable
 *   wait->done <------ one task posted to the loop for a whole commit
 *
 * Sequence: the n-th append has sequence n. `done` is called on the loop's thread, in order of
 * appends. After a failed commit the journal has failed for good: that and every later wait ends
 * in IO, and what memory holds is no longer what is durable: the master must exit.
 * The seam for another log (Raft) is struct journal_backend.
 */
#ifndef MASTER_JOURNAL_H
#define MASTER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gfs_err.h"
#include "master/changes.h"

struct journal;
struct loop;
struct kv;

/* Called on the journal's thread: makes all these durable, atomically each and in this order. */
struct journal_backend {
    enum gfs_err (*commit)(void *arg, const struct changes *const *list, size_t count);
    void *arg;
};
/* A backend that writes one synced batch into a kv, which outlives the journal. */
struct journal_backend journal_backend_kv(struct kv *kv);

struct journal_options {       /* 0: default */
    uint32_t queue_max;        /* appended, not yet durable: 65536 */
    uint64_t queue_max_bytes;  /* 64 MiB */
    uint64_t commit_max_bytes; /* changes in one commit: 4 MiB, but always one append at least */
};

/* Intrusive; embedded in the request that waits. Untouched by the caller until done is called. */
struct journal_wait {
    void (*done)(struct journal_wait *wait, enum gfs_err err); /* loop thread */
    uint64_t sequence;
    struct journal_wait *next; /* the journal's */
};

/* on_failed (may be NULL) is called once, on the loop, when the journal fails. */
enum gfs_err journal_new(struct loop *loop, const struct journal_backend *backend,
                         const struct journal_options *options, void (*on_failed)(void *arg),
                         void *arg, struct journal **ret_journal) GFS_MUST_CHECK;
/* Commits what is queued, then stops the thread. Waits still pending end with CANCELLED when they
 * cannot be known durable. Call on the loop's thread or after the loop has ended. NULL is fine. */
void journal_free(struct journal *journal);

/* All below: the loop's thread. */
/* Ask before changing memory: true means answer BUSY. */
bool journal_full(struct journal *journal);
/* Takes the changes' memory and leaves `changes` empty. wait may be NULL. Never refuses: memory
 * has changed already. NO_MEMORY fails the journal. Empty changes: as journal_barrier. */
void journal_append(struct journal *journal, struct changes *changes, struct journal_wait *wait);
/* Done when everything appended before is durable; at once, before it returns, if it is so now. */
void journal_barrier(struct journal *journal, struct journal_wait *wait);
uint64_t journal_appended(const struct journal *journal); /* last sequence given out */
uint64_t journal_durable(const struct journal *journal);  /* last one durable */
bool journal_failed(const struct journal *journal);

struct journal_stat {
    uint64_t commits;
    uint64_t appends;
    uint64_t bytes;
    uint64_t queue; /* appended, not yet durable */
};
void journal_stat(struct journal *journal, struct journal_stat *ret_stat);

#endif
