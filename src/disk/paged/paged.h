/* SPDX-License-Identifier: BSD-3-Clause */

/* paged - a disk that is kept in pages: what its parts share
 *
 * The page table leads to the frames that hold the pages.  A cold store may keep pages in another
 * form (cold_store.h; the one in zstd/ compresses them).  All files of paged/ and every cold
 * store keep to the rules below.
 *
 * A request takes no lock on the way to a page: it walks the table inside a read section and
 * copies in place.  The word in a page's slot (entry.h) changes only in these ways:
 *
 *               write, provide                           freeze
 *      hole -------------------------------> FRAME ----------------> FRAME, frozen
 *      ^  ^                                  ^    <----------------    |     |
 *      |  |                                  |      a writer thaws     |     |
 *      |  |                   write, zero of |                         |     |
 *      |  |                   a part, provide|                         |     |
 *      |  |                                BLOB <---- compressed ------'     |
 *      |  '---------------------------------------------- all zero ----------'
 *      '--- trim, zero of the whole page: from any of the three
 *
 *      FROM            TO              WHEN                            BY
 *      hole, BLOB      FRAME           written, received into, zeroed  request_replace
 *                                      in part (BLOB), provided
 *      FRAME           FRAME, frozen   found all zero, or cold         table_freeze
 *      FRAME, frozen   FRAME           written, or did not shrink      paged_swap
 *      FRAME, frozen   hole            still all zero                  paged_make_hole
 *      FRAME, frozen   BLOB            compressed                      the cold store
 *      any             hole            trimmed or zeroed as a whole    table_unlink
 *
 * To provide means to zero a range and to keep memory for it (DISK_NO_HOLE).
 *
 * Rules, numbered as in DESIGN.md, which says why:
 *
 *  1. A hole or a blob becomes a frame by compare-and-swap.  The new frame already holds the new
 *     contents of the page, including the bytes of the write.  The loser of the swap frees its
 *     frame and uses the winner's.
 *  2. Zeroing or trimming that covers a whole page unlinks the page.
 *  3. A thread that takes a page away because of its contents first freezes the page's word.
 *     After a grace period it swaps the word, and the swap succeeds only if the slot still holds
 *     the exact frozen word.  A writer that meets a frozen word thaws it before it writes.  This
 *     rule is for frames that are all zero (zero.c), for cold frames (the cold store) and for
 *     empty nodes (table.c).
 *  4. The old contents of a page are handed to reclaim only after the swap that replaces them.
 *  5. A section waits for no other section, no grace period and no client.  If a request finds no
 *     memory, it leaves its section, calls paged_make_room, and enters a new section.
 *  6. A thread fills a frame before it swaps the frame in, and does not fill it again afterwards.
 *     So no reader sees the earlier contents of the frame, and no writer's bytes are overwritten.
 *
 * Any two of these operations may run concurrently on one page, inside sections.  "Finish" is
 * the swap of a frozen word after its grace period (rule 3).  The table shows what is read, what
 * the page holds afterwards, or what keeps the two operations apart:
 *
 *                 read   write             zero a part       zero, trim whole   freeze, finish
 *
 *     read        -      bytes of either   bytes of either   old, or zeroes     the same bytes
 *
 *     write              rule 1            bytes of either   rule 2             rule 3: the write
 *                                                                               thaws
 *
 *     zero a part                          bytes of either   rule 2             rule 3: the zero
 *                                                                               thaws
 *
 *     zero, trim                                             one swap wins      the exact word is
 *     whole                                                                     gone: finish does
 *                                                                               nothing
 *
 *     freeze,                                                                   the generations
 *     finish                                                                    differ
 *
 * Reporting extents only reads words.  Nothing else may run during create, start and destroy.
 */

#ifndef NBDRAM_DISK_PAGED_PAGED_H
#define NBDRAM_DISK_PAGED_PAGED_H

#include "disk/memory/budget.h"
#include "disk/memory/pool.h"
#include "disk/memory/reclaim.h"
#include "disk/paged/cold_store.h"
#include "disk/paged/table.h"

#define PAGE_SIZE_MAX ((size_t)32 << 10)

struct paged {
    /* While requests run, the fields from size to cold do not change. */
    uint64_t size; /* bytes of the disk */
    unsigned page_shift;
    struct budget *budget;
    struct cold cold;

    /* Options for all pools of the disk.  Each pool sets its own cell size.  The field `capacity`
     * is for the pool of the cold store; the other pools set their own capacities. */
    struct pool_options pool_options;

    struct pool frames; /* each frame holds one page */
    struct table table;
    struct reclaim reclaim;
    _Atomic int64_t hot; /* the number of hot frames; 0 without a cold store */

    /* If true, the disk is about to be destroyed, and no memory is freed any more.  Relaxed order
     * is enough: pages that are still freed do no harm. */
    _Atomic bool is_ending;

    /* If true, requests no longer wait for memory.  Relaxed order is enough: after this field is
     * set, reclaim and the cold store take their locks and wake the waiting requests, so they see
     * the new value. */
    _Atomic bool gives_up;
};

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t paged_pages(const struct paged *paged)
{
    return (paged->size >> paged->page_shift) +
           (paged->size % ((uint64_t)1 << paged->page_shift) != 0);
}

static inline size_t paged_page_size(const struct paged *paged)
{
    return (size_t)1 << paged->page_shift;
}

static inline void *paged_frame(const struct paged *paged, uint64_t word)
{
    return pool_at(&paged->frames, entry_number(word));
}

/* Take a frame for a page.  This can fail even if the pool has a free frame, because the budget
 * can keep the memory for another purpose.  Returns 0, or an error of pool_take. */
int paged_take_frame(struct paged *paged, enum budget_purpose purpose, uint64_t *cell);

/* The number of hot frames.  Relaxed order is enough: no other data depends on the number. */
static inline int64_t paged_hot(const struct paged *paged)
{
    return atomic_load_explicit(&paged->hot, memory_order_relaxed);
}

static inline bool paged_is_ending(const struct paged *paged)
{
    return atomic_load_explicit(&paged->is_ending, memory_order_relaxed);
}

static inline bool paged_gives_up(const struct paged *paged)
{
    return atomic_load_explicit(&paged->gives_up, memory_order_relaxed);
}

/* Call this after each change of a page's word, so that the disk can count its hot frames.
 * was_hot and is_hot say whether the old word and the new word lead to hot frames. */
void paged_count_hot(struct paged *paged, bool was_hot, bool is_hot);

/* If slot holds the word *word, replace that word by `desired`, and set *word to `desired`.
 * Otherwise return false, and set *word to the word that slot holds.  The page must stay in its
 * frame. */
bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired);

#endif
