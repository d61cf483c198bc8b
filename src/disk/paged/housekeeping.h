/* SPDX-License-Identifier: BSD-3-Clause */

/* housekeeping - what is done outside of requests: processing words after their grace period, and
 * finding memory
 *
 * Nothing here may be called inside a read section, except paged_make_hole, which must be.  Any
 * thread may call.
 */

#ifndef NBDRAM_DISK_PAGED_HOUSEKEEPING_H
#define NBDRAM_DISK_PAGED_HOUSEKEEPING_H

#include <errno.h>

#include "disk/paged/deferred.h"
#include "disk/paged/paged.h"

/* Process a word after its grace period.  Called by reclaim; opaque is the struct paged. */
void paged_after_grace_period(void *opaque, const struct reclaim_item *pending);

/* Inside a section: turn a page into a hole.  Its word must be exactly `word`, which was frozen a
 * grace period ago, and the page was found to hold nothing but zeroes.  Adds up to two things to
 * deferred. */
void paged_make_hole(struct paged *paged, slot_t *slot, uint64_t page, uint64_t word,
                     struct deferred *deferred);

/* Give all free memory back to the system and to the budget. */
void paged_shrink(struct paged *paged);

/* As paged_shrink, after everything that waits for a grace period has been freed. */
void paged_collect(struct paged *paged);

/* How far a request has got in its search for memory.  All zeroes before the first try to take
 * some. */
struct room_search {
    unsigned attempts;
    uint64_t released; /* what reclaim_released said before the last try */
};

/* Whether an error of pool_take, or of a function that passes it on, means that there was too
 * little memory: then paged_make_room may help. */
static inline bool paged_lacks_memory(int error)
{
    return error == -ENOSPC || error == -ENOMEM || error == -EAGAIN;
}

/* After a try to take memory has failed with that error: find some, with more effort at each
 * attempt.  True: try again.  False: there is none, and none has become free since the try.  The
 * caller must hold no lock: this waits for grace periods, for the cold store, and for the machine
 * to be asked. */
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
