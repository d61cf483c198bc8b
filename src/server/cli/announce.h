/* SPDX-License-Identifier: BSD-3-Clause */

/* announce - once the server accepts connections, print on standard output how to connect */

#ifndef NBDRAM_SERVER_CLI_ANNOUNCE_H
#define NBDRAM_SERVER_CLI_ANNOUNCE_H

struct options; /* server/cli/options.h */

/* Print uri.  If the server runs in the foreground, also print examples of commands that use uri.
 * Prints nothing if uri is NULL.
 *
 * If sockets were passed to us, or if there is a command of --run, prints uri only if --print-uri
 * was given, and prints no examples. */
void announce(const struct options *options, const char *uri);

#endif
