/* SPDX-License-Identifier: BSD-3-Clause */

/* pool_inside - what the files of the pool share; no other file of src/ includes it
 *
 *     pool.c         magazines; making and destroying the pool; the functions of pool.h
 *     pool_chunk.c   chunks, from which magazines get cells; growing and shrinking the pool
 *     pool_check.c   verifies the invariants below
 *
 * THE STATES OF A CELL, and the functions that change them:
 *
 *               pool_take                   pool_take_batch             charge_locked
 *             <-----------               <-----------------           <---------------
 *     in use               in a magazine                      free                     absent
 *             ----------->               ----------------->           --------------->
 *               pool_give                   pool_give_batch             discard_locked
 *
 *     STATE           FREE BIT OF THE CELL   ABSENT BIT OF ITS GRANULE   ITS NUMBER IS IN
 *     in use          0                      0                           no magazine
 *     in a magazine   0                      0                           one magazine
 *     free            1                      0                           no magazine
 *     absent          0                      1                           no magazine
 *
 * A pool of large cells has no magazines.  Its cells change between "in use" and "free" directly.
 *
 * INVARIANTS.  Invariants 1 and 8 hold whenever no thread holds the pool's lock or the lock of a
 * magazine.  The others hold whenever no thread holds the pool's lock.
 *
 *  1. Each cell is in exactly one of the four states, and in a magazine at most once.  Two kinds
 *     of cells count as in use: cells of a granule that the system is taking back, and cells on
 *     their way from a magazine to their chunk.
 *  2. `free` of a chunk is the number of its free bits that are set, and `absent` is the number
 *     of its absent bits that are set.  So
 *     free + absent * cells_per_granule + in use + in magazines = cells_per_chunk.
 *  3. Each chunk before `fresh` is on exactly one list, and its `list` says on which:
 *         partial   free > 0
 *         hollow    free = 0; some granules are absent, but not all
 *         vacant    all granules are absent
 *         full      free = 0, absent = 0 (no function searches this list)
 *  4. `free` of the pool is the sum of `free` over its chunks.  `resident` is the number of cells
 *     that are not absent.  The budget is charged for resident cells.
 *  5. leftover <= free.
 *  6. If some granules of a chunk are absent, but not all, the chunk is `split`: the kernel may
 *     not back it with a huge page.  Otherwise khugepaged would fill the gaps even if only a
 *     single page were present (max_ptes_none), and within minutes take back the memory that
 *     TRIM has freed.
 *  7. Chunk `fresh` and all chunks after it were never touched: no cell is free, no granule is
 *     absent, and no list contains them.
 *  8. A magazine holds at most magazine_cells cells.
 *  9. Each of the `discards` that are under way covers at least one granule.
 * 10. There are at most POOL_CELLS_MAX cells.
 * 11. Each chunk before `fresh` is committed (os/memory.h), unless it is vacant.
 *
 * EXCLUSION.  Each magazine has a lock, and the pool has one.  A thread that needs both takes the
 * magazine's lock first.  A sweep holds neither lock while the system takes memory back.  Before
 * that, the sweep marks the cells of that memory as in use, so no other thread touches them.
 *
 *                                 1    2    3    4    5
 *     1  take or give a cell
 *        through a magazine       m    m    -    -    m
 *     2  move a batch of cells
 *        to or from chunks        m    p    p    -    p
 *     3  sweep (pool_shrink_to):
 *        look at a few chunks     -    p    p    -    p
 *     4  the system takes
 *        memory back              -    -    -    -    -
 *     5  pool_check               m    p    p    -    p
 *
 *     m   they exclude each other if they use the same magazine; pool_check uses all magazines
 *     p   they exclude each other
 *     -   they run concurrently
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_INSIDE_H
#define NBDRAM_DISK_MEMORY_POOL_INSIDE_H

#include <pthread.h>

#include "disk/memory/pool.h"

#define MAGAZINE_CELLS 64

/* The number of chunks that a sweep looks at before it lets other threads have the pool's lock.
 * A pool of 64 GiB has 32,768 chunks, and pool_shrink_to looks at each of them up to four times.
 * To look at a chunk takes some nanoseconds, or one to two microseconds if the chunk has free
 * cells. */
#define POOL_SWEEP_HOLD 32

/* Each chunk that is not fresh is on one of these lists (invariant 3 above). */
enum chunk_list {
    CHUNK_PARTIAL, /* chunks that have free cells */
    CHUNK_HOLLOW,  /* chunks without free cells; some of their granules are absent, but not all */
    CHUNK_VACANT,  /* chunks whose granules are all absent */
    CHUNK_FULL,    /* chunks without free cells and without absent granules */
    CHUNK_LISTS,   /* the number of lists */
};

