/* SPDX-License-Identifier: BSD-3-Clause */

/* bitmap - an array of bits, which are stored in uint64_t
 *
 * Bit i of the array is bit i % 64 of element i / 64.  A range is (first, count).  The functions
 * do not check whether a range lies within the array, and are not atomic.  So the caller must
 * keep other threads from using the array at the same time.
 */

#ifndef NBDRAM_DISK_MEMORY_BITMAP_H
#define NBDRAM_DISK_MEMORY_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool bitmap_get(const uint64_t *bits, size_t at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

/* A mask of the bits in [at, end) that are in the same uint64_t as bit `at`.  *next is set to the
 * first bit after the masked bits. */
static inline uint64_t bitmap_mask(size_t at, size_t end, size_t *next)
{
    size_t last = (at | 63) + 1 < end ? (at | 63) + 1 : end;
    *next = last;
    return UINT64_MAX >> (64 - (last - at)) << (at % 64);
}

static inline void bitmap_set(uint64_t *bits, size_t first, size_t count, bool value)
{
    for (size_t at = first, next; at < first + count; at = next) {
        uint64_t mask = bitmap_mask(at, first + count, &next);
        bits[at / 64] = value ? bits[at / 64] | mask : bits[at / 64] & ~mask;
    }
}

static inline bool bitmap_all_set(const uint64_t *bits, size_t first, size_t count)
{
    for (size_t at = first, next; at < first + count; at = next) {
        uint64_t mask = bitmap_mask(at, first + count, &next);
        if ((bits[at / 64] & mask) != mask)
            return false;
    }
    return true;
}

/* The number of bits in the range that are set. */
static inline size_t bitmap_count(const uint64_t *bits, size_t first, size_t count)
{
    size_t sum = 0;
    for (size_t at = first, next; at < first + count; at = next)
        sum +=
            (size_t)__builtin_popcountll(bits[at / 64] & bitmap_mask(at, first + count, &next));
    return sum;
}

#endif
