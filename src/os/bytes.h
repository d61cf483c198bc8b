/* SPDX-License-Identifier: BSD-3-Clause */

/* os/bytes - copying to and from pages that others may be writing
 *
 * Two clients may write the same bytes at once, and NBD lets either win: such a race is theirs,
 * and harmless, as long as nothing but the bytes depends on it.  So what a page holds is read and
 * written through these functions only.  They are the C library's, except for the thread
 * sanitizer, which is to keep quiet about the bytes of pages and about nothing else: there each
 * byte is an atomic.
 */

#ifndef NBDRAM_OS_BYTES_H
#define NBDRAM_OS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "os/sanitizer.h"

#ifdef NBDRAM_TSAN

static inline void bytes_load(void *to, const void *page, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((char *)to)[i] = __atomic_load_n((const char *)page + i, __ATOMIC_RELAXED);
}

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

/* The first byte is zero, and each equals the next. */
static inline bool bytes_are_zero(const void *page, size_t n)
{
    const char *p = page;
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

#endif

#endif
