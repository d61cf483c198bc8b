/* SPDX-License-Identifier: BSD-3-Clause */

/* uri - how to connect to a socket, by the NBD URI standard (doc/uri.md of the NBD project)
 *
 *   nbd://HOST:PORT/EXPORT
 *   nbd+unix:///EXPORT?socket=PATH
 *   nbd+vsock://CID:PORT/EXPORT
 *
 * If TLS is required, the scheme is nbds instead of nbd, as in nbdkit.  If TLS is only offered,
 * the scheme is nbd, so that clients that cannot verify the server can connect, too.
 */

#ifndef NBDRAM_SERVER_NET_URI_H
#define NBDRAM_SERVER_NET_URI_H

struct listen_options; /* server/net/listeners.h */
struct listeners;

/* Make the URI of the socket listeners->fds[i].  The caller frees it.  Returns NULL if there is
 * no memory, or if no URI can name a socket of this kind. */
char *uri_of_listener(const struct listen_options *options, const struct listeners *listeners,
                      unsigned i);

#endif
