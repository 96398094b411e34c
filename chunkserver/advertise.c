/* The address that others are told to reach us at. See the header. */
#include "chunkserver/advertise.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_any(const char *addr)
{
    return strncmp(addr, "0.0.0.0:", 8) == 0 || strncmp(addr, "[::]:", 5) == 0;
}

/* Splits numeric "ip:port" or "[ip]:port". */
static bool split(const char *addr, char ret_host[ADDR_TEXT_MAX_BYTES], const char **ret_port)
{
    const char *colon = strrchr(addr, ':');
    size_t len;

    if (!colon)
        return false;
    len = (size_t)(colon - addr);
    if (len >= 2 && addr[0] == '[' && colon[-1] == ']') {
        addr++;
        len -= 2;
    }
    if (len >= ADDR_TEXT_MAX_BYTES)
        return false;
    memcpy(ret_host, addr, len);
    ret_host[len] = 0;
    *ret_port = colon + 1;
    return true;
}

/* A connected UDP socket sends nothing, but knows its own address. */
static enum gfs_err local_host(const struct addrinfo *master, char *ret_host, size_t host_bytes)
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    int fd = socket(master->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    enum gfs_err err = GFS_ERR_CONN;

    if (fd < 0)
        return GFS_ERR_LOCAL;
    if (connect(fd, master->ai_addr, master->ai_addrlen) == 0 &&
        getsockname(fd, (struct sockaddr *)&local, &len) == 0 &&
        getnameinfo((struct sockaddr *)&local, len, ret_host, (socklen_t)host_bytes, NULL, 0,
                    NI_NUMERICHOST) == 0)
        err = GFS_OK;
    close(fd);
    return err;
}

static enum gfs_err toward_master(const char *master_addr, const char *listen_port,
                                  char ret_addr[ADDR_TEXT_MAX_BYTES])
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *master = NULL;
    char master_host[ADDR_TEXT_MAX_BYTES], host[NI_MAXHOST], text[NI_MAXHOST + 16];
    const char *port;
    enum gfs_err err;

    if (!split(master_addr, master_host, &port) ||
        getaddrinfo(master_host, port, &hints, &master) != 0)
        return GFS_ERR_INVAL;
    err = local_host(master, host, sizeof host);
    freeaddrinfo(master);
    if (err != GFS_OK)
        return err;
    snprintf(text, sizeof text, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, listen_port);
    if (strlen(text) >= ADDR_TEXT_MAX_BYTES)
        return GFS_ERR_INVAL;
    strcpy(ret_addr, text);
    return GFS_OK;
}

enum gfs_err advertise_addr(const char *given, const char *listen, const char *master_addr,
                            char ret_addr[ADDR_TEXT_MAX_BYTES])
{
    char host[ADDR_TEXT_MAX_BYTES];
    const char *port;

    if (!split(listen, host, &port))
        return GFS_ERR_INVAL;
    if (given[0])
        return addr_resolve(given, atoi(port), ret_addr);
    if (is_any(listen))
        return toward_master(master_addr, port, ret_addr);
    if (strlen(listen) >= ADDR_TEXT_MAX_BYTES)
        return GFS_ERR_INVAL;
    strcpy(ret_addr, listen);
    return GFS_OK;
}
