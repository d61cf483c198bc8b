/* SPDX-License-Identifier: BSD-3-Clause */

/* The chunks of a pool.  An empty magazine takes cells from the chunks, and a full magazine
 * returns cells to them.  pool_inside.h has the states of a cell, the invariants and the locks.
 *
 * A pool grows in the cheapest way that is possible: it takes a free cell, or else an absent
 * granule of a hollow chunk, or else a vacant chunk, or else a fresh chunk.  If the budget does
 * not have the bytes of a whole chunk, only one granule of the chunk becomes resident.
 *
 * A pool shrinks when its free memory exceeds SLACK plus 1/32 of its resident memory.  It then
 * gives memory back until half of that amount is free.  The other half stays, so that a disk that
 * shrinks and grows again need not get this memory from the kernel each time.  A sweep can give
 * back only whole granules.  If the free cells are small and scattered, free memory is left over.
 * `leftover` counts these cells, and they do not make the next sweep start.
 */

#include "disk/memory/pool_inside.h"

#include <assert.h>
#include <errno.h>

#include "disk/memory/bitmap.h"
#include "os/memory.h"

#define SLACK ((uint64_t)2 << 20) /* bytes */

static char *chunk_base(const struct pool *pool, const struct chunk *chunk)
{
    return pool->base + chunk_number(pool->inside, chunk) * pool->inside->options.chunk;
}

/* Lists of chunks. */

static void list_put(struct pool_inside *in, struct chunk *chunk, enum chunk_list list)
{
    chunk->list = (uint8_t)list;
    chunk->previous = NULL;
    chunk->next = in->lists[list];
    if (chunk->next)
        chunk->next->previous = chunk;
    in->lists[list] = chunk;
}

static void list_remove(struct pool_inside *in, struct chunk *chunk)
{
    if (chunk->previous)
        chunk->previous->next = chunk->next;
    else
        in->lists[chunk->list] = chunk->next;
    if (chunk->next)
        chunk->next->previous = chunk->previous;
}

/* If the counts of a chunk have changed, move the chunk to the list where it now belongs
 * (invariant 3 of pool_inside.h). */
static void chunk_relist_locked(struct pool_inside *in, struct chunk *chunk)
{
    enum chunk_list list = chunk_list_for(in, chunk);
    if (list != chunk->list) {
        list_remove(in, chunk);
        list_put(in, chunk, list);
    }
}

/* Add `change` to the number of the pool's free cells.  leftover must not exceed that number
 * (invariant 5 of pool_inside.h), so lower leftover if necessary. */
static void change_free_locked(struct pool_inside *in, int64_t change)
{
    in->free += (uint64_t)change;
    if (in->leftover > in->free)
        in->leftover = in->free;
}

/* Growing.  The functions in this part that return int return 0 or an error of pool_take. */

/* Mark a chunk as split, and forbid the kernel to back it with a huge page.  Call this before a
 * part of the chunk becomes resident or absent (invariant 6 of pool_inside.h). */
static void split_locked(struct pool *pool, struct chunk *chunk)
{
    if (pool->inside->options.huge && !chunk->split)
        os_memory_huge(chunk_base(pool, chunk), pool->inside->options.chunk, false);
    chunk->split = true;
}

/* Make n absent granules of a chunk resident, beginning with granule `first`.  The budget is
 * charged for them, and their cells become free. */
static int charge_locked(struct pool *pool, struct chunk *chunk, uint32_t first, uint32_t n,
                         enum budget_purpose purpose)
{
    struct pool_inside *in = pool->inside;
    uint64_t bytes = (uint64_t)n * in->granule;
    uint32_t cells = n * in->cells_per_granule;
    int r = budget_take(in->options.budget, bytes, purpose);
    if (r < 0)
        return r;
    char *base = chunk_base(pool, chunk) + (size_t)first * in->granule;
    if (in->options.locked && os_memory_lock(base, (size_t)bytes) < 0) {
        budget_give(in->options.budget, bytes);
        return -ENOMEM;
    }
    bitmap_set(chunk_absent_bits(in, chunk), first, n, false);
    bitmap_set(chunk_free_bits(in, chunk), (size_t)first * in->cells_per_granule, cells, true);
    chunk->absent -= n;
    chunk->free += cells;
    change_free_locked(in, cells);
    in->resident += cells;
    chunk_relist_locked(in, chunk);
    return 0;
}

/* Make the first absent granule of a chunk resident.  The chunk must have absent granules. */
static int grow_granule_locked(struct pool *pool, struct chunk *chunk,
                               enum budget_purpose purpose)
{
    const uint64_t *absent = chunk_absent_bits(pool->inside, chunk);
    uint32_t word = 0;
    while (!absent[word])
        word++;
    split_locked(pool, chunk);
    return charge_locked(pool, chunk, word * 64 + (uint32_t)__builtin_ctzll(absent[word]), 1,
                         purpose);
}

