#include "bench_loopback.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define BENCH_LOOPBACK_STEP_BYTES (1u << 20)

struct bench_loopback {
    int fd;
    uint64_t bytes;
};

static void *bench_loopback_send(void *arg)
{
    const struct bench_loopback *run = arg;
    char *data = calloc(1, BENCH_LOOPBACK_STEP_BYTES);
    uint64_t left = run->bytes;
    while (data && left) {
        size_t step = left < BENCH_LOOPBACK_STEP_BYTES ? (size_t)left : BENCH_LOOPBACK_STEP_BYTES;
        ssize_t sent = send(run->fd, data, step, MSG_NOSIGNAL);
        if (sent < 0)
            break;
        left -= (uint64_t)sent;
    }
    free(data);
    shutdown(run->fd, SHUT_WR);
    return NULL;
}

static bool bench_loopback_receive(int fd, uint64_t bytes, double *ret_mb_per_s)
{
    char *data = malloc(BENCH_LOOPBACK_STEP_BYTES);
    uint64_t got = 0;
    ssize_t len;
    double begun_s = bench_now_s();
    if (!data)
        return false;
    while ((len = recv(fd, data, BENCH_LOOPBACK_STEP_BYTES, 0)) > 0)
        got += (uint64_t)len;
    *ret_mb_per_s = (double)got / 1e6 / (bench_now_s() - begun_s);
    free(data);
    return got == bytes;
}

/* A connected pair of TCP sockets. */
static bool bench_loopback_pair(int fds[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (listener >= 0 && fds[0] >= 0 && !bind(listener, (struct sockaddr *)&addr, addr_len) &&
        !listen(listener, 1) && !getsockname(listener, (struct sockaddr *)&addr, &addr_len) &&
        !connect(fds[0], (struct sockaddr *)&addr, addr_len))
        fds[1] = accept(listener, NULL, NULL);
    if (listener >= 0)
        close(listener);
    if (fds[1] < 0 && fds[0] >= 0)
        close(fds[0]);
    return fds[1] >= 0;
}

bool bench_loopback(uint64_t bytes, double *ret_mb_per_s)
{
    int fds[2];
    pthread_t thread;
    bool ok = false;
    if (!bench_loopback_pair(fds))
        return bench_fail("loopback: %s", strerror(errno));
    struct bench_loopback run = {fds[0], bytes};
    if (!pthread_create(&thread, NULL, bench_loopback_send, &run)) {
        ok = bench_loopback_receive(fds[1], bytes, ret_mb_per_s);
        pthread_join(thread, NULL);
    }
    close(fds[0]);
    close(fds[1]);
    return ok || bench_fail("loopback: the transfer failed");
}
