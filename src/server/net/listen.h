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

/* Open the sockets that options describe.  A Unix socket is one socket.  TCP is one socket for
 * each address that the name has (IPv4 and IPv6), all with the same port.  Socket activation
 * takes over the LISTEN_FDS descriptors from 3, and removes its variables from the environment.
 * Standard input and output need no socket: they are only checked.
 *
 * A Unix socket's file on which nobody listens any more is replaced.  It is an error if another
 * server listens on it, or if the file is not a socket.
 *
 * Returns 0, or -errno with a reason; then nothing is left open, and no file is left. */
int listen_open(const struct listen_options *options, struct listeners *listeners,
                struct reason *reason);

/* Give the folder made for unix_path "-", and the socket in it, to another user, so that the
 * process can remove them after it has become that user.  Any other socket stays ours: between
 * its creation and the change of its owner, somebody could put another file in its place.  Does
 * nothing if no name is given.  Returns 0, or -errno with a reason. */
int listen_give_away(const struct listeners *listeners, const struct user_names *names,
                     struct reason *reason);

/* Close the sockets, and remove the file and the folder that listen_open made, unless others have
 * taken their place by now.  Does nothing to listeners that are all zero. */
void listen_close(struct listeners *listeners);

#endif
