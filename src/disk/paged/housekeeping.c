/* SPDX-License-Identifier: BSD-3-Clause */

/* The functions in this file keep the rules that are listed in paged.h. */

#include "disk/paged/housekeeping.h"

#include "disk/memory/rcu.h"
#include "disk/paged/slots.h"
#include "os/bytes.h"

/* Finding memory. */

void paged_shrink(struct paged *paged)
{
    pool_shrink(&paged->frames);
    pool_shrink(&paged->table.nodes);
    pool_shrink(&paged->table.lones);
    if (paged->cold.store)
        paged->cold.store->shrink(paged->cold.state);
}

void paged_collect(struct paged *paged)
{
    reclaim_await_all(&paged->reclaim);
}

/* First wait for a grace period.  If another thread has taken a frame but has not yet put it into
 * the page table, the frame is neither free nor hot.  After the grace period, the section of that
 * thread has ended, and the frame is either free or hot.
 *
 * Other threads can also free memory after the caller's attempt failed and before this function
 * is called.  So this function returns true if any memory was released since the caller's last
 * attempt.
 *
 * -EAGAIN does not count as an attempt, because it does not mean that the machine has no memory.
 */
bool paged_make_room(struct paged *paged, struct room_search *search, int error)
{
    const struct cold *cold = &paged->cold;
    if (paged_gives_up(paged))
        return false;
    if (error == -EAGAIN) {
        budget_refresh(paged->budget);
        return true;
    }
    bool gained = search->attempts++ == 0;
    if (gained)
        search->released = reclaim_released(&paged->reclaim);
    rcu_wait();
    if (!gained && cold->store)
        gained = cold->store->make_room(cold->state);
    bool is_complete = reclaim_await(&paged->reclaim, search->released);
    uint64_t released =
        reclaim_released(&paged->reclaim); /* must be read before the caller tries again */
    gained = gained || released != search->released || (is_complete && !search->was_complete);
    search->released = released;
    search->was_complete = is_complete;
    budget_refresh(paged->budget);
    return gained && !paged_gives_up(paged);
}

void paged_give_up_waiting(void *state)
{
    struct paged *paged = state;
    atomic_store_explicit(&paged->gives_up, true, memory_order_relaxed);
    reclaim_give_up_waiting(&paged->reclaim);
    if (paged->cold.store)
        paged->cold.store->give_up_waiting(paged->cold.state);
}

/* Functions that process a word after its grace period. */

/* Free the frame or blob of a page that was unlinked.  `word` is the word of the page, which no
 * other thread can find any more.  Returns false if there is no use in freeing more. */
static bool release_page(void *opaque, uint64_t word)
{
    struct paged *paged = opaque;
    if (paged_is_ending(paged))
        return false;
    if (entry_kind(word) == ENTRY_BLOB) {
        paged->cold.store->drop(paged->cold.state, word);
    } else {
        paged_count_hot(paged, entry_hot(word), false);
        pool_give(&paged->frames, entry_number(word));
    }
    reclaim_count_page(&paged->reclaim);
    return true;
}

void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *deferred)
{
    uint64_t node;
    if (!slot_swap(slot, &word, 0))
        return;
    deferred_add_unlinked(deferred, word);
    if (table_freeze_empty(&paged->table, page, &node))
        deferred_add_frozen(deferred, page, node);
}

/* Process the word of a frame that was found all zero and then frozen.  If a thread has thawed
 * the frame since, do nothing.  If the frame is still all zero, turn the page into a hole.
 * Otherwise thaw the frame. */
static void finish_zero_frame(struct paged *paged, const struct reclaim_item *pending,
                              struct deferred *deferred)
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
        paged_make_hole(paged, slot, pending->page, word, deferred);
    else
        paged_swap(paged, slot, &word, entry_thawed(word));
}

/* Process the word of a node or lone that was found empty and then frozen.  If the node or lone
 * is still empty, unlink it. */
static void finish_empty_node(struct paged *paged, const struct reclaim_item *pending,
                              struct deferred *deferred)
{
    uint64_t above;
    if (!table_unlink_empty(&paged->table, pending->page, pending->word))
        return;
    deferred_add_unlinked(deferred, pending->word);
    if (table_freeze_empty(&paged->table, pending->page, &above))
        deferred_add_frozen(deferred, pending->page, above);
}

void paged_after_grace_period(void *opaque, const struct reclaim_item *pending)
{
    struct paged *paged = opaque;
    struct deferred deferred;
    if (!pending->frozen) {
        table_release(&paged->table, pending->word, release_page, paged);
        return;
    }
    deferred_init(&deferred);
    rcu_enter();
    if (entry_kind(pending->word) == ENTRY_FRAME)
        finish_zero_frame(paged, pending, &deferred);
    else
        finish_empty_node(paged, pending, &deferred);
    rcu_leave();
    deferred_flush(&deferred, &paged->reclaim);
}
