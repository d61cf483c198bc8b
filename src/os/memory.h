/* SPDX-License-Identifier: BSD-3-Clause */

/* os/memory - address space and memory from the system
 *
 * Address space is reserved once, in one piece, and costs nothing.  Parts of it are committed,
 * which makes them memory, and discarded again.
 *
 *     AFTER                  AN ACCESS        THE RANGE TAKES MEMORY
 *     os_memory_reserve      faults           no
 *     os_memory_commit       finds zeroes     where it is touched
 *     os_memory_discard      finds zeroes     where it is touched again
 *     os_memory_unreserve    is a mistake     no
 *
 * UNITS.  Lengths are in bytes.  Lengths and bases are multiples of os_page_size().
 * ERRORS.  Functions return 0 or -errno, unless they say otherwise.
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

/* Reserve address space, aligned to `align` (bytes, a power of two, at least a page).  An access
 * faults until the range is committed.  huge: as os_memory_huge(allowed), for the whole range.
 * -ENOMEM if there is not enough address space. */
int os_memory_reserve(size_t length, size_t align, bool huge, void **base);

/* Return a reserved range, with all memory in it. */
void os_memory_unreserve(void *base, size_t length);

/* Make a reserved range accessible.  It reads as zeroes, and takes memory when it is touched.
 * -ENOMEM if the kernel cannot split its mappings further. */
int os_memory_commit(void *base, size_t length);

/* Give the memory of a committed range back to the system.  The range stays committed and reads
 * as zeroes.  -EINVAL if the range is locked and the kernel cannot do that (Linux before
 * 5.18). */
int os_memory_discard(void *base, size_t length);

/* Advise the kernel to back a range with huge pages, or forbid it to.  Forbid it for a range of
 * which single pages are discarded: khugepaged would fill the gaps, and take the memory again. */
void os_memory_huge(void *base, size_t length, bool allowed);

/* Bring a committed range into memory, writable, without changing its bytes.  Other threads may
 * write to it at the same time.  -ENOMEM if there is not enough memory. */
int os_memory_populate(void *base, size_t length);

/* Bring a committed range into memory and keep it there: it is never swapped out.  A child made
 * by fork does not inherit the lock.  -EPERM or -ENOMEM if RLIMIT_MEMLOCK is too low. */
int os_memory_lock(void *base, size_t length);

/* Whether the process is allowed to lock all of a reserved range.  It tries: afterwards no page
 * of the range is locked.  Returns 0 or -EPERM. */
int os_memory_may_lock(void *base, size_t length);

/* The bytes of the process that are in memory (its resident size), or 0 if the kernel does not
 * say. */
uint64_t os_memory_resident(void);

/* Give freed memory that malloc still keeps back to the system, if the C library can.  It takes
 * some microseconds, and the next allocations some page faults. */
void os_memory_tidy(void);

#endif
