/*
 * write_op: one write, append, seal or order on its way through this server. Control thread,
 * private to write.c, append.c and settle.c.
 */
#ifndef CHUNKSERVER_WRITE_OP_H
#define CHUNKSERVER_WRITE_OP_H

#include "chunk.pb-c.h"
#include "chunkserver/chunkserver.h"

struct write_op;

struct write_send {
    struct write_op *write;
    uint32_t index;
};

struct write_op {
    struct mutation_op op; /* first: the core gives back pointers to it */
    struct chunkserver *cs;
    struct rpc_request *request;
    struct pushbuf_data *data; /* NULL: a seal */
    uint8_t data_id[PUSHBUF_ID_BYTES];
    struct store_piece *pieces; /* of an append: cut at the chunk's blocks; NULL: as pushed */
    size_t piece_count;
    bool append; /* the core chose the offset */

    /* A retry: looked up in the store's window. */
    struct storepool_job job;
    bool known;

    struct store_mutation local;
    enum gfs_err local_err;
    struct loop_task local_task;
    uint32_t length_bytes; /* of the chunk, after the local write */
    struct write_send sends[MUTATION_SECONDARIES_MAX];

    /* An append that waits until the master knows the length. */
    uint32_t told_bytes;
    struct write_op *prev, *next;
};

/* What an order says of its data. */
struct write_data {
    ProtobufCBinaryData id;
    uint32_t length_bytes;
    uint32_t first_block_bytes; /* the rest: data that came along */
    const uint32_t *crcs;
    size_t crc_count;
    size_t hops_left;
};

/* NULL: the request was answered. */
struct write_op *write_make(struct chunkserver *cs, struct rpc_request *take_request);
/* Finds the data, or keeps what came along. */
enum gfs_err write_find(struct write_op *write, const struct write_data *data) GFS_MUST_CHECK;
/* Cuts the data at the blocks of the chunk as it lies at op.offset_bytes. */
enum gfs_err write_cut(struct write_op *write) GFS_MUST_CHECK;
/* Answers with an error; the core does not have the op. */
void write_refuse(struct write_op *take_write, enum gfs_err err, const char *detail);
/* The op is done: data, group and memory go. The request was answered. */
void write_free(struct write_op *take_write);
/* Before the answer: its receiver may push the next data at once and must find the room. */
void write_unpin(struct write_op *write, bool written);
/* The chunk as the store has it. */
void write_have(struct chunkserver *cs, uint64_t handle, struct mutation_have *ret_have);

/* append.c: an append came to its end; tells the master, then answers. */
void append_finish(struct chunkserver *cs, struct write_op *take_write);

#endif