/* Make all granules of a vacant chunk resident. */
static int grow_chunk_locked(struct pool *pool, struct chunk *chunk, enum budget_purpose purpose)
{
    struct pool_inside *in = pool->inside;
    if (in->options.huge && chunk->split)
        os_memory_huge(chunk_base(pool, chunk), in->options.chunk, true);
    chunk->split = false;
    return charge_locked(pool, chunk, 0, in->granules_per_chunk, purpose);
}

/* Turn the first fresh chunk into a vacant one. */
static int touch_fresh_locked(struct pool_inside *in)
{
    if (in->fresh == in->chunk_count)
        return -ENOSPC;
    struct chunk *chunk = &in->chunks[in->fresh++];
    budget_charge(in->options.budget, chunk_overhead(in));
    chunk->absent = in->granules_per_chunk;
    bitmap_set(chunk_absent_bits(in, chunk), 0, in->granules_per_chunk, true);
    list_put(in, chunk, CHUNK_VACANT);
    return 0;
}

/* Make sure that the list of vacant chunks is not empty, and that its first chunk is committed.
 * Returns 0, -ENOSPC or -ENOMEM. */
static int ready_vacant_locked(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    int r = in->lists[CHUNK_VACANT] ? 0 : touch_fresh_locked(in);
    if (r < 0)
        return r;
    struct chunk *chunk = in->lists[CHUNK_VACANT];
    if (!chunk->committed && os_memory_commit(chunk_base(pool, chunk), in->options.chunk) < 0)
        return -ENOMEM;
    chunk->committed = true;
    return 0;
}

/* Make at least one cell free, in the cheapest way.  This is called when no chunk has a free
 * cell. */
static int grow_locked(struct pool *pool, enum budget_purpose purpose)
{
    struct pool_inside *in = pool->inside;
    if (in->lists[CHUNK_HOLLOW])
        return grow_granule_locked(pool, in->lists[CHUNK_HOLLOW], purpose);
    int r = ready_vacant_locked(pool);
    if (r < 0)
        return r;
    r = grow_chunk_locked(pool, in->lists[CHUNK_VACANT], purpose);
    if (r == -ENOSPC)
        r = grow_granule_locked(pool, in->lists[CHUNK_VACANT], purpose);
    return r;
}

static unsigned take_from_chunk_locked(struct pool_inside *in, struct chunk *chunk, unsigned n,
                                       uint64_t *cells)
{
    uint64_t *bits = chunk_free_bits(in, chunk);
    uint64_t first = chunk_number(in, chunk) * in->cells_per_chunk;
    if (n > chunk->free)
        n = chunk->free;
    unsigned left = n;
    for (size_t word = 0; left; word++) {
        for (; left && bits[word]; bits[word] &= bits[word] - 1)
            cells[--left] = first + word * 64 + (unsigned)__builtin_ctzll(bits[word]);
    }
    chunk->free -= n;
    change_free_locked(in, -(int64_t)n);
    chunk_relist_locked(in, chunk);
    return n;
}

int pool_take_batch(struct pool *pool, enum budget_purpose purpose, unsigned n, uint64_t *cells,
                    unsigned *taken)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    int r = 0;
    if (!in->lists[CHUNK_PARTIAL])
        r = grow_locked(pool, purpose);
    if (r == 0) {
        assert(in->lists[CHUNK_PARTIAL]);
        *taken = take_from_chunk_locked(in, in->lists[CHUNK_PARTIAL], n, cells);
    }
    pthread_mutex_unlock(&in->lock);
    return r;
}

/* Shrinking. */

/* Mark all cells of n granules, beginning with granule `first`, as free if value is true, and as
 * in use if value is false.  None of the cells may be in that state already.  The granules are
 * resident. */
static void granules_set_free_locked(struct pool_inside *in, struct chunk *chunk, uint32_t first,
                                     uint32_t n, bool value)
{
    uint32_t cells = n * in->cells_per_granule;
    bitmap_set(chunk_free_bits(in, chunk), (size_t)first * in->cells_per_granule, cells, value);
    chunk->free += value ? cells : -cells;
    change_free_locked(in, value ? (int64_t)cells : -(int64_t)cells);
    chunk_relist_locked(in, chunk);
}

/* If the kernel limits how much memory may be committed, uncommit a vacant chunk.  A vacant chunk
 * has nothing in memory, so the system call is short.  If it fails, the chunk stays committed. */
