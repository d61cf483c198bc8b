/* SPDX-License-Identifier: BSD-3-Clause */

/* inherited - let go of the descriptors that the program which started us has left open
 *
 * A shell may have such descriptors open: a lock of flock(1), or the pipe from which somebody
 * reads the output of a script.  A server in the background that kept them open would keep the
 * lock held, and the reader waiting.
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_INHERITED_H
#define NBDRAM_SERVER_HOST_INHERITED_H

#include <stddef.h>

/* The caller initializes all fields to zero. */
struct inherited {
    int *fds; /* the descriptors that were noted */
    size_t count;
};

/* Note all descriptors above 2 that we have inherited.  To be called before the program opens any
 * descriptor that is not close-on-exec.  They stay open until inherited_close, because the
 * command line may name one of them, as in "-P /dev/fd/5".  Returns 0 or -ENOMEM. */
int inherited_note(struct inherited *inherited);

/* Close the descriptors that inherited_note has noted. */
void inherited_close(struct inherited *inherited);

/* Forget the descriptors that inherited_note has noted.  They stay open. */
void inherited_forget(struct inherited *inherited);

#endif
