/* SPDX-License-Identifier: BSD-3-Clause */

/* announce - once the server accepts connections, print on standard output how to connect */

#ifndef NBDRAM_SERVER_CLI_ANNOUNCE_H
#define NBDRAM_SERVER_CLI_ANNOUNCE_H

struct listeners; /* server/net/listeners.h */
struct options;   /* server/cli/options.h */

/* Print all URIs, one on each line.  If the server runs in the foreground, also print examples of
 * commands that use the first.  Prints nothing if there is no URI.
 *
 * If sockets were passed to us, or if there is a command of --run, prints the URIs only if
 * --print-uri was given, and prints no examples. */
void announce(const struct options *options, const struct listeners *listeners);

#endif
