#include "kv.h"
#include "master/journal.h"

static enum gfs_err journal_kv_commit(void *arg, const struct changes *const *list, size_t count)
{
    struct kv_batch *batch = kv_batch_new();
    if (batch == NULL) {
        return GFS_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        struct change change;
        size_t at = 0;
        while (changes_next(list[i], &at, &change)) {
            if (change.put) {
                kv_batch_put(batch, change.key, change.key_bytes, change.value, change.value_bytes);
            } else {
                kv_batch_delete(batch, change.key, change.key_bytes);
            }
        }
    }
    enum gfs_err err = kv_write(arg, batch, true);
    kv_batch_free(batch);
    return err;
}

struct journal_backend journal_backend_kv(struct kv *kv)
{
    return (struct journal_backend){journal_kv_commit, kv};
}
