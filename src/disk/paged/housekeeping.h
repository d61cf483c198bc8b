/* SPDX-License-Identifier: BSD-3-Clause */

/* housekeeping - work of a paged disk that is not part of reading or writing: processing words
 * after their grace period, and finding memory
 *
 * Any thread may call any function.  paged_make_hole is called inside a read section.  All other
 * functions must be called outside of read sections.
 */

#ifndef NBDRAM_DISK_PAGED_HOUSEKEEPING_H
#define NBDRAM_DISK_PAGED_HOUSEKEEPING_H

#include <errno.h>

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

/* Process a word after its grace period.  Reclaim calls this function, and opaque is the struct
 * paged. */
void paged_after_grace_period(void *opaque, const struct reclaim_item *pending);

/* Called inside a section: if slot still holds `word`, turn the page into a hole.  `word` must
 * have been frozen at least a grace period ago.  After that grace period, the page must have been
 * found all zero.  Adds up to two words to `deferred`. */
void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *deferred);

/* Give all free memory of the disk back to the system and to the budget. */
void paged_shrink(struct paged *paged);

/* Have reclaim's thread free everything that waits for a grace period, and then give all free
 * memory back, as paged_shrink does.  This waits for the thread, unless waiting was given up. */
void paged_collect(struct paged *paged);

/* What paged_make_room remembers about its earlier calls for the same request.  All fields are
 * zero at the start of the request. */
struct room_search {
    unsigned attempts;
    bool was_complete; /* reclaim had done all its work before the last attempt */
    uint64_t released; /* value of reclaim_released before the last attempt to take memory */
};

/* Whether `error` means that there was too little memory, so that the caller should call
 * paged_make_room.  pool_take returns such errors, and so do functions that call it. */
static inline bool paged_lacks_memory(int error)
{
    return error == -ENOSPC || error == -ENOMEM || error == -EAGAIN;
}

/* Find memory for a request that has failed to take memory with `error`.  The next call for the
 * same request tries harder.  Returns true if the request should try again.  Returns false if
 * there is no memory, and none was freed since the request failed.  The caller must hold no lock,
 * because this function waits for grace periods, for the cold store, and for budget_refresh. */
bool paged_make_room(struct paged *paged, struct room_search *search, int error);

/* Whether writers have outrun the cold store: more than hot_most frames are hot. */
static inline bool paged_is_cold_store_outrun(const struct paged *paged)
{
    return paged->cold.store && paged_hot(paged) > paged->cold.hot_most;
}

/* Call this after a write.  If writers have outrun the cold store, this function does some of the
 * work of the store, or waits for the store. */
static inline void paged_help_cold_store(struct paged *paged)
{
    if (paged_is_cold_store_outrun(paged))
        paged->cold.store->help(paged->cold.state);
}

#endif
