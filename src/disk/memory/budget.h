/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * Every growth asks first, so that a full machine is an answer, "no space", and not the kernel's
 * killer.  With a limit, the limit is what counts; without one, what the machine and its control
 * groups can give while a reserve stays free (1/16 of it, at least 32 MiB and at most 1 GiB),
 * asked again as memory is taken.
 *
 * Where pages are compressed, a part of the room, the keepback, is not for new pages: half of it
 * is for inflating pages that are stored already, so that they can be written again, and all of
 * it for packing, which takes memory in order to free more.
 *
 * Any thread may call; nothing here waits.
 */

#ifndef NBDRAM_DISK_MEMORY_BUDGET_H
#define NBDRAM_DISK_MEMORY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum budget_purpose { BUDGET_GROW, BUDGET_INFLATE, BUDGET_PACK };

struct budget {
    _Atomic uint64_t used;  /* bytes taken */
    uint64_t limit;         /* bytes; 0: ask the machine */
    uint64_t keepback;      /* bytes, see above */
    uint64_t reserve;       /* bytes of the machine's memory left free, if it is asked */
    uint64_t ceiling;       /* bytes: the most there could ever be, when the disk was made */
    _Atomic uint64_t known; /* bytes that we could have in all, when the machine last told */
    _Atomic int64_t credit; /* bytes that may be taken before the machine is asked again */
    const char *root;       /* as in os_memory_room */
};

/* limit: bytes, or 0.  keepback: whether anybody will ask for it.  root: see os_memory_room; it
 * must outlive the budget.  0, or -errno if the machine cannot be asked now. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Ask for n more bytes: 0 or -ENOSPC. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);
void budget_give(struct budget *budget, uint64_t n);

/* Whether memory that was taken before, and is free, may be put to that use.  To be asked before
 * it is: else what packing frees goes to new pages and what it takes comes from the keepback,
 * until there is none left to pack by. */
bool budget_allows(struct budget *budget, enum budget_purpose purpose);

/* The most that could be taken in all, from nothing: as things are now, and at the very best. */
uint64_t budget_total(struct budget *budget);
uint64_t budget_ceiling(const struct budget *budget);

#endif
