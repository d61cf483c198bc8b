/* SPDX-License-Identifier: BSD-3-Clause */

/* uri - how to connect to a socket, by the NBD URI standard (doc/uri.md of the NBD project)
 *
 *   nbd://HOST:PORT/EXPORT
 *   nbd+unix:///EXPORT?socket=PATH
 *   nbd+vsock://CID:PORT/EXPORT
 *
 * If TLS is required, nbd becomes nbds, as in nbdkit.  If TLS is only offered, it stays nbd,
 * because the server then accepts clients that cannot verify it.
 */

#ifndef NBDRAM_SERVER_NET_URI_H
#define NBDRAM_SERVER_NET_URI_H

#include <stddef.h>
#include <stdio.h>

struct listen_options; /* server/net/listeners.h */
struct listeners;

/* The URI of the first socket.  The caller has to free it.  Returns NULL if there is no memory,
 * or if no URI can name a socket of this kind. */
char *uri_of_listeners(const struct listen_options *options, const struct listeners *listeners);

/* Write length bytes, and percent-encode all but the slash and the characters that RFC 3986 calls
 * unreserved.  Slashes are common in paths and export names, and need no encoding there. */
void uri_put_encoded(FILE *out, const char *text, size_t length);

#endif
