/* SPDX-License-Identifier: BSD-3-Clause */

/* run - the command of --run
 *
 * All called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_CAPTIVE_H
#define NBDRAM_SERVER_HOST_CAPTIVE_H

#include <stddef.h>
#include <sys/types.h>

#include "server/cli/options.h"
#include "server/net/listen.h"

struct reason; /* text/reason.h */

/* As many descriptors as the hard limit allows, for us; the command gets the limit of before. */
void captive_raise_descriptors(void);

/* Start COMMAND by /bin/sh with nbdkit's variables before it ($uri $nbd $unixsocket $port
 * $exportname, each quoted for the shell; also $tls and $tls_certificates where nbdkit has them);
 * it gets default signals and those descriptors that we were started with.  It is sent SIGTERM if
 * we end first.  -errno, and one line in why. */
int captive_start(const struct options *options, const struct listeners *listeners, pid_t *child,
                  struct reason *reason);

/* A wait status to our own exit status: its status, or 128 + signal. */
int captive_exit_status(int status);

#endif
