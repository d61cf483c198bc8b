/* SPDX-License-Identifier: BSD-3-Clause */

/* uri - how to connect to a socket, by the NBD URI standard (doc/uri.md of the NBD project)
 *
 *   nbd://HOST:PORT/EXPORT
 *   nbd+unix:///EXPORT?socket=PATH
 *   nbd+vsock://CID:PORT/EXPORT
 *
 * With nbds for nbd where TLS is required, as in nbdkit.  Where TLS is only offered it is nbd: a
 * client that cannot verify us is let in, too.
 */

#ifndef NBDRAM_SERVER_NET_URI_H
#define NBDRAM_SERVER_NET_URI_H

#include <stddef.h>
#include <stdio.h>

struct listen_options; /* server/net/listeners.h */
struct listeners;

/* The URI of the first socket.  To be freed by the caller.  NULL: no memory, or a socket of a
 * kind that no URI can name. */
char *uri_of_listeners(const struct listen_options *options, const struct listeners *listeners);

/* Write length bytes, percent-encoded but for the characters that RFC 3986 leaves unreserved and
 * the slash.  Paths and export names are full of slashes, which mean nothing else in this
 * place. */
void uri_put_encoded(FILE *out, const char *text, size_t length);

#endif
