/* SPDX-License-Identifier: BSD-3-Clause */

/* set_up - from a parsed command line to a server that clients can connect to */

#ifndef NBDRAM_SERVER_SET_UP_H
#define NBDRAM_SERVER_SET_UP_H

struct program; /* server/program.h */

/* Returns 0, or -1 after it has logged why the program cannot start. */
int set_up(struct program *program);

#endif
