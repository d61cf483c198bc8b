/* SPDX-License-Identifier: BSD-3-Clause */

/* serve - the main thread while the server is up: connections, signals and statistics
 *
 * The main thread does not handle requests: the loops do (server/session/loop.h).
 */

#ifndef NBDRAM_SERVER_SERVE_H
#define NBDRAM_SERVER_SERVE_H

struct program; /* server/program.h */

/* Accept connections until a signal asks the server to stop, the command of --run has ended, or
 * the only client of -s has gone. */
void serve(struct program *program);

#endif
