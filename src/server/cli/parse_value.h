/* SPDX-License-Identifier: BSD-3-Clause */

/* parse_value - parse values that occur only on the command line
 *
 * text/parse.h parses all other values.  Each function returns 0 and stores the value, or returns
 * -EINVAL and stores nothing.
 */

#ifndef NBDRAM_SERVER_CLI_PARSE_VALUE_H
#define NBDRAM_SERVER_CLI_PARSE_VALUE_H

#include "server/host/log.h"
#include "server/net/tls_credentials.h"

/* Accepts off, on and require.  Like nbdkit, also accepts required, force and all boolean
 * values. */
int parse_tls_mode(const char *text, enum tls_mode *mode);

/* Accepts stderr, syslog, null and default. */
int parse_log_target(const char *text, enum log_target *target);

#endif
