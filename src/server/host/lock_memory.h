/* SPDX-License-Identifier: BSD-3-Clause */

/* lock_memory - lock the program's own memory, for a disk that this machine swaps to (--swap)
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_LOCK_MEMORY_H
#define NBDRAM_SERVER_HOST_LOCK_MEMORY_H

#include <pthread.h>

struct reason; /* text/reason.h */

/* Raise the limit of locked memory, for --swap and mlock=true.  For root, the limit is removed;
 * for others, it is raised to the hard limit.  To be called before disk_create, and before
 * privileges are dropped.  Reports no error: if the limit stays too low, locking memory fails
 * later. */
void lock_memory_raise_limit(void);

/* Tell the kernel that this process takes part in writing pages out (PR_SET_IO_FLUSHER), so that
 * the kernel does not make the process wait until pages are written out.  To be called before
 * privileges are dropped, and before other threads start, because they inherit the setting.  It
 * is no error if the kernel refuses. */
void lock_memory_become_flusher(void);

/* Lock the code and the data of the program, but not the disk.  To be called once the program's
 * threads have started.  Returns 0, or -errno with a reason. */
int lock_memory_of_program(struct reason *reason);

/* Lock the part of a thread's stack that the thread may use, and `piece`, a piece of memory from
 * malloc that the thread works with (NULL: none).  Returns 0, or -errno with a reason. */
int lock_memory_of_thread(pthread_t thread, void *piece, struct reason *reason);

#endif
