/* SPDX-License-Identifier: BSD-3-Clause */

/* swap - serving a disk that the machine itself swaps to
 *
 * All called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_LOCK_MEMORY_H
#define NBDRAM_SERVER_HOST_LOCK_MEMORY_H

#include <pthread.h>
#include <stddef.h>

struct reason; /* text/reason.h */

/* As much locked memory as we may have, for mlock=true and --swap: without a limit by the right
 * of root, else what the hard limit allows.  Before disk_create, and before privileges go. */
void lock_memory_raise_limit(void);

/* Tell the kernel that we are part of writing pages out (PR_SET_IO_FLUSHER), as far as it lets
 * us: before privileges go, and before there are threads, which inherit it. */
void lock_memory_become_flusher(void);

/* Lock the program's own code and data (not the disk): when its threads have started.  -errno,
 * and one line in why. */
int lock_memory_of_program(struct reason *reason);

/* Lock a thread's stack, as far down as it needs, and a piece of malloc's that it works with
 * (NULL: none).  -errno, and one line in why. */
int lock_memory_of_thread(pthread_t thread, void *piece, struct reason *reason);

#endif
