/* SPDX-License-Identifier: BSD-3-Clause */

/* What a chunk keeps: for each cell a bit, set while the cell is free and resident; for each
 * granule a bit, set while it is absent, that is, not charged to the budget and not in memory.
 *
 * Invariants, at all times but inside a function that holds the lock:
 *
 *  1. A cell is in use, or free (its bit is set), or in a magazine, or absent (its granule is).
 * What is being given back counts as in use.
 *  2. free + absent * cells_per_granule + used + in magazines = cells_per_chunk.
 *  3. A chunk stands on exactly one list:
 *         partial   free > 0
 *         hollow    free = 0, absent > 0, and a cell in use
 *         vacant    all absent
 *         full      free = 0 and absent = 0 (the list is only there to be complete)
 *     and chunks from `fresh` on were never touched and stand on none.
 *  4. The budget was charged for every granule that is not absent.
 *
 * Taking prefers what costs least: a free cell, then an absent granule of a chunk in use, then a
 * vacant chunk, then a fresh one; and when the budget has no whole chunk left, one granule of
 * that.
 *
 * A chunk of which some granules are absent is `split`: it is barred from huge pages,
 * because khugepaged fills the gaps of a range in which as little as one page is present
 * (max_ptes_none), and would take back in minutes what TRIM has given.
 *
 * Giving back sweeps the chunks when more is free than 1/32 of what is resident and SLACK, and
 * stops at half of that, so that a disk that shrinks and grows again does not fault at every
 * step.  Small cells can be free without a granule to give: what a sweep leaves over does not
 * start another.
 *
 * Locks: a magazine's, then the pool's.  Neither is held while the system takes memory back.
 */

#include "disk/memory/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "os/memory.h"
#include "os/thread.h"

#define MAGAZINE_CELLS 64
#define MAGAZINE_BYTES ((size_t)256 << 10) /* that a full magazine may hold back from others */
#define SLACK ((uint64_t)2 << 20)

enum list { PARTIAL, HOLLOW, VACANT, FULL, LISTS };

struct chunk {
    struct chunk *next, *previous;
    uint32_t free;   /* cells */
    uint32_t absent; /* granules */
    uint8_t list;
    bool split;
};

struct magazine {
    _Alignas(64) pthread_mutex_t lock;
    unsigned count;
    uint64_t cells[MAGAZINE_CELLS];
};

struct pool_inside {
    /* constant */
    struct pool_options options;
    size_t granule; /* bytes */
    uint32_t cells_per_granule, cells_per_chunk, granules_per_chunk;
    size_t free_words, absent_words; /* words of the bitmaps of one chunk */
    uint64_t chunk_count;
    unsigned magazine_count, magazine_cells;
    struct magazine *magazines;

    pthread_mutex_t lock; /* guards what follows */
    struct chunk *chunks;
    uint64_t *free_bits, *absent_bits;
    struct chunk *lists[LISTS];
    uint64_t fresh;          /* chunks from here on were never touched */
    uint64_t free, resident; /* cells: free ones outside of magazines, and all not absent */
    unsigned discards;       /* runs of granules on their way back to the system */
    pthread_cond_t discarded;
    uint64_t leftover; /* free cells that the last sweep could not give back, at most */
};

/* Bitmaps. */

static bool bit_get(const uint64_t *bits, size_t at)
{
    return bits[at / 64] >> (at % 64) & 1;
}

/* The bits of the word of `at` that belong to the run [at, end); *next is where the next begins.
 */
static uint64_t bits_mask(size_t at, size_t end, size_t *next)
{
    size_t last = (at | 63) + 1 < end ? (at | 63) + 1 : end;
    *next = last;
    return UINT64_MAX >> (64 - (last - at)) << (at % 64);
}

static void bits_set(uint64_t *bits, size_t first, size_t count, bool value)
{
    for (size_t at = first, next; at < first + count; at = next) {
        uint64_t mask = bits_mask(at, first + count, &next);
        bits[at / 64] = value ? bits[at / 64] | mask : bits[at / 64] & ~mask;
    }
}

