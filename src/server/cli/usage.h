/* SPDX-License-Identifier: BSD-3-Clause */

/* usage - what nbdram says about itself, on standard output */

#ifndef NBDRAM_SERVER_CLI_USAGE_H
#define NBDRAM_SERVER_CLI_USAGE_H

#include "server/cli/option_table.h"

/* Print the text.  ferror(stdout) says whether that failed. */
void usage_print(enum option_text text);

#endif
