/* SPDX-License-Identifier: BSD-3-Clause */

/* deferred - words that a thread hands to reclaim after its read section
 *
 * A read section must not wait, but a thread that hands words to reclaim (disk/memory/reclaim.h)
 * may have to wait for a grace period.  So inside the section, the thread puts each word that it
 * has unlinked or frozen into a struct deferred.  After the section, it hands these words to
 * reclaim.  Only one thread at a time may use a struct deferred.
 */

#ifndef NBDRAM_DISK_PAGED_DEFERRED_H
#define NBDRAM_DISK_PAGED_DEFERRED_H

#include "disk/memory/reclaim.h"

#define DEFERRED_MAX RECLAIM_RESERVED_MAX

struct deferred {
    unsigned count;
    bool is_reserved; /* whether reclaim has reserved memory for the words */
    struct reclaim_item things[DEFERRED_MAX];
};

static inline void deferred_init(struct deferred *deferred)
{
    deferred->count = 0;
    deferred->is_reserved = false;
}

/* Reserve the memory that reclaim needs for the words, so that deferred_flush does not wait.
 * Call this before any word is unlinked or frozen, either inside the section or before it.
 * Returns false if there is no memory. */
static inline bool deferred_reserve(struct deferred *deferred, struct reclaim *reclaim)
{
    if (!deferred->is_reserved)
        deferred->is_reserved = reclaim_reserve(reclaim);
    return deferred->is_reserved;
}

/* Add a word that was taken out of its slot.  After a grace period, reclaim frees the page or
 * node to which the word leads. */
static inline void deferred_add_unlinked(struct deferred *deferred, uint64_t word)
{
    deferred->things[deferred->count++] = (struct reclaim_item){.word = word, .frozen = false};
}

/* Add a word that was frozen.  The slot of this word is on the way from the root of the page
 * table to `page`.  After a grace period, reclaim examines the slot again. */
static inline void deferred_add_frozen(struct deferred *deferred, uint64_t page, uint64_t word)
{
    deferred->things[deferred->count++] =
        (struct reclaim_item){.word = word, .page = page, .frozen = true};
}

/* Hand all words to reclaim.  Call this after the section.  If no memory was reserved and none is
 * free now, this function waits for a grace period. */
static inline void deferred_flush(struct deferred *deferred, struct reclaim *reclaim)
{
    if ((deferred->count | deferred->is_reserved) == 0)
        return;
    if (deferred->is_reserved)
        reclaim_add_reserved(reclaim, deferred->things, deferred->count);
    else
        reclaim_add(reclaim, deferred->things, deferred->count);
    deferred_init(deferred);
}

#endif