struct chunk {
    struct chunk *next, *previous;
    uint32_t free;   /* number of free cells */
    uint32_t absent; /* number of absent granules */
    uint8_t list;    /* enum chunk_list */
    bool split;      /* the kernel must not back the chunk with a huge page */
    bool committed;  /* the chunk was committed (os/memory.h), and can be accessed */
};

/* A magazine holds cells that are set aside for the threads of one processor.  These threads
 * seldom wait for the pool's lock, because they take cells from their magazine first. */
struct magazine {
    _Alignas(64) pthread_mutex_t lock; /* guards the fields below */
    unsigned count;
    uint64_t cells[MAGAZINE_CELLS]; /* numbers of cells; the last cell is handed out first */
};

struct pool_inside {
    /* pool_create sets the fields from options to magazines.  They do not change afterwards. */
    struct pool_options options;
    bool uncommits; /* uncommit vacant chunks: the kernel limits committed memory */
    size_t granule; /* bytes */
    uint32_t cells_per_granule, cells_per_chunk, granules_per_chunk;
    size_t free_words, absent_words; /* lengths of a chunk's two bitmaps, in uint64_t */
    uint64_t chunk_count;
    unsigned magazine_count;
    unsigned magazine_cells; /* the most cells that a magazine holds; 0: there are no magazines */
    struct magazine *magazines;

    pthread_mutex_t lock;              /* guards the fields below */
    struct chunk *chunks;              /* array of chunk_count chunks */
    uint64_t *free_bits, *absent_bits; /* bitmaps of all chunks, one after another */
    struct chunk *lists[CHUNK_LISTS];
    uint64_t fresh;           /* number of the first chunk that was never touched */
    uint64_t free;            /* free cells, not counting those in magazines */
    uint64_t resident;        /* cells that are not absent */
    uint64_t leftover;        /* free cells that the last sweep found, but could not give back */
    unsigned discards;        /* number of system calls that are taking granules back now */
    pthread_cond_t discarded; /* signals that `discards` has become smaller */
};

/* The number of chunks that a pool should have.  It is the number that the options ask for, but
 * limited by two things.  A word has only 40 bits for the number of a cell.  And on 32 bits, a
 * pool may take only an eighth of the address space, because up to four pools of a disk and the
 * program itself have to fit. */
static inline uint64_t chunk_count_wanted(const struct pool_options *options)
{
    uint64_t chunk = options->chunk;
    uint64_t count = options->capacity / chunk + (options->capacity % chunk != 0);
    uint64_t most = POOL_CELLS_MAX / (chunk / options->cell);
    if (most > SIZE_MAX / 8 / chunk)
        most = SIZE_MAX / 8 / chunk;
    return count > most ? most : count > 0 ? count : 1;
}

/* The bytes that the records of a chunk take: overhead (budget.h). */
static inline uint64_t chunk_overhead(const struct pool_inside *in)
{
    return sizeof(struct chunk) + (in->free_words + in->absent_words) * sizeof(uint64_t);
}

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

/* The list on which a chunk belongs (invariant 3 above). */
static inline enum chunk_list chunk_list_for(const struct pool_inside *in,
                                             const struct chunk *chunk)
{
    if (chunk->free)
        return CHUNK_PARTIAL;
    if (chunk->absent == in->granules_per_chunk)
        return CHUNK_VACANT;
    return chunk->absent ? CHUNK_HOLLOW : CHUNK_FULL;
}

/* The functions below are in pool_chunk.c.  They take the pool's lock, so the caller must not
 * hold that lock. */

/* Take up to n free cells of one chunk.  If no cell is free, grow the pool first.  The numbers of
 * the cells are stored in `cells`, the highest number first.  (A magazine hands out its last cell
 * first, so the cells are used in the order of their numbers.  A disk that is filled in order
 * then lies in order in memory.)  The caller may hold a magazine's lock.  Returns 0 or an error
 * of pool_take.  If it returns 0, *taken is from 1 to n. */
int pool_take_batch(struct pool *pool, enum budget_purpose purpose, unsigned n, uint64_t *cells,
                    unsigned *taken);

/* Make n cells free.  The caller must not hold a magazine's lock. */
void pool_give_batch(struct pool *pool, unsigned n, const uint64_t *cells);

/* Give free granules back to the system, until at most `keep` cells are free or no whole granule
 * is free.  Begin with the chunks that have the fewest cells in use.  The caller must not hold a
 * magazine's lock. */
void pool_shrink_to(struct pool *pool, uint64_t keep);

#endif
