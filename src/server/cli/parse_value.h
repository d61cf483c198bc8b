/* SPDX-License-Identifier: BSD-3-Clause */

/* parse_value - values that only the command line has; all others are text/parse.h's
 *
 * Each function returns 0, or -EINVAL and leaves its result as it was.
 */

#ifndef NBDRAM_SERVER_CLI_PARSE_VALUE_H
#define NBDRAM_SERVER_CLI_PARSE_VALUE_H

#include "server/host/log.h"
#include "server/net/tls_credentials.h"

/* off, on or require; also nbdkit's other words for them: those of a boolean, required, force. */
int parse_tls_mode(const char *text, enum tls_mode *mode);

/* stderr, syslog, null or default. */
int parse_log_target(const char *text, enum log_target *target);

#endif
