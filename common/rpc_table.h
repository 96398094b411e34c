/* rpc_table: gfs_msg.tbl with the messages' descriptors and who may send what. Floor 4. */
#ifndef COMMON_RPC_TABLE_H
#define COMMON_RPC_TABLE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

#include "gfs_msg.h"

struct rpc_type {
    const char *name; /* NULL: no such type */
    enum gfs_msg type;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *reply;
    const char *from; /* roles: C, S, M */
};

#define RPC_TABLE_SIZE 256

/* NULL when the number is unknown. */
const struct rpc_type *rpc_table_find(unsigned number);
bool rpc_table_allows(const struct rpc_type *type, enum gfs_role role);

#endif
