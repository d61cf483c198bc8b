/* SPDX-License-Identifier: BSD-3-Clause */

/* The invariants of a paged disk at rest.  A disk is at rest if no request is running, reclaim
 * has processed all of its items, and the threads of the cold store are paused.
 *
 *  1. The page table keeps its invariants (table_check.c).
 *  2. Each frame that the pool counts as in use holds exactly one page.  No page is in a frame
 *     that the pool counts as free.
 *  3. `hot` is the number of hot frames.  Without a cold store, `hot` is 0, all frames have age
 *     0, and no page is a blob.
 *  4. The cold store keeps its own invariants.  Its blobs are exactly those to which the page
 *     table leads.
 *  5. The budget is charged for the memory of the pools, including the cold store's pool, and for
 *     overhead (memory/budget.h), and for nothing else.
 *
 * The comment above a function gives the numbers of the invariants that it verifies.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/memory/pool_marks.h"
#include "disk/paged/housekeeping.h"
#include "disk/paged/slots.h"
#include "text/reason.h"

#define BROKEN(reason, number, ...)                                                              \
    reason_set(reason, -EUCLEAN, "paged: invariant " #number ": " __VA_ARGS__)

/* What the walk over the table has found so far. */
struct found {
    struct paged *paged;
    struct pool_marks frames;
    int64_t hot;
    struct cold_page *blobs;
    size_t blob_count, blob_room;
};

static int note_blob(struct found *found, uint64_t page, uint64_t word)
{
    if (found->blob_count == found->blob_room) {
        size_t room = found->blob_room ? 2 * found->blob_room : 1024;
        struct cold_page *blobs = realloc(found->blobs, room * sizeof *blobs);
        if (!blobs)
            return -ENOMEM;
        found->blobs = blobs;
        found->blob_room = room;
    }
    found->blobs[found->blob_count++] = (struct cold_page){.page = page, .word = word};
    return 0;
}

/* Verify invariants 2 and 3 (top of this file) for one page: no other page has its frame, and if
 * there is no cold store, the page is not a blob and has age 0. */
static int visit_page(void *opaque, uint64_t page, uint64_t word, struct reason *reason)
{
    struct found *found = opaque;
    bool is_blob = entry_kind(word) == ENTRY_BLOB;
    if (!found->paged->cold.store && (is_blob || entry_age(word) != 0))
        return BROKEN(reason, 3, "page %" PRIu64 " is %#" PRIx64 ", without a cold store", page,
                      word);
    if (is_blob)
        return note_blob(found, page, word);
    found->hot += found->paged->cold.store && entry_hot(word);
    return pool_marks_add(&found->frames, entry_number(word), reason);
}

/* Verify invariants 3, 4 and 5 (top of this file): the number of hot frames, the blobs of the
 * cold store, and the bytes that the budget is charged. */
static int check_sums(struct found *found, struct reason *reason)
{
    struct paged *paged = found->paged;
    const struct cold *cold = &paged->cold;
    uint64_t used = atomic_load_explicit(&paged->budget->used, memory_order_relaxed);
    uint64_t charged = 0;
    if (found->hot != paged_hot(paged))
        return BROKEN(reason, 3, "%" PRId64 " frames are hot, and %" PRId64 " are counted",
                      found->hot, paged_hot(paged));
    int r = !cold->store ? 0
                         : cold->store->check(cold->state, found->blobs, found->blob_count,
                                              &charged, reason);
    if (r < 0)
        return r;
    charged += budget_overhead(paged->budget) + pool_bytes_charged(&paged->frames) +
               pool_bytes_charged(&paged->table.nodes) + pool_bytes_charged(&paged->table.lones);
    if (charged != used)
        return BROKEN(reason, 5,
                      "%" PRIu64 " bytes are taken, and the budget was charged %" PRIu64, charged,
                      used);
    return 0;
}

static int check_at_rest(struct paged *paged, struct reason *reason)
{
    struct found found = {.paged = paged};
    int r = pool_marks_make(&found.frames, &paged->frames, "frame");
    if (r == 0)
        r = table_check(&paged->table, visit_page, &found, reason);
    if (r == 0)
        r = pool_marks_compare(&found.frames, reason);
    if (r == 0)
        r = check_sums(&found, reason);
    pool_marks_free(&found.frames);
    free(found.blobs);
    return r;
}

/* When reclaim's thread is idle, it gives free memory back.  This must not happen during the
 * check, because a cell on its way from a magazine to its chunk looks as if it were in use.  So
 * this function first calls paged_shrink, which gives all free memory back.  Then it calls
 * reclaim_run, which waits until reclaim's thread has finished. */
int paged_check(void *state, struct reason *reason)
{
    struct paged *paged = state;
    const struct cold *cold = &paged->cold;
    if (cold->store)
        cold->store->pause(cold->state);
    reclaim_run(&paged->reclaim);
    paged_shrink(paged);
    reclaim_run(&paged->reclaim);
    int r = check_at_rest(paged, reason);
    if (cold->store)
        cold->store->resume(cold->state);
    return r;
}