static bool bits_all_set(const uint64_t *bits, size_t first, size_t count)
{
    for (size_t at = first, next; at < first + count; at = next) {
        uint64_t mask = bits_mask(at, first + count, &next);
        if ((bits[at / 64] & mask) != mask)
            return false;
    }
    return true;
}

/* Chunks and their lists. */

static uint64_t chunk_number(const struct pool_inside *in, const struct chunk *chunk)
{
    return (uint64_t)(chunk - in->chunks);
}

static uint64_t *free_bits(const struct pool_inside *in, const struct chunk *chunk)
{
    return in->free_bits + chunk_number(in, chunk) * in->free_words;
}

static uint64_t *absent_bits(const struct pool_inside *in, const struct chunk *chunk)
{
    return in->absent_bits + chunk_number(in, chunk) * in->absent_words;
}

static char *chunk_base(const struct pool *pool, const struct chunk *chunk)
{
    return pool->base + chunk_number(pool->inside, chunk) * pool->inside->options.chunk;
}

static void list_put(struct pool_inside *in, struct chunk *chunk, enum list list)
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

static enum list list_for(const struct pool_inside *in, const struct chunk *chunk)
{
    if (chunk->free)
        return PARTIAL;
    if (chunk->absent == in->granules_per_chunk)
        return VACANT;
    return chunk->absent ? HOLLOW : FULL;
}

/* To be called after a chunk's counts have changed: keeps invariant 3. */
static void list_sort(struct pool_inside *in, struct chunk *chunk)
{
    enum list list = list_for(in, chunk);
    if (list != chunk->list) {
        list_remove(in, chunk);
        list_put(in, chunk, list);
    }
}

static void count_free_locked(struct pool_inside *in, int64_t change)
{
    in->free += (uint64_t)change;
    if (in->leftover > in->free)
        in->leftover = in->free;
}

/* Growing: each of these makes cells free, or says why not.  The pool's lock is held. */

/* A chunk of which only a part is charged must not be backed by a huge page. */
static void split_locked(struct pool *pool, struct chunk *chunk)
{
    if (pool->inside->options.huge && !chunk->split)
        os_memory_huge(chunk_base(pool, chunk), pool->inside->options.chunk, false);
    chunk->split = true;
}

/* Make n absent granules of a chunk, from first on, resident and free, if the budget allows. */
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
    bits_set(absent_bits(in, chunk), first, n, false);
    bits_set(free_bits(in, chunk), (size_t)first * in->cells_per_granule, cells, true);
    chunk->absent -= n;
    chunk->free += cells;
    count_free_locked(in, cells);
    in->resident += cells;
    list_sort(in, chunk);
    return 0;
}

/* One absent granule of a chunk. */
static int grow_granule_locked(struct pool *pool, struct chunk *chunk,
                               enum budget_purpose purpose)
{
    const uint64_t *absent = absent_bits(pool->inside, chunk);
    uint32_t word = 0;
    while (!absent[word])
        word++;
    split_locked(pool, chunk);
    return charge_locked(pool, chunk, word * 64 + (uint32_t)__builtin_ctzll(absent[word]), 1,
                         purpose);
}

static int commit_fresh_locked(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    if (in->fresh == in->chunk_count)
        return -ENOSPC;
    struct chunk *chunk = &in->chunks[in->fresh];
    if (os_memory_commit(chunk_base(pool, chunk), in->options.chunk) < 0)
        return -ENOMEM;
    in->fresh++;
    chunk->absent = in->granules_per_chunk;
    bits_set(absent_bits(in, chunk), 0, in->granules_per_chunk, true);
    list_put(in, chunk, VACANT);
    return 0;
}

/* A whole chunk, vacant or fresh. */
static int grow_chunk_locked(struct pool *pool, struct chunk *chunk, enum budget_purpose purpose)
{
    struct pool_inside *in = pool->inside;
    if (in->options.huge && chunk->split)
        os_memory_huge(chunk_base(pool, chunk), in->options.chunk, true);
    chunk->split = false;
    return charge_locked(pool, chunk, 0, in->granules_per_chunk, purpose);
}

