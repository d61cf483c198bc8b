/* SPDX-License-Identifier: BSD-3-Clause */

#include "server/net/socket.h"

#include <errno.h>

int socket_create(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    return fd;
}

int socket_own_address(int fd, struct socket_address *address)
{
    *address = (struct socket_address){.length = sizeof address->storage};
    return getsockname(fd, &address->any, &address->length) < 0 ? -errno : 0;
}

int socket_peer_address(int fd, struct socket_address *address)
{
    *address = (struct socket_address){.length = sizeof address->storage};
    return getpeername(fd, &address->any, &address->length) < 0 ? -errno : 0;
}
