/* SPDX-License-Identifier: BSD-3-Clause */

/* lock_memory - the process stays in memory, for a disk that this machine swaps to (--swap)
 *
 * Called by the main thread.
 */

#ifndef NBDRAM_SERVER_HOST_LOCK_MEMORY_H
#define NBDRAM_SERVER_HOST_LOCK_MEMORY_H

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

/* Have the kernel kill other processes first when memory runs out: with CAP_SYS_RESOURCE it never
 * chooses this one, otherwise the process gets the lowest score that it may have.  Returns the
 * score (oom_score_adj): negative if that helps.  To be called before privileges are dropped.
 * Children inherit the score. */
int lock_memory_avoid_oom_killer(void);

/* Lock all memory of the process: what it has now, and what it gets later.  The program is brought
 * into memory.  Address space that is reserved for the disk takes memory when it is touched, as it
 * does without this.  To be called after the last fork, which would not copy the locks, and before
 * there are threads.  Returns 0, or -errno with a reason. */
int lock_memory_of_process(struct reason *reason);

/* Check that the process can still map more memory, now that all new memory has to be locked.  To
 * be called after lock_memory_of_process, when privileges have been dropped.  Returns 0 if it
 * can, or -errno with a reason. */
int lock_memory_check_limit(struct reason *reason);

#endif