/* Make cells free, the cheapest way there is; at the end of the budget, granule by granule. */
static int grow_locked(struct pool *pool, enum budget_purpose purpose)
{
    struct pool_inside *in = pool->inside;
    int r = 0;
    if (in->lists[HOLLOW])
        return grow_granule_locked(pool, in->lists[HOLLOW], purpose);
    if (!in->lists[VACANT])
        r = commit_fresh_locked(pool);
    if (r == 0)
        r = grow_chunk_locked(pool, in->lists[VACANT], purpose);
    if (r == -ENOSPC && in->lists[VACANT])
        r = grow_granule_locked(pool, in->lists[VACANT], purpose);
    return r;
}

/* Move up to n free cells of one chunk into cells, the lowest last: a magazine hands out its last
 * first, so that a disk filled in order lies in order. */
static unsigned take_from_chunk_locked(struct pool_inside *in, struct chunk *chunk, unsigned n,
                                       uint64_t *cells)
{
    uint64_t *bits = free_bits(in, chunk);
    uint64_t first = chunk_number(in, chunk) * in->cells_per_chunk;
    if (n > chunk->free)
        n = chunk->free;
    unsigned left = n;
    for (size_t word = 0; left; word++) {
        for (; left && bits[word]; bits[word] &= bits[word] - 1)
            cells[--left] = first + word * 64 + (unsigned)__builtin_ctzll(bits[word]);
    }
    chunk->free -= n;
    count_free_locked(in, -(int64_t)n);
    list_sort(in, chunk);
    return n;
}

static int take_batch(struct pool *pool, enum budget_purpose purpose, unsigned n, uint64_t *cells,
                      unsigned *taken)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    int r = 0;
    if (!in->lists[PARTIAL])
        r = grow_locked(pool, purpose);
    if (r == 0)
        *taken = take_from_chunk_locked(in, in->lists[PARTIAL], n, cells);
    pthread_mutex_unlock(&in->lock);
    return r;
}

/* Shrinking. */

/* Make n granules from first on free, or somebody's; they are resident. */
static void granules_set_free_locked(struct pool_inside *in, struct chunk *chunk, uint32_t first,
                                     uint32_t n, bool value)
{
    uint32_t cells = n * in->cells_per_granule;
    bits_set(free_bits(in, chunk), (size_t)first * in->cells_per_granule, cells, value);
    chunk->free += value ? cells : -cells;
    count_free_locked(in, value ? (int64_t)cells : -(int64_t)cells);
    list_sort(in, chunk);
}

/* Give one run of free granules back.  The system takes its time, so the lock is released
 * meanwhile; the granules are ours until then.  What the system will not have becomes free again.
 */
static void discard_locked(struct pool *pool, struct chunk *chunk, uint32_t first, uint32_t n)
{
    struct pool_inside *in = pool->inside;
    char *base = chunk_base(pool, chunk);
    if (n < in->granules_per_chunk)
        split_locked(pool, chunk);
    granules_set_free_locked(in, chunk, first, n, false);
    in->discards++;
    pthread_mutex_unlock(&in->lock);
    int r = os_memory_discard(base + (size_t)first * in->granule, (size_t)n * in->granule);
    pthread_mutex_lock(&in->lock);
    in->discards--;
    pthread_cond_broadcast(&in->discarded);
    if (r < 0) {
        granules_set_free_locked(in, chunk, first, n, true);
        return;
    }
    bits_set(absent_bits(in, chunk), first, n, true);
    chunk->absent += n;
    in->resident -= (uint64_t)n * in->cells_per_granule;
    budget_give(in->options.budget, (uint64_t)n * in->granule);
    list_sort(in, chunk);
}

static bool granule_is_free(const struct pool_inside *in, const struct chunk *chunk, uint32_t at)
{
    return bits_all_set(free_bits(in, chunk), (size_t)at * in->cells_per_granule,
                        in->cells_per_granule);
}

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

/* Give back until at most keep cells are free, the emptiest chunks first. */
static void shrink_to(struct pool *pool, uint64_t keep)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    for (unsigned emptiness = 4; emptiness-- && in->free > keep;) {
        uint32_t least = in->cells_per_chunk / 4 * emptiness; /* three quarters, a half, ... */
        for (uint64_t i = 0; i < in->fresh && in->free > keep; i++) {
            struct chunk *chunk = &in->chunks[i];
            if (chunk->free && chunk->free + chunk->absent * in->cells_per_granule >= least)
                shrink_chunk_locked(pool, chunk);
        }
    }
    in->leftover = in->free > keep ? in->free - keep : 0;
    pthread_mutex_unlock(&in->lock);
}

