/* SPDX-License-Identifier: BSD-3-Clause */

/* usage - what nbdram tells about itself, on standard output */

#ifndef NBDRAM_SERVER_CLI_USAGE_H
#define NBDRAM_SERVER_CLI_USAGE_H

void usage_help(void);
void usage_version(void);

/* NAME=VALUE lines, as nbdkit prints them: of the server, and of what would be its plugin. */
void usage_dump_config(void);
void usage_dump_plugin(void);

/* One option a line, for completion in shells: --long-options, --short-options. */
void usage_long_options(void);
void usage_short_options(void);

#endif
