/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/paged/promise.h"

#include <stdbool.h>
#include <string.h>

#include "disk/paged/entry.h"

#define UNITS 256u
#define PIECES 16u
#define UNITS_PER_PIECE (UNITS / PIECES)

#define FIRST_SHIFT ENTRY_GENERATION_SHIFT
#define LAST_SHIFT (FIRST_SHIFT + 8)
#define FORM_PIECES ((uint64_t)1 << (FIRST_SHIFT + 16))

_Static_assert(ENTRY_GENERATION_MASK >> FIRST_SHIFT == 0x1ffff, "17 bits");

/* Which units of a page are promised. */
struct promise {
    bool unit[UNITS];
};

static void set_units(struct promise *promise, size_t first, size_t end, bool value)
{
    for (size_t i = first; i < end; i++)
        promise->unit[i] = value;
}

static struct promise promise_of_word(uint64_t word)
{
    struct promise promise = {{false}};
    if (!(word & ENTRY_PINNED))
        return promise;
    if (!(word & FORM_PIECES)) {
        set_units(&promise, word >> FIRST_SHIFT & 255, (word >> LAST_SHIFT & 255) + 1, true);
        return promise;
    }
    for (size_t i = 0; i < PIECES; i++)
        if (word >> FIRST_SHIFT & (uint64_t)1 << i)
            set_units(&promise, i * UNITS_PER_PIECE, (i + 1) * UNITS_PER_PIECE, true);
    return promise;
}

static uint64_t as_pieces(const struct promise *promise)
{
    uint64_t bits = FORM_PIECES;
    for (size_t i = 0; i < UNITS; i++)
        if (promise->unit[i])
            bits |= (uint64_t)1 << (FIRST_SHIFT + i / UNITS_PER_PIECE);
    return bits;
}

static uint64_t word_with_promise(uint64_t word, const struct promise *promise)
{
    uint64_t first = UNITS, last = 0, count = 0;
    for (uint64_t i = 0; i < UNITS; i++) {
        if (!promise->unit[i])
            continue;
        first = first == UNITS ? i : first;
        last = i;
        count++;
    }
    word &= ~(ENTRY_PINNED | ENTRY_GENERATION_MASK);
    if (count == 0)
        return word;
    word |= ENTRY_PINNED;
    if (count < last - first + 1)
        return word | as_pieces(promise);
    return word | first << FIRST_SHIFT | last << LAST_SHIFT;
}

/* If the range covers only a part of a unit, the whole unit becomes promised.  Most promises are
 * of whole pages, so a whole page is handled without loading the old promise. */
uint64_t promise_add(uint64_t word, size_t size, size_t at, size_t n)
{
    size_t unit = size / UNITS;
    if (n == size)
        return (word & ~ENTRY_GENERATION_MASK) | ENTRY_PINNED |
               (uint64_t)(UNITS - 1) << LAST_SHIFT;
    struct promise promise = promise_of_word(word);
    set_units(&promise, at / unit, (at + n + unit - 1) / unit, true);
    return word_with_promise(word, &promise);
}

/* If the range covers only a part of a unit, the unit stays promised. */
uint64_t promise_remove(uint64_t word, size_t size, size_t at, size_t n)
{
    size_t unit = size / UNITS;
    if (!(word & ENTRY_PINNED))
        return word;
    struct promise promise = promise_of_word(word);
    set_units(&promise, (at + unit - 1) / unit, (at + n) / unit, false);
    return word_with_promise(word, &promise);
}
