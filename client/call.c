#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "failure.h"
#include "retry.h"

enum gfs_err call_failed(const struct gfs *fs, const char *what, const char *path, enum gfs_err err,
                         const char *detail)
{
    const char *space = path != NULL ? " " : "";
    const char *colon = detail[0] != '\0' ? ": " : "";
    path = path != NULL ? path : "";
    switch (err) {
    case GFS_ERR_CONN:
        if (detail[0] != '\0') /* it names the address and the reason */
            return failure_set(err, "%s%s%s: master: %s; is gfs-master running there?", what, space,
                               path, detail);
        /* fall through */
    case GFS_ERR_TIMEOUT:
        return failure_set(err, "%s%s%s: master %s: %s%s%s; is gfs-master running there?", what,
                           space, path, fs->master, gfs_err_text(err), colon, detail);
    default:
        return failure_set(err, "%s%s%s: %s%s%s", what, space, path, gfs_err_text(err), colon,
                           detail);
    }
}

enum gfs_err call_check_path(const char *what, const char *path)
{
    if (path == NULL)
        return failure_set(GFS_ERR_INVAL, "%s: no path given", what);
    if (strlen(path) > GFS_PATH_MAX_BYTES)
        return failure_set(GFS_ERR_NAME_TOO_LONG, "%s %.64s...: the path is longer than %u bytes",
                           what, path, GFS_PATH_MAX_BYTES);
    return GFS_OK;
}

ProtobufCBinaryData call_bytes(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
}

void call_sleep_ms(uint32_t ms)
{
    clock_sleep_us((uint64_t)ms * 1000);
}

/* ---- one call ------------------------------------------------------------------------------ */

struct call_wait {
    const struct call *call;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    bool done;
    enum gfs_err err;
    uint32_t hint_ms;
    char detail[RPC_DETAIL_MAX_BYTES];
};

static void call_done(void *arg, const struct rpc_answer *answer)
{
    struct call_wait *wait = arg;
    enum gfs_err err = answer->err;
    if (err == GFS_OK && wait->call->take != NULL)
        err = wait->call->take(wait->call->arg, answer->msg);
    pthread_mutex_lock(&wait->lock);
    /* That the last try had no time left tells less than why those before failed. */
    if (err != GFS_ERR_TIMEOUT || wait->err != GFS_ERR_CONN) {
        wait->err = err;
        snprintf(wait->detail, sizeof(wait->detail), "%s", answer->detail);
    }
    wait->hint_ms = answer->retry_after_ms;
    wait->done = true;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->lock);
}

static enum gfs_err call_once(struct gfs *fs, struct call_wait *wait, uint32_t timeout_ms)
{
    wait->done = false;
    struct rpc_call_args args = {
        .type = wait->call->type,
        .msg = wait->call->msg,
        .timeout_ms = timeout_ms,
        .done = call_done,
        .arg = wait,
    };
    rpc_client_call(fs->rpc, fs->master, &args);
    pthread_mutex_lock(&wait->lock);
    while (!wait->done)
        pthread_cond_wait(&wait->changed, &wait->lock);
    enum gfs_err err = wait->err;
    pthread_mutex_unlock(&wait->lock);
    return err;
}

