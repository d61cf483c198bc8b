/* SPDX-License-Identifier: BSD-3-Clause */

/* socket - small functions for sockets of all kinds */

#ifndef NBDRAM_SERVER_NET_SOCKET_H
#define NBDRAM_SERVER_NET_SOCKET_H

#include <limits.h>
#include <sys/socket.h>

/* The backlog that we request for listening sockets.  The system reduces it to the maximum that
 * it allows. */
#define SOCKET_BACKLOG INT_MAX

struct socket_address {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    };
    socklen_t length;
};

/* Create a stream socket, close-on-exec and non-blocking.  Returns its descriptor or -errno. */
int socket_create(int family);

/* Get the address to which a socket is bound.  Returns 0 or -errno. */
int socket_own_address(int fd, struct socket_address *address);

/* Get the address of the other end of a connection.  Returns 0 or -errno. */
int socket_peer_address(int fd, struct socket_address *address);

#endif
