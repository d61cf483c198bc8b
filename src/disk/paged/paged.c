/* SPDX-License-Identifier: BSD-3-Clause */

/* The sparse and the zstd allocator: requests on a disk kept in pages.
 *
 * No lock is taken on the way to a page: requests walk the table inside a read section and copy
 * in place.  What a page's word (entry.h) may become, and who makes it so:
 *
 *                        write, provide
 *               .---------------------------------.
 *               |                                 v      freeze       compressor, scrub
 *     0 (hole) -'      BLOB --write, zero---->  FRAME <------------> FRAME|frozen ----.
 *       ^                ^                        |       write                |      |
 *       |                '------------------------|----------------------------'      |
 *       '---------------- trim, zero of the whole page -------------------------------'
 *
 * Rules, numbered as in DESIGN.md, which says why:
 *
 *  1. A hole or a blob becomes a frame by compare-and-swap of a frame that already holds what the
 *     page will hold, the write included.  Who loses gives his frame back and uses the winner's.
 *  2. Zeroing or trimming that covers a whole page unlinks it.
 *  3. What is taken away because of what it holds is frozen first, a grace period is waited for,
 *     and the swap names the exact word: a frame all zero (scrub, below), a cold one (compress.c),
 * an empty node (table.c).  A writer that meets a frozen word thaws it before he writes.
 *  4. What a page held is let go (to reclaim) only after the swap that replaces it.
 *  5. A section waits for no other section, no grace period and no client: no memory is a reason
 *     to leave it, make room outside, and come back.
 *  6. A frame is filled before it is swapped in: nobody sees what it held before.
 *
 * Who may run beside whom, on one page, all inside sections:
 *
 *               read     write             zero part          zero, trim whole   freeze, finish
 *     read      -        bytes of either   bytes of either    old, or zeroes     same bytes
 *     write              rule 1            bytes of either    rule 2             thaws, rule 3
 *     zero part                            bytes of either    rule 2             thaws, rule 3
 *     trim whole                                              one swap wins      exact word gone
 *     freeze                                                                     generation
 * differs
 *
 * Destroy runs beside nobody.  Extents is a read that looks at words only.
 */

#include "disk/paged/paged.h"

#include <errno.h>
#include <stdlib.h>

#include "disk/allocator.h"
#include "disk/memory/rcu.h"
#include "disk/paged/request.h"
#include "disk/zstd/compressor.h"
#include "os/bytes.h"
#include "os/memory.h"

#define CALLERS 64 /* threads that may call without the RCU library having to find memory */
#define SPARSE_PAGE_SHIFT 12
#define ZSTD_PAGE_SHIFT 15

/* Words. */

void paged_count_hot(struct paged *paged, bool before, bool after)
{
    if (paged->compressor && before != after)
        compressor_count(paged->compressor, after ? 1 : -1);
}

bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired)
{
    if (!slot_swap(slot, word, desired))
        return false;
    paged_count_hot(paged, entry_hot(*word), entry_hot(desired));
    *word = desired;
    return true;
}

/* A page's word that was taken out a grace period ago, or never got in. */
static void drop(void *opaque, uint64_t word)
{
    struct paged *paged = opaque;
    if (entry_kind(word) == ENTRY_BLOB) {
        compressor_drop(paged->compressor, word);
    } else {
        paged_count_hot(paged, entry_hot(word), false);
        pool_give(&paged->frames, entry_number(word));
    }
}

/* Give all that is free, wherever it is, to whoever needs it. */
static void shrink(void *opaque)
{
    struct paged *paged = opaque;
    pool_shrink(&paged->frames);
    pool_shrink(&paged->table.nodes);
    pool_shrink(&paged->table.lones);
    if (paged->compressor)
        compressor_shrink(paged->compressor);
}

void paged_collect(struct paged *paged)
{
    reclaim_run(&paged->reclaim);
    shrink(paged);
}

/* Others make room, too, and some of it between the try and this, so what counts is whether there
 * was any since.  A frame that somebody has taken and not yet put into the table is neither free
 * nor hot; it is one or the other when his section is over, hence the wait. */
bool paged_make_room(struct paged *paged, struct search *search)
{
    bool gained = search->attempts++ == 0;
    rcu_wait();
    if (!gained && paged->compressor)
        gained = compressor_make_room(paged->compressor);
    reclaim_run(&paged->reclaim);
    uint64_t released = reclaim_released(&paged->reclaim); /* the next try comes after this */
    gained = gained || released != search->released;
    search->released = released;
    shrink(paged);
    return gained;
}

/* After a grace period. */

void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *left)
{
    uint64_t node;
    if (!slot_swap(slot, &word, 0))
        return;
    deferred_add(left, page, word, false);
    if (table_freeze_empty(&paged->table, page, &node))
        deferred_add(left, page, node, true);
}

static void finish_frame(struct paged *paged, const struct reclaim_item *pending,
                         struct deferred *left)
{
    uint64_t span;
    slot_t *slot = table_find(&paged->table, pending->page, &span);
    if (!slot)
        return;
    slot = table_resolve(&paged->table, slot);
    uint64_t word = slot_load(slot);
    if (word != pending->word)
        return;
    if (bytes_are_zero(paged_frame(paged, word), paged_page_size(paged)))
        paged_make_hole(paged, slot, pending->page, word, left);
    else
        paged_swap(paged, slot, &word, entry_thawed(word));
}

