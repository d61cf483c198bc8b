/* SPDX-License-Identifier: BSD-3-Clause */

/* pool - cells of one size, dense in memory, named by number
 *
 * Frames (the memory of pages), table nodes, lones and segments of the blob log are cells of
 * pools.  A pool reserves address space for all that it could ever hold, so that a cell's address
 * is one multiplication.  A pool takes memory from the system in chunks of 2 MiB, which are huge
 * pages where the kernel has them.  However scattered the pages of a disk are, their cells lie
 * side by side.
 *
 *     address space   | chunk 0 | chunk 1 | chunk 2 |  ...reserved...
 *     chunk           | granule | granule | ...     a granule can be given back by itself
 *     granule         | cell | cell | ...           one cell, or many small ones
 *
 * Free cells wait in a magazine per processor, then in their chunk.  When much is free, granules
 * without a cell in use are given back to the system, and so are whole chunks.  The budget is
 * charged for all memory that the system may have to provide, before it is used.
 *
 * UNITS.  Sizes are in bytes.  A cell is a number from 0 up; numbers are reused.
 *
 * OWNERSHIP.  A cell belongs to the thread that took it until it is given back.  The pool never
 * reads or writes a cell that is in use.
 *
 * THREADS.  Any thread may call any function at any time, but pool_create and pool_destroy need
 * the pool to themselves.  Taking and giving hold a magazine's lock and sometimes the pool's for
 * microseconds; giving may also wait for the system to take memory back.
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_H
#define NBDRAM_DISK_MEMORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/budget.h"

struct reason; /* text/reason.h */

struct pool_options {
    size_t cell;       /* bytes, a power of two */
    size_t chunk;      /* bytes, a power of two; no smaller than `cell` or a page of the system */
    uint64_t capacity; /* bytes that the pool could ever be asked for; a wish, see pool_create */
    bool huge;         /* use huge pages: good for cells that are accessed at random */
    bool locked;       /* lock all memory, so that it is never swapped out */
    struct budget *budget; /* must outlive the pool */
};

struct pool {
    char *base;                 /* the address of cell 0 */
    unsigned cell_shift;        /* the size of a cell is 1 << cell_shift */
    struct pool_inside *inside; /* pool_inside.h */
};

/* Make a pool without cells.  If there is no address space for all of capacity, half of capacity
 * is tried, and so on down to one chunk.  Returns 0 or -ENOMEM.  After -ENOMEM *pool is all
 * zeroes. */
int pool_create(const struct pool_options *options, struct pool *pool);

/* Free everything, even cells that are in use.  Nothing is given back to the budget, which must
 * not be used any more.  A pool of all zeroes is accepted. */
void pool_destroy(struct pool *pool);

/* Whether the process is allowed to lock that many bytes of the pool.  Returns 0 or -EPERM. */
int pool_may_lock(const struct pool *pool, uint64_t bytes);

/* Take a cell.  Its bytes are undefined: zeroes, or what an earlier owner left.
 *
 * 0         *cell is the cell's number
 * -ENOSPC   the budget or the address space is used up
 * -EAGAIN   the machine has to be asked first: call budget_refresh, and try again
 * -ENOMEM   the system refuses to provide or to lock memory */
int pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);

/* Give a cell back.  No thread may use it any more.  If a cell is given back twice, an assert
 * finds most such errors, but possibly much later.  pool_check finds them, unless a thread has
 * taken the cell again in between. */
void pool_give(struct pool *pool, uint64_t cell);

/* The address of a cell that is in use.  It is aligned to the cell's size. */
static inline void *pool_at(const struct pool *pool, uint64_t cell)
{
    return pool->base + ((size_t)cell << pool->cell_shift);
}

/* Give all free memory back to the system and to the budget.  If other threads are giving memory
 * back at the same time, wait until they are done. */
void pool_shrink(struct pool *pool);

/* The number of cells in use.  It is exact while no other thread takes or gives. */
uint64_t pool_cells_used(struct pool *pool);

/* The bytes that the budget is charged for this pool: cells in use, free cells, and cells that
 * the system is taking back. */
uint64_t pool_bytes_charged(struct pool *pool);

/* Verify the pool's invariants (pool_inside.h), under its locks; other threads may go on using
 * the pool.  Returns 0; or -EUCLEAN, and reason says which invariant is broken and where.  The
 * check reads the bitmaps, one bit for each cell, and other threads wait meanwhile: it is for
 * tests and debug builds.  A pool of all zeroes is accepted. */
int pool_check(struct pool *pool, struct reason *reason);

#endif
