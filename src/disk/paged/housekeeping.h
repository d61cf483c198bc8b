/* SPDX-License-Identifier: BSD-3-Clause */

/* housekeeping - work outside of requests: finishing work that had to wait for a grace period,
 * and finding memory
 *
 * Only paged_make_hole is called inside a read section; no other function here may be.  Any
 * thread may call any function.
 */

#ifndef NBDRAM_DISK_PAGED_HOUSEKEEPING_H
#define NBDRAM_DISK_PAGED_HOUSEKEEPING_H

#include <errno.h>

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

/* Process a word that has waited for a grace period.  This is reclaim's fn; opaque is the struct
 * paged. */
void paged_after_grace_period(void *opaque, const struct reclaim_item *pending);

/* Inside a section: turn a page into a hole.  The page's word must still be `word`, which was
 * frozen a grace period ago, and the page must have been found all zero since.  Adds up to two
 * words to deferred. */
void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *deferred);

/* Give all free memory back to the system and to the budget. */
void paged_shrink(struct paged *paged);

/* As paged_shrink, after everything that waits for a grace period has been freed. */
void paged_collect(struct paged *paged);

/* How far a request has got in its search for memory.  All fields are zero before the request
 * first tries to take memory. */
struct room_search {
    unsigned attempts;
    uint64_t released; /* value of reclaim_released before the last try */
};

/* Whether an error of pool_take, or of a function that passes such errors on, means that there
 * was too little memory.  If so, paged_make_room may help. */
static inline bool paged_lacks_memory(int error)
{
    return error == -ENOSPC || error == -ENOMEM || error == -EAGAIN;
}

/* Find memory after an attempt to take memory has failed with `error`, with more effort at each
 * attempt.  Returns true if the caller should try again; false if there is no memory, and none has
 * become free since that attempt.  The caller must hold no lock: this waits for grace periods, for
 * the cold store, and for the machine's answer. */
bool paged_make_room(struct paged *paged, struct room_search *search, int error);

/* Whether writers have outrun the cold store. */
static inline bool paged_is_cold_store_outrun(const struct paged *paged)
{
    return paged->cold.store && paged_hot(paged) > paged->cold.hot_most;
}

/* After a write: do some of the cold store's work if writers have outrun it. */
static inline void paged_help_cold_store(struct paged *paged)
{
    if (paged_is_cold_store_outrun(paged))
        paged->cold.store->help(paged->cold.state);
}

#endif
