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
    bool is_awaited; /* the parent waits for a byte on `pipe` */
    int pipe;        /* descriptor of the end to which the child writes */
};

/* Fork, and return in the child only.  The child has a session of its own, / as its current
 * folder and no standard input.  The parent waits: it exits with 0 when the child calls
 * background_ready, and with 1 if the child ends before that.  Until the child calls
 * background_ready, it can print, and it ends if the parent ends.
 *
 * To be called before other threads start and before memory is locked, because a fork copies
 * neither threads nor memory locks.
 * Returns 0, or -errno with a reason. */
int background_enter(struct background *background, struct reason *reason);

/* To be called once the server accepts connections.  If a parent waits, leaves the terminal
 * (standard output and error go to the null device) and lets the parent exit. */
void background_ready(struct background *background);

#endif
