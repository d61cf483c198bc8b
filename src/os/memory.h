/* SPDX-License-Identifier: BSD-3-Clause */

/* os/memory - address space and memory from the system
 *
 * Address space is reserved once, in one piece, and costs nothing.  A part of the reserved range
 * is committed before it is used.  When the part is discarded, its memory goes back to the
 * system, but the part stays committed: the kernel still counts it as memory that the process may
 * use.  That matters only if the kernel limits how much is committed
 * (os_memory_commit_is_limited).
 *
 *     AFTER                  AN ACCESS        THE RANGE TAKES MEMORY
 *     os_memory_reserve      faults           no
 *     os_memory_commit       finds zeroes     where it is touched
 *     os_memory_discard      finds zeroes     where it is touched again
 *     os_memory_uncommit     faults           no
 *     os_memory_unreserve    is a mistake     no
 *
 * UNITS.  Lengths are in bytes.  Lengths and bases are multiples of os_page_size().
 *
 * ERRORS.  Functions return 0 or -errno, unless they say otherwise.
 *
 * THREADS.  Any thread may call any function.  The caller owns the range that it passes: two
 * threads must not change the same range at once.
 */

#ifndef NBDRAM_OS_MEMORY_H
#define NBDRAM_OS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The size of the system's own pages: 4 KiB nearly everywhere. */
size_t os_page_size(void);

/* How many bytes of address space the process may still take (RLIMIT_AS), or UINT64_MAX if there
 * is no limit. */
uint64_t os_address_space_left(void);

/* Make all threads use one heap.  Otherwise the C library can reserve 64 MiB of address space for
 * each thread, which is too much if address space is limited.  A thread that already has a heap
 * of its own keeps it, so call this early. */
void os_memory_share_heap(void);

/* Reserve address space, aligned to `align` (bytes, a power of two, at least a page).  An access
 * faults until the range is committed.  huge says whether the range may get huge pages;
 * os_memory_huge can change that later.  Returns 0, or -ENOMEM if there is not enough address
 * space. */
int os_memory_reserve(size_t length, size_t align, bool huge, void **base);

/* Return a reserved range to the system, with all memory in it. */
void os_memory_unreserve(void *base, size_t length);

/* Make a reserved range accessible.  The range reads as zeroes, and takes memory where it is
 * touched.
 * -ENOMEM: the kernel cannot split its mappings further, or the limit on committed memory is
 * reached. */
int os_memory_commit(void *base, size_t length);

/* Give the memory of a committed range back to the system.  The range stays committed and reads
 * as zeroes.  -EINVAL: the range is locked, and the kernel (Linux before 5.18) cannot discard
 * locked memory. */
int os_memory_discard(void *base, size_t length);

/* Undo os_memory_commit: give the memory of a range back to the system, so that the range no
 * longer counts as committed.  Locks on the range end, and huge pages are forbidden afterwards.
 * If the process locks all of its future memory (mlockall), the next os_memory_commit brings the
 * whole range into memory.  After an error the range is as before.  The call takes some
 * microseconds longer than os_memory_discard, and splits the kernel's mapping. */
int os_memory_uncommit(void *base, size_t length);

/* Whether the kernel limits how much memory all processes may commit, even if they never touch it
 * (vm.overcommit_memory is 2).  Call this before os_memory_reserve, because the setting at the
 * time when a range is reserved is the one that counts.  The function opens a file. */
bool os_memory_commit_is_limited(void);

/* Advise the kernel to back a range with huge pages, or forbid it to do so.  If single pages of a
 * range will be discarded, forbid huge pages there.  Otherwise khugepaged would fill the gaps,
 * and take the memory again. */
void os_memory_huge(void *base, size_t length, bool allowed);

/* Make the kernel provide memory for each page of a committed range, so that a write does not
 * fault.  The bytes do not change.  Other threads may write to the range at the same time.
 * -ENOMEM: there is not enough memory. */
int os_memory_populate(void *base, size_t length);

/* Make the kernel provide memory for each page of a committed range, and keep it from being
 * swapped out.  A child made by fork does not inherit the lock.  -EPERM or -ENOMEM:
 * RLIMIT_MEMLOCK is too low. */
int os_memory_lock(void *base, size_t length);

/* Whether the process is allowed to lock all of a reserved range.  The function finds out by
 * locking the range, and unlocks it again.  So afterwards no page of the range is locked.
 * Returns 0 or -EPERM. */
int os_memory_may_lock(void *base, size_t length);

/* The resident size of the process in bytes, or 0 if the kernel does not say. */
uint64_t os_memory_resident(void);

/* After a program calls free, malloc can keep the memory for itself.  This function gives such
 * memory back to the system.  If the C library cannot do that, nothing happens.  The call takes
 * microseconds, or milliseconds if much memory was freed.  The next allocations take some page
 * faults. */
void os_memory_tidy(void);

#endif
