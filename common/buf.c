/*
 * buf: one allocation holds the head and, 64 bytes later, the data.
 *
 * Freed buffers wait in a list for each power of two from 4 KiB to 8 MiB; all lists together hold
 * at most BUF_KEEP_BYTES. The lists are the one process-wide state here: a buffer is made on one
 * thread and freed on another, so a pool for each thread would only fill at one end. Under
 * AddressSanitizer nothing is kept, so that a use after free is found.
 */
#include "buf.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define BUF_HEAD_BYTES      64
#define BUF_CLASS_MIN_SHIFT 12
#define BUF_CLASS_COUNT     12
#define BUF_KEEP_BYTES      ((size_t)48 << 20)

_Static_assert(sizeof(struct buf) <= BUF_HEAD_BYTES, "the head must fit");

#if defined(__SANITIZE_ADDRESS__)
#define BUF_KEEP 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUF_KEEP 0
#endif
#endif
#ifndef BUF_KEEP
#define BUF_KEEP 1
#endif

struct buf_free {
    struct buf_free *next;
};

static struct {
    pthread_mutex_t lock;
    struct buf_free *lists[BUF_CLASS_COUNT];
    size_t kept_bytes;
} buf_pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The class whose buffers hold cap_bytes; BUF_CLASS_COUNT when none does, or it is too small to be
 * worth keeping. */
static unsigned buf_class(size_t cap_bytes)
{
    unsigned class = 0;

    if (cap_bytes < ((size_t)1 << (BUF_CLASS_MIN_SHIFT - 1)))
        return BUF_CLASS_COUNT;
    while (class < BUF_CLASS_COUNT && ((size_t)1 << (class + BUF_CLASS_MIN_SHIFT)) < cap_bytes)
        class ++;
    return class;
}

static void *buf_pool_take(unsigned class)
{
    struct buf_free *memory;

    pthread_mutex_lock(&buf_pool.lock);
    memory = buf_pool.lists[class];
    if (memory) {
        buf_pool.lists[class] = memory->next;
        buf_pool.kept_bytes -= (size_t)1 << (class + BUF_CLASS_MIN_SHIFT);
    }
    pthread_mutex_unlock(&buf_pool.lock);
    return memory;
}

static bool buf_pool_give(unsigned class, void *memory)
{
    size_t bytes = (size_t)1 << (class + BUF_CLASS_MIN_SHIFT);
    struct buf_free *entry = memory;
    bool kept = false;

    pthread_mutex_lock(&buf_pool.lock);
    if (buf_pool.kept_bytes + bytes <= BUF_KEEP_BYTES) {
        entry->next = buf_pool.lists[class];
        buf_pool.lists[class] = entry;
        buf_pool.kept_bytes += bytes;
        kept = true;
    }
    pthread_mutex_unlock(&buf_pool.lock);
    return kept;
}

struct buf *buf_new(size_t cap_bytes)
{
    unsigned class = BUF_KEEP ? buf_class(cap_bytes) : BUF_CLASS_COUNT;
    struct buf *buf = NULL;

    if (cap_bytes > SIZE_MAX / 2)
        return NULL;
    if (class < BUF_CLASS_COUNT) {
        cap_bytes = (size_t)1 << (class + BUF_CLASS_MIN_SHIFT);
        buf = buf_pool_take(class);
    }
    if (!buf)
        buf = malloc(BUF_HEAD_BYTES + cap_bytes);
    if (!buf)
        return NULL;
    buf->data = (uint8_t *)buf + BUF_HEAD_BYTES;
    buf->len_bytes = 0;
    buf->cap_bytes = cap_bytes;
    buf->refs = 1;
    return buf;
}

struct buf *buf_ref(struct buf *buf)
{
    int refs = __atomic_fetch_add(&buf->refs, 1, __ATOMIC_RELAXED);

    assert(refs > 0);
    return buf;
}

void buf_unref(struct buf *take_buf)
{
    unsigned class;
    int refs;

    if (!take_buf)
        return;
    refs = __atomic_fetch_sub(&take_buf->refs, 1, __ATOMIC_ACQ_REL);
    assert(refs > 0);
    if (refs > 1)
        return;
    class = BUF_KEEP ? buf_class(take_buf->cap_bytes) : BUF_CLASS_COUNT;
    if (class < BUF_CLASS_COUNT && buf_pool_give(class, take_buf))
        return;
    free(take_buf);
}
