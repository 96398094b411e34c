/*
 * sim_net: pipes between two ends, as TCP gives them: in order, each frame once, or the end of the
 * connection. What is lost is a connection, never one frame of it: a frame on a cut link waits and
 * is sent again when the link is whole, or until the sender gives up. Frames of different pipes
 * overtake each other.
 *
 *   end[0] --- flow[0]: frames with their time of arrival ---> end[1]
 *          <-- flow[1] --------------------------------------
 *
 * Nothing here belongs to a node: a frame on its way outlives its sender. Pipes are never freed
 * (a seed's process is short).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "rpc_table.h"
#include "sim_int.h"

#define NET_GIVE_UP_US    (20 * SIM_S) /* rpc_io.c's TCP_USER_TIMEOUT */
#define NET_KEEPALIVE_US  (25 * SIM_S)
#define NET_RESEND_MAX_US (250 * SIM_MS)
#define NET_RESET_MAX_US  (40 * SIM_MS)
#define NET_HALF_OPEN_US  (2 * SIM_S)
#define NET_BYTES_PER_US  200u

static struct {
    struct sim_pipe *first, **last;
    uint32_t loss_request, loss_reply;
    struct sim_net_stat stat;
} net;

/* ---- frames and links ------------------------------------------------------------------------ */

struct sim_frame *sim_frame_new(enum sim_frame_kind kind, enum gfs_msg type, uint64_t id)
{
    struct sim_frame *frame = calloc(1, sizeof(*frame));

    assert(frame);
    frame->kind = kind;
    frame->type = type;
    frame->id = id;
    return frame;
}

void sim_frame_free(struct sim_frame *frame)
{
    free(frame->message);
    free(frame->payload);
    free(frame);
}

bool sim_net_reaches(const struct sim_node *from, const struct sim_node *to)
{
    return from->machine_up && to->machine_up && !sim->links[from->index][to->index].cut;
}

uint64_t sim_net_delay_us(const struct sim_node *from, const struct sim_node *to)
{
    const struct sim_link *link = &sim->links[from->index][to->index];

    return sim_between(SIM_STREAM_NET, link->delay_min_us, link->delay_max_us);
}

void sim_net_set_loss(uint32_t request_per_mille, uint32_t reply_per_mille)
{
    net.loss_request = request_per_mille;
    net.loss_reply = reply_per_mille;
}

static void count_frame(uint64_t bytes)
{
    net.stat.messages++;
    net.stat.bytes += bytes;
}

/* ---- the end of a connection ----------------------------------------------------------------- */

struct sim_loss {
    struct sim_pipe *pipe;
    int side;
    const char *why;
};

/* Runs code of a node from an event that is nobody's. */
static void lose_end(struct sim_pipe *pipe, int side, const char *why)
{
    struct sim_node *node = pipe->nodes[side];

    if (!pipe->ends[side])
        return;
    sim->current = node;
    sim_rpc_lost(pipe->ends[side], why);
    sim->current = NULL;
}

static void on_loss(void *arg)
{
    struct sim_loss *loss = arg;
    struct sim_node *node = loss->pipe->nodes[loss->side];

    if (loss->pipe->ends[loss->side] && node->paused_until_us > sim->now_us) {
        sim_after(NULL, node->paused_until_us - sim->now_us, "reset", on_loss, loss);
        return;
    }
    lose_end(loss->pipe, loss->side, loss->why);
    free(loss);
}

static void lose_later(struct sim_pipe *pipe, int side, uint64_t delay_us, const char *why)
{
    struct sim_loss *loss = calloc(1, sizeof(*loss));

    assert(loss);
    *loss = (struct sim_loss){pipe, side, why};
    sim_after(NULL, delay_us, "reset", on_loss, loss);
}

static void drop_frames(struct sim_flow *flow)
{
    while (flow->first) {
        struct sim_frame *frame = flow->first;

        flow->first = frame->next;
        sim_frame_free(frame);
    }
    flow->last = NULL;
    sim_cancel(&flow->deliver);
    sim_cancel(&flow->give_up);
}

/* In mid-flight: what is under way is gone, and the two learn of it on their own. */
static void break_pipe(struct sim_pipe *pipe)
{
    int late = sim_chance(SIM_STREAM_NET, 250) ? (int)sim_below(SIM_STREAM_NET, 2) : -1;

    sim_trace("connection of %s and %s breaks", pipe->nodes[0]->name, pipe->nodes[1]->name);
    for (int side = 0; side < 2; side++) {
        drop_frames(&pipe->flows[side]);
        lose_later(pipe, side,
                   sim_below(SIM_STREAM_NET, side == late ? NET_HALF_OPEN_US : NET_RESET_MAX_US),
                   "the connection was reset");
    }
}

