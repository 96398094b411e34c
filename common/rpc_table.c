/*
 * rpc_table: the table by number. protobuf-c names descriptors in snake case, which no macro makes
 * out of the table's names; the list below translates, and a missing line does not compile.
 */
#include "rpc_table.h"

#include <string.h>

#include "chunk.pb-c.h"
#include "control.pb-c.h"
#include "master.pb-c.h"
#include "rpc.pb-c.h"

/* clang-format off */
#define RPC_TABLE_Hello &gfs__hello__descriptor
#define RPC_TABLE_HelloOk &gfs__hello_ok__descriptor
#define RPC_TABLE_Ping &gfs__ping__descriptor
#define RPC_TABLE_Pong &gfs__pong__descriptor
#define RPC_TABLE_LookupRequest &gfs__lookup_request__descriptor
#define RPC_TABLE_LookupReply &gfs__lookup_reply__descriptor
#define RPC_TABLE_ReaddirRequest &gfs__readdir_request__descriptor
#define RPC_TABLE_ReaddirReply &gfs__readdir_reply__descriptor
#define RPC_TABLE_CreateRequest &gfs__create_request__descriptor
#define RPC_TABLE_CreateReply &gfs__create_reply__descriptor
#define RPC_TABLE_PublishRequest &gfs__publish_request__descriptor
#define RPC_TABLE_PublishReply &gfs__publish_reply__descriptor
#define RPC_TABLE_AbandonRequest &gfs__abandon_request__descriptor
#define RPC_TABLE_EmptyReply &gfs__empty_reply__descriptor
#define RPC_TABLE_MkdirRequest &gfs__mkdir_request__descriptor
#define RPC_TABLE_RemoveRequest &gfs__remove_request__descriptor
#define RPC_TABLE_RenameRequest &gfs__rename_request__descriptor
#define RPC_TABLE_SetattrRequest &gfs__setattr_request__descriptor
#define RPC_TABLE_SetattrReply &gfs__setattr_reply__descriptor
#define RPC_TABLE_TruncateRequest &gfs__truncate_request__descriptor
#define RPC_TABLE_CommitRequest &gfs__commit_request__descriptor
#define RPC_TABLE_StatfsRequest &gfs__statfs_request__descriptor
#define RPC_TABLE_StatfsReply &gfs__statfs_reply__descriptor
#define RPC_TABLE_ServersRequest &gfs__servers_request__descriptor
#define RPC_TABLE_ServersReply &gfs__servers_reply__descriptor
#define RPC_TABLE_ChunksRequest &gfs__chunks_request__descriptor
#define RPC_TABLE_ChunksReply &gfs__chunks_reply__descriptor
#define RPC_TABLE_LeaseRequest &gfs__lease_request__descriptor
#define RPC_TABLE_LeaseReply &gfs__lease_reply__descriptor
#define RPC_TABLE_ReportBadRequest &gfs__report_bad_request__descriptor
#define RPC_TABLE_RegisterRequest &gfs__register_request__descriptor
#define RPC_TABLE_RegisterReply &gfs__register_reply__descriptor
#define RPC_TABLE_HeartbeatRequest &gfs__heartbeat_request__descriptor
#define RPC_TABLE_HeartbeatReply &gfs__heartbeat_reply__descriptor
#define RPC_TABLE_ChunkReportRequest &gfs__chunk_report_request__descriptor
#define RPC_TABLE_ChunkReportReply &gfs__chunk_report_reply__descriptor
#define RPC_TABLE_SetVersionRequest &gfs__set_version_request__descriptor
#define RPC_TABLE_SetVersionReply &gfs__set_version_reply__descriptor
#define RPC_TABLE_GrantLeaseRequest &gfs__grant_lease_request__descriptor
#define RPC_TABLE_DeleteChunksRequest &gfs__delete_chunks_request__descriptor
#define RPC_TABLE_PushRequest &gfs__push_request__descriptor
#define RPC_TABLE_WriteRequest &gfs__write_request__descriptor
#define RPC_TABLE_WriteReply &gfs__write_reply__descriptor
#define RPC_TABLE_ApplyRequest &gfs__apply_request__descriptor
#define RPC_TABLE_ReadRequest &gfs__read_request__descriptor
#define RPC_TABLE_ReadReply &gfs__read_reply__descriptor
#define RPC_TABLE_SnapshotRequest &gfs__snapshot_request__descriptor
#define RPC_TABLE_WaitRequest &gfs__wait_request__descriptor
#define RPC_TABLE_WaitReply &gfs__wait_reply__descriptor
#define RPC_TABLE_AppendedRequest &gfs__appended_request__descriptor
#define RPC_TABLE_AppendedReply &gfs__appended_reply__descriptor
#define RPC_TABLE_SyncChunkRequest &gfs__sync_chunk_request__descriptor
#define RPC_TABLE_SyncChunkReply &gfs__sync_chunk_reply__descriptor
#define RPC_TABLE_CopyChunkRequest &gfs__copy_chunk_request__descriptor
#define RPC_TABLE_CopyChunkReply &gfs__copy_chunk_reply__descriptor
#define RPC_TABLE_AppendRequest &gfs__append_request__descriptor
#define RPC_TABLE_AppendReply &gfs__append_reply__descriptor
#define RPC_TABLE_SettleRequest &gfs__settle_request__descriptor
#define RPC_TABLE_DigestRequest &gfs__digest_request__descriptor
#define RPC_TABLE_DigestReply &gfs__digest_reply__descriptor
#define RPC_TABLE_ScrubRequest &gfs__scrub_request__descriptor
#define RPC_TABLE_ScrubReply &gfs__scrub_reply__descriptor
/* clang-format on */

static const struct rpc_type rpc_table[RPC_TABLE_SIZE] = {
#define GFS_MSG(label, number, request_name, reply_name, roles) \
    [number] = {.name = #label,                                 \
                .type = GFS_MSG_##label,                        \
                .request = RPC_TABLE_##request_name,            \
                .reply = RPC_TABLE_##reply_name,                \
                .from = roles},
#include "gfs_msg.tbl"
#undef GFS_MSG
};

const struct rpc_type *rpc_table_find(unsigned number)
{
    return number < RPC_TABLE_SIZE && rpc_table[number].name ? &rpc_table[number] : NULL;
}

bool rpc_table_allows(const struct rpc_type *type, enum gfs_role role)
{
    switch (role) {
    case GFS_ROLE_CLIENT:
        return strchr(type->from, 'C') != NULL;
    case GFS_ROLE_CHUNKSERVER:
        return strchr(type->from, 'S') != NULL;
    case GFS_ROLE_MASTER:
        return strchr(type->from, 'M') != NULL;
    }
    return false;
}
