/* SPDX-License-Identifier: BSD-3-Clause */

/* paged - a disk that is kept in pages: what its parts share
 *
 * The page table leads to the frames that hold the pages.  A cold store may keep pages in another
 * form (cold_store.h; the one in zstd/ compresses them).  All files of paged/ and every cold
 * store keep to the rules below.
 *
 * A request takes no lock on the way to a page: it walks the table inside a read section and
 * copies in place.  This is how the word in a page's slot (entry.h) may change:
 *
 *               write, provide                           freeze
 *      hole -------------------------------> FRAME ----------------> FRAME, frozen
 *      ^  ^                                  ^    <----------------    |     |
 *      |  |                                  |      a writer thaws     |     |
 *      |  |                   write, zero of |                         |     |
 *      |  |                   a part, provide|                         |     |
 *      |  |                                BLOB <----- cold, packed ---'     |
 *      |  '---------------------------------------------- all zero ----------'
 *      '--- trim, zero of the whole page: from any of the three
 *
 *      FROM            TO              WHEN                            BY
 *      hole, BLOB      FRAME           written, received into, zeroed  request_replace
 *                                      in part (BLOB), provided
 *      FRAME           FRAME, frozen   found all zero, or cold         table_freeze
 *      FRAME, frozen   FRAME           written meanwhile, or no gain   paged_swap
 *      FRAME, frozen   hole            still all zero                  paged_make_hole
 *      FRAME, frozen   BLOB            packed                          the cold store
 *      any             hole            trimmed or zeroed as a whole    table_unlink
 *
 * Rules, numbered as in DESIGN.md, which says why:
 *
 *  1. A hole or a blob becomes a frame by compare-and-swap.  The new frame already holds the new
 *     contents of the page, the write included.  The loser of the swap frees its frame and uses
 *     the winner's.
 *  2. Zeroing or trimming that covers a whole page unlinks the page.
 *  3. A page that is taken away because of its contents is frozen first.  Then the thread waits
 *     for a grace period, and the swap names the exact word.  This is how a frame that is all
 *     zero (zero.c), a cold frame (the cold store) and an empty node (table.c) are taken away.  A
 *     writer that meets a frozen word thaws it before it writes.
 *  4. The old contents of a page are handed to reclaim only after the swap that replaces them.
 *  5. A section waits for no other section, no grace period and no client.  A request that finds
 *     no memory leaves its section, makes room outside, and comes back.
 *  6. A thread fills a frame before it swaps the frame in, and does not fill it again afterwards.
 *     So no reader sees the earlier contents of the frame, and no writer's bytes are overwritten.
 *
 * The table shows which operations on one page may run concurrently, and what the page holds
 * afterwards or what keeps them apart.  All operations run inside sections:
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
 *     freeze,                                                                   the generation of
 *     finish                                                                    each is another
 *
 * To report extents is to read words only.  Create, start and destroy have the disk to
 * themselves.
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
    /* Constant while requests run. */
    uint64_t size; /* bytes of the disk */
    unsigned page_shift;
    struct budget *budget;
    struct cold cold;
    struct pool_options pool_options; /* of all pools; each adds the size of its cells */

    struct pool frames; /* a frame holds one page */
    struct table table;
    struct reclaim reclaim;
    _Atomic int64_t hot; /* the number of frames that the cold store has yet to look at */

    /* No request waits for room any more.  Relaxed order: a request that does not see the change
     * yet is woken under the lock of the cold store, and sees it then. */
    _Atomic bool gives_up;
};

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline size_t paged_page_size(const struct paged *paged)
{
    return (size_t)1 << paged->page_shift;
}

static inline void *paged_frame(const struct paged *paged, uint64_t word)
{
    return pool_at(&paged->frames, entry_number(word));
}

/* Take a frame for a page.  This can fail even if a frame is free and charged already, because
 * another purpose may need the frame more.  Returns 0, or an error of pool_take. */
int paged_take_frame(struct paged *paged, enum budget_purpose purpose, uint64_t *cell);

/* The number of hot frames.  Relaxed order: no other data depends on the number. */
static inline int64_t paged_hot(const struct paged *paged)
{
    return atomic_load_explicit(&paged->hot, memory_order_relaxed);
}

static inline bool paged_gives_up(const struct paged *paged)
{
    return atomic_load_explicit(&paged->gives_up, memory_order_relaxed);
}

/* Call this after each change of a page's word: a frame may have become hot, or may no longer be
 * hot. */
void paged_count_hot(struct paged *paged, bool was_hot, bool is_hot);

/* Replace the word of a page that is in a frame and stays in that frame.  As slot_swap, except
 * that *word becomes `desired` if the swap succeeds. */
bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired);

#endif
