/* SPDX-License-Identifier: BSD-3-Clause */

/* sabotage - the switches that break the engine on purpose
 *
 * A test that has never failed may be unable to fail.  So tests/meson.build (must_notice)
 * compiles the engine again with one of these switches, links tests to it, and expects these
 * tests to fail:
 *
 *     NBDRAM_BREAK_GRACE        no thread waits for a grace period
 *     NBDRAM_BREAK_GENERATION   all freezes get the same generation, and look alike
 *     NBDRAM_BREAK_ORDER        a frame is filled after it has been swapped in, not before
 *
 * Without a switch, the engine works as usual, and the functions below compile to nothing.
 */

#ifndef NBDRAM_DISK_MEMORY_SABOTAGE_H
#define NBDRAM_DISK_MEMORY_SABOTAGE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether one of the switches is set, and the engine is broken on purpose. */
static inline bool sabotage_is_on(void)
{
#if defined NBDRAM_BREAK_GRACE || defined NBDRAM_BREAK_GENERATION || defined NBDRAM_BREAK_ORDER
    return true;
#else
    return false;
#endif
}

/* Whether NBDRAM_BREAK_GRACE is set, so that no thread waits for a grace period. */
static inline bool sabotage_skips_grace_period(void)
{
#ifdef NBDRAM_BREAK_GRACE
    return true;
#else
    return false;
#endif
}

/* The generation that a freeze gets.  If NBDRAM_BREAK_GENERATION is set, it is the same for all
 * freezes. */
static inline uint32_t sabotage_generation(uint32_t generation)
{
#ifdef NBDRAM_BREAK_GENERATION
    return generation * 0;
#else
    return generation;
#endif
}

/* Whether NBDRAM_BREAK_ORDER is set, so that a frame is swapped in before it is filled. */
static inline bool sabotage_swaps_first(void)
{
#ifdef NBDRAM_BREAK_ORDER
    return true;
#else
    return false;
#endif
}

#endif
