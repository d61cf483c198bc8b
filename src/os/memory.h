/* SPDX-License-Identifier: BSD-3-Clause */

/* os/memory - address space and memory from the system
 *
 * Address space is reserved once, in one piece, and costs nothing; memory is committed into it
 * and discarded again.  Lengths and bases are multiples of os_page_size().  All functions may be
 * called from any thread.  0 or -errno, unless said otherwise.
 */

#ifndef NBDRAM_OS_MEMORY_H
#define NBDRAM_OS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The size of the system's own pages: 4 KiB nearly everywhere. */
size_t os_page_size(void);

/* Reserve address space, aligned to align (a power of two).  Touching it faults until it has been
 * committed.  huge asks for huge pages once it is. */
int os_memory_reserve(size_t length, size_t align, bool huge, void **base);
void os_memory_unreserve(void *base, size_t length);

/* Make reserved memory usable.  It reads as zeroes and takes memory when it is touched. */
int os_memory_commit(void *base, size_t length);

/* Let memory go back to the system.  It stays committed, and reads as zeroes (or faults in
 * anew) afterwards.  -EINVAL: this kernel cannot do that to locked memory (Linux before 5.18). */
int os_memory_discard(void *base, size_t length);

/* Whether the kernel may back a range with huge pages.  A range from which pages were discarded
 * one by one must not: khugepaged would fill the gaps, and the memory would be back. */
void os_memory_huge(void *base, size_t length, bool allowed);

/* Fault a committed range in, for writing, without changing what it holds.  -ENOMEM if the
 * memory cannot be had. */
int os_memory_populate(void *base, size_t length);

/* Keep a committed range in memory, faulting in what is not.  Not inherited by fork.
 * -EPERM or -ENOMEM if RLIMIT_MEMLOCK is too low. */
int os_memory_lock(void *base, size_t length);

/* Whether os_memory_lock could be allowed for the whole of a reserved range.  Locks nothing.  0
 * or -EPERM. */
int os_memory_may_lock(void *base, size_t length);

/* What the process has in memory, in bytes; 0 if the machine does not tell. */
uint64_t os_memory_resident(void);

/* Let go what malloc keeps of memory that was freed, where the C library can.  Some microseconds,
 * and for those who allocate next a page fault. */
void os_memory_tidy(void);

#endif
