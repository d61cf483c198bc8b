/* SPDX-License-Identifier: BSD-3-Clause */

/* background - leave the terminal, but only once the server is ready
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_BACKGROUND_H
#define NBDRAM_SERVER_HOST_BACKGROUND_H

#include <stdbool.h>

struct reason; /* text/reason.h */

/* The caller initializes all fields to zero. */
struct background {
    bool is_awaited; /* whether the parent waits for a byte on `pipe` */
    int pipe;        /* the child's end of the pipe to the parent */
};

/* Fork, and return in the child only.  The child has its own session, no standard input, and / as
 * its current folder.  Until the child calls background_ready, it can print, and it ends if the
 * parent ends.
 *
 * The parent waits.  It exits with 0 when the child calls background_ready, or with 1 if the
 * child ends earlier.
 *
 * To be called before other threads start and before memory is locked, because a fork copies
 * neither threads nor memory locks.  Returns 0, or -errno with a reason. */
int background_enter(struct background *background, struct reason *reason);

/* To be called as soon as the server accepts connections.  If a parent waits, the standard output
 * of this process becomes the null device, and so does its standard error unless keeps_errors is
 * true.  Then the parent exits. */
void background_ready(struct background *background, bool keeps_errors);

#endif
