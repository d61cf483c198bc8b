/* SPDX-License-Identifier: BSD-3-Clause */

/* socket - the system's calls on sockets, as the kinds of socket use them */

#ifndef NBDRAM_SERVER_NET_SOCKET_H
#define NBDRAM_SERVER_NET_SOCKET_H

#include <limits.h>
#include <sys/socket.h>

/* More than any system allows, which cuts it down to its maximum. */
#define SOCKET_BACKLOG INT_MAX

struct socket_address {
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    };
    socklen_t length;
};

/* A new stream socket, close-on-exec and non-blocking; or -errno. */
int socket_create(int family);

/* The address that a socket is bound to.  Returns 0 or -errno. */
int socket_own_address(int fd, struct socket_address *address);

/* The address of the other end of a connection.  Returns 0 or -errno. */
int socket_peer_address(int fd, struct socket_address *address);

#endif
