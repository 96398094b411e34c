#include "store_log_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc.h"

#define STORE_DATA_PREFIX_BYTES (sizeof(STORE_DATA_PREFIX) - 1)
#define STORE_DATA_NAME_BYTES   (STORE_DATA_PREFIX_BYTES + 16)
/* A database is renamed to this before it is removed, so that a crash leaves no half of one. */
#define STORE_GONE_SUFFIX ".gone"
/* One that does not open is kept for inspection, out of the way. */
#define STORE_BAD_SUFFIX ".bad"

/* The active one is opened with the options of the store; sealed ones never fill a buffer. */
static struct kv_options db_options(const struct store_log *log)
{
    return (struct kv_options){
        .write_buffer_bytes = log->opts.write_buffer_bytes,
        .max_file_bytes = log->opts.write_buffer_bytes,
        .cache_bytes = 1 << 20,
        .paranoid = true,
    };
}

static struct store_db *db_new(const struct store_log *log, uint64_t first_seq, const char *suffix)
{
    struct store_db *db = calloc(1, sizeof(*db));
    if (db == NULL)
        return NULL;
    db->first_seq = first_seq;
    db->upto_seq = UINT64_MAX;
    db->refs = 1;
    int len = snprintf(db->path, sizeof(db->path), "%s/" STORE_DATA_PREFIX "%016llx%s", log->path,
                       (unsigned long long)first_seq, suffix);
    if (len < 0 || (size_t)len >= sizeof(db->path)) {
        free(db);
        return NULL;
    }
    return db;
}

enum gfs_err store_log_dir_make(struct store_log *log, uint64_t first_seq, struct store_db **ret_db)
{
    enum gfs_err err;
    struct store_db *db = db_new(log, first_seq, "");
    if (db == NULL)
        return GFS_ERR_NO_MEMORY;
    /* What an attempt that failed (or a crash in it) left under the name holds nothing. */
    struct kv_text text;
    err = kv_destroy(db->path, &text);
    if (err != GFS_OK)
        goto out;
    struct kv_options opts = db_options(log);
    opts.create = true;
    err = kv_open(db->path, &opts, &db->kv, &text);
    if (err != GFS_OK)
        goto out;
    const struct store_set *set = log->set;
    struct store_record head = {
        .seq = first_seq,
        .kind = STORE_RECORD_HEAD,
        .as_of = set->count > 0 ? set->dbs[set->count - 1]->first_seq : 0,
        .data_crc = crc32c(0, "", 0),
    };
    uint8_t key[STORE_RECORD_KEY_BYTES];
    store_record_encode(&head, key);
    err = kv_put(db->kv, key, sizeof(key), "", 0, true);
    if (err == GFS_OK)
        err = store_dir_sync(db->path);
    if (err == GFS_OK)
        err = store_dir_sync(log->path);
    if (err != GFS_OK)
        goto out;
    db->counted_seq = first_seq;
    *ret_db = db;
    return GFS_OK;
out:
    store_db_unref(db);
    return err;
}

static bool name_is_data(const char *name, uint64_t *ret_seq, const char **ret_suffix)
{
    if (strncmp(name, STORE_DATA_PREFIX, STORE_DATA_PREFIX_BYTES) != 0 ||
        strlen(name) < STORE_DATA_NAME_BYTES)
        return false;
    char *end;
    char digits[17];
    memcpy(digits, name + STORE_DATA_PREFIX_BYTES, 16);
    digits[16] = '\0';
    unsigned long long seq = strtoull(digits, &end, 16);
    if (*end != '\0' || seq == 0)
        return false;
    *ret_seq = seq;
    *ret_suffix = name + STORE_DATA_NAME_BYTES;
    return true;
}

/*
 * A damaged log makes the strict open fail; the lenient one drops what is damaged and puts the rest
 * into tables. Recovery finds by the sequence numbers what is missing.
 */
static enum gfs_err db_open(struct store_log *log, struct store_db *db)
{
    struct kv_text text;
    struct kv_options opts = db_options(log);
    enum gfs_err err = kv_open(db->path, &opts, &db->kv, &text);
    if (err != GFS_ERR_CORRUPT)
        return err;
    db->suspect = true;
    opts.paranoid = false;
    err = kv_open(db->path, &opts, &db->kv, &text);
    if (err != GFS_OK)
        return err;
    kv_close(db->kv);
    db->kv = NULL;
    opts.paranoid = true;
    return kv_open(db->path, &opts, &db->kv, &text);
}

/* Has anything ever been appended? Even HEAD is only after all else is made. */
static bool dir_holds_data(const char *path)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return true;
    bool found = false;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        const char *dot = strrchr(entry->d_name, '.');
        struct stat info;
        if (dot == NULL || (strcmp(dot, ".log") != 0 && strcmp(dot, ".ldb") != 0))
            continue;
        found = found || fstatat(dirfd(dir), entry->d_name, &info, 0) != 0 || info.st_size > 0;
    }
    closedir(dir);
    return found;
}

