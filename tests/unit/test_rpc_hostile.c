/* rpc: peers that break the rules, stall, or are strangers; spoken to with raw bytes. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "frame.h"
#include "rpc_rig.h"

#define REPLY_MAX 4096

static int dial(void)
{
    struct timeval patience = {.tv_sec = WAIT_MAX_MS / 1000};
    struct sockaddr_in addr = {.sin_family = AF_INET};
    const char *text = rpc_server_addr(t.server);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    addr.sin_port = htons((uint16_t)atoi(strchr(text, ':') + 1));
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void say(int fd, const void *bytes, size_t len)
{
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The server ends the connection; nothing, or only an end, is left to read. */
static bool is_ended(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, 0);

    close(fd);
    return got == 0 || (got < 0 && errno == ECONNRESET);
}

static size_t make_request(uint8_t *frame, struct frame_header header, const ProtobufCMessage *msg)
{
    header.version = header.version ? header.version : GFS_PROTO_VERSION;
    header.message_bytes = (uint32_t)protobuf_c_message_pack(msg, frame + FRAME_HEADER_BYTES);
    frame_encode(&header, frame);
    return FRAME_HEADER_BYTES + header.message_bytes;
}

static Gfs__Hello good_hello(void)
{
    Gfs__Hello hello = GFS__HELLO__INIT;

    hello.version_min = hello.version_max = GFS_PROTO_VERSION;
    hello.role = GFS_ROLE_CLIENT;
    return hello;
}

static void say_hello(int fd, const Gfs__Hello *hello)
{
    uint8_t frame[512];
    struct frame_header header = {.type = GFS_MSG_HELLO};

    say(fd, frame, make_request(frame, header, &hello->base));
}

static void hear(int fd, struct frame_header *ret_header, uint8_t *ret_message)
{
    uint8_t frame[REPLY_MAX];

    assert_int_equal(recv(fd, frame, FRAME_HEADER_BYTES, MSG_WAITALL), FRAME_HEADER_BYTES);
    assert_int_equal(frame_decode(frame, ret_header), GFS_OK);
    assert_true(ret_header->message_bytes <= REPLY_MAX - FRAME_HEADER_BYTES);
    if (ret_header->message_bytes)
        assert_int_equal(recv(fd, frame + FRAME_HEADER_BYTES, ret_header->message_bytes,
                              MSG_WAITALL),
                         (ssize_t)ret_header->message_bytes);
    assert_int_equal(frame_check(frame, ret_header), GFS_OK);
    memcpy(ret_message, frame + FRAME_HEADER_BYTES, ret_header->message_bytes);
}

static int dial_and_greet(void)
{
    Gfs__Hello hello = good_hello();
    struct frame_header header;
    uint8_t message[REPLY_MAX];
    int fd = dial();

    say_hello(fd, &hello);
    hear(fd, &header, message);
    assert_int_equal(header.flags, FRAME_FLAG_REPLY);
    return fd;
}

static void say_request(int fd, struct frame_header header)
{
    uint8_t frame[512];
    Gfs__Ping ping = GFS__PING__INIT;

    say(fd, frame, make_request(frame, header, &ping.base));
}

static void the_server_still_serves(void)
{
    struct frame_header header;
    uint8_t message[REPLY_MAX];
    int fd = dial_and_greet();

    say_request(fd, (struct frame_header){.type = GFS_MSG_PING, .id = 77});
    hear(fd, &header, message);
    assert_int_equal(header.id, 77);
    assert_int_equal(header.flags, FRAME_FLAG_REPLY);
    close(fd);
}

static void noise_ends_the_connection(void **state)
{
    uint8_t noise[5000];
    unsigned seed = 7;

    start_server("127.0.0.1:0", NULL);
    for (int round = 0; round < 20; round++) {
        int fd = round % 2 ? dial() : dial_and_greet();

        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (uint8_t)rand_r(&seed);
        send(fd, noise, sizeof(noise), MSG_NOSIGNAL);
        assert_true(is_ended(fd));
    }
    the_server_still_serves();
}

static void a_wrong_crc_ends_the_connection(void **state)
{
    uint8_t frame[512];
    Gfs__Ping ping = GFS__PING__INIT;
    size_t len;
    int fd;

    start_server("127.0.0.1:0", NULL);
    fd = dial_and_greet();
    len = make_request(frame, (struct frame_header){.type = GFS_MSG_PING, .id = 1}, &ping.base);
    frame[9] ^= 1; /* of the request id */
    say(fd, frame, len);
    assert_true(is_ended(fd));
    the_server_still_serves();
}

static void rule_breaking_frames_end_the_connection(void **state)
{
    static const struct frame_header headers[] = {
        {.type = 9999},                                                     /* unknown */
        {.type = GFS_MSG_HELLO},                                            /* again */
        {.type = GFS_MSG_HEARTBEAT},                                        /* not a client's */
        {.type = GFS_MSG_SET_VERSION},                                      /* nor this */
        {.type = GFS_MSG_PING, .version = 9},                               /* not as agreed */
        {.type = GFS_MSG_PUSH, .payload_bytes = GFS_PAYLOAD_MAX_BYTES + 1}, /* oversize */
        {.type = GFS_MSG_PING, .flags = 0x8000},
    };

    start_server("127.0.0.1:0", NULL);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        int fd = dial_and_greet();

        say_request(fd, headers[i]);
        assert_true(is_ended(fd));
    }
    assert_int_equal(atomic_load(&t.served), 0);
    the_server_still_serves();
}

