/* SPDX-License-Identifier: BSD-3-Clause */

/* grammar - what a value on the command line may look like: as in nbdkit
 *
 * All answer 0, or -EINVAL and leave the result as it was.
 */

#ifndef NBDRAM_SERVER_CLI_PARSE_VALUE_H
#define NBDRAM_SERVER_CLI_PARSE_VALUE_H

#include <stdint.h>

#include "server/cli/options.h"

/* A size is decimal with at most one suffix, one of b s k m g t p e in either case: powers of
 * 1024, s = 512.  At most 2^63-1. */
int grammar_parse_size(const char *text, uint64_t *size);

/* 0 to max, decimal or as in C: 0x1f, 017. */
int grammar_parse_number(const char *text, unsigned max, unsigned *number);

/* The same with a unit after it, s, ms, us or ns; none is s.  Part of a second counts as one. */
int grammar_parse_seconds(const char *text, unsigned max, unsigned *seconds);

/* off, on or require; nbdkit's other words for them, too. */
int grammar_parse_tls(const char *text, enum tls_mode *mode);

/* stderr, syslog, null or default. */
int grammar_parse_log(const char *text, enum log_target *target);

#endif
