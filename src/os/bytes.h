/* SPDX-License-Identifier: BSD-3-Clause */

/* os/bytes - memory that several threads write without a lock
 *
 * The bytes of a disk's pages are such memory.  Two clients may write the same bytes at the same
 * time, and NBD does not say which of them wins.  Such a race is the clients' affair, and is
 * harmless if its outcome affects only these bytes.  So only the functions below read and write
 * the bytes of pages.
 *
 * In most builds these functions call functions of the C library.  In builds with the thread
 * sanitizer they access each byte as an atomic.  The sanitizer then reports no race on the bytes
 * of pages, but still reports every other race.  The atomics are relaxed, because no other data
 * is ordered by the bytes of pages.
 *
 * If a read and a write overlap in time, the read may return new bytes in some places and old
 * bytes in others.  n is a number of bytes, and can be 0.  Any thread may call any function.  But
 * no other thread may free the page meanwhile: the caller is inside a read section
 * (disk/memory/rcu.h), or is the only owner of the page.
 */

#ifndef NBDRAM_OS_BYTES_H
#define NBDRAM_OS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "os/sanitizer.h"

#ifdef NBDRAM_TSAN

/* Copy n bytes out of a page. */
static inline void bytes_load(void *to, const void *page, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)to)[i] = __atomic_load_n((const char *)page + i, __ATOMIC_RELAXED);
}

/* Copy n bytes into a page. */
static inline void bytes_store(void *page, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        __atomic_store_n((char *)page + i, ((const char *)from)[i], __ATOMIC_RELAXED);
}

static inline void bytes_zero(void *page, size_t n)
{
    for (size_t i = 0; i < n; i++)
        __atomic_store_n((char *)page + i, 0, __ATOMIC_RELAXED);
}

/* Whether n bytes of a page are all zero.  If another thread writes these bytes meanwhile, the
 * answer may be out of date already. */
static inline bool bytes_are_zero(const void *page, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (__atomic_load_n((const char *)page + i, __ATOMIC_RELAXED) != 0)
            return false;
    return true;
}

#else

static inline void bytes_load(void *to, const void *page, size_t n)
{
    memcpy(to, page, n);
}

static inline void bytes_store(void *page, const void *from, size_t n)
{
    memcpy(page, from, n);
}

static inline void bytes_zero(void *page, size_t n)
{
    memset(page, 0, n);
}

/* Whether n bytes are all zero.  They are if the first byte is zero and each byte equals the next
 * one. */
static inline bool bytes_are_zero(const void *page, size_t n)
{
    const char *p = page;
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

#endif

#endif