/* Only a database that is there and broken is set aside; when memory or files run out, open fails.
 * NOT_FOUND: a crash cut off its making, and it was removed. */
static enum gfs_err db_load(struct store_log *log, struct store_db *db)
{
    enum gfs_err err = db_open(log, db);
    if (err == GFS_OK || err == GFS_ERR_LOCKED || err == GFS_ERR_NO_MEMORY ||
        err == GFS_ERR_NO_SPACE)
        return err;
    db->kv = NULL;
    if (!dir_holds_data(db->path)) {
        err = kv_destroy(db->path, NULL);
        return err != GFS_OK ? err : GFS_ERR_NOT_FOUND;
    }
    char to[STORE_PATH_MAX + sizeof(STORE_BAD_SUFFIX)];
    snprintf(to, sizeof(to), "%s" STORE_BAD_SUFFIX, db->path);
    if (rename(db->path, to) != 0)
        return GFS_ERR_LOCAL;
    return store_dir_sync(log->path);
}

static int set_order(const void *a, const void *b)
{
    const struct store_db *left = *(struct store_db *const *)a;
    const struct store_db *right = *(struct store_db *const *)b;
    return left->first_seq < right->first_seq ? -1 : left->first_seq > right->first_seq;
}

static enum gfs_err set_add(struct store_log *log, struct store_set **set, struct store_db *take_db)
{
    size_t count = (*set)->count;
    struct store_set *grown = realloc(*set, sizeof(**set) + (count + 1) * sizeof((*set)->dbs[0]));
    if (grown == NULL) {
        store_db_unref(take_db);
        return GFS_ERR_NO_MEMORY;
    }
    grown->dbs[grown->count++] = take_db;
    *set = grown;
    return GFS_OK;
}

static enum gfs_err entry_load(struct store_log *log, const char *name, struct store_set **set)
{
    uint64_t seq;
    const char *suffix;
    if (!name_is_data(name, &seq, &suffix))
        return GFS_OK;
    struct store_db *db = db_new(log, seq, suffix);
    if (db == NULL)
        return GFS_ERR_NO_MEMORY;
    enum gfs_err err = GFS_OK;
    if (strcmp(suffix, STORE_GONE_SUFFIX) == 0) {
        err = kv_destroy(db->path, NULL);
        store_db_unref(db);
        return err;
    }
    if (strcmp(suffix, "") == 0)
        err = db_load(log, db);
    else if (strcmp(suffix, STORE_BAD_SUFFIX) == 0)
        db->bad_before = true;
    else
        err = GFS_ERR_BAD_FORMAT;
    if (err != GFS_OK) {
        store_db_unref(db);
        return err == GFS_ERR_NOT_FOUND ? GFS_OK : err;
    }
    return set_add(log, set, db);
}

enum gfs_err store_log_dir_load(struct store_log *log)
{
    struct store_set *set = calloc(1, sizeof(*set));
    DIR *dir = opendir(log->path);
    enum gfs_err err = GFS_OK;
    if (set == NULL || dir == NULL) {
        err = set == NULL ? GFS_ERR_NO_MEMORY : GFS_ERR_LOCAL;
        goto out;
    }
    set->refs = 1;
    for (struct dirent *entry = readdir(dir); entry != NULL && err == GFS_OK; entry = readdir(dir))
        err = entry_load(log, entry->d_name, &set);
    if (err != GFS_OK)
        goto out;
    qsort(set->dbs, set->count, sizeof(set->dbs[0]), set_order);
    for (size_t i = 0; i + 1 < set->count; i++)
        set->dbs[i]->upto_seq = set->dbs[i + 1]->first_seq - 1;
    log->set = set;
    set = NULL;
out:
    if (set != NULL)
        set->refs = 1;
    store_set_unref(set);
    if (dir != NULL)
        closedir(dir);
    return err;
}

enum gfs_err store_db_destroy(struct store_db *take_db)
{
    char to[STORE_PATH_MAX + sizeof(STORE_GONE_SUFFIX)];
    char parent[STORE_PATH_MAX];
    snprintf(to, sizeof(to), "%s" STORE_GONE_SUFFIX, take_db->path);
    snprintf(parent, sizeof(parent), "%s", take_db->path);
    *strrchr(parent, '/') = '\0';

    enum gfs_err err = GFS_OK;
    kv_close(take_db->kv);
    take_db->kv = NULL;
    if (rename(take_db->path, to) != 0)
        err = GFS_ERR_LOCAL;
    if (err == GFS_OK)
        err = store_dir_sync(parent);
    if (err == GFS_OK)
        err = kv_destroy(to, NULL);
    store_db_unref(take_db);
    return err;
}