static void give_batch(struct pool *pool, unsigned n, const uint64_t *cells)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    for (unsigned i = 0; i < n; i++) {
        struct chunk *chunk = &in->chunks[cells[i] / in->cells_per_chunk];
        size_t at = cells[i] % in->cells_per_chunk;
        assert(!bit_get(free_bits(in, chunk), at));
        bits_set(free_bits(in, chunk), at, 1, true);
        chunk->free++;
        list_sort(in, chunk);
    }
    count_free_locked(in, n);
    uint64_t slack = in->resident / 32 + (SLACK >> pool->cell_shift);
    bool too_much = in->free - in->leftover > slack;
    pthread_mutex_unlock(&in->lock);
    if (too_much)
        shrink_to(pool, slack / 2);
}

/* Magazines. */

static struct magazine *magazine_here(const struct pool_inside *in)
{
    return &in->magazines[os_cpu_now() % in->magazine_count];
}

/* When the pool has nothing left, what other processors hold back is still to be had. */
static int take_from_others(struct pool *pool, uint64_t *cell)
{
    struct pool_inside *in = pool->inside;
    for (unsigned i = 0; i < in->magazine_count; i++) {
        struct magazine *magazine = &in->magazines[i];
        pthread_mutex_lock(&magazine->lock);
        bool found = magazine->count > 0;
        if (found)
            *cell = magazine->cells[--magazine->count];
        pthread_mutex_unlock(&magazine->lock);
        if (found)
            return 0;
    }
    return -ENOSPC;
}

int pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell)
{
    struct pool_inside *in = pool->inside;
    struct magazine *magazine = magazine_here(in);
    unsigned one;
    int r = 0;
    if (in->magazine_cells == 0)
        return take_batch(pool, purpose, 1, cell, &one);
    pthread_mutex_lock(&magazine->lock);
    if (magazine->count == 0)
        r = take_batch(pool, purpose, (in->magazine_cells + 1) / 2, magazine->cells,
                       &magazine->count);
    if (r == 0)
        *cell = magazine->cells[--magazine->count];
    pthread_mutex_unlock(&magazine->lock);
    return r < 0 && take_from_others(pool, cell) == 0 ? 0 : r;
}

void pool_give(struct pool *pool, uint64_t cell)
{
    struct pool_inside *in = pool->inside;
    struct magazine *magazine = magazine_here(in);
    if (in->magazine_cells == 0) {
        give_batch(pool, 1, &cell);
        return;
    }
    uint64_t full[MAGAZINE_CELLS];
    unsigned count = 0;
    pthread_mutex_lock(&magazine->lock);
    if (magazine->count == in->magazine_cells) {
        unsigned stay = in->magazine_cells / 2;
        count = magazine->count - stay;
        memcpy(full, magazine->cells + stay, count * sizeof full[0]);
        magazine->count = stay;
    }
    magazine->cells[magazine->count++] = cell;
    pthread_mutex_unlock(&magazine->lock);
    if (count)
        give_batch(pool, count, full);
}

