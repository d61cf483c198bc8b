/* SPDX-License-Identifier: BSD-3-Clause */

/* Making, starting and destroying a paged disk, and other functions that concern a whole disk. */

#include <errno.h>
#include <stdlib.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/slots.h"
#include "os/memory.h"

#define CALLERS 64 /* number of threads for which the RCU library takes memory at the start */

/* The size of a chunk: 2 MiB.  If the limit is less than 64 chunks of 2 MiB, chunks are
 * smaller. */
static size_t chunk_size(uint64_t limit)
{
    size_t chunk = (size_t)2 << 20;
    size_t smallest = os_page_size() > (64 << 10) ? os_page_size() : 64 << 10;
    while (limit && chunk > smallest && limit / 64 < chunk)
        chunk /= 2;
    return chunk;
}

/* How many bytes of address space a pool reserves: as many as there could ever be memory for.
 * For a small disk, twice the size of the disk is enough.  The second half is for pages that wait
 * for a grace period while new pages have taken their places. */
static uint64_t address_space(const struct paged *paged, size_t chunk)
{
    uint64_t most = least(budget_ceiling(paged->budget), (uint64_t)1 << 52);
    uint64_t size = least(paged->size, most); /* limited, so that the sum below cannot wrap */
    return least(most, 2 * size + 16 * (uint64_t)chunk);
}

static void choose_pools(struct paged *paged, const struct disk_options *options)
{
    size_t chunk = chunk_size(options->limit);
    paged->pool_options = (struct pool_options){
        .chunk = chunk,
        .capacity = address_space(paged, chunk),
        .huge = true,
        .locked = options->mlock,
        .budget = paged->budget,
    };
}

static void shrink_when_idle(void *opaque)
{
    paged_shrink(opaque);
}

static int make_frames(struct paged *paged)
{
    struct pool_options frames = paged->pool_options;
    frames.cell = paged_page_size(paged);
    int r = pool_create(&frames, &paged->frames);
    if (r == 0 && frames.locked)
        r = pool_may_lock(&paged->frames, paged->size);
    return r;
}

int paged_create(const struct disk_options *options, struct budget *budget, unsigned page_shift,
                 struct paged **made)
{
    struct paged *paged = calloc(1, sizeof *paged);
    if (!paged)
        return -ENOMEM;
    paged->size = options->size;
    paged->budget = budget;
    paged->page_shift = page_shift;
    reclaim_create(&paged->reclaim, paged_after_grace_period, shrink_when_idle, paged);
    choose_pools(paged, options);
    size_t page_size = paged_page_size(paged);
    uint64_t pages = (paged->size >> page_shift) + (paged->size % page_size != 0);
    int r = make_frames(paged);
    if (r == 0)
        r = table_create(&paged->table, pages, &paged->pool_options);
    if (r < 0) {
        paged_destroy(paged);
        return r;
    }
    *made = paged;
    return 0;
}

int paged_start(void *state)
{
    struct paged *paged = state;
    rcu_make_room(CALLERS);
    int r = reclaim_start(&paged->reclaim);
    if (r == 0 && paged->cold.store)
        r = paged->cold.store->start(paged->cold.state);
    return r;
}

/* The order matters.  First the cold store stops taking pages.  Then reclaim processes all words
 * that still wait, and so drops blobs from the store.  After that nothing uses the store, the
 * table or the frames. */
void paged_destroy(void *state)
{
    struct paged *paged = state;
    const struct cold *cold = &paged->cold;
    if (cold->store)
        cold->store->stop(cold->state);
    reclaim_destroy(&paged->reclaim);
    if (cold->store)
        cold->store->destroy(cold->state);
    table_destroy(&paged->table);
    pool_destroy(&paged->frames);
    free(paged);
}

int paged_settle(void *state)
{
    struct paged *paged = state;
    reclaim_run(&paged->reclaim);
    if (paged->cold.store)
        paged->cold.store->settle(paged->cold.state);
    paged_shrink(paged);
    return 0;
}

void paged_stats(void *state, struct disk_stats *stats)
{
    struct paged *paged = state;
    stats->pages = pool_cells_used(&paged->frames);
    if (paged->cold.store)
        paged->cold.store->stats(paged->cold.state, stats);
    stats->pages += stats->compressed;
}
