/* SPDX-License-Identifier: BSD-3-Clause */

/* background - leave the terminal, but only once the server is ready
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_BACKGROUND_H
#define NBDRAM_SERVER_HOST_BACKGROUND_H

#include <stdbool.h>

struct reason; /* text/reason.h */

/* All zero at the start. */
struct background {
    bool is_awaited; /* the parent waits for a byte on this pipe */
    int pipe;
};

/* Fork, and return in the child only, which has a session of its own, / as its current folder and
 * no standard input.  The parent waits.  It exits with 0 when the child calls background_ready,
 * and with 1 if the child ends before.  Until it is ready the child can print, and it ends if the
 * parent does.
 *
 * To be called before there are other threads or memory locks, which a fork does not copy.
 * Returns 0, or -errno with a reason. */
int background_enter(struct background *background, struct reason *reason);

/* The server accepts connections.  If a parent waits, leave the terminal (standard output and
 * error go to the null device) and let the parent exit. */
void background_ready(struct background *background);

#endif
