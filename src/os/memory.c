/* SPDX-License-Identifier: BSD-3-Clause */

#include "os/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The headers of some C libraries lack these constants.  The numbers are those of Linux. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

size_t os_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* The size in bytes of the process's whole address space if `which` is 0, or of the part that is
 * in memory if `which` is 1.  Returns 0 if the kernel does not say. */
static uint64_t read_statm(unsigned which)
{
    uint64_t pages[2];
    FILE *statm = fopen("/proc/self/statm", "re");
    if (!statm)
        return 0;
    int n = fscanf(statm, "%" SCNu64 " %" SCNu64, &pages[0], &pages[1]);
    fclose(statm);
    return n == 2 ? pages[which] * os_page_size() : 0;
}

uint64_t os_address_space_left(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == -1 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    uint64_t used = read_statm(0);
    return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

void os_memory_share_heap(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
#endif
}

/* mmap aligns only to pages of the system.  So this function reserves `align` bytes more than
 * needed, and unmaps the space before and after the aligned range. */
int os_memory_reserve(size_t length, size_t align, bool huge, void **base)
{
    if (length > SIZE_MAX - align)
        return -ENOMEM;
    char *p =
        mmap(NULL, length + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    size_t before = (align - (uintptr_t)p % align) % align;
    if (before)
        munmap(p, before);
    munmap(p + before + length, align - before);
    *base = p + before;
    os_memory_huge(*base, length, huge);
    return 0;
}

void os_memory_unreserve(void *base, size_t length)
{
    munmap(base, length);
}

int os_memory_commit(void *base, size_t length)
{
    return mprotect(base, length, PROT_READ | PROT_WRITE) == -1 ? -errno : 0;
}

int os_memory_discard(void *base, size_t length)
{
    if (madvise(base, length, MADV_DONTNEED) == 0)
        return 0;
    return madvise(base, length, MADV_DONTNEED_LOCKED) == -1 ? -errno : 0;
}

/* Linux counts a mapping as committed until it is unmapped.  So replace the mapping.  mmap
 * removes the old mapping and makes the new one in one step, so no other mapping can take the
 * range in between. */
int os_memory_uncommit(void *base, size_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    /* cppcheck-suppress leakReturnValNotUsed ; with MAP_FIXED, mmap returns base */
    if (mmap(base, length, PROT_NONE, flags, -1, 0) == MAP_FAILED)
        return -errno;
    os_memory_huge(base, length, false);
    return 0;
}

bool os_memory_commit_is_limited(void)
{
    int setting = 0;
    FILE *file = fopen("/proc/sys/vm/overcommit_memory", "re");
    if (!file)
        return false;
    int n = fscanf(file, "%d", &setting);
    fclose(file);
    return n == 1 && setting == 2;
}

/* Errors of madvise are ignored.  On a kernel without huge pages madvise fails, and the range
 * stays in small pages, which serve as well. */
void os_memory_huge(void *base, size_t length, bool allowed)
{
    madvise(base, length, allowed ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

/* Bring each page into memory by writing to it.  Adding 0 atomically does not change a byte, not
 * even a byte that another thread writes at the same time.  Relaxed order suffices, because no
 * other data depends on the addition. */
static void touch_pages(char *base, size_t length)
{
    for (size_t at = 0; at < length; at += os_page_size())
        __atomic_fetch_add(base + at, 0, __ATOMIC_RELAXED);
}

int os_memory_populate(void *base, size_t length)
{
    if (madvise(base, length, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL) /* Linux before 5.14 has no MADV_POPULATE_WRITE, and returns EINVAL */
        return errno == EFAULT ? -ENOMEM : -errno;
    touch_pages(base, length);
    return 0;
}

int os_memory_lock(void *base, size_t length)
{
    return mlock(base, length) == -1 ? -errno : 0;
}

/* With MLOCK_ONFAULT, the kernel checks the limit on locked memory, but brings no page into
 * memory. */
int os_memory_may_lock(void *base, size_t length)
{
    if (mlock2(base, length, MLOCK_ONFAULT) == -1)
        return errno == ENOSYS ? 0 : -EPERM;
    munlock(base, length);
    return 0;
}

uint64_t os_memory_resident(void)
{
    return read_statm(1);
}

void os_memory_tidy(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