static void uncommit_locked(struct pool *pool, struct chunk *chunk)
{
    struct pool_inside *in = pool->inside;
    if (!in->uncommits || os_memory_uncommit(chunk_base(pool, chunk), in->options.chunk) < 0)
        return;
    chunk->committed = false;
    chunk->split = true; /* os_memory_uncommit forbids huge pages */
}

/* Give n granules back to the system, beginning with granule `first`.  All of their cells are
 * free.  The system call can take long, so the lock is released during the call.  The cells are
 * marked as in use meanwhile.  If the system call fails, they become free again. */
static void discard_locked(struct pool *pool, struct chunk *chunk, uint32_t first, uint32_t n)
{
    struct pool_inside *in = pool->inside;
    char *base = chunk_base(pool, chunk);
    bool splits = n < in->granules_per_chunk && !chunk->split;
    chunk->split = chunk->split || splits;
    granules_set_free_locked(in, chunk, first, n, false);
    in->discards++;
    pthread_mutex_unlock(&in->lock);
    if (splits && in->options.huge)
        os_memory_huge(chunk_base(pool, chunk), in->options.chunk, false);
    int r = os_memory_discard(base + (size_t)first * in->granule, (size_t)n * in->granule);
    pthread_mutex_lock(&in->lock);
    in->discards--;
    pthread_cond_broadcast(&in->discarded);
    if (r < 0) {
        granules_set_free_locked(in, chunk, first, n, true);
        return;
    }
    bitmap_set(chunk_absent_bits(in, chunk), first, n, true);
    chunk->absent += n;
    in->resident -= (uint64_t)n * in->cells_per_granule;
    budget_give(in->options.budget, (uint64_t)n * in->granule);
    chunk_relist_locked(in, chunk);
    if (chunk->list == CHUNK_VACANT)
        uncommit_locked(pool, chunk);
}

static bool granule_is_free(const struct pool_inside *in, const struct chunk *chunk, uint32_t at)
{
    return bitmap_all_set(chunk_free_bits(in, chunk), (size_t)at * in->cells_per_granule,
                          in->cells_per_granule);
}

/* Give back each granule of the chunk whose cells are all free.  One system call gives adjacent
 * granules back.  The lock can be released and taken again. */
static void shrink_chunk_locked(struct pool *pool, struct chunk *chunk)
{
    struct pool_inside *in = pool->inside;
    for (uint32_t first = 0; first < in->granules_per_chunk; first++) {
        uint32_t end = first;
        while (end < in->granules_per_chunk && granule_is_free(in, chunk, end))
            end++;
        if (end > first)
            discard_locked(pool, chunk, first, end - first);
        first = end;
    }
}

/* Give back free granules, chunk by chunk, until at most `keep` cells of the pool are free.  Skip
 * each chunk in which fewer than `least` cells are free or absent.  The lock is released now and
 * then, and taken again. */
static void sweep_locked(struct pool *pool, uint32_t least, uint64_t keep)
{
    struct pool_inside *in = pool->inside;
    for (uint64_t i = 0; i < in->fresh && in->free > keep; i++) {
        struct chunk *chunk = &in->chunks[i];
        if (chunk->free && chunk->free + chunk->absent * in->cells_per_granule >= least)
            shrink_chunk_locked(pool, chunk);
        if (i % POOL_SWEEP_HOLD == POOL_SWEEP_HOLD - 1) {
            pthread_mutex_unlock(&in->lock);
            pthread_mutex_lock(&in->lock);
        }
    }
}

void pool_shrink_to(struct pool *pool, uint64_t keep)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    for (unsigned emptiness = 4; emptiness-- && in->free > keep;)
        sweep_locked(pool, in->cells_per_chunk / 4 * emptiness, keep); /* 3/4, 1/2, 1/4, any */
    in->leftover = in->free > keep ? in->free - keep : 0;
    pthread_mutex_unlock(&in->lock);
}

void pool_give_batch(struct pool *pool, unsigned n, const uint64_t *cells)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    for (unsigned i = 0; i < n; i++) {
        struct chunk *chunk = &in->chunks[cells[i] / in->cells_per_chunk];
        size_t at = cells[i] % in->cells_per_chunk;
        assert(!bitmap_get(chunk_free_bits(in, chunk), at));
        bitmap_set(chunk_free_bits(in, chunk), at, 1, true);
        chunk->free++;
        chunk_relist_locked(in, chunk);
    }
    change_free_locked(in, n);
    pthread_mutex_unlock(&in->lock);
}

void pool_shrink_excess(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    uint64_t slack = in->resident / 32 + (SLACK >> pool->cell_shift);
    bool is_too_much = in->free - in->leftover > slack;
    pthread_mutex_unlock(&in->lock);
    if (is_too_much)
        pool_shrink_to(pool, slack / 2);
}
