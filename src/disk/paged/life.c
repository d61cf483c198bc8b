/* SPDX-License-Identifier: BSD-3-Clause */

/* Making, starting and destroying a paged disk, and other functions that concern a whole disk. */

#include <errno.h>
#include <stdlib.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/slots.h"
#include "os/memory.h"

#define OTHERS ((uint64_t)192 << 20) /* bytes of address space for the rest of the process */
#define CALLERS 64 /* number of threads for which the RCU library takes memory at the start */

/* The size of a chunk is 2 MiB.  If the limit of the disk is less than 64 such chunks, a chunk is
 * smaller. */
static size_t chunk_size(uint64_t limit)
{
    size_t chunk = (size_t)2 << 20;
    size_t smallest = os_page_size() > (64 << 10) ? os_page_size() : 64 << 10;
    while (limit && chunk > smallest && limit / 64 < chunk)
        chunk /= 2;
    return chunk;
}

/* The address space of each pool, in bytes. */
struct capacities {
    uint64_t frames, nodes, lones, cold;
};

/* How many bytes of address space a pool reserves.  `bytes` is the memory that the cells of the
 * pool take when every page of the disk is stored.  The pool reserves twice that, because cells
 * can wait for a grace period while new cells have already taken their places.  `chunks` chunks
 * are added.  The pool never reserves more than there could be memory for. */
static uint64_t address_space(const struct paged *paged, uint64_t bytes, unsigned chunks)
{
    uint64_t most = least(budget_ceiling(paged->budget), (uint64_t)1 << 52);
    uint64_t limited = least(bytes, most); /* so that the sum below cannot wrap */
    return least(most, 2 * limited + chunks * (uint64_t)paged->pool_options.chunk);
}

/* The capacities of the pools if address space is not limited.  A full disk has one node for 15
 * pages, and a few nodes more at its start and end.  A page has at most one lone.  A lone takes
 * 16 bytes and a page takes at least 64, so the lones take at most a quarter of the memory of the
 * pages.  A page in the cold store takes less memory than its frame did. */
static struct capacities wanted_capacities(const struct paged *paged, unsigned chunks, bool packs)
{
    uint64_t pages = paged_pages(paged);
    return (struct capacities){
        .frames = address_space(paged, paged->size, 16),
        .nodes = address_space(paged, pages / 15 * sizeof(struct node), chunks),
        .lones = least(address_space(paged, pages * sizeof(struct lone), chunks),
                       address_space(paged, paged->size, 16) / 4),
        .cold = packs ? address_space(paged, paged->size, 16) : 0,
    };
}

/* Choose the capacities of the pools if address space is limited (RLIMIT_AS), and `left` bytes of
 * it are left.  The pools leave a part to the rest of the process: OTHERS bytes, or three
 * quarters of `left`, whichever is less.  nbdkit needs OTHERS bytes, because it starts 16 threads
 * for a connection, each with a stack of 8 MiB.  The threads of our own server need a tenth of
 * that.
 *
 * The pools share the other part of `left`.  The page table gets as much as it could ever need,
 * but no more than 4/10 of the share.  Frames and the cold store get the rest.
 */
static struct capacities share_address_space(const struct paged *paged, uint64_t left, bool packs)
{
    struct capacities wanted = wanted_capacities(paged, 2, packs);
    uint64_t share = left > OTHERS / 3 * 4 ? left - OTHERS : left / 4;
    wanted.nodes = least(wanted.nodes, share / 10 * 3);
    wanted.lones = least(wanted.lones, share / 10);
    uint64_t rest = share - wanted.nodes - wanted.lones;
    wanted.frames = least(wanted.frames, packs ? rest / 2 : rest);
    wanted.cold = least(wanted.cold, rest - wanted.frames);
    return wanted;
}

static struct capacities choose_capacities(const struct paged *paged, bool packs)
{
    uint64_t left = os_address_space_left();
    return left == UINT64_MAX ? wanted_capacities(paged, 16, packs)
                              : share_address_space(paged, left, packs);
}

static void shrink(void *opaque)
{
    paged_shrink(opaque);
}

static int make_frames(struct paged *paged, uint64_t capacity)
{
    struct pool_options frames = paged->pool_options;
    frames.cell = paged_page_size(paged);
    frames.capacity = capacity;
    int r = pool_create(&frames, &paged->frames);
    if (r == 0 && frames.locked)
        r = pool_may_lock(&paged->frames, paged->size);
    return r;
}

static int make_table(struct paged *paged, uint64_t nodes, uint64_t lones)
{
    struct pool_options options = paged->pool_options;
    options.capacity = nodes;
    return table_create(&paged->table, paged_pages(paged), &options, lones);
}

/* Make the pools of frames, nodes and lones.  The cold store makes its own pool later, with the
 * options in paged->pool_options. */
static int make_pools(struct paged *paged, const struct disk_options *options, bool packs)
{
    paged->pool_options = (struct pool_options){
        .chunk = chunk_size(options->limit),
        .huge = true,
        .locked = options->mlock,
        .budget = paged->budget,
    };
    struct capacities capacities = choose_capacities(paged, packs);
    paged->pool_options.capacity = capacities.cold;
    int r = make_frames(paged, capacities.frames);
    return r < 0 ? r : make_table(paged, capacities.nodes, capacities.lones);
}

int paged_create(const struct disk_options *options, struct budget *budget, unsigned page_shift,
                 bool packs, struct paged **made)
{
    struct paged *paged = calloc(1, sizeof *paged);
    if (!paged)
        return -ENOMEM;
    paged->size = options->size;
    paged->budget = budget;
    paged->page_shift = page_shift;
    reclaim_create(&paged->reclaim, budget, paged_after_grace_period, shrink, paged);
    int r = make_pools(paged, options, packs);
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

/* The order matters.  First the cold store stops taking pages, then reclaim's thread ends.
 * After that nothing uses the store, the table or the frames.  Pages need not be freed one by
 * one, which can take seconds: they go with their pools. */
void paged_destroy(void *state)
{
    struct paged *paged = state;
    const struct cold *cold = &paged->cold;
    atomic_store_explicit(&paged->is_ending, true, memory_order_relaxed);
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
