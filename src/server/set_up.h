/* SPDX-License-Identifier: BSD-3-Clause */

/* set_up - from a parsed command line to a server that clients can connect to */

#ifndef NBDRAM_SERVER_SET_UP_H
#define NBDRAM_SERVER_SET_UP_H

struct program; /* server/program.h */

/* Set the server up.  Returns 0; or logs why the program cannot start, and returns -1. */
int set_up(struct program *program);

#endif
