/* SPDX-License-Identifier: BSD-3-Clause */

/* lock_memory - keep the process in memory, for a disk to which this machine swaps (--swap)
 *
 * Only the main thread calls these functions.
 */

#ifndef NBDRAM_SERVER_HOST_LOCK_MEMORY_H
#define NBDRAM_SERVER_HOST_LOCK_MEMORY_H

struct reason; /* text/reason.h */

/* Raise the limit of locked memory, for --swap and mlock=true.  For root, the limit is removed.
 * For other users, it is raised to the hard limit.  To be called before disk_create, and before
 * privileges are dropped.  Returns no error: if the limit stays too low, locking memory fails
 * later. */
void lock_memory_raise_limit(void);

/* Declare to the kernel that this process helps to write pages out (PR_SET_IO_FLUSHER).  The
 * kernel then does not make the process wait until pages are written out.  A refusal of the
 * kernel is ignored.
 *
 * To be called before privileges are dropped, and before other threads start, because those
 * threads inherit the setting. */
void lock_memory_become_flusher(void);

/* Have the kernel kill other processes first when memory runs out.  With CAP_SYS_RESOURCE, the
 * kernel never chooses this process.  Otherwise the process gets the lowest OOM score that the
 * kernel lets it have.  Returns the score (oom_score_adj), which is negative if it protects the
 * process.
 *
 * To be called before privileges are dropped.  Children inherit the score. */
int lock_memory_avoid_oom_killer(void);

/* Give real-time priority to the calling thread, and to the threads that it starts from now on.
 * The kernel then lets them use a part of the memory that it keeps free from ordinary threads.
 * lock_memory.c says why they need it.
 *
 * To be called before privileges are dropped.  Returns 0, or -errno: -EPERM without
 * CAP_SYS_NICE. */
int lock_memory_raise_priority(void);

/* Lock all memory that the process has now, and all that it gets later.  The program is brought
 * into memory at once.  The address space of the disk takes memory only when it is touched, as it
 * does without this call.
 *
 * To be called before there are other threads, and after the last fork, which would not copy the
 * locks.  Returns 0, or -errno with a reason. */
int lock_memory_of_process(struct reason *reason);

/* Check that the process can still map more memory, now that all new memory has to be locked.  To
 * be called after lock_memory_of_process, when privileges have been dropped.  Returns 0, or
 * -errno with a reason. */
int lock_memory_check_limit(struct reason *reason);

#endif
