/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_inside - what the files of the pool share, and nobody else includes
 *
 *     pool.c         magazines; making and unmaking the pool; the functions of pool.h
 *     pool_chunk.c   the chunks behind the magazines: growing and shrinking
 *     pool_check.c   verifies the invariants below
 *
 * THE STATE OF A CELL, and the functions that change it:
 *
 *                pool_take                   pool_take_batch             charge
 *             <-------------              <-------------            <-------------
 *     in use                 in a magazine                   free                   absent
 *             ------------->              ------------->            ------------->
 *                pool_give                   pool_give_batch             discard
 *
 * pool_give_batch can also make a cell free that was in use, and pool_take_batch the other way
 * round: a pool of large cells has no magazines.
 *
 *     STATE           ITS FREE BIT   ITS GRANULE'S ABSENT BIT
 *     in use               0                   0                 in no magazine
 *     in a magazine        0                   0                 in one magazine, once
 *     free                 1                   0
 *     absent               0                   1                 not in memory, not charged
 *
 * INVARIANTS.  They hold whenever no thread holds the pool's lock (1 and 8: nor a magazine's):
 *
 *  1. Each cell is in exactly one of the four states.  Cells of a granule that is being discarded,
 *     and cells on their way from a magazine to their chunk, count as in use.
 *  2. A chunk's `free` counts its free bits, its `absent` counts its absent bits, and
 *     free + absent * cells_per_granule + in use + in magazines = cells_per_chunk.
 *  3. A chunk before `fresh` is on exactly one list, and its `list` names it:
 *         partial   free > 0
 *         hollow    free = 0, absent > 0, and at least one granule is not absent
 *         vacant    all granules are absent
 *         full      free = 0 and absent = 0 (nothing looks there; every chunk has a list)
 *  4. The pool's `free` is the sum of its chunks' free; `resident` counts the cells that are not
 *     absent; and the budget was charged resident * cell bytes.
 *  5. leftover <= free.
 *  6. A chunk of which some granules are absent, but not all, is `split`: barred from huge pages.
 *     khugepaged fills the gaps of a range in which a single page is present (max_ptes_none), and
 *     would take back in minutes what TRIM has given.
 *  7. Chunks from `fresh` on were never touched: nothing is free or absent, and they are on no list.
 *  8. A magazine holds at most magazine_cells cells.
 *  9. Each of the `discards` is of at least one granule.
 *
 * EXCLUSION.  There are two kinds of locks: one of each magazine (m), then that of the pool (P).  A
 * thread that takes both takes the magazine's first.  Neither is held while the system takes memory
 * back: pool_shrink_to marks those granules as in use, so that no other thread touches them.
 *
 *                                 through a     batch   sweep   system takes   pool_check
 *                                 magazine                      memory back
 *     take or give through
 *         a magazine                  m           m       -          -             m
 *     batch to, from chunks           m           P       P          -             P
 *     sweep (pool_shrink_to)          -           P       P          -             P
 *     system takes memory back        -           -       -          -             -
 *     pool_check                      m           P       P          -             P
 *
 *     m   exclude each other, if they use the same magazine; pool_check uses all of them
 *     P   exclude each other
 *     -   run concurrently
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_INSIDE_H
#define NBDRAM_DISK_MEMORY_POOL_INSIDE_H

#include <pthread.h>

#include "disk/memory/pool.h"

#define MAGAZINE_CELLS 64

/* The lists of chunks, by what a chunk can give: invariant 3. */
enum chunk_list {
    CHUNK_PARTIAL, /* free cells */
    CHUNK_HOLLOW,  /* absent granules among others */
    CHUNK_VACANT,  /* absent granules only */
    CHUNK_FULL,    /* nothing */
    CHUNK_LISTS,   /* the number of lists */
};

struct chunk {
    struct chunk *next, *previous;
    uint32_t free;   /* cells */
    uint32_t absent; /* granules */
    uint8_t list;    /* enum chunk_list */
    bool split;      /* must not be backed by a huge page */
};

/* Free cells that one processor holds, so that threads on others do not wait for its lock. */
struct magazine {
    _Alignas(64) pthread_mutex_t lock; /* guards what follows */
    unsigned count;
    uint64_t cells[MAGAZINE_CELLS]; /* the last is handed out first */
};

struct pool_inside {
    /* Set by pool_create, and constant. */
    struct pool_options options;
    size_t granule; /* bytes */
    uint32_t cells_per_granule, cells_per_chunk, granules_per_chunk;
    size_t free_words, absent_words; /* words of the bitmaps of one chunk */
    uint64_t chunk_count;
    unsigned magazine_count;
    unsigned magazine_cells; /* the most that a magazine holds; 0: they are not used */
    struct magazine *magazines;

    pthread_mutex_t lock; /* guards what follows */
    struct chunk *chunks; /* chunk_count of them */
    uint64_t *free_bits, *absent_bits;
    struct chunk *lists[CHUNK_LISTS];
    uint64_t fresh;    /* the first chunk that was never touched */
    uint64_t free;     /* cells, without those in magazines */
    uint64_t resident; /* cells that are not absent */
    uint64_t leftover; /* free cells that the last sweep found no granule for, at most */
    unsigned discards; /* runs of granules that the system is taking back */
    pthread_cond_t discarded;
};

static inline uint64_t chunk_number(const struct pool_inside *in, const struct chunk *chunk)
{
    return (uint64_t)(chunk - in->chunks);
}

static inline uint64_t *chunk_free_bits(const struct pool_inside *in, const struct chunk *chunk)
{
    return in->free_bits + chunk_number(in, chunk) * in->free_words;
}

static inline uint64_t *chunk_absent_bits(const struct pool_inside *in, const struct chunk *chunk)
{
    return in->absent_bits + chunk_number(in, chunk) * in->absent_words;
}

/* The list that a chunk belongs on: invariant 3. */
static inline enum chunk_list chunk_list_for(const struct pool_inside *in,
                                             const struct chunk *chunk)
{
    if (chunk->free)
        return CHUNK_PARTIAL;
    if (chunk->absent == in->granules_per_chunk)
        return CHUNK_VACANT;
    return chunk->absent ? CHUNK_HOLLOW : CHUNK_FULL;
}

/* pool_chunk.c.  Each takes the pool's lock; the caller must not hold it. */

/* Take up to n cells out of one chunk into cells, the lowest last: a magazine hands out its last
 * first, so that a disk filled in order lies in order.  The caller may hold a magazine's lock.  0
 * with *taken from 1 to n, or an error of pool_take. */
int pool_take_batch(struct pool *pool, enum budget_purpose purpose, unsigned n, uint64_t *cells,
                    unsigned *taken);

/* Make n cells free.  If there is more free memory than the pool may keep, give some back to the
 * system; so the caller must hold no magazine's lock. */
void pool_give_batch(struct pool *pool, unsigned n, const uint64_t *cells);

/* Give granules back to the system, the emptiest chunks first, until at most `keep` cells are free
 * or no granule is.  The caller must hold no magazine's lock: the system takes its time. */
void pool_shrink_to(struct pool *pool, uint64_t keep);

#endif
