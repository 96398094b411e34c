/* attr: attributes off the wire. */
#ifndef CLIENT_ATTR_H
#define CLIENT_ATTR_H

#include "gfs.h"
#include "master.pb-c.h"

/* PROTO when the message lacks them or makes no sense; *ret_attr is untouched then. */
enum gfs_err attr_take(const Gfs__Attr *attr, struct gfs_attr *ret_attr) GFS_MUST_CHECK;

#endif
