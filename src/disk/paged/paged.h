/* SPDX-License-Identifier: BSD-3-Clause */

/* paged - a disk that is kept in pages: what its parts share
 *
 * The page table leads to the frames that hold the pages.  A cold store may keep pages in another
 * form (cold_store.h; zstd/ has the one there is).  Every part of this room, and every cold store,
 * keeps to the rules below.
 *
 * No lock is taken on the way to a page: a request walks the table inside a read section and
 * copies in place.  What the word in a page's slot (entry.h) may become:
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
 *  1. A hole or a blob becomes a frame by compare-and-swap.  The new frame already holds what the
 *     page is going to hold, the write included.  The loser of the swap frees its frame and uses
 *     the winner's.
 *  2. Zeroing or trimming that covers a whole page unlinks it.
 *  3. A page that is taken away because of what it holds is frozen first; then a grace period is
 *     waited for, and the swap names the exact word.  So are taken away a frame that is all zero
 *     (zero.c), a cold frame (the cold store) and an empty node (table.c).  A writer that meets a
 *     frozen word thaws it before it writes.
 *  4. What a page held is handed to reclaim only after the swap that replaces it.
 *  5. A section waits for no other section, no grace period and no client.  A request that finds
 *     no memory leaves its section, makes room outside, and comes back.
 *  6. A frame is filled before it is swapped in, and by the thread that swapped it in not again.
 *     So no reader sees what the frame held before, and no writer's bytes are overwritten.
 *
 * Which operations on one page may run concurrently, and what both of them then leave.  All run
 * inside sections:
 *
 *                  read   write            zero a part      zero, trim whole   freeze, finish
 *
 *     read         -      bytes of either  bytes of either  old, or zeroes     the same bytes
 *
 *     write               rule 1           bytes of either  rule 2             write thaws, rule 3
 *
 *     zero a part                          bytes of either  rule 2             zero thaws, rule 3
 *
 *     zero, trim                                            one swap wins      the exact word is
 *     whole                                                                    gone: finish does
 *                                                                              nothing
 *
 *     freeze,                                                                  the generation of
 *     finish                                                                   each is another
 *
 * Extents is a read that looks at words only.  Create, start and destroy have the disk to
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
    /* constant while requests run */
    uint64_t size; /* of the disk, in bytes */
    unsigned page_shift;
    struct budget *budget;
    struct cold cold;
    struct pool_options pool_options; /* of all its pools; each adds the size of its cells */

    struct pool frames; /* a frame holds one page */
    struct table table;
    struct reclaim reclaim;
    _Atomic int64_t hot; /* frames that the cold store has yet to look at */

    /* No request waits for room any more.  relaxed: a request that does not see it yet is woken
     * under the lock of the cold store, and then does. */
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

/* Take a frame for a page.  Even a free frame, which is charged already, may be needed more for
 * another purpose.  0, or an error of pool_take. */
int paged_take_frame(struct paged *paged, enum budget_purpose purpose, uint64_t *cell);

/* The number of hot frames.  relaxed: it guards nothing but itself. */
static inline int64_t paged_hot(const struct paged *paged)
{
    return atomic_load_explicit(&paged->hot, memory_order_relaxed);
}

static inline bool paged_gives_up(const struct paged *paged)
{
    return atomic_load_explicit(&paged->gives_up, memory_order_relaxed);
}

/* To be called after each change of a page's word: a frame may have become hot, or may have ceased
 * to be. */
void paged_count_hot(struct paged *paged, bool was_hot, bool is_hot);

/* Replace the word of a page that is in a frame and stays in it.  As slot_swap, except that *word
 * becomes desired if that succeeds. */
bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired);

#endif
