/* SPDX-License-Identifier: BSD-3-Clause */

/* paged - a disk kept in pages: what its parts share
 *
 * The page table leads to frames, and with the zstd allocator to blobs.  The rules that make this
 * safe without a lock stand at the top of paged.c; paged_read.c, paged_write.c, paged_zero.c
 * and paged_loan.c do the requests, compress.c the compression.
 */

#ifndef NBDRAM_DISK_PAGED_PAGED_H
#define NBDRAM_DISK_PAGED_PAGED_H

#include <errno.h>

#include "disk/memory/budget.h"
#include "disk/memory/reclaim.h"
#include "disk/paged/table.h"

struct paged {
    uint64_t size; /* of the disk */
    unsigned page_shift;
    struct budget *budget;
    struct pool frames; /* one to a page */
    struct table table;
    struct reclaim reclaim;
    struct compressor *compressor; /* NULL: sparse */
};

#define PAGE_SIZE_MAX ((size_t)32 << 10)

static inline size_t paged_page_size(const struct paged *paged)
{
    return (size_t)1 << paged->page_shift;
}

static inline void *paged_frame(const struct paged *paged, uint64_t word)
{
    return pool_at(&paged->frames, entry_number(word));
}

/* A frame for a page.  One that is free was charged already, but may be needed more elsewhere.
 * -ENOSPC, -ENOMEM: as pool_take. */
static inline int paged_take_frame(struct paged *paged, enum budget_purpose purpose,
                                   uint64_t *cell)
{
    return budget_allows(paged->budget, purpose) ? pool_take(&paged->frames, purpose, cell)
                                                 : -ENOSPC;
}

/* What a section has to leave to after it: words taken out, or frozen. */
#define DEFERRED_MAX 64
struct deferred {
    unsigned count;
    struct reclaim_item things[DEFERRED_MAX];
};

static inline void deferred_add(struct deferred *left, uint64_t page, uint64_t word, bool frozen)
{
    left->things[left->count++] = (struct reclaim_item){.word = word, .page = page, .frozen = frozen};
}

/* Hand over what a section left; to be called after it. */
static inline void deferred_flush(struct paged *paged, struct deferred *left)
{
    reclaim_add(&paged->reclaim, left->things, left->count);
    left->count = 0;
}

/* A frame that waits to be compressed may have become one, or ceased to be one. */
void paged_count_hot(struct paged *paged, bool before, bool after);

/* How far somebody got who looks for memory: all zeroes before he tries to take some. */
struct search {
    unsigned attempts;
    uint64_t released; /* reclaim_released before the last try */
};

/* Outside of a section, after a try to take memory that failed: find some, harder with each
 * attempt.  False: there is none, nor has any become free since the try. */
bool paged_make_room(struct paged *paged, struct search *search);

/* Outside of a section: give all that is free, or waits to be, to whoever needs it. */
void paged_collect(struct paged *paged);

/* Swap the word of a page that has a frame and keeps it. */
bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired);

/* In a section: turn a page whose word is exactly `word`, frozen for a grace period and found to
 * hold nothing but zeroes, into a hole.  Up to two things are left. */
void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *left);

#endif
