/*
 * settle: the primary tells its secondaries what is on every replica, and reads wait for it.
 * Control thread.
 *
 * News is gathered for SETTLE_EVERY_MS and sent in one message to each secondary: a read of what
 * was just written waits so long at most, or goes to the primary.
 */
#include <stdlib.h>
#include <string.h>

#include "chunk.pb-c.h"
#include "chunkserver/read_job.h"

#define SETTLE_EVERY_MS    10u
#define SETTLE_RETRY_MS    200u
#define SETTLE_TIMEOUT_MS  2000u
#define SETTLE_CHUNKS_MAX  4096u /* of one message */
#define SETTLE_NEWS_MAX    1024u /* of one round */
#define SETTLE_STARTED_MAX 1024u /* chunks looked at in one step at start */

/* One message to one secondary. */
struct settle_call {
    struct chunkserver *cs;
    char addr[MUTATION_ADDR_MAX_BYTES];
    size_t count;
    struct settle_call *next;
    Gfs__SettledChunk chunks[];
};

static void settle_done(void *arg, const struct rpc_answer *answer)
{
    struct settle_call *call = arg;
    struct chunkserver *cs = call->cs;

    if (answer->err != GFS_OK && !cs->closed) {
        for (size_t i = 0; i < call->count; i++)
            mutation_news_failed(cs->mutations, call->chunks[i].handle, call->chunks[i].version);
        if (mutation_has_news(cs->mutations)) {
            cs->settle.armed = true;
            loop_timer_arm(&cs->settle.timer, SETTLE_RETRY_MS);
        }
    }
    free(call);
}

static struct settle_call *call_for(struct chunkserver *cs, struct settle_call **calls,
                                    const char *addr)
{
    struct settle_call *call;

    for (call = *calls; call; call = call->next)
        if (strcmp(call->addr, addr) == 0)
            return call;
    call = calloc(1, sizeof *call + SETTLE_NEWS_MAX * sizeof call->chunks[0]);
    if (!call)
        return NULL;
    call->cs = cs;
    strcpy(call->addr, addr);
    call->next = *calls;
    *calls = call;
    return call;
}

static void call_send(struct settle_call *take_call)
{
    Gfs__SettleRequest msg = GFS__SETTLE_REQUEST__INIT;
    Gfs__SettledChunk *pointers[SETTLE_NEWS_MAX];

    for (size_t i = 0; i < take_call->count; i++)
        pointers[i] = &take_call->chunks[i];
    msg.n_chunks = take_call->count;
    msg.chunks = pointers;
    rpc_client_call(take_call->cs->control.client, take_call->addr,
                    &(struct rpc_call_args){.type = GFS_MSG_SETTLE,
                                            .msg = &msg.base,
                                            .timeout_ms = SETTLE_TIMEOUT_MS,
                                            .done = settle_done,
                                            .arg = take_call});
}

static void news_add(struct chunkserver *cs, struct settle_call **calls,
                     const struct mutation_news *news)
{
    for (uint32_t i = 0; i < news->group->count; i++) {
        struct settle_call *call = call_for(cs, calls, news->group->addrs[i]);
        Gfs__SettledChunk *chunk;

        if (!call) {
            mutation_news_failed(cs->mutations, news->handle, news->version);
            continue;
        }
        chunk = &call->chunks[call->count++];
        gfs__settled_chunk__init(chunk);
        chunk->handle = news->handle;
        chunk->version = news->version;
        chunk->serial = news->serial;
    }
}

static void settle_send(struct chunkserver *cs)
{
    struct settle_call *calls = NULL;
    struct mutation_news news;
    size_t count = 0;

    while (count++ < SETTLE_NEWS_MAX && mutation_next_news(cs->mutations, &news)) {
        news_add(cs, &calls, &news);
        mutation_group_unref(news.group);
    }
    while (calls) {
        struct settle_call *call = calls;

        calls = call->next;
        call_send(call);
    }
}

static void timer_fired(struct loop_timer *timer)
{
    struct cs_settle *settle =
        (struct cs_settle *)((char *)timer - offsetof(struct cs_settle, timer));
    struct chunkserver *cs =
        (struct chunkserver *)((char *)settle - offsetof(struct chunkserver, settle));

    settle->armed = false;
    if (cs->closed)
        return;
    settle_send(cs);
    cs_settled(cs);
}

void cs_unsettled_note(struct chunkserver *cs)
{
    atomic_store(&cs->unsettled, mutation_unsettled_count(cs->mutations));
}

void cs_settled(struct chunkserver *cs)
{
    cs_unsettled_note(cs);
    if (cs->settle.parked)
        read_parked_check(cs, cs->closed);
    if ((mutation_has_news(cs->mutations) || cs->settle.parked) && !cs->settle.armed &&
        !cs->closed) {
        cs->settle.armed = true;
        loop_timer_arm(&cs->settle.timer, SETTLE_EVERY_MS);
    }
}

void cs_settle(struct chunkserver *cs, struct rpc_request *take_request)
{
    const Gfs__SettleRequest *msg = (const Gfs__SettleRequest *)take_request->msg;

    if (msg->n_chunks > SETTLE_CHUNKS_MAX) {
        cs_reply_error(cs, take_request, GFS_ERR_INVAL, NULL);
        return;
    }
    for (size_t i = 0; i < msg->n_chunks; i++) {
        const Gfs__SettledChunk *chunk = msg->chunks[i];
        struct mutation_have have = {0};
        struct store_chunk stored;

        if (store_chunk_get(cs->store, chunk->handle, &stored) == GFS_OK) {
            have.exists = true;
            have.version = stored.version;
        }
        mutation_settle(cs->mutations, chunk->handle, chunk->version, chunk->serial, &have,
                        loop_now_ms());
    }
    cs_reply_empty(cs, take_request);
    cs_settled(cs);
}

void cs_settle_doubt(struct chunkserver *cs)
{
    struct store_chunk *chunks = calloc(SETTLE_STARTED_MAX, sizeof *chunks);
    uint64_t from = 0;
    size_t count = SETTLE_STARTED_MAX;

    while (chunks && count == SETTLE_STARTED_MAX) {
        count = store_list(cs->store, from, chunks, SETTLE_STARTED_MAX);
        for (size_t i = 0; i < count; i++) {
            const struct mutation_have have = {.exists = true,
                                               .version = chunks[i].version,
                                               .length_bytes = chunks[i].length_bytes,
                                               .serial = chunks[i].serial};

            from = chunks[i].handle + 1;
            if (!chunks[i].unsettled)
                continue;
            /* Too many: the rest is as it was before there was this care. */
            if (mutation_doubt(cs->mutations, chunks[i].handle, &have, loop_now_ms()) != GFS_OK)
                count = 0;
        }
    }
    free(chunks);
    cs_unsettled_note(cs);
}

enum gfs_err cs_settle_init(struct chunkserver *cs)
{
    return loop_timer_init(&cs->settle.timer, cs->control.loop, timer_fired);
}

void cs_settle_release(struct chunkserver *cs)
{
    loop_timer_release(&cs->settle.timer);
}

void cs_settle_drop(struct chunkserver *cs)
{
    read_parked_check(cs, true);
}
