/* SPDX-License-Identifier: BSD-3-Clause */

/* Finding cold pages.
 *
 * One thread at a time scans the disk: it moves the hand from page to page, in the order of their
 * numbers.  At the end of the disk a round ends, and the hand goes back to the start.  Each time
 * the hand meets a hot frame, the frame's age goes up by one, up to 2.  A write makes the age 0
 * again.  So if the hand meets a frame of age 2, the frame was not written for two rounds.  The
 * thread then freezes the frame.
 *
 * If memory is short, rounds start sooner, and the thread freezes frames of a lower age:
 *
 *     A ROUND STARTS                                           AGE AT WHICH A FRAME IS FROZEN
 *     EPOCH seconds after the end of the last round            2
 *     at once, if more frames are hot than the hot share       1
 *     at once, if a caller waits in wait_for_packing           0
 */

#include <string.h>

#include "disk/memory/rcu.h"
#include "disk/zstd/compressor.h"

#define EPOCH 1             /* seconds from the end of a round to the start of the next round */
#define STEPS 8192          /* the most calls of table_find in one section */
#define SECTIONS_AT_ONCE 64 /* the most sections in one call of compressor_sweep_locked */

/* The age at which frames are frozen now.  The table at the top of this file shows this age. */
static unsigned freeze_age_locked(const struct compressor *compressor)
{
    const struct paged *paged = compressor->paged;
    if (compressor->waiters)
        return 0;
    return paged_hot(paged) > paged->cold.hot_share ? 1 : ENTRY_AGE_COLD;
}

/* Called inside a section: if the page is in a hot frame, raise the age of the frame, or freeze
 * the frame if it is old enough. */
static void sweep_page(struct compressor *compressor, slot_t *slot, uint64_t page,
                       unsigned freeze_age)
{
    uint64_t word = slot_load(slot);
    if (!entry_hot(word) || (word & ENTRY_FROZEN))
        return;
    if (entry_age(word) < freeze_age)
        slot_swap(slot, &word, entry_aged(word, entry_age(word) + 1));
    else if (table_freeze(&compressor->paged->table, slot, &word))
        compressor->frozen[compressor->frozen_count++] =
            (struct reclaim_item){.word = word, .page = page, .frozen = true};
}

static bool is_enough_frozen(const struct compressor *compressor)
{
    return compressor->frozen_count == COMPRESSOR_RIPE_MAX;
}

/* Inside one section, move the hand on from the page `hand`.  Returns the page that the hand has
 * reached. */
static uint64_t sweep_section(struct compressor *compressor, uint64_t hand, unsigned freeze_age)
{
    struct table *table = &compressor->paged->table;
    rcu_enter();
    for (unsigned steps = 0; steps < STEPS && hand < table->pages; steps++) {
        uint64_t span;
        slot_t *slot = table_find(table, hand, &span);
        for (uint64_t i = 0; slot && i < span && !is_enough_frozen(compressor); i++, hand++)
            sweep_page(compressor, table_resolve(table, slot + i), hand, freeze_age);
        if (is_enough_frozen(compressor))
            break;
        if (!slot)
            hand += span;
    }
    rcu_leave();
    return hand;
}

static void end_round_locked(struct compressor *compressor)
{
    compressor->hand = 0;
    compressor->rounds++;
    compressor->round_begun = false;
    clock_gettime(CLOCK_MONOTONIC, &compressor->next_round);
    compressor->next_round.tv_sec += EPOCH;
}

void compressor_sweep_locked(struct compressor *compressor)
{
    uint64_t hand = compressor->hand, pages = compressor->paged->table.pages;
    unsigned freeze_age = freeze_age_locked(compressor);
    compressor->sweeping = true;
    compressor->round_begun = true;
    compressor->no_room_for_blobs = false;
    compressor->frozen_count = 0;
    pthread_mutex_unlock(&compressor->lock);
    for (unsigned i = 0; i < SECTIONS_AT_ONCE && hand < pages; i++) {
        if (is_enough_frozen(compressor))
            break;
        hand = sweep_section(compressor, hand, freeze_age);
    }
    if (compressor->frozen_count)
        rcu_wait();
    pthread_mutex_lock(&compressor->lock);
    memcpy(compressor->ripe, compressor->frozen,
           compressor->frozen_count * sizeof compressor->ripe[0]);
    compressor->ripe_count = compressor->frozen_count;
    compressor->hand = hand;
    if (hand >= pages)
        end_round_locked(compressor);
    compressor->sweeping = false;
    pthread_cond_broadcast(&compressor->wake);
    pthread_cond_broadcast(&compressor->progress);
}

bool compressor_is_round_due_locked(const struct compressor *compressor)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > compressor->next_round.tv_sec ||
           (now.tv_sec == compressor->next_round.tv_sec &&
            now.tv_nsec >= compressor->next_round.tv_nsec);
}

bool compressor_should_sweep_locked(struct compressor *compressor)
{
    const struct paged *paged = compressor->paged;
    if (compressor->sweeping || compressor->ripe_count)
        return false;
    if (compressor->round_begun)
        return true;
    if (compressor->waiters && compressor->rounds < compressor->waited_rounds)
        return true;
    int64_t hot = paged_hot(paged);
    return (hot > paged->cold.hot_share && !compressor->no_room_for_blobs) ||
           (hot > 0 && compressor_is_round_due_locked(compressor));
}
