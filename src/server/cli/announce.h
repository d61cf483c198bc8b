/* SPDX-License-Identifier: BSD-3-Clause */

/* announce - print on standard output how clients can connect, once they can */

#ifndef NBDRAM_SERVER_CLI_ANNOUNCE_H
#define NBDRAM_SERVER_CLI_ANNOUNCE_H

struct options; /* server/cli/options.h */

/* Print uri, with examples if a person may be reading.  Prints nothing if uri is NULL, or if the
 * process that started the server knows how to connect and --print-uri was not given. */
void announce(const struct options *options, const char *uri);

#endif
