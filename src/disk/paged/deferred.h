/* SPDX-License-Identifier: BSD-3-Clause */

/* deferred - what a read section leaves to be done after a grace period
 *
 * A section must not wait, and reclaim (disk/memory/reclaim.h) must not be called inside one.  So
 * a section notes the words that it has unlinked or frozen, and its thread hands them to reclaim
 * when the section has ended.  One thread uses a struct deferred at a time.
 */

#ifndef NBDRAM_DISK_PAGED_DEFERRED_H
#define NBDRAM_DISK_PAGED_DEFERRED_H

#include "disk/memory/reclaim.h"

#define DEFERRED_MAX 64

struct deferred {
    unsigned count;
    struct reclaim_item things[DEFERRED_MAX];
};

/* Note a word that was taken out of its slot: what it leads to is to be released. */
static inline void deferred_add_unlinked(struct deferred *deferred, uint64_t word)
{
    deferred->things[deferred->count++] = (struct reclaim_item){.word = word, .frozen = false};
}

/* Note a word that was frozen in its slot, on the way to `page`: it is to be examined again. */
static inline void deferred_add_frozen(struct deferred *deferred, uint64_t page, uint64_t word)
{
    deferred->things[deferred->count++] =
        (struct reclaim_item){.word = word, .page = page, .frozen = true};
}

/* Hand all noted words to reclaim.  Call this after the section. */
static inline void deferred_flush(struct deferred *deferred, struct reclaim *reclaim)
{
    reclaim_add(reclaim, deferred->things, deferred->count);
    deferred->count = 0;
}

#endif
