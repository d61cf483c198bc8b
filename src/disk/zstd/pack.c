/* SPDX-License-Identifier: BSD-3-Clause */

/* Compressing ripe pages.  A page is ripe if it was frozen and a grace period has passed since.
 *
 * The codec compresses a copy of the page, because libzstd promises nothing if its input changes
 * during the call.  When the blob is swapped in, the word in the slot must still be the frozen
 * word.  If it is, no thread has written to the page meanwhile, and the copy has the bytes of
 * the page.
 *
 * A thread loads the word, copies the page and swaps the word inside one section.  Otherwise, in
 * the meantime, another thread could trim the page, free its frame, and use the frame for the
 * same page again.
 */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/housekeeping.h"
#include "disk/zstd/compressor.h"
#include "os/bytes.h"

#define PAGES_AT_ONCE 4 /* the most pages that one call of compressor_pack_locked compresses */

/* The result of compressing a ripe page. */
enum outcome {
    STAYS,     /* the page did not shrink, or a client has written to it or trimmed it */
    PACKED,    /* the page no longer takes a frame */
    ASK_FIRST, /* the budget must first ask the machine how much memory it can give */
    NO_ROOM,   /* there is no memory for the blob, or for compressing the page */
    OUTCOMES,
};

/* Called inside a section: store the compressed page as a blob, and swap the word of the blob
 * into the slot of the page. */
static enum outcome swap_in_blob(struct compressor *compressor, slot_t *slot,
                                 const struct reclaim_item *ripe, const void *packed, size_t size,
                                 struct deferred *deferred)
{
    uint64_t number, expected = ripe->word;
    int r = blob_log_store(&compressor->blobs, ripe->page, packed, size, &number);
    if (r < 0) {
        paged_swap(compressor->paged, slot, &expected, entry_thawed(ripe->word));
        return r == -EAGAIN ? ASK_FIRST : NO_ROOM;
    }
    if (!slot_swap(slot, &expected, entry_make(ENTRY_BLOB, number))) {
        blob_log_drop(&compressor->blobs, number);
        return STAYS;
    }
    deferred_add_unlinked(deferred, ripe->word);
    return PACKED;
}

/* Called inside a section: compress a ripe page.  slot still holds the frozen word, which is
 * ripe->word. */
static enum outcome pack_page(struct compressor *compressor, slot_t *slot,
                              const struct reclaim_item *ripe, struct deferred *deferred)
{
    struct paged *paged = compressor->paged;
    size_t size = paged_page_size(paged);
    char copy[PAGE_SIZE_MAX], packed[PAGE_SIZE_MAX];
    uint64_t word = ripe->word;
    bytes_load(copy, paged_frame(paged, word), size);
    if (bytes_are_zero(copy, size)) {
        paged_make_hole(paged, slot, ripe->page, word, deferred);
        return deferred->count > 0 ? PACKED : STAYS;
    }
    long n = codec_pack(compressor->codec, copy, size, packed, size - size / 32);
    if (n > 0)
        return swap_in_blob(compressor, slot, ripe, packed, (size_t)n, deferred);
    unsigned age = n == 0 ? ENTRY_AGE_INERT : 0;
    paged_swap(paged, slot, &word, entry_thawed(entry_aged(word, age)));
    return n == 0 ? STAYS : NO_ROOM;
}

static enum outcome pack_ripe(struct compressor *compressor, const struct reclaim_item *ripe)
{
    struct paged *paged = compressor->paged;
    struct deferred deferred;
    uint64_t span;
    enum outcome outcome = STAYS;
    deferred_init(&deferred);
    rcu_enter();
    slot_t *slot = table_find(&paged->table, ripe->page, &span);
    if (slot) {
        slot = table_resolve(&paged->table, slot);
        if (slot_load(slot) == ripe->word)
            outcome = pack_page(compressor, slot, ripe, &deferred);
    }
    rcu_leave();
    deferred_flush(&deferred, &paged->reclaim);
    return outcome;
}

void compressor_pack_locked(struct compressor *compressor)
{
    struct reclaim_item ripe[PAGES_AT_ONCE];
    unsigned count = 0, outcomes[OUTCOMES] = {0};
    while (count < PAGES_AT_ONCE && compressor->ripe_count)
        ripe[count++] = compressor->ripe[--compressor->ripe_count];
    compressor->packing += count;
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < count; i++)
        outcomes[pack_ripe(compressor, &ripe[i])]++;
    if (outcomes[NO_ROOM]) /* give the memory of free frames back, so that blobs can use it */
        paged_collect(compressor->paged);
    if (outcomes[NO_ROOM] || outcomes[ASK_FIRST])
        budget_refresh(compressor->paged->budget);
    pthread_mutex_lock(&compressor->lock);
    compressor->packing -= count;
    compressor->packed += outcomes[PACKED];
    if (outcomes[NO_ROOM] && !outcomes[PACKED])
        compressor->no_room_for_blobs = true;
    pthread_cond_broadcast(&compressor->progress);
}
