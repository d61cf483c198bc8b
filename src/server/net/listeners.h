/* SPDX-License-Identifier: BSD-3-Clause */

/* listeners - what the parts of listen.c ask of each other
 *
 * Each opener adds descriptors to listeners (in order, listening) and sets port or the Unix
 * fields.  On an error, -errno and one line in why; what it added to fds is closed by listen.c,
 * anything else it has undone itself.
 */

#ifndef NBDRAM_SERVER_NET_LISTENERS_H
#define NBDRAM_SERVER_NET_LISTENERS_H

#include <stddef.h>
#include <sys/socket.h>

#include "server/net/listen.h"

struct reason; /* text/reason.h */

int listen_unix_open(const struct options *options, struct listeners *listeners,
                     struct reason *reason);
int listen_tcp_open(const struct options *options, struct listeners *listeners,
                    struct reason *reason);
int listen_vsock_open(const struct options *options, struct listeners *listeners,
                      struct reason *reason);

/* Remove the socket file and its folder, before the socket is closed.  A file that is another one
 * by now is somebody else's, and stays. */
void listen_unix_remove(struct listeners *listeners);

/* A new socket of this family that is bound and listens, or -errno, and no file is left. */
int listen_bound(int family, const struct sockaddr *address, socklen_t length);

/* How to connect to these sockets, following the NBD URI standard.  To be freed; NULL: no memory,
 * or a kind of socket that no URI can name. */
char *uri_of_listeners(const struct options *options, const struct listeners *listeners);

#endif