static void finish_node(struct paged *paged, const struct reclaim_item *pending,
                        struct deferred *left)
{
    uint64_t above;
    if (!table_unlink_empty(&paged->table, pending->page, pending->word))
        return;
    deferred_add(left, pending->page, pending->word, false);
    if (table_freeze_empty(&paged->table, pending->page, &above))
        deferred_add(left, pending->page, above, true);
}

static void finish(void *opaque, const struct reclaim_item *pending)
{
    struct paged *paged = opaque;
    struct deferred left = {0};
    if (!pending->frozen) {
        table_release(&paged->table, pending->word, drop, paged);
        return;
    }
    rcu_enter();
    if (entry_kind(pending->word) == ENTRY_FRAME)
        finish_frame(paged, pending, &left);
    else
        finish_node(paged, pending, &left);
    rcu_leave();
    deferred_flush(paged, &left);
}

/* The disk as a whole. */

/* Chunks of 2 MiB, unless a low limit would then be mostly rounding. */
static size_t chunk_size(uint64_t limit)
{
    size_t chunk = (size_t)2 << 20;
    size_t least = os_page_size() > (64 << 10) ? os_page_size() : 64 << 10;
    while (limit && chunk > least && limit / 64 < chunk)
        chunk /= 2;
    return chunk;
}

static void destroy(void *state)
{
    struct paged *paged = state;
    if (paged->compressor)
        compressor_stop(paged->compressor);
    reclaim_destroy(&paged->reclaim);
    compressor_destroy(paged->compressor);
    table_destroy(&paged->table);
    pool_destroy(&paged->frames);
    free(paged);
}

/* Address space for as many bytes as there could ever be memory for; for a small disk, twice what
 * it can hold, since pages that wait for a grace period stand beside their successors. */
static uint64_t capacity(const struct paged *paged, size_t chunk)
{
    uint64_t most = least(budget_ceiling(paged->budget), (uint64_t)1 << 52);
    uint64_t size = least(paged->size, most); /* so that the sum cannot wrap */
    return least(most, 2 * size + 16 * (uint64_t)chunk);
}

static int make_parts(struct paged *paged, const struct disk_options *options)
{
    size_t chunk = chunk_size(options->limit);
    struct pool_options pool = {
        .cell = paged_page_size(paged),
        .chunk = chunk,
        .capacity = capacity(paged, chunk),
        .huge = true,
        .locked = options->mlock,
        .budget = paged->budget,
    };
    uint64_t pages =
        (paged->size >> paged->page_shift) + (paged->size % paged_page_size(paged) != 0);
    int r = pool_create(&pool, &paged->frames);
    if (r == 0 && options->mlock)
        r = pool_may_lock(&paged->frames, paged->size);
    if (r == 0)
        r = table_create(&paged->table, pages, &pool);
    if (r == 0 && options->allocator == &allocator_zstd)
        r = compressor_create(paged, options->level, &pool, &paged->compressor);
    return r;
}

static int create(const struct disk_options *options, struct budget *budget, void **state)
{
    struct paged *paged = calloc(1, sizeof *paged);
    if (!paged)
        return -ENOMEM;
    paged->size = options->size;
    paged->budget = budget;
    paged->page_shift =
        options->allocator == &allocator_zstd ? ZSTD_PAGE_SHIFT : SPARSE_PAGE_SHIFT;
    reclaim_create(&paged->reclaim, finish, shrink, paged);
    int r = make_parts(paged, options);
    if (r < 0) {
        destroy(paged);
        return r;
    }
    *state = paged;
    return 0;
}

static int start(void *state)
{
    struct paged *paged = state;
    rcu_make_room(CALLERS);
    int r = reclaim_start(&paged->reclaim);
    if (r == 0 && paged->compressor)
        r = compressor_start(paged->compressor);
    return r;
}

static int settle(void *state)
{
    struct paged *paged = state;
    reclaim_run(&paged->reclaim);
    if (paged->compressor)
        compressor_settle(paged->compressor);
    shrink(paged);
    return 0;
}

static void stats(void *state, struct disk_stats *stats)
{
    struct paged *paged = state;
    stats->pages = pool_cells_used(&paged->frames);
    if (paged->compressor)
        compressor_stats(paged->compressor, stats);
    stats->pages += stats->compressed;
}

/* What the two have in common. */
#define PAGED_SLOTS                                                                              \
    .create = create, .start = start, .destroy = destroy, .read = paged_read,                    \
    .write = paged_write, .lend_begin = paged_lend_begin, .lend_end = paged_lend_end,            \
    .lend = paged_lend, .fill = paged_fill, .zero = paged_zero, .trim = paged_trim,              \
    .extents = paged_extents, .settle = settle, .stats = stats

const struct allocator allocator_sparse = {
    .name = "sparse",
    .summary = "pages of 4 KiB, allocated on writes",
    .page_size = 1u << SPARSE_PAGE_SHIFT,
    .takes_mlock = true,
    PAGED_SLOTS,
};

const struct allocator allocator_zstd = {
    .name = "zstd",
    .summary = "pages of 32 KiB, compressed when idle",
    .page_size = 1u << ZSTD_PAGE_SHIFT,
    .takes_level = true,
    .packs = true,
    PAGED_SLOTS,
};
