/* SPDX-License-Identifier: BSD-3-Clause */

/* places - the same pseudo-random places in every run, no place twice
 *
 * place(i, bits) maps [0, 2^bits) onto itself, one to one, because multiplying by an odd number
 * and xoring a number with its own upper part can both be undone.  So a million scattered pages
 * need no list of the places that were used, and a trim finds the places that a write used.  i
 * wraps.
 */

#ifndef NBDRAM_BENCH_PLACES_H
#define NBDRAM_BENCH_PLACES_H

#include <stdint.h>

static inline uint64_t place(uint64_t i, unsigned bits)
{
    static const uint64_t odd[] = {0xff51afd7ed558ccd, 0xc4ceb9fe1a85ec53, 0x9e3779b97f4a7c15};
    const uint64_t mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;

    i = (i ^ 0x5bf03635dcd8f3a1) & mask;
    for (unsigned round = 0; round < 3; round++) {
        i = (i * odd[round]) & mask;
        i ^= i >> (bits / 2 + 1);
    }
    return i;
}

/* How many bits the numbers 0 to count - 1 need. */
static inline unsigned place_bits(uint64_t count)
{
    unsigned bits = 0;

    while (bits < 63 && (UINT64_C(1) << bits) < count)
        bits++;
    return bits;
}

#endif
