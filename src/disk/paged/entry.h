/* SPDX-License-Identifier: BSD-3-Clause */

/* entry - the word that says all about a page, or about a part of the page table
 *
 *     BITS    MEANING
 *     0-2     kind, below; a word of all zeroes is a hole
 *     3       frozen: somebody wants to take this away and waits for a grace period; whoever is
 *             about to put something into it must thaw it first
 *     4-5     age of a frame: 0 written since the compressor last came by, then 1, 2; or INERT
 *     6       pinned: this frame was asked for (DISK_NO_HOLE) and must stay one
 *     7-23    generation: differs each time the page is frozen, so that somebody who froze it
 *             cannot mistake a later freeze for his own
 *     24-63   number of a cell: a frame, a node, a lone; of a blob, its place in the log
 *
 * Words change by compare-and-swap of the whole word only.  A swap that publishes what a cell
 * holds releases, and a load that is to look into the cell acquires; every use goes through
 * slot_load and slot_swap, which do just that.
 */

#ifndef NBDRAM_DISK_PAGED_ENTRY_H
#define NBDRAM_DISK_PAGED_ENTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum entry_kind {
    ENTRY_HOLE = 0,
    ENTRY_FRAME, /* a page, in a frame, written in place */
    ENTRY_BLOB,  /* a page, compressed, never changed */
    ENTRY_NODE,  /* a node of the page table */
    ENTRY_LONE,  /* a part of the disk in which one page is all there is */
};

typedef _Atomic uint64_t slot_t;

#define ENTRY_FROZEN ((uint64_t)1 << 3)
#define ENTRY_AGE_SHIFT 4
#define ENTRY_AGE_MASK ((uint64_t)3 << ENTRY_AGE_SHIFT)
#define ENTRY_AGE_COLD 2u
#define ENTRY_AGE_INERT 3u /* did not compress: leave it alone until it is written again */
#define ENTRY_PINNED ((uint64_t)1 << 6)
#define ENTRY_GENERATION_SHIFT 7
#define ENTRY_GENERATION_MASK ((uint64_t)0x1ffff << ENTRY_GENERATION_SHIFT)
#define ENTRY_NUMBER_SHIFT 24
#define ENTRY_NUMBER_MAX (((uint64_t)1 << 40) - 1)

static inline uint64_t entry_make(enum entry_kind kind, uint64_t number)
{
    return number << ENTRY_NUMBER_SHIFT | (uint64_t)kind;
}

static inline enum entry_kind entry_kind(uint64_t word)
{
    return (enum entry_kind)(word & 7);
}

static inline uint64_t entry_number(uint64_t word)
{
    return word >> ENTRY_NUMBER_SHIFT;
}

static inline unsigned entry_age(uint64_t word)
{
    return (unsigned)((word & ENTRY_AGE_MASK) >> ENTRY_AGE_SHIFT);
}

static inline uint64_t entry_aged(uint64_t word, unsigned age)
{
    return (word & ~ENTRY_AGE_MASK) | (uint64_t)age << ENTRY_AGE_SHIFT;
}

static inline uint64_t entry_frozen(uint64_t word, uint32_t generation)
{
#ifdef NBDRAM_BREAK_GENERATION
    generation = 0; /* what a test has to notice: see tests/stress */
#endif
    uint64_t bits = (uint64_t)generation << ENTRY_GENERATION_SHIFT & ENTRY_GENERATION_MASK;
    return (word & ~ENTRY_GENERATION_MASK) | bits | ENTRY_FROZEN;
}

static inline uint64_t entry_thawed(uint64_t word)
{
    return word & ~ENTRY_FROZEN;
}

static inline uint64_t entry_young(uint64_t word)
{
    return entry_thawed(entry_aged(word, 0));
}

/* A frame that a writer may write into as it is: neither frozen, nor aged. */
static inline bool entry_writable(uint64_t word)
{
    return (word & (7 | ENTRY_FROZEN | ENTRY_AGE_MASK)) == ENTRY_FRAME;
}

/* A frame that the compressor has yet to look at. */
static inline bool entry_hot(uint64_t word)
{
    return entry_kind(word) == ENTRY_FRAME && !(word & ENTRY_PINNED) &&
           entry_age(word) != ENTRY_AGE_INERT;
}

static inline uint64_t slot_load(const slot_t *slot)
{
    return atomic_load_explicit(slot, memory_order_acquire);
}

/* *expected becomes what is there if that is something else. */
static inline bool slot_swap(slot_t *slot, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(slot, expected, desired, memory_order_acq_rel,
                                                   memory_order_acquire);
}

#endif
