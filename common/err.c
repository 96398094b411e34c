/* err: the table of include/gfs_err.tbl as functions. Floor 1. */
#include "gfs_err.h"

#include <errno.h>
#include <stddef.h>

struct err_entry {
    enum gfs_err err;
    enum gfs_err_class class;
    int errno_value;
    const char *name;
    const char *text;
};

static const struct err_entry err_entries[] = {
#define GFS_ERR(name, code, class, errno_value, text) \
    {GFS_ERR_##name, GFS_ERR_CLASS_##class, errno_value, #name, text},
#include "gfs_err.tbl"
#undef GFS_ERR
};

static const struct err_entry *err_find(unsigned code)
{
    for (size_t i = 0; i < sizeof(err_entries) / sizeof(err_entries[0]); i++)
        if ((unsigned)err_entries[i].err == code)
            return &err_entries[i];
    return NULL;
}

const char *gfs_err_text(enum gfs_err err)
{
    const struct err_entry *entry = err_find(err);

    return entry ? entry->text : "unknown error";
}

const char *gfs_err_name(enum gfs_err err)
{
    const struct err_entry *entry = err_find(err);

    return entry ? entry->name : "UNKNOWN";
}

enum gfs_err_class gfs_err_class(enum gfs_err err)
{
    const struct err_entry *entry = err_find(err);

    return entry ? entry->class : GFS_ERR_CLASS_FINAL;
}

int gfs_err_errno(enum gfs_err err)
{
    const struct err_entry *entry = err_find(err);

    return entry ? entry->errno_value : EIO;
}

enum gfs_err gfs_err_from_wire(unsigned code)
{
    const struct err_entry *entry = err_find(code);

    return entry ? entry->err : GFS_ERR_PROTO;
}
