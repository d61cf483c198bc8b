/* SPDX-License-Identifier: BSD-3-Clause */

/* parent_death - a signal that the kernel sends when the parent process ends
 *
 * The main thread calls these functions, and a child calls them between fork and exec.  So these
 * functions make only async-signal-safe calls.
 */

#ifndef NBDRAM_SERVER_HOST_PARENT_DEATH_H
#define NBDRAM_SERVER_HOST_PARENT_DEATH_H

#include <sys/types.h>

/* Ask the kernel to send us this signal when the parent ends.  If signal is 0, no signal will be
 * sent.  `parent` is the process id of the parent, which the caller has noted earlier.
 *
 * Returns 0 or -errno.  -ESRCH means that the parent has ended already: the kernel will not send
 * the signal.
 *
 * A child process does not inherit this setting, and the kernel clears it when the process
 * changes its user id. */
int parent_death_signal(int signal, pid_t parent);

/* Returns the signal that the kernel will send when the parent ends, or 0. */
int parent_death_signal_now(void);

#endif
