/* SPDX-License-Identifier: BSD-3-Clause */

/* entry - the word in a slot, which is all that is known about a page or a part of the page table
 *
 *     BITS    NAME         MEANING
 *     0-2     kind         see enum entry_kind; the values 5 to 7 are free
 *     3       FROZEN       after a grace period, a thread will remove the page or node; any other
 *                          thread must thaw the word before it writes to the page or node
 *     4-5     age          of a frame: a write sets it to 0; the cold store raises it to 1 and
 *                          then to 2; the value 3 means that the frame is inert
 *     6       PINNED       a client asked for this frame (DISK_NO_HOLE); so the page stays in the
 *                          frame, and the word is never frozen and has age 0
 *     7-23    generation   differs each time the word is frozen, so that a thread cannot mistake
 *                          a later freeze for its own
 *             promise      in the same bits, if PINNED is set: the part of the page that is
 *                          promised to the client (promise.h)
 *     24-63   number       of a frame, node or lone: the number of its cell in the pool; of a
 *                          blob: its number in the cold store
 *
 * A word of all zeroes is a hole.
 *
 * A word changes only by compare-and-swap of the whole word.  A swap that publishes the contents
 * of a cell has release order.  A load whose result leads to a cell has acquire order.  slot_load
 * and slot_swap have these orders, and all accesses go through them.
 */

#ifndef NBDRAM_DISK_PAGED_ENTRY_H
#define NBDRAM_DISK_PAGED_ENTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum entry_kind {
    ENTRY_HOLE = 0, /* no page: the range reads as zeroes */
    ENTRY_FRAME,    /* a page in a frame, read and written in place */
    ENTRY_BLOB,     /* a page that the cold store keeps; a blob never changes */
    ENTRY_NODE,     /* a node of the page table */
    ENTRY_LONE,     /* a lone: replaces a part of the page table that leads to one page only */
};

typedef _Atomic uint64_t slot_t;

#define ENTRY_FROZEN ((uint64_t)1 << 3)
#define ENTRY_AGE_SHIFT 4
#define ENTRY_AGE_MASK ((uint64_t)3 << ENTRY_AGE_SHIFT)
#define ENTRY_AGE_COLD 2u
#define ENTRY_AGE_INERT                                                                          \
    3u /* the frame did not shrink when it was compressed, and has not been written since */
#define ENTRY_PINNED ((uint64_t)1 << 6)
#define ENTRY_GENERATION_SHIFT 7
#define ENTRY_GENERATION_MASK ((uint64_t)0x1ffff << ENTRY_GENERATION_SHIFT)
#define ENTRY_NUMBER_SHIFT 24
#define ENTRY_NUMBER_MAX (((uint64_t)1 << (64 - ENTRY_NUMBER_SHIFT)) - 1)

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
    uint64_t bits = (uint64_t)generation << ENTRY_GENERATION_SHIFT & ENTRY_GENERATION_MASK;
    return (word & ~ENTRY_GENERATION_MASK) | bits | ENTRY_FROZEN;
}

static inline uint64_t entry_thawed(uint64_t word)
{
    return word & ~ENTRY_FROZEN;
}

/* The word that a frame has after a write: it is not frozen, and its age is 0. */
static inline uint64_t entry_young(uint64_t word)
{
    return entry_thawed(entry_aged(word, 0));
}

/* Whether the word leads to a frame that is not frozen and has age 0.  A thread may write to such
 * a frame at once.  Any other frame needs a new word first. */
static inline bool entry_writable(uint64_t word)
{
    return (word & (7 | ENTRY_FROZEN | ENTRY_AGE_MASK)) == ENTRY_FRAME;
}

/* Whether the word leads to a hot frame: a frame that is neither pinned nor inert. */
static inline bool entry_hot(uint64_t word)
{
    return entry_kind(word) == ENTRY_FRAME && !(word & ENTRY_PINNED) &&
           entry_age(word) != ENTRY_AGE_INERT;
}

static inline uint64_t slot_load(const slot_t *slot)
{
    return atomic_load_explicit(slot, memory_order_acquire);
}

/* If the slot holds the word *expected, replace that word by `desired`.  If the slot holds
 * another word, return false, and set *expected to that other word. */
static inline bool slot_swap(slot_t *slot, uint64_t *expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(slot, expected, desired, memory_order_acq_rel,
                                                   memory_order_acquire);
}

#endif
