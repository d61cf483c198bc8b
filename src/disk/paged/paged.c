/* SPDX-License-Identifier: BSD-3-Clause */

/* Functions that work on the words of pages, and on the frames to which these words lead.  They
 * keep the rules in paged.h. */

#include "disk/paged/paged.h"

#include <errno.h>

int paged_take_frame(struct paged *paged, enum budget_purpose purpose, uint64_t *cell)
{
    return budget_allows(paged->budget, purpose) ? pool_take(&paged->frames, purpose, cell)
                                                 : -ENOSPC;
}

void paged_count_hot(struct paged *paged, bool was_hot, bool is_hot)
{
    const struct cold *cold = &paged->cold;
    if (!cold->store || was_hot == is_hot)
        return;
    int64_t before =
        atomic_fetch_add_explicit(&paged->hot, is_hot ? 1 : -1, memory_order_relaxed);
    if (is_hot && (before == 0 || before == cold->hot_share))
        cold->store->wake(cold->state);
}

bool paged_swap(struct paged *paged, slot_t *slot, uint64_t *word, uint64_t desired)
{
    if (!slot_swap(slot, word, desired))
        return false;
    paged_count_hot(paged, entry_hot(*word), entry_hot(desired));
    *word = desired;
    return true;
}
