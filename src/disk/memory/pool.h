/* SPDX-License-Identifier: BSD-3-Clause */

/* pool - cells of one size, dense in memory, named by number
 *
 * Frames (the memory of pages), table nodes and segments of blobs are cells of pools.  A pool
 * reserves address space for all that it could ever hold, so that a cell's address is one
 * multiplication, and takes memory from the system in chunks: 2 MiB, huge pages where the kernel
 * has them.  However scattered the pages of a disk, its cells lie side by side.
 *
 *     address space   | chunk 0 | chunk 1 | chunk 2 |  ...reserved...                |
 *     chunk           | granule | granule | ...           what the system takes back singly
 *     granule         | cell | cell | ...                 one, or many small ones
 *
 * Free cells wait in a magazine per processor, then in their chunk.  When much is free, granules
 * without a cell in use are given back to the system; when a whole chunk is, so is the chunk.
 * Whatever the system may have to provide is taken from the budget first.
 *
 * A cell handed out holds anything at all: what was there before, or zeroes.
 *
 * Any thread may call anything but create and destroy, at any time.
 */

#ifndef NBDRAM_DISK_MEMORY_POOL_H
#define NBDRAM_DISK_MEMORY_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/budget.h"

struct pool_options {
    size_t cell;       /* bytes, a power of two */
    size_t chunk;      /* bytes, a power of two, at least cell and the system's page */
    uint64_t capacity; /* bytes that the pool could ever be asked for; a wish, see pool_create */
    bool huge;         /* huge pages: for what is read and written all over */
    bool locked;       /* keep all of it in memory */
    struct budget *budget;
};

struct pool {
    char *base;
    unsigned cell_shift;
    struct pool_inside *inside;
};

/* If the address space for all of capacity cannot be had, half of it is tried, and so on down to
 * one chunk.  -ENOMEM when that fails too. */
int pool_create(const struct pool_options *options, struct pool *pool);
void pool_destroy(struct pool *pool); /* a pool of all zeroes is accepted */

/* Whether the process may lock that many bytes of the pool: 0 or -EPERM. */
int pool_may_lock(const struct pool *pool, uint64_t bytes);

/* Take a cell: 0; -ENOSPC if the budget or the address space is used up; -ENOMEM if the system
 * refuses. */
int pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);

/* Give a cell back: nobody may use it any more. */
void pool_give(struct pool *pool, uint64_t cell);

static inline void *pool_at(const struct pool *pool, uint64_t cell)
{
    return pool->base + ((size_t)cell << pool->cell_shift);
}

/* Give all free memory back to the system and to the budget: all that anybody is giving back is
 * there when this returns. */
void pool_shrink(struct pool *pool);

uint64_t pool_cells_used(struct pool *pool);

#endif
