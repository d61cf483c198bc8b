/* SPDX-License-Identifier: BSD-3-Clause */

/* lock_memory - the program's own memory, for a disk that this machine swaps to (--swap)
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_LOCK_MEMORY_H
#define NBDRAM_SERVER_HOST_LOCK_MEMORY_H

#include <pthread.h>

struct reason; /* text/reason.h */

/* Raise the limit of locked memory, for --swap and mlock=true: root has none, others are limited
 * by the hard limit.  To be called before disk_create, and before privileges are dropped.  An
 * error shows when memory is locked. */
void lock_memory_raise_limit(void);

/* Tell the kernel that we take part in writing pages out (PR_SET_IO_FLUSHER), so that it does not
 * make us wait for that itself.  To be called before privileges are dropped, and before there are
 * threads, which inherit it.  A kernel that refuses is accepted. */
void lock_memory_become_flusher(void);

/* Lock the code and the data of the program, but not the disk.  To be called once its threads
 * have started.  Returns 0, or -errno with a reason. */
int lock_memory_of_program(struct reason *reason);

/* Lock the part of a thread's stack that it may use, and a piece of memory from malloc that it
 * works with (NULL: none).  Returns 0, or -errno with a reason. */
int lock_memory_of_thread(pthread_t thread, void *piece, struct reason *reason);

#endif
