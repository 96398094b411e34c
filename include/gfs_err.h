/*
 * Errors: one enum for every fallible function, made from gfs_err.tbl.
 * Floor 0: usable by programs that link libgfs and by every module.
 */
#ifndef GFS_ERR_H
#define GFS_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

/* What libgfs.so exports. */
#ifndef GFS_API
#define GFS_API __attribute__((visibility("default")))
#endif

enum gfs_err {
#define GFS_ERR(name, code, class, errno_value, text) GFS_ERR_##name = code,
#include "gfs_err.tbl"
#undef GFS_ERR
};
#define GFS_OK GFS_ERR_OK

enum gfs_err_class {
    GFS_ERR_CLASS_OK,
    GFS_ERR_CLASS_RETRY, /* same call, later */
    GFS_ERR_CLASS_ELSE,  /* another replica, or ask the master again */
    GFS_ERR_CLASS_FINAL, /* report it */
};

/* Text for people, never NULL; an unknown code gives "unknown error". Thread-safe. */
GFS_API const char *gfs_err_text(enum gfs_err err);
/* The name as in the table ("NOT_FOUND"), never NULL. Thread-safe. */
GFS_API const char *gfs_err_name(enum gfs_err err);
/* What a caller should do about it. An unknown code is FINAL. Thread-safe. */
GFS_API enum gfs_err_class gfs_err_class(enum gfs_err err);
/* The closest errno value, 0 for GFS_OK. Thread-safe. */
GFS_API int gfs_err_errno(enum gfs_err err);
/* A code off the wire made safe: unknown ones become GFS_ERR_PROTO. */
GFS_API enum gfs_err gfs_err_from_wire(unsigned code);

#define GFS_MUST_CHECK __attribute__((warn_unused_result))

#ifdef __cplusplus
}
#endif
#endif
