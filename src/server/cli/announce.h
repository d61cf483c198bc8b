/* SPDX-License-Identifier: BSD-3-Clause */

/* announce - print on standard output how clients can connect, as soon as they can */

#ifndef NBDRAM_SERVER_CLI_ANNOUNCE_H
#define NBDRAM_SERVER_CLI_ANNOUNCE_H

struct options; /* server/cli/options.h */

/* Print uri, and examples if a person may be reading.  Prints nothing if uri is NULL.  If the
 * program that started us knows how to connect, prints uri only if --print-uri was given. */
void announce(const struct options *options, const char *uri);

#endif
