/* Directory listings of gfs.h: pages of entries, copied off the wire into one block a page. */
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "call.h"
#include "failure.h"
#include "master.pb-c.h"

#define DIR_PAGE_ENTRIES 1000

struct dir_page {
    size_t count;
    bool more;
    struct gfs_dirent *entries; /* then the names, in the same block */
};

struct gfs_dir {
    struct gfs *fs;
    char *path;
    struct dir_page page;
    size_t next;
    char after[GFS_NAME_MAX_BYTES + 1]; /* the last name seen */
};

static bool name_is_good(const ProtobufCBinaryData *name)
{
    return name->len > 0 && name->len <= GFS_NAME_MAX_BYTES &&
           memchr(name->data, '\0', name->len) == NULL;
}

static enum gfs_err page_take(void *arg, const ProtobufCMessage *msg)
{
    const Gfs__ReaddirReply *reply = (const Gfs__ReaddirReply *)msg;
    size_t bytes = 1;
    for (size_t i = 0; i < reply->n_entries; i++) {
        if (!name_is_good(&reply->entries[i]->name))
            return GFS_ERR_PROTO;
        bytes += sizeof(struct gfs_dirent) + reply->entries[i]->name.len + 1;
    }
    struct gfs_dirent *entries = malloc(bytes);
    if (entries == NULL)
        return GFS_ERR_NO_MEMORY;
    char *names = (char *)(entries + reply->n_entries);
    for (size_t i = 0; i < reply->n_entries; i++) {
        const Gfs__DirEntry *entry = reply->entries[i];
        enum gfs_err err = attr_take(entry->attr, &entries[i].attr);
        if (err != GFS_OK) {
            free(entries);
            return err;
        }
        entries[i].name = names;
        memcpy(names, entry->name.data, entry->name.len);
        names[entry->name.len] = '\0';
        names += entry->name.len + 1;
    }
    *(struct dir_page *)arg =
        (struct dir_page){.count = reply->n_entries, .more = reply->more, .entries = entries};
    return GFS_OK;
}

static enum gfs_err page_fetch(struct gfs_dir *dir)
{
    Gfs__ReaddirRequest msg = GFS__READDIR_REQUEST__INIT;
    msg.path = call_bytes(dir->path);
    msg.after = call_bytes(dir->after);
    msg.limit = DIR_PAGE_ENTRIES;
    struct dir_page page = {0};
    struct call call = {.type = GFS_MSG_READDIR,
                        .msg = &msg.base,
                        .take = page_take,
                        .arg = &page,
                        .what = "list",
                        .path = dir->path};
    enum gfs_err err = call_master(dir->fs, &call);
    if (err != GFS_OK)
        return err;
    free(dir->page.entries);
    dir->page = page;
    dir->next = 0;
    if (page.count > 0)
        strcpy(dir->after, page.entries[page.count - 1].name);
    return GFS_OK;
}

enum gfs_err gfs_opendir(struct gfs *fs, const char *path, struct gfs_dir **ret_dir)
{
    enum gfs_err err = call_check_path("list", path);
    if (err != GFS_OK)
        return err;
    struct gfs_dir *dir = calloc(1, sizeof(*dir));
    if (dir != NULL)
        dir->path = strdup(path);
    if (dir == NULL || dir->path == NULL) {
        gfs_closedir(dir);
        return failure_set(GFS_ERR_NO_MEMORY, "list %s: out of memory", path);
    }
    dir->fs = fs;
    err = page_fetch(dir);
    if (err != GFS_OK)
        gfs_closedir(dir);
    else
        *ret_dir = dir;
    return err;
}

enum gfs_err gfs_readdir(struct gfs_dir *dir, struct gfs_dirent *ret_entry)
{
    while (dir->next == dir->page.count) {
        if (!dir->page.more)
            return failure_set(GFS_ERR_NOT_FOUND, "list %s: no more entries", dir->path);
        enum gfs_err err = page_fetch(dir);
        if (err != GFS_OK)
            return err;
    }
    *ret_entry = dir->page.entries[dir->next++];
    return GFS_OK;
}

void gfs_closedir(struct gfs_dir *dir)
{
    if (dir == NULL)
        return;
    free(dir->page.entries);
    free(dir->path);
    free(dir);
}
