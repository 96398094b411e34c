/* list: ls. Directories are listed as the cluster pages them; -R keeps only the names of the
 * directories still to visit. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "groups.h"
#include "out.h"

struct list_pending {
    struct list_pending *next;
    char *path;
};

static void list_entry_human(const struct ctl *ctl, const char *name, const struct gfs_attr *attr)
{
    if (ctl_has(ctl, CTL_OPTION_LONG)) {
        char mtime[OUT_TIME_TEXT_BYTES];
        out_time(attr->mtime_ms, mtime);
        printf("%-9s %14" PRIu64 " %2u %s ", out_type(attr->type), attr->size_bytes, attr->goal,
               mtime);
    }
    out_name(ctl, name);
    if (attr->type == GFS_TYPE_DIR && ctl->out_is_terminal)
        putchar('/');
    putchar('\n');
}

static void list_entry_json(struct out_list *list, const char *dir, const char *name,
                            const struct gfs_attr *attr)
{
    cJSON *object = out_object();
    char *path = dir ? ctl_join(dir, name) : out_escape(name, false);
    out_add_text(object, "name", ctl_basename(name));
    out_add_text(object, "path", path);
    out_add(object, "type", cJSON_CreateString(out_type(attr->type)));
    out_add_u64(object, "size", attr->size_bytes);
    out_add_u64(object, "goal", attr->goal);
    out_add_u64(object, "chunk_size", attr->chunk_size_bytes);
    out_add_seconds(object, "mtime", attr->mtime_ms);
    out_list_add(list, object);
    free(path);
}

/* Lists one directory; subdirectories found are put, in order, at *tail. */
static enum ctl_exit list_dir(const struct ctl *ctl, const char *path, struct out_list *list,
                              struct list_pending **tail)
{
    struct gfs_dir *dir;
    struct gfs_dirent entry;
    enum gfs_err err = gfs_opendir(ctl->fs, path, &dir);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    while (!ferror(stdout) && (err = gfs_readdir(dir, &entry)) == GFS_OK) {
        if (ctl->json)
            list_entry_json(list, path, entry.name, &entry.attr);
        else
            list_entry_human(ctl, entry.name, &entry.attr);
        if (entry.attr.type != GFS_TYPE_DIR || !ctl_has(ctl, CTL_OPTION_RECURSIVE))
            continue;
        struct list_pending *pending = ctl_alloc(sizeof *pending);
        pending->path = ctl_join(path, entry.name);
        pending->next = *tail;
        *tail = pending;
        tail = &pending->next;
    }
    enum ctl_exit result =
        err == GFS_OK || err == GFS_ERR_NOT_FOUND ? CTL_OK : ctl_fail_gfs(ctl, err, NULL);
    gfs_closedir(dir);
    return result;
}

static enum ctl_exit list_tree(const struct ctl *ctl, const char *path, struct out_list *list)
{
    bool heading = ctl_has(ctl, CTL_OPTION_RECURSIVE) && !ctl->json;
    struct list_pending *pending = ctl_alloc(sizeof *pending);
    *pending = (struct list_pending){.path = out_escape(path, false)};
    enum ctl_exit result = CTL_OK;
    for (bool first = true; pending; first = false) {
        struct list_pending *here = pending;
        pending = here->next;
        if (heading && result == CTL_OK) {
            fputs(first ? "" : "\n", stdout);
            out_name(ctl, here->path);
            puts(":");
        }
        if (result == CTL_OK)
            result = list_dir(ctl, here->path, list, &pending);
        free(here->path);
        free(here);
    }
    return result;
}

enum ctl_exit list_run(struct ctl *ctl)
{
    const char *path = ctl->arg_count ? ctl->args[0] : "/";
    struct gfs_attr attr;
    struct out_list list = {0};
    enum ctl_exit result = CTL_OK;
    enum gfs_err err = gfs_stat(ctl->fs, path, &attr);
    if (err != GFS_OK)
        return ctl_fail_gfs(ctl, err, NULL);
    if (attr.type == GFS_TYPE_DIR)
        result = list_tree(ctl, path, &list);
    else if (ctl->json)
        list_entry_json(&list, NULL, path, &attr);
    else
        list_entry_human(ctl, path, &attr);
    if (ctl->json && result == CTL_OK)
        out_list_end(&list);
    return result;
}
