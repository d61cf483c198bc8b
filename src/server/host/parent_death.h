/* SPDX-License-Identifier: BSD-3-Clause */

/* parent_death - a signal that the kernel sends when the parent process ends
 *
 * Called by the main thread, and by a child between fork and exec: makes async-signal-safe calls
 * only.
 */

#ifndef NBDRAM_SERVER_HOST_PARENT_DEATH_H
#define NBDRAM_SERVER_HOST_PARENT_DEATH_H

#include <sys/types.h>

/* Have this signal sent when the parent ends; 0: none.  parent is its number, taken before: if it
 * has ended meanwhile the kernel would never send the signal, so -ESRCH is returned.  Otherwise
 * returns 0 or -errno.  The kernel forgets the signal at a fork, and when the user changes. */
int parent_death_signal(int signal, pid_t parent);

/* The signal that is in force, or 0. */
int parent_death_signal_now(void);

#endif
