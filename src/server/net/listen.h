/* SPDX-License-Identifier: BSD-3-Clause */

/* listen - open and close the sockets that clients connect to
 *
 * Only the main thread calls these functions.  It calls listen_open before the process goes to
 * the background, and listen_close at the end.
 *
 * All sockets are close-on-exec, non-blocking and listening.  Their backlog is the longest that
 * the system allows.
 */

#ifndef NBDRAM_SERVER_NET_LISTEN_H
#define NBDRAM_SERVER_NET_LISTEN_H

#include "server/net/listeners.h"

struct reason;     /* text/reason.h */
struct user_names; /* server/host/privileges.h */

/* Open the sockets that options describe:
 *
 *   Unix socket, vsock   one socket
 *   TCP                  one socket for each address of each host, IPv4 or IPv6; all of them have
 *                        the same port
 *   Unix socket and TCP  the Unix socket is the first
 *   socket activation    the descriptors that were passed: number 3 and the next ones, as many as
 *                        LISTEN_FDS says; the variables LISTEN_... are then removed from the
 *                        environment
 *   -s                   no socket is opened, but standard input and output are checked
 *
 * If the file of a Unix socket exists already, but no server listens on it any more, the file is
 * replaced.  If a server still listens on it, or if the file is not a socket, that is an error.
 *
 * Returns 0, or -errno with a reason.  On an error everything is undone. */
int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

/* Give the file of the Unix socket to the user of names, so that this user can connect, and can
 * remove the file where its folder permits that.  The group of the file becomes socket_group, or
 * else the group of names.  If neither is given, the group does not change: the group of that
 * user may have more members than the umask was meant for.  A folder that listen_open has made is
 * given away, too.
 *
 * Does nothing if there is neither a user nor a group.  Returns 0, or -errno with a reason. */
int listen_give_away(const struct listen_options *options, const struct listeners *listeners,
                     const struct user_names *names, struct reason *reason);

/* Close the sockets, and remove the file and the folder that listen_open made.  If somebody has
 * replaced the file or the folder, the replacement stays.  Does nothing if listeners is all
 * zero. */
void listen_close(struct listeners *listeners);

#endif
