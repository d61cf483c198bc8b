/* SPDX-License-Identifier: BSD-3-Clause */

/* deferred - words that a read section leaves to be processed after a grace period
 *
 * A section must not wait, and handing words to reclaim (disk/memory/reclaim.h) can mean
 * waiting.  So a section notes the words that it has unlinked or frozen.  After the section, the
 * thread hands these words to reclaim.  Only one thread at a time may use a struct deferred.
 */

#ifndef NBDRAM_DISK_PAGED_DEFERRED_H
#define NBDRAM_DISK_PAGED_DEFERRED_H

#include "disk/memory/reclaim.h"

#define DEFERRED_MAX RECLAIM_RESERVED_MAX

struct deferred {
    unsigned count;
    bool is_reserved; /* reclaim has reserved memory for the words */
    struct reclaim_item things[DEFERRED_MAX];
};

static inline void deferred_init(struct deferred *deferred)
{
    deferred->count = 0;
    deferred->is_reserved = false;
}

/* Reserve memory for the noted words, so that deferred_flush does not wait.  Call this before
 * anything is unlinked or frozen, inside the section or before it.  Returns false if there is no
 * memory. */
static inline bool deferred_reserve(struct deferred *deferred, struct reclaim *reclaim)
{
    if (!deferred->is_reserved)
        deferred->is_reserved = reclaim_reserve(reclaim);
    return deferred->is_reserved;
}

/* Note a word that was taken out of its slot.  The page or node to which the word leads is freed
 * after a grace period. */
static inline void deferred_add_unlinked(struct deferred *deferred, uint64_t word)
{
    deferred->things[deferred->count++] = (struct reclaim_item){.word = word, .frozen = false};
}

/* Note a word that was frozen in its slot, on the way to `page`.  The slot is examined again
 * after a grace period. */
static inline void deferred_add_frozen(struct deferred *deferred, uint64_t page, uint64_t word)
{
    deferred->things[deferred->count++] =
        (struct reclaim_item){.word = word, .page = page, .frozen = true};
}

/* Hand all noted words to reclaim.  Call this after the section.  If memory was not reserved, and
 * there is none, this waits for a grace period. */
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
