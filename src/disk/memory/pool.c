/* SPDX-License-Identifier: BSD-3-Clause */

/* The magazines of a pool, and how a pool is made and destroyed.  pool_inside.h has the states of
 * a cell, the invariants and the locks.
 *
 * A thread uses the magazine of the processor that it runs on.  If the magazine is empty, it is
 * filled to one half with cells from the chunks.  If the magazine is full, half of its cells go
 * back to the chunks.  Only these two steps need the pool's lock, and each leaves the magazine
 * half full.  So a thread needs the pool's lock at most once in magazine_cells / 2 calls, in
 * whatever order it takes and gives cells.
 */

#include "disk/memory/pool_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/check.h"
#include "os/memory.h"
#include "os/sanitizer.h"
#include "os/thread.h"
#include "text/reason.h"

/* The most bytes that the cells of a magazine may take.  Threads on other processors cannot use
 * these cells, so there must not be too many. */
#define MAGAZINE_BYTES ((size_t)256 << 10)

/* Taking cells and giving them back. */

static struct magazine *magazine_here(const struct pool_inside *in)
{
    return &in->magazines[os_cpu_now() % in->magazine_count];
}

/* Take a cell from a magazine of any processor.  This is called when the chunks have no cell
 * left, and this processor's magazine has none. */
static int take_from_any_magazine(struct pool *pool, uint64_t *cell)
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
        return pool_take_batch(pool, purpose, 1, cell, &one);
    pthread_mutex_lock(&magazine->lock);
    if (magazine->count == 0)
        r = pool_take_batch(pool, purpose, (in->magazine_cells + 1) / 2, magazine->cells,
                            &magazine->count);
    if (r == 0)
        *cell = magazine->cells[--magazine->count];
    pthread_mutex_unlock(&magazine->lock);
    return r < 0 && take_from_any_magazine(pool, cell) == 0 ? 0 : r;
}

/* Returns true if cells went to the chunks. */
static bool give(struct pool *pool, uint64_t cell)
{
    struct pool_inside *in = pool->inside;
    struct magazine *magazine = magazine_here(in);
    if (in->magazine_cells == 0) {
        pool_give_batch(pool, 1, &cell);
        return true;
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
        pool_give_batch(pool, count, full);
    return count > 0;
}

void pool_give(struct pool *pool, uint64_t cell)
{
    if (give(pool, cell))
        pool_shrink_excess(pool);
}

void pool_untake(struct pool *pool, uint64_t cell)
{
    give(pool, cell);
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
        pool_give_batch(pool, count, full);
    }
    pool_shrink_to(pool, 0);
    pthread_mutex_lock(&in->lock);
    while (in->discards)
        pthread_cond_wait(&in->discarded, &in->lock);
    pthread_mutex_unlock(&in->lock);
}

uint64_t pool_capacity(const struct pool *pool)
{
    return pool->inside->chunk_count * pool->inside->options.chunk;
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
    return used > held ? used - held : 0; /* counted at different times, so held can be larger */
}

uint64_t pool_bytes_charged(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    uint64_t bytes = in->resident << pool->cell_shift;
    pthread_mutex_unlock(&in->lock);
    return bytes;
}

/* Making and destroying a pool. */

static int reserve_address_space(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    size_t chunk = in->options.chunk;
    in->uncommits = os_memory_commit_is_limited();
    for (uint64_t count = chunk_count_wanted(&in->options); count > 0; count /= 2) {
        void *base;
        if (os_memory_reserve((size_t)count * chunk, chunk, in->options.huge, &base) == 0) {
            /* The first chunk is not a huge page, so that a small disk needs little memory. */
            os_memory_huge(base, chunk, false);
            pool->base = base;
            in->chunk_count = count;
            return 0;
        }
    }
    return -ENOMEM;
}

/* The number of magazines: one for each processor, but at most 32 in builds with the thread
 * sanitizer.  (pool_check holds the locks of all magazines, and the sanitizer fails if a thread
 * holds more than 64 locks.) */
static unsigned magazines_wanted(void)
{
    unsigned count = os_cpu_count();
#ifdef NBDRAM_TSAN
    if (count > 32)
        count = 32;
#endif
    return count;
}

static int make_magazines(struct pool_inside *in)
{
    size_t cell = in->options.cell;
    size_t most = in->options.chunk / 8 < MAGAZINE_BYTES ? in->options.chunk / 8 : MAGAZINE_BYTES;
    in->magazine_cells = most / cell > MAGAZINE_CELLS ? MAGAZINE_CELLS : (unsigned)(most / cell);
    unsigned count = magazines_wanted();
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

static int make_chunks(struct pool_inside *in)
{
    in->chunks = calloc(in->chunk_count, sizeof *in->chunks);
    in->free_bits = calloc(in->chunk_count * in->free_words, sizeof *in->free_bits);
    in->absent_bits = calloc(in->chunk_count * in->absent_words, sizeof *in->absent_bits);
    return in->chunks && in->free_bits && in->absent_bits ? 0 : -ENOMEM;
}

static void set_sizes(struct pool_inside *in, const struct pool_options *options)
{
    in->options = *options;
    in->granule = options->cell > os_page_size() ? options->cell : os_page_size();
    in->cells_per_granule = (uint32_t)(in->granule / options->cell);
    in->cells_per_chunk = (uint32_t)(options->chunk / options->cell);
    in->granules_per_chunk = (uint32_t)(options->chunk / in->granule);
    in->free_words = (in->cells_per_chunk + 63) / 64;
    in->absent_words = (in->granules_per_chunk + 63) / 64;
}

/* Free a pool, even if pool_create failed before the pool was complete. */
static void pool_free(struct pool *pool)
{
    struct pool_inside *in = pool->inside;
    for (unsigned i = 0; i < in->magazine_count; i++)
        pthread_mutex_destroy(&in->magazines[i].lock);
    free(in->magazines);
    free(in->chunks);
    free(in->free_bits);
    free(in->absent_bits);
    pthread_cond_destroy(&in->discarded);
    pthread_mutex_destroy(&in->lock);
    if (in->fresh)
        budget_give_overhead(in->options.budget, in->fresh * chunk_overhead(in));
    if (pool->base)
        os_memory_unreserve(pool->base, in->chunk_count * in->options.chunk);
    free(in);
    *pool = (struct pool){0};
}

int pool_create(const struct pool_options *options, struct pool *pool)
{
    struct pool_inside *in = calloc(1, sizeof *in);
    if (!in)
        return -ENOMEM;
    set_sizes(in, options);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->discarded, NULL);
    *pool = (struct pool){.cell_shift = (unsigned)__builtin_ctzll(options->cell), .inside = in};
    int r = reserve_address_space(pool);
    if (r == 0)
        r = make_magazines(in);
    if (r == 0)
        r = make_chunks(in);
    if (r < 0)
        pool_free(pool);
    return r;
}

void pool_destroy(struct pool *pool)
{
    struct reason reason;
    if (!pool->inside)
        return;
    if (OS_CHECK_ENABLED && pool_check(pool, &reason) < 0)
        os_check_failed(reason.text);
    pool_free(pool);
}

int pool_may_lock(const struct pool *pool, uint64_t bytes)
{
    const struct pool_inside *in = pool->inside;
    uint64_t chunks = bytes / in->options.chunk + (bytes % in->options.chunk != 0);
    if (chunks > in->chunk_count)
        chunks = in->chunk_count;
    return os_memory_may_lock(pool->base, (size_t)chunks * in->options.chunk);
}