bool sim_net_break_one(void)
{
    uint64_t count = 0, chosen;

    for (struct sim_pipe *pipe = net.first; pipe; pipe = pipe->next)
        count += pipe->ends[0] && pipe->ends[1];
    if (count == 0)
        return false;
    chosen = sim_below(SIM_STREAM_PLAN, count);
    for (struct sim_pipe *pipe = net.first; pipe; pipe = pipe->next)
        if (pipe->ends[0] && pipe->ends[1] && chosen-- == 0)
            break_pipe(pipe);
    return true;
}

/* ---- delivery -------------------------------------------------------------------------------- */

static void flow_next(struct sim_flow *flow)
{
    if (flow->first && !sim_is_scheduled(&flow->deliver))
        sim_schedule(&flow->deliver, NULL,
                     flow->first->due_us > sim->now_us ? flow->first->due_us - sim->now_us : 0);
}

static void trace_frame(const struct sim_flow *flow, const struct sim_frame *frame)
{
    static const char *const kinds[] = {"hello", "hello-ok", "refusal", "",
                                        "=>",    "=> ERROR", "end"};
    const struct rpc_type *type = rpc_table_find(frame->type);
    const ProtobufCMessageDescriptor *descriptor = NULL;
    ProtobufCMessage *msg = NULL;
    char text[220] = "";

    if (!sim_is_traced())
        return;
    if (frame->kind == SIM_FRAME_REQUEST)
        descriptor = type->request;
    else if (frame->kind == SIM_FRAME_REPLY)
        descriptor = type->reply;
    else if (frame->kind == SIM_FRAME_ERROR)
        descriptor = sim_dump_error_type();
    if (descriptor)
        msg = protobuf_c_message_unpack(descriptor, NULL, frame->message_bytes, frame->message);
    if (msg) {
        sim_dump_message(msg, text, sizeof(text));
        protobuf_c_message_free_unpacked(msg, NULL);
    }
    sim_trace("<- %s %s %s #%llu %s%s", flow->pipe->nodes[flow->side]->name, type ? type->name : "",
              kinds[frame->kind], (unsigned long long)frame->id, text,
              frame->payload_bytes ? " +payload" : "");
}

static void mix_frame(const struct sim_flow *flow, const struct sim_frame *frame)
{
    sim_mix((uint64_t)flow->pipe->nodes[flow->side]->index << 40 |
            (uint64_t)flow->pipe->nodes[!flow->side]->index << 32 | (uint64_t)frame->kind << 16 |
            (uint64_t)frame->type);
    sim_mix(frame->id ^ frame->message_bytes << 20 ^ frame->payload_bytes << 40);
    if (frame->message_bytes)
        sim_mix(crc32c(0, frame->message, frame->message_bytes));
    if (frame->payload_bytes)
        sim_mix(crc32c(0, frame->payload, frame->payload_bytes));
}

static struct sim_frame *flow_pop(struct sim_flow *flow)
{
    struct sim_frame *frame = flow->first;

    flow->first = frame->next;
    if (!flow->first)
        flow->last = NULL;
    return frame;
}

/* The acknowledgements do not come back, or the frames do not get there. */
static bool flow_is_stuck(const struct sim_flow *flow)
{
    struct sim_node *const *nodes = flow->pipe->nodes;

    return !sim_net_reaches(nodes[!flow->side], nodes[flow->side]) ||
           (flow->first && !sim_net_reaches(nodes[flow->side], nodes[!flow->side]));
}

static void flow_watch(struct sim_flow *flow)
{
    if (!flow_is_stuck(flow))
        sim_cancel(&flow->give_up);
    else if (!sim_is_scheduled(&flow->give_up))
        sim_schedule(&flow->give_up, NULL, NET_GIVE_UP_US);
}

static void on_give_up(struct sim_event *event)
{
    struct sim_flow *flow = (struct sim_flow *)((char *)event - offsetof(struct sim_flow, give_up));

    if (flow_is_stuck(flow))
        lose_later(flow->pipe, flow->side, 0, "the peer's machine does not answer");
}

static void hand_over(struct sim_flow *flow, struct sim_frame *frame)
{
    struct sim_pipe *pipe = flow->pipe;
    struct rpc_conn *end = pipe->ends[!flow->side];
    struct loop *was;

    sim->current = pipe->nodes[!flow->side];
    mix_frame(flow, frame);
    trace_frame(flow, frame);
    if (frame->kind == SIM_FRAME_END) {
        sim_rpc_lost(end, "the peer closed the connection");
    } else {
        was = sim_loop_enter(rpc_conn_loop(end));
        sim_rpc_deliver(end, frame);
        sim_loop_enter(was);
    }
    sim->current = NULL;
}