enum gfs_err call_master(struct gfs *fs, const struct call *call)
{
    struct call_wait wait = {
        .call = call,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    struct retry retry;
    retry_init(&retry, loop_now_ms(), call->budget_ms ? call->budget_ms : fs->opts.timeout_ms);
    enum gfs_err err;
    uint32_t wait_ms;
    for (;;) {
        err = call_once(fs, &wait, retry_left_ms(&retry, loop_now_ms()));
        if (err == GFS_OK ||
            !retry_next(&retry, err, wait.hint_ms, fs_random(fs), loop_now_ms(), &wait_ms))
            break;
        call_sleep_ms(wait_ms);
    }
    if (err != GFS_OK)
        call_failed(fs, call->what, call->path, err, wait.detail);
    pthread_cond_destroy(&wait.changed);
    pthread_mutex_destroy(&wait.lock);
    return err;
}

/* ---- many calls ---------------------------------------------------------------------------- */

#define CALL_MANY_WINDOW 512

struct many_wait;

struct many_slot {
    struct many_wait *wait;
    size_t i;
    struct many_slot *next; /* free ones */
};

struct many_wait {
    const struct call_many *many;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    struct many_slot *free;
    size_t in_flight;
    bool waiting; /* the user's thread sleeps until in_flight falls to wake_at */
    size_t wake_at;
    char detail[RPC_DETAIL_MAX_BYTES]; /* of the last failure */
    struct many_slot slots[CALL_MANY_WINDOW];
};

static void many_done(void *arg, const struct rpc_answer *answer)
{
    struct many_slot *slot = arg;
    struct many_wait *wait = slot->wait;
    const struct call_many *many = wait->many;
    enum gfs_err err = answer->err;
    if (err == GFS_OK && many->take != NULL)
        err = many->take(many->arg, slot->i, answer->msg);
    many->ret_errs[slot->i] = err;
    pthread_mutex_lock(&wait->lock);
    if (err != GFS_OK)
        snprintf(wait->detail, sizeof(wait->detail), "%s", answer->detail);
    slot->next = wait->free;
    wait->free = slot;
    wait->in_flight--;
    if (wait->waiting && wait->in_flight <= wait->wake_at) {
        wait->waiting = false;
        pthread_cond_signal(&wait->changed);
    }
    pthread_mutex_unlock(&wait->lock);
}

/* Waits until at most `most` are in flight. Lock held. */
static void many_wait_for(struct many_wait *wait, size_t most)
{
    while (wait->in_flight > most) {
        wait->waiting = true;
        wait->wake_at = most;
        pthread_cond_wait(&wait->changed, &wait->lock);
    }
}

/* Sends those whose err in ret_errs is of class RETRY; all answers are in when it returns. */
static void many_round(struct gfs *fs, struct many_wait *wait, uint32_t timeout_ms)
{
    const struct call_many *many = wait->many;
    for (size_t i = 0; i < many->count; i++) {
        if (gfs_err_class(many->ret_errs[i]) != GFS_ERR_CLASS_RETRY)
            continue;
        pthread_mutex_lock(&wait->lock);
        if (wait->free == NULL)
            many_wait_for(wait, CALL_MANY_WINDOW / 2);
        struct many_slot *slot = wait->free;
        wait->free = slot->next;
        wait->in_flight++;
        pthread_mutex_unlock(&wait->lock);
        slot->i = i;
        struct rpc_call_args args = {
            .type = many->type,
            .msg = many->msg(many->arg, i),
            .timeout_ms = timeout_ms,
            .done = many_done,
            .arg = slot,
        };
        rpc_client_call(fs->rpc, fs->master, &args);
    }
    pthread_mutex_lock(&wait->lock);
    many_wait_for(wait, 0);
    pthread_mutex_unlock(&wait->lock);
}

static enum gfs_err many_first(const struct call_many *many, enum gfs_err_class class,
                               size_t *ret_i)
{
    for (size_t i = 0; i < many->count; i++) {
        if (many->ret_errs[i] != GFS_OK &&
            (class == GFS_ERR_CLASS_OK || gfs_err_class(many->ret_errs[i]) == class)) {
            *ret_i = i;
            return many->ret_errs[i];
        }
    }
    return GFS_OK;
}

enum gfs_err call_many(struct gfs *fs, const struct call_many *many)
{
    struct many_wait *wait = calloc(1, sizeof(*wait));
    if (wait == NULL)
        return failure_set(GFS_ERR_NO_MEMORY, "%s: out of memory", many->what);
    wait->many = many;
    pthread_mutex_init(&wait->lock, NULL);
    pthread_cond_init(&wait->changed, NULL);
    for (size_t i = 0; i < CALL_MANY_WINDOW; i++) {
        wait->slots[i].wait = wait;
        wait->slots[i].next = wait->free;
        wait->free = &wait->slots[i];
    }
    struct retry retry;
    retry_init(&retry, loop_now_ms(), fs->opts.timeout_ms);
    enum gfs_err err;
    size_t i = 0;
    uint32_t wait_ms;
    for (;;) {
        many_round(fs, wait, retry_left_ms(&retry, loop_now_ms()));
        err = many_first(many, GFS_ERR_CLASS_RETRY, &i);
        if (err == GFS_OK || !retry_next(&retry, err, 0, fs_random(fs), loop_now_ms(), &wait_ms))
            break;
        call_sleep_ms(wait_ms);
    }
    err = many_first(many, GFS_ERR_CLASS_OK, &i);
    if (err != GFS_OK)
        call_failed(fs, many->what, many->paths[i], err, wait->detail);
    pthread_cond_destroy(&wait->changed);
    pthread_mutex_destroy(&wait->lock);
    free(wait);
    return err;
}