static void an_undecodable_message_ends_the_connection(void **state)
{
    uint8_t frame[64] = {0};
    struct frame_header header = {.version = GFS_PROTO_VERSION,
                                  .type = GFS_MSG_READ,
                                  .message_bytes = 6};
    int fd;

    start_server("127.0.0.1:0", NULL);
    fd = dial_and_greet();
    memset(frame + FRAME_HEADER_BYTES, 0xff, 6);
    frame_encode(&header, frame);
    say(fd, frame, FRAME_HEADER_BYTES + 6);
    assert_true(is_ended(fd));
    assert_int_equal(atomic_load(&t.served), 0);
}

static void nothing_is_served_before_hello(void **state)
{
    int fd;

    start_server("127.0.0.1:0", NULL);
    fd = dial();
    say_request(fd, (struct frame_header){.type = GFS_MSG_READ, .id = 1});
    assert_true(is_ended(fd));
    fd = dial();
    say_request(fd, (struct frame_header){.type = GFS_MSG_HELLO, .flags = FRAME_FLAG_REPLY});
    assert_true(is_ended(fd));
    assert_int_equal(atomic_load(&t.served), 0);
}

static void replies_to_nothing_are_ignored(void **state)
{
    struct frame_header header;
    uint8_t message[REPLY_MAX];
    int fd;

    start_server("127.0.0.1:0", NULL);
    fd = dial_and_greet();
    say_request(
        fd, (struct frame_header){.type = GFS_MSG_READ, .id = 5, .flags = 1, .payload_bytes = 3});
    say(fd, "xyz", 3);
    say_request(fd, (struct frame_header){.type = GFS_MSG_PING, .id = 6});
    hear(fd, &header, message);
    assert_int_equal(header.id, 6);
    close(fd);
}

/* What a refused hello is answered with. */
static void assert_refused(const Gfs__Hello *hello, enum gfs_err err, const char *part)
{
    struct frame_header header;
    uint8_t message[REPLY_MAX];
    Gfs__ErrorReply *reply;
    int fd = dial();

    say_hello(fd, hello);
    hear(fd, &header, message);
    assert_int_equal(header.flags, FRAME_FLAG_REPLY | FRAME_FLAG_ERROR);
    reply = gfs__error_reply__unpack(NULL, header.message_bytes, message);
    assert_non_null(reply);
    assert_int_equal(reply->code, err);
    assert_non_null(strstr(reply->detail, part));
    gfs__error_reply__free_unpacked(reply, NULL);
    assert_true(is_ended(fd));
}

static void strangers_are_refused_with_the_reason(void **state)
{
    uint8_t other[GFS_UUID_BYTES] = {9};
    Gfs__Hello hello = good_hello();
    int fd;

    start_server("127.0.0.1:0", NULL);
    hello.cluster_id.data = other;
    hello.cluster_id.len = sizeof(other);
    assert_refused(&hello, GFS_ERR_OTHER_CLUSTER, "belongs to cluster 09000000-");
    hello = good_hello();
    hello.version_min = 7;
    hello.version_max = 9;
    assert_refused(&hello, GFS_ERR_VERSION, "versions 7 to 9");
    hello = good_hello();
    hello.role = 17;
    fd = dial();
    say_hello(fd, &hello);
    assert_true(is_ended(fd));
    hello = good_hello();
    hello.cluster_id.data = other;
    hello.cluster_id.len = 3;
    fd = dial();
    say_hello(fd, &hello);
    assert_true(is_ended(fd));
    assert_int_equal(atomic_load(&t.closes), 0);
}

static void silent_and_stalling_peers_are_ended(void **state)
{
    struct rpc_limits limits = {.hello_timeout_ms = 500, .frame_timeout_ms = 500};
    struct frame_header header = {.type = GFS_MSG_PUSH, .payload_bytes = 1000};
    int silent, half_hello, half_head, half_payload;

    start_server("127.0.0.1:0", &limits);
    silent = dial();
    half_hello = dial();
    say(half_hello, "GFS1", 4);
    half_head = dial_and_greet();
    say(half_head, "GFS1", 4);
    half_payload = dial_and_greet();
    say_request(half_payload, header);
    say(half_payload, "some", 4);
    assert_true(is_ended(silent));
    assert_true(is_ended(half_hello));
    assert_true(is_ended(half_head));
    assert_true(is_ended(half_payload));
    the_server_still_serves();
}

