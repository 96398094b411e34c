/* addr: splits "host:port" and asks the resolver. */
#include "addr.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADDR_HOST_MAX_BYTES 256

static bool addr_is_number(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text);
}

static bool addr_parse_port(const char *text, int *ret_port)
{
    long port;

    if (!addr_is_number(text) || strlen(text) > 5)
        return false;
    port = strtol(text, NULL, 10);
    if (port > 65535)
        return false;
    *ret_port = (int)port;
    return true;
}

/* "[v6]:port", "[v6]", "host:port", "host", ":port", "port", "" */
static enum gfs_err addr_split(const char *text, int default_port, char *ret_host, int *ret_port)
{
    const char *host = text, *port = NULL, *end;
    size_t host_len;

    if (text[0] == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return GFS_ERR_INVAL;
        port = end[1] == ':' ? end + 2 : NULL;
    } else {
        end = strchr(text, ':');
        if (end && strchr(end + 1, ':'))
            return GFS_ERR_INVAL; /* IPv6 needs its brackets */
        port = end ? end + 1 : NULL;
        if (!end && addr_is_number(text)) {
            port = text;
            end = text;
        }
        if (!end)
            end = text + strlen(text);
    }
    host_len = (size_t)(end - host);
    if (host_len >= ADDR_HOST_MAX_BYTES)
        return GFS_ERR_INVAL;
    *ret_port = default_port;
    if (port && !addr_parse_port(port, ret_port))
        return GFS_ERR_INVAL;
    memcpy(ret_host, host, host_len);
    ret_host[host_len] = '\0';
    if (host_len == 0)
        strcpy(ret_host, "127.0.0.1");
    return GFS_OK;
}

static enum gfs_err addr_format(const struct addrinfo *info, int port, char *ret_addr)
{
    char numeric[INET6_ADDRSTRLEN];
    int len;

    if (getnameinfo(info->ai_addr, info->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
                    NI_NUMERICHOST))
        return GFS_ERR_CONN;
    len = snprintf(ret_addr, ADDR_TEXT_MAX_BYTES, info->ai_family == AF_INET6 ? "[%s]:%d" : "%s:%d",
                   numeric, port);
    return len > 0 && len < ADDR_TEXT_MAX_BYTES ? GFS_OK : GFS_ERR_CONN;
}

enum gfs_err addr_resolve(const char *text, int default_port, char ret_addr[ADDR_TEXT_MAX_BYTES])
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char host[ADDR_HOST_MAX_BYTES], addr[ADDR_TEXT_MAX_BYTES];
    struct addrinfo *found = NULL;
    enum gfs_err err;
    int port;

    err = addr_split(text ? text : "", default_port, host, &port);
    if (err)
        return err;
    if (strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%") !=
        strlen(host))
        return GFS_ERR_INVAL;
    if (getaddrinfo(host, NULL, &hints, &found) || !found)
        return GFS_ERR_CONN;
    err = addr_format(found, port, addr);
    freeaddrinfo(found);
    if (!err)
        memcpy(ret_addr, addr, sizeof(addr));
    return err;
}