static void on_deliver(struct sim_event *event)
{
    struct sim_flow *flow = (struct sim_flow *)((char *)event - offsetof(struct sim_flow, deliver));
    struct sim_pipe *pipe = flow->pipe;
    struct sim_node *from = pipe->nodes[flow->side], *to = pipe->nodes[!flow->side];
    struct sim_frame *frame;

    if (!sim_net_reaches(from, to)) {
        flow_watch(flow); /* sim_net_kick goes on */
        return;
    }
    if (pipe->ends[!flow->side] && to->paused_until_us > sim->now_us) {
        sim_schedule(&flow->deliver, NULL, to->paused_until_us - sim->now_us);
        return;
    }
    frame = flow_pop(flow);
    if (pipe->ends[!flow->side])
        hand_over(flow, frame);
    else if (frame->kind != SIM_FRAME_END && pipe->ends[flow->side] && sim_net_reaches(to, from))
        lose_later(pipe, flow->side, sim_net_delay_us(to, from), "connection reset by peer");
    sim_frame_free(frame);
    flow_watch(flow);
    flow_next(flow);
}

void sim_pipe_send(struct sim_pipe *pipe, int side, struct sim_frame *take_frame)
{
    struct sim_flow *flow = &pipe->flows[side];
    struct sim_node *from = pipe->nodes[side], *to = pipe->nodes[!side];
    uint64_t bytes = take_frame->message_bytes + take_frame->payload_bytes;

    count_frame(bytes);
    take_frame->due_us = sim->now_us + sim_net_delay_us(from, to) + bytes / NET_BYTES_PER_US;
    if (take_frame->due_us < flow->last_due_us)
        take_frame->due_us = flow->last_due_us;
    flow->last_due_us = take_frame->due_us;
    take_frame->next = NULL;
    if (flow->last)
        flow->last->next = take_frame;
    else
        flow->first = take_frame;
    flow->last = take_frame;
    if ((take_frame->kind == SIM_FRAME_REQUEST && sim_chance(SIM_STREAM_NET, net.loss_request)) ||
        (take_frame->kind == SIM_FRAME_REPLY && sim_chance(SIM_STREAM_NET, net.loss_reply))) {
        break_pipe(pipe);
        return;
    }
    flow_next(flow);
}

/* ---- pipes ----------------------------------------------------------------------------------- */

struct sim_pipe *sim_pipe_new(struct sim_node *from, struct rpc_conn *from_end, struct sim_node *to,
                              struct rpc_conn *to_end)
{
    struct sim_pipe *pipe = calloc(1, sizeof(*pipe));

    assert(pipe);
    pipe->nodes[0] = from;
    pipe->nodes[1] = to;
    pipe->ends[0] = from_end;
    pipe->ends[1] = to_end;
    for (int side = 0; side < 2; side++) {
        struct sim_flow *flow = &pipe->flows[side];

        flow->pipe = pipe;
        flow->side = side;
        flow->deliver.fn = on_deliver;
        flow->deliver.what = "deliver";
        flow->give_up.fn = on_give_up;
        flow->give_up.what = "give up";
    }
    if (!net.last)
        net.last = &net.first;
    *net.last = pipe;
    net.last = &pipe->next;
    return pipe;
}

int sim_pipe_side(const struct sim_pipe *pipe, const struct rpc_conn *end)
{
    return pipe->ends[1] == end;
}

void sim_pipe_close(struct sim_pipe *pipe, int side, bool silent)
{
    pipe->ends[side] = NULL;
    if (!silent && pipe->ends[!side])
        sim_pipe_send(pipe, side, sim_frame_new(SIM_FRAME_END, 0, 0));
}

void sim_net_kick(void)
{
    for (struct sim_pipe *pipe = net.first; pipe; pipe = pipe->next)
        for (int side = 0; side < 2; side++) {
            struct sim_flow *flow = &pipe->flows[side];

            if (flow->first && !sim_is_scheduled(&flow->deliver))
                sim_schedule(&flow->deliver, NULL, sim_below(SIM_STREAM_NET, NET_RESEND_MAX_US));
            flow_watch(flow);
        }
}

static void node_left_pipe(struct sim_pipe *pipe, int side, bool power)
{
    if (!power) {
        sim_pipe_close(pipe, side, false); /* the kernel ends it for the process */
        return;
    }
    pipe->ends[side] = NULL;
    drop_frames(&pipe->flows[side]);
    if (pipe->ends[!side])
        lose_later(pipe, !side, sim_between(SIM_STREAM_NET, NET_KEEPALIVE_US / 2, NET_KEEPALIVE_US),
                   "the peer's machine does not answer");
}

void sim_net_node_ended(struct sim_node *node, bool power)
{
    for (struct sim_pipe *pipe = net.first; pipe; pipe = pipe->next)
        for (int side = 0; side < 2; side++)
            if (pipe->nodes[side] == node && pipe->ends[side])
                node_left_pipe(pipe, side, power);
}

void sim_net_stat(struct sim_net_stat *ret_stat)
{
    *ret_stat = net.stat;
    sim_rpc_count(&ret_stat->calls_pending, &ret_stat->served_pending);
}
