/* SPDX-License-Identifier: BSD-3-Clause */

/* serve - the work of the main thread while the server runs: connections, signals, statistics
 *
 * The main thread does not handle requests: the loops do (server/session/loop.h).
 */

#ifndef NBDRAM_SERVER_SERVE_H
#define NBDRAM_SERVER_SERVE_H

struct program; /* server/program.h */

/* Accept connections until the server has to stop: because of a signal, because the command of
 * --run has ended, or because the only client of -s has gone. */
void serve(struct program *program);

#endif
