/* SPDX-License-Identifier: BSD-3-Clause */

/* pool - cells of one size, dense in memory, named by number
 *
 * Frames (the memory of pages), table nodes, lones and segments of the blob log are cells of
 * pools.  A pool reserves address space for all cells that it could ever have, so that the
 * address of a cell is one multiplication away.  A pool takes memory from the system in chunks of
 * 2 MiB, which are huge pages if the kernel has them.  However scattered the pages of a disk are,
 * their cells lie side by side.
 *
 *     address space   | chunk 0 | chunk 1 | chunk 2 |  ...reserved...
 *     chunk           | granule | granule | ...     a granule can be given back by itself
 *     granule         | cell | cell | ...           one cell, or many small ones
 *
 * Free cells wait in the magazine of a processor, or in their chunk.  When much memory is free,
 * granules without a cell in use are given back to the system, and so are whole chunks.  Before
 * the cells of a granule are used, the budget is charged for the whole granule, because the
 * system may have to provide all of it.
 *
 * UNITS.  Sizes are in bytes.  A cell is a number from 0 up, below POOL_CELLS_MAX; numbers are
 * reused.
 *
 * OWNERSHIP.  A cell belongs to the thread that took it until the cell is given back.  The pool
 * never reads or writes a cell that is in use.
 *
 * THREADS.  While pool_create or pool_destroy runs, no other function may run on the same pool.
 * Otherwise any thread may call any function at any time.  pool_take and pool_give hold the lock
 * of a magazine, and sometimes the pool's lock, for microseconds.  pool_give may also wait until
 * the system has taken memory back.
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_H
#define NBDRAM_DISK_MEMORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/budget.h"

struct reason; /* text/reason.h */

/* The most cells that a pool can have.  The reason is the word of the page table, which has 40
 * bits for the number of a cell (disk/paged/entry.h).  If the caller of pool_create asks for more
 * cells, it gets a smaller pool. */
#define POOL_CELLS_MAX ((uint64_t)1 << 40)

struct pool_options {
    size_t cell;       /* size of a cell in bytes, a power of two */
    size_t chunk;      /* bytes, a power of two; no smaller than `cell` or a page of the system */
    uint64_t capacity; /* the most bytes that all cells may take; see pool_create */
    bool huge;         /* use huge pages: good for cells that are accessed at random */
    bool locked;       /* lock all memory, so that it is never swapped out */
    struct budget *budget; /* is charged for the pool's memory; must outlive the pool */
};

struct pool {
    char *base;                 /* the address of cell 0 */
    unsigned cell_shift;        /* the size of a cell is 1 << cell_shift */
    struct pool_inside *inside; /* the other fields of the pool */
};

/* Make a pool without cells.  pool_create reserves address space for options->capacity bytes, but
 * for no more than POOL_CELLS_MAX cells.  If there is not enough address space, it reserves half
 * as much, or a quarter, and so on down to one chunk.  Returns 0 or -ENOMEM.  After -ENOMEM *pool
 * is all zeroes. */
int pool_create(const struct pool_options *options, struct pool *pool);

/* Free a pool with all of its cells, even cells that are in use.  The budget stays charged for
 * the pool's memory.  So after pool_destroy the budget must not be used any more.  A pool of all
 * zeroes is accepted. */
void pool_destroy(struct pool *pool);

/* Whether the process is allowed to lock `bytes` bytes of the pool's memory.  Returns 0 if it is,
 * and -EPERM if not. */
int pool_may_lock(const struct pool *pool, uint64_t bytes);

/* Take a cell.  Its bytes are undefined: zeroes, or what an earlier owner left.
 *
 * 0         *cell is the cell's number
 * -ENOSPC   the budget or the address space is used up
 * -EAGAIN   the budget must first ask the machine again how much memory it can give: call
 *           budget_refresh, and try again
 * -ENOMEM   the system refuses to provide or to lock memory */
int pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);

/* Give a cell back.  No thread may use the cell any more.  To give a cell back twice is an error.
 * An assert finds most such errors, but not always at once.  pool_check finds such an error
 * unless another thread has taken the cell after it was given back. */
void pool_give(struct pool *pool, uint64_t cell);

/* Give back a cell that was taken and is not needed.  Unlike pool_give, this never gives
 * memory back to the system, which takes time: call it where a thread must not stay, for
 * example in a read section. */
void pool_untake(struct pool *pool, uint64_t cell);

/* If the pool has too much free memory, give some of it back to the system and to the budget, as
 * pool_give does. */
void pool_shrink_excess(struct pool *pool);

/* The address of a cell that is in use.  It is aligned to the cell's size. */
static inline void *pool_at(const struct pool *pool, uint64_t cell)
{
    return pool->base + ((size_t)cell << pool->cell_shift);
}

/* Give all free memory back to the system and to the budget.  If other threads are giving memory
 * back to the system at the same time, wait until they are done. */
void pool_shrink(struct pool *pool);

/* The bytes for which the pool has reserved address space.  The cells can never take more. */
uint64_t pool_capacity(const struct pool *pool);

/* The number of cells in use.  It is exact if no other thread takes or gives cells at the same
 * time. */
uint64_t pool_cells_used(struct pool *pool);

/* The number of bytes for which this pool has charged the budget: cells in use, free cells, and
 * cells that the system is taking back. */
uint64_t pool_bytes_charged(struct pool *pool);

/* Verify the pool's invariants (pool_inside.h), under the pool's locks.  Other threads may use
 * the pool at the same time, but have to wait for the locks.  The check is for tests and debug
 * builds, because it reads the bitmaps, which have one bit for each cell.  Returns 0 or -EUCLEAN.
 * If it returns -EUCLEAN, reason says which invariant is broken and where.  A pool of all zeroes
 * is accepted. */
int pool_check(struct pool *pool, struct reason *reason);

#endif
