/* SPDX-License-Identifier: BSD-3-Clause */

/* pattern - bytes that show where on the disk they belong
 *
 * Each 8-byte word is made of its own offset and is never zero, so what is read shows by itself
 * whether it is from the right place, and every run of every client writes the same.
 */

#ifndef NBDRAM_BENCH_PATTERN_H
#define NBDRAM_BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pattern_word(uint64_t offset)
{
    return (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* OFFSET and COUNT are multiples of 8. */
static inline void pattern_fill(char *to, uint64_t offset, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        const uint64_t word = pattern_word(offset + i);

        memcpy(to + i, &word, 8);
    }
}

/* Are COUNT bytes from OFFSET, all of one word, as they should be? */
static inline bool pattern_matches_word(const char *from, uint64_t offset, size_t count,
                                        bool may_be_zero)
{
    const uint64_t zero = 0, word = pattern_word(offset);
    const size_t skip = offset % 8;

    return memcmp(from, (const char *)&word + skip, count) == 0 ||
           (may_be_zero && memcmp(from, &zero, count) == 0);
}

/* Any OFFSET and COUNT.  MAY_BE_ZERO: words of zeroes are right as well. */
static inline bool pattern_matches(const char *from, uint64_t offset, size_t count,
                                   bool may_be_zero)
{
    while (count > 0) {
        const size_t left_in_word = 8 - offset % 8;
        const size_t n = count < left_in_word ? count : left_in_word;

        if (!pattern_matches_word(from, offset, n, may_be_zero))
            return false;
        from += n;
        offset += n;
        count -= n;
    }
    return true;
}

#endif
