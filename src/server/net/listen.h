/* SPDX-License-Identifier: BSD-3-Clause */

/* listen - open and close the sockets that clients connect to
 *
 * Called by the main thread: listen_open before the process goes to the background, listen_close
 * at the end.  All sockets are close-on-exec, non-blocking and listening, with the longest
 * backlog that the system allows.
 */

#ifndef NBDRAM_SERVER_NET_LISTEN_H
#define NBDRAM_SERVER_NET_LISTEN_H

#include "server/net/listeners.h"

struct reason;     /* text/reason.h */
struct user_names; /* server/host/privileges.h */

/* Open the sockets that options describe.  For a Unix socket or vsock, that is one socket.  For
 * TCP, it is one socket for each address that the name has (IPv4 and IPv6), all with the same
 * port.  Socket activation takes over LISTEN_FDS descriptors, from number 3, and removes its
 * variables from the environment.  Standard input and output need no socket: they are only
 * checked.
 *
 * If a Unix socket's file exists already, and nobody listens on it any more, the file is
 * replaced. It is an error if another server listens on it, or if the file is not a socket.
 *
 * Returns 0, or -errno with a reason.  On an error everything is undone. */
int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

/* Give the folder made for unix_path "-", and the socket in it, to another user, so that the
 * process can remove both after it has become that user.  Any other Unix socket keeps its owner:
 * between the creation of its file and the change of owner, somebody could put another file in
 * its place.  Does nothing if names has neither user nor group.  Returns 0, or -errno with a
 * reason. */
int listen_give_away(const struct listeners *listeners, const struct user_names *names,
                     struct reason *reason);

/* Close the sockets, and remove the file and the folder that listen_open made.  A file or folder
 * that somebody else has put in their place is not removed.  Does nothing if listeners is all
 * zero. */
void listen_close(struct listeners *listeners);

#endif
