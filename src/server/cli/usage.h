/* SPDX-License-Identifier: BSD-3-Clause */

/* usage - print texts about nbdram, such as the text of --help, on standard output */

#ifndef NBDRAM_SERVER_CLI_USAGE_H
#define NBDRAM_SERVER_CLI_USAGE_H

#include "server/cli/option_table.h"

/* Print a text.  If printing fails, ferror(stdout) is true afterwards. */
void usage_print(enum option_text text);

#endif