static void a_peer_that_does_not_read_is_ended(void **state)
{
    /* requests_max: all 40 may come in one read, and replies count once the read is worked off. */
    struct rpc_limits limits = {.frame_timeout_ms = 100,
                                .reply_bytes = 1u << 20,
                                .requests_max = 8};
    Gfs__ReadRequest msg = GFS__READ_REQUEST__INIT;
    uint8_t frame[512];
    size_t len;
    int fd;

    start_server("127.0.0.1:0", &limits);
    fd = dial_and_greet();
    msg.length = LARGE;
    len = make_request(frame, (struct frame_header){.type = GFS_MSG_READ, .id = 1}, &msg.base);
    for (int i = 0; i < 40; i++)
        say(fd, frame, len);
    WAIT_FOR(atomic_load(&t.closes) == 1);
    WAIT_FOR(atomic_load(&t.released) == atomic_load(&t.served));
    assert_true(atomic_load(&t.served) < 40);
    close(fd);
}

/* Resident memory, all threads' heaps. */
static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t all, resident = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &all, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* Sanitizers keep memory of their own for each allocation, freed ones included. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_TELLING 0
#else
#define MEMORY_IS_TELLING 1
#endif

static void short_replies_that_nobody_reads_are_bounded_too(void **state)
{
    static uint8_t frames[1000 * FRAME_HEADER_BYTES];
    struct rpc_limits limits = {.reply_bytes = 8u << 20};
    struct timeval patience = {.tv_usec = 200000};
    Gfs__Ping ping = GFS__PING__INIT;
    size_t before;
    int fd;

    start_server("127.0.0.1:0", &limits);
    fd = dial_and_greet();
    for (size_t i = 0; i < 1000; i++)
        make_request(frames + i * FRAME_HEADER_BYTES, (struct frame_header){.type = GFS_MSG_PING},
                     &ping.base);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    before = resident_bytes();
    for (int i = 0; i < 1000; i++)
        if (send(fd, frames, sizeof(frames), MSG_NOSIGNAL) < (ssize_t)sizeof(frames))
            break; /* it is not read any more */
    assert_true(!MEMORY_IS_TELLING || resident_bytes() < before + 4 * limits.reply_bytes);
    the_server_still_serves();
    close(fd);
}

static void connections_beyond_the_maximum_are_closed_at_once(void **state)
{
    struct rpc_limits limits = {.conn_max = 3};
    int fds[3], fd;

    start_server("127.0.0.1:0", &limits);
    for (size_t i = 0; i < 3; i++)
        fds[i] = dial_and_greet();
    fd = dial();
    assert_true(is_ended(fd));
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
    WAIT_FOR(atomic_load(&t.closes) == 3);
    the_server_still_serves();
}

static void running_out_of_descriptors_is_survived(void **state)
{
    struct rlimit saved, low;
    struct frame_header header;
    uint8_t message[REPLY_MAX];
    Gfs__Hello hello = good_hello();
    int waiting;

    start_server("127.0.0.1:0", NULL);
    waiting = socket(AF_INET, SOCK_STREAM, 0);
    close(waiting); /* the lowest number free */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &saved), 0);
    low = saved;
    low.rlim_cur = (rlim_t)waiting + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    waiting = dial(); /* takes the last one: the server cannot accept it */
    say_hello(waiting, &hello);
    assert_int_equal(dup(0), -1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
    hear(waiting, &header, message);
    assert_int_equal(header.flags, FRAME_FLAG_REPLY);
    close(waiting);
}

static void a_deadline_that_passed_is_not_served(void **state)
{
    struct frame_header header = {.type = GFS_MSG_PUSH,
                                  .id = 3,
                                  .payload_bytes = 4,
                                  .timeout_ms = 20};
    uint8_t message[REPLY_MAX];
    Gfs__ErrorReply *reply;
    uint64_t begin_ms;
    int fd;

    start_server("127.0.0.1:0", NULL);
    fd = dial_and_greet();
    say_request(fd, header);
    begin_ms = loop_now_ms();
    say(fd, "abc", 3);
    WAIT_FOR(loop_now_ms() > begin_ms + 200);
    say(fd, "d", 1);
    hear(fd, &header, message);
    assert_int_equal(header.id, 3);
    reply = gfs__error_reply__unpack(NULL, header.message_bytes, message);
    assert_int_equal(reply->code, GFS_ERR_TIMEOUT);
    gfs__error_reply__free_unpacked(reply, NULL);
    assert_int_equal(atomic_load(&t.served), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RPC_TEST(noise_ends_the_connection),
        RPC_TEST(a_wrong_crc_ends_the_connection),
        RPC_TEST(rule_breaking_frames_end_the_connection),
        RPC_TEST(an_undecodable_message_ends_the_connection),
        RPC_TEST(nothing_is_served_before_hello),
        RPC_TEST(replies_to_nothing_are_ignored),
        RPC_TEST(strangers_are_refused_with_the_reason),
        RPC_TEST(silent_and_stalling_peers_are_ended),
        RPC_TEST(a_peer_that_does_not_read_is_ended),
        RPC_TEST(short_replies_that_nobody_reads_are_bounded_too),
        RPC_TEST(connections_beyond_the_maximum_are_closed_at_once),
        RPC_TEST(running_out_of_descriptors_is_survived),
        RPC_TEST(a_deadline_that_passed_is_not_served),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