void pool_shrink(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    for (unsigned i = 0; i < in->magazine_count; i++) {
        struct magazine *magazine = &in->magazines[i];
        uint64_t full[MAGAZINE_CELLS];
        pthread_mutex_lock(&magazine->lock);
        unsigned count = magazine->count;
        memcpy(full, magazine->cells, count * sizeof full[0]);
        magazine->count = 0;
        pthread_mutex_unlock(&magazine->lock);
        give_batch(pool, count, full);
    }
    shrink_to(pool, 0);
    pthread_mutex_lock(&in->lock);
    while (in->discards)
        pthread_cond_wait(&in->discarded, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

uint64_t pool_cells_used(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    uint64_t held = 0;
    for (unsigned i = 0; i < in->magazine_count; i++) {
        pthread_mutex_lock(&in->magazines[i].lock);
        held += in->magazines[i].count;
        pthread_mutex_unlock(&in->magazines[i].lock);
    }
    pthread_mutex_lock(&in->lock);
    uint64_t used = in->resident - in->free;
    pthread_mutex_unlock(&in->lock);
    return used > held ? used - held : 0; /* the two were not counted at the same time */
}

/* Making and unmaking. */

static int reserve(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    size_t chunk = in->options.chunk;
    uint64_t count = in->options.capacity / chunk + (in->options.capacity % chunk != 0);
    if (count > SIZE_MAX / 8 / chunk) /* 32 bits: four pools and the program have to fit */
        count = SIZE_MAX / 8 / chunk;
    for (; count > 0; count /= 2) {
        void *base;
        if (os_memory_reserve((size_t)count * chunk, chunk, in->options.huge, &base) == 0) {
            os_memory_huge(base, chunk, false); /* a small disk shall stay small */
            pool->base = base;
            in->chunk_count = count;
            return 0;
        }
    }
    return -ENOMEM;
}

static int make_magazines(struct pool_inside *in)
{
    size_t cell = in->options.cell;
    size_t most = in->options.chunk / 8 < MAGAZINE_BYTES ? in->options.chunk / 8 : MAGAZINE_BYTES;
    in->magazine_cells = most / cell > MAGAZINE_CELLS ? MAGAZINE_CELLS : (unsigned)(most / cell);
    unsigned count = os_cpu_count();
    in->magazines = aligned_alloc(_Alignof(struct magazine), count * sizeof *in->magazines);
    if (!in->magazines)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        pthread_mutex_init(&in->magazines[i].lock, NULL);
        in->magazines[i].count = 0;
    }
    in->magazine_count = count;
    return 0;
}

static void lay_out(struct pool_inside *in, const struct pool_options *options)
{
    in->options = *options;
    in->granule = options->cell > os_page_size() ? options->cell : os_page_size();
    in->cells_per_granule = (uint32_t)(in->granule / options->cell);
    in->cells_per_chunk = (uint32_t)(options->chunk / options->cell);
    in->granules_per_chunk = (uint32_t)(options->chunk / in->granule);
    in->free_words = (in->cells_per_chunk + 63) / 64;
    in->absent_words = (in->granules_per_chunk + 63) / 64;
}

int pool_create(const struct pool_options *options, struct pool *pool)
{
    struct pool_inside *in = calloc(1, sizeof *in);
    if (!in)
        return -ENOMEM;
    lay_out(in, options);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->discarded, NULL);
    *pool = (struct pool){.cell_shift = (unsigned)__builtin_ctzll(options->cell), .inside = in};
    int r = reserve(pool);
    if (r == 0)
        r = make_magazines(in);
    if (r == 0) {
        in->chunks = calloc(in->chunk_count, sizeof *in->chunks);
        in->free_bits = calloc(in->chunk_count * in->free_words, sizeof *in->free_bits);
        in->absent_bits = calloc(in->chunk_count * in->absent_words, sizeof *in->absent_bits);
        if (!in->chunks || !in->free_bits || !in->absent_bits)
            r = -ENOMEM;
    }
    if (r < 0)
        pool_destroy(pool);
    return r;
}

void pool_destroy(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    if (!in)
        return;
    for (unsigned i = 0; i < in->magazine_count; i++)
        pthread_mutex_destroy(&in->magazines[i].lock);
    free(in->magazines);
    free(in->chunks);
    free(in->free_bits);
    free(in->absent_bits);
    pthread_cond_destroy(&in->discarded);
    pthread_mutex_destroy(&in->lock);
    if (pool->base)
        os_memory_unreserve(pool->base, in->chunk_count * in->options.chunk);
    free(in);
    *pool = (struct pool){0};
}

int pool_may_lock(const struct pool *pool, uint64_t bytes)
{
    const struct pool_inside *in = pool->inside;
    uint64_t chunks = bytes / in->options.chunk + (bytes % in->options.chunk != 0);
    if (chunks > in->chunk_count)
        chunks = in->chunk_count;
    return os_memory_may_lock(pool->base, (size_t)chunks * in->options.chunk);
}
