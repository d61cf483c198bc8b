/* SPDX-License-Identifier: BSD-3-Clause */

/* socket_kind - the ways in which clients can reach the server, one row each
 */

#ifndef NBDRAM_SERVER_NET_SOCKET_KIND_H
#define NBDRAM_SERVER_NET_SOCKET_KIND_H

#include <stdbool.h>
#include <sys/socket.h>

struct listen_options; /* server/net/listen.h */
struct listeners;
struct reason; /* text/reason.h */

struct socket_kind {
    const char *name;
    /* Add descriptors to listeners (in order, listening) and set port or the Unix fields.
     * Returns 0, or -errno with a reason; listen.c closes what was added to fds, and this function
     * has undone everything else. */
    int (*open)(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);
    unsigned port_max;      /* the highest port number; 0: there are no ports */
    bool has_service_names; /* a port may be given as the name of a service */
    bool has_addresses;     /* listens on addresses of this host */
    bool is_single; /* no sockets: the only client is on standard input and output */
    bool is_passed; /* whoever started the process has opened the sockets, and knows them */
};

extern const struct socket_kind socket_tcp, socket_unix, socket_vsock;
extern const struct socket_kind socket_activated; /* by sd_listen_fds(3) */
extern const struct socket_kind socket_stdio;

/* For listen_*.c. */

/* Remove the socket file and its folder, before the socket is closed.  A file that is another one
 * by now is somebody else's, and stays. */
void listen_unix_remove(struct listeners *listeners);

/* A new socket of this family that is bound and listens, or -errno, and no file is left. */
int listen_bound(int family, const struct sockaddr *address, socklen_t length);

/* How to connect to these sockets, following the NBD URI standard.  To be freed; NULL: no memory,
 * or a kind of socket that no URI can name. */
char *uri_of_listeners(const struct listen_options *options, const struct listeners *listeners);

#endif
