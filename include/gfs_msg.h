/* Message types, from gfs_msg.tbl. Floor 0. */
#ifndef GFS_MSG_H
#define GFS_MSG_H

enum gfs_msg {
#define GFS_MSG(name, number, request, reply, from) GFS_MSG_##name = number,
#include "gfs_msg.tbl"
#undef GFS_MSG
};

enum gfs_role {
    GFS_ROLE_CLIENT = 1,
    GFS_ROLE_CHUNKSERVER = 2,
    GFS_ROLE_MASTER = 3,
};

#endif
