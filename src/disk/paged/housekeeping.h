/* SPDX-License-Identifier: BSD-3-Clause */

/* housekeeping - work outside of requests: finishing work that had to wait for a grace period,
 * and finding memory
 *
 * Any thread may call any function.  paged_make_hole is called inside a read section.  All other
 * functions must be called outside of read sections.
 */

#ifndef NBDRAM_DISK_PAGED_HOUSEKEEPING_H
#define NBDRAM_DISK_PAGED_HOUSEKEEPING_H

#include <errno.h>

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

/* Process a word that has waited for a grace period.  Reclaim calls this function; opaque is the
 * struct paged. */
void paged_after_grace_period(void *opaque, const struct reclaim_item *pending);

/* Inside a section: if slot still holds `word`, turn the page into a hole.  `word` must have been
 * frozen a grace period ago, and the page must have been found all zero since then.  Adds up to
 * two words to deferred. */
void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *deferred);

/* Give all free memory back to the system and to the budget. */
void paged_shrink(struct paged *paged);

/* As paged_shrink, but first free everything that waits for a grace period. */
void paged_collect(struct paged *paged);

/* How far a request has got in its search for memory.  All fields are zero at the start of the
 * request. */
struct room_search {
    unsigned attempts;
    uint64_t released; /* value of reclaim_released before the last attempt to take memory */
};

/* Whether an error means that there was too little memory, so that paged_make_room may help.  The
 * error is one of pool_take's, possibly passed on by other functions. */
static inline bool paged_lacks_memory(int error)
{
    return error == -ENOSPC || error == -ENOMEM || error == -EAGAIN;
}

/* Find memory after an attempt to take memory has failed with `error`.  Each call of a search
 * makes more effort.  Returns true if the caller should try again.  Returns false if there is no
 * memory, and none has become free since that attempt.  The caller must hold no lock, because
 * this function waits: for grace periods, for the cold store, and for the machine's answer. */
bool paged_make_room(struct paged *paged, struct room_search *search, int error);

/* Whether writers have outrun the cold store: more than hot_most frames are hot. */
static inline bool paged_is_cold_store_outrun(const struct paged *paged)
{
    return paged->cold.store && paged_hot(paged) > paged->cold.hot_most;
}

/* Call this after a write.  If writers have outrun the cold store, do some of the store's
 * work. */
static inline void paged_help_cold_store(struct paged *paged)
{
    if (paged_is_cold_store_outrun(paged))
        paged->cold.store->help(paged->cold.state);
}

#endif
