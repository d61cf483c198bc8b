/* SPDX-License-Identifier: BSD-3-Clause */

/* announce - say on standard output how to connect, once clients can */

#ifndef NBDRAM_SERVER_CLI_ANNOUNCE_H
#define NBDRAM_SERVER_CLI_ANNOUNCE_H

struct options; /* server/cli/options.h */

/* uri: how to connect; NULL: no URI can say it.  Prints nothing that nobody asked for. */
void announce(const struct options *options, const char *uri);

#endif
