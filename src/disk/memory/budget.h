/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * A disk asks its budget before it takes memory.  So a full machine leads to an error, "no
 * space", and not to the kernel's out-of-memory killer.  With a limit, only the limit counts.
 * Without one, the disk may take what the machine and its control groups can give while a reserve
 * stays free: 1/16 of the memory, at least 32 MiB and at most 1 GiB.  The machine is asked again
 * as memory is taken.
 *
 * Where pages are compressed, a part of the room, the keepback, is not for new pages.  Half of it
 * is for inflating pages that are stored already, so that they can be written again.  All of it
 * is for packing, which takes memory in order to free more.
 *
 *     0                                                limit, or what the machine can give
 *     |---------------------------------|---- keepback ----|
 *     |============= GROW =============>|         |        |
 *     |============= INFLATE =====================>        |
 *     |============= PACK ================================>|
 *
 * UNITS.  Everything is in bytes.
 *
 * THREADS.  Any thread may call any function at any time, but budget_init needs the budget to
 * itself.  No function waits for another thread; without a limit, budget_take, budget_total and
 * budget_ceiling may read files of /proc and /sys, which takes some 50 microseconds.
 */

#ifndef NBDRAM_DISK_MEMORY_BUDGET_H
#define NBDRAM_DISK_MEMORY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct reason; /* text/reason.h */

/* What memory is for. */
enum budget_purpose {
    BUDGET_GROW,    /* new pages: not from the keepback */
    BUDGET_INFLATE, /* a compressed page that is about to be written: from half of the keepback */
    BUDGET_PACK,    /* compressing, which frees more than it takes: from all of the keepback */
};

struct budget {
    /* Set by budget_init, and constant. */
    uint64_t limit;    /* bytes; 0: ask the machine */
    uint64_t keepback; /* bytes, see above */
    uint64_t reserve;  /* bytes of the machine's memory to leave free; 0 with a limit */
    uint64_t ceiling;  /* bytes: the most there could ever be, as of budget_init */
    const char *root;  /* see os_memory_room */

    /* All accesses are relaxed: no other data depends on these sums. */
    _Atomic uint64_t used;  /* bytes taken and not given back */
    _Atomic uint64_t known; /* bytes: budget_total, when the machine was last asked */
    _Atomic int64_t credit; /* bytes that may be taken before the machine is asked again */
};

/* limit: bytes, or 0 for none.  keepback: whether the disk compresses pages.  root: see
 * os_memory_room; it must outlive the budget.  0; or -EMFILE, -ENFILE or -ENOMEM if there is no
 * limit and the machine cannot be asked now. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Take n bytes.  0; or -ENOSPC, and nothing is taken. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Give back n bytes that were taken, for any purpose. */
void budget_give(struct budget *budget, uint64_t n);

/* Whether memory that was taken earlier, and is free now, may be used for that purpose.  Ask this
 * before each such use.  Otherwise new pages would get the memory that packing frees, while
 * packing itself would take from the keepback, until nothing is left to pack with. */
bool budget_allows(struct budget *budget, enum budget_purpose purpose);

/* The most that could be taken in all, what is taken already included, as the machine is now. */
uint64_t budget_total(struct budget *budget);

/* The most that could ever be taken in all: the limit, or the machine's memory and swap,
 * whichever is lower. */
uint64_t budget_ceiling(const struct budget *budget);

/* Verify that exactly `charged` bytes are taken, and not more than the limit.  No other thread
 * may take or give meanwhile.  0; or -EUCLEAN, and reason says what is wrong. */
int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason);

#endif
