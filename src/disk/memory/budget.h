/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * A disk asks its budget before it takes memory.  So a full machine leads to an error, "no
 * space", and not to the kernel's out-of-memory killer.  With a limit, only the limit counts.
 * Without one, the disk may take what the machine and its control groups can give while a reserve
 * stays free: 1/16 of the memory, at least 32 MiB and at most 1 GiB.
 *
 * To ask the machine takes long (os/machine.h), so no request asks it.  A thread of the budget's
 * own asks, and each answer allows the disk to take some memory without another one: the credit.
 * budget_take only uses credit that is there.  A request that finds none leaves its section and
 * its locks, and calls budget_refresh, which waits for the next answer.
 *
 *     request                        budget                       the budget's thread
 *     budget_take  ----------------> credit is there: 0
 *     budget_take  ----------------> half of it is used  -------> asks, and grants more credit
 *     budget_take  ----------------> none is left: -EAGAIN
 *     leaves section and locks
 *     budget_refresh  ------------------------------------------> asks, and grants more credit
 *     tries again
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
 * THREADS.  Any thread may call any function at any time, but budget_init, budget_start and
 * budget_destroy need the budget to themselves.  Only budget_init, budget_take_at_once and
 * budget_refresh may ask the machine or wait.  The others may be called inside a read section and
 * under a lock.
 */

#ifndef NBDRAM_DISK_MEMORY_BUDGET_H
#define NBDRAM_DISK_MEMORY_BUDGET_H

#include <pthread.h>
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

/* As much as this can be taken at once, with budget_refresh and another try after each -EAGAIN, if
 * the machine has it: the credit is never less, unless the room is. */
#define BUDGET_PIECE_MAX ((uint64_t)4 << 20)

struct budget {
    /* Set by budget_init, and constant. */
    uint64_t limit;    /* bytes; 0: ask the machine */
    uint64_t keepback; /* bytes, see above */
    uint64_t reserve;  /* bytes of the machine's memory to leave free; 0 with a limit */
    const char *root;  /* see os_memory_room */

    /* All accesses are relaxed: no other data depends on these sums. */
    _Atomic uint64_t used;    /* bytes taken and not given back */
    _Atomic uint64_t total;   /* bytes: see budget_total */
    _Atomic uint64_t ceiling; /* bytes: see budget_ceiling */
    _Atomic int64_t credit;   /* bytes that may be taken before the machine is asked again */
    _Atomic int64_t low;      /* bytes: when less credit is left, the thread is woken */
    atomic_bool woken;        /* the thread has been woken, and has not asked since */

    pthread_mutex_t asking; /* held while the machine is asked; taken before lock or alone */

    pthread_mutex_t lock;    /* guards what follows; held for moments only */
    pthread_cond_t wake;     /* for the thread: woken or stop is set */
    pthread_cond_t answered; /* for callers of budget_refresh: `ended` has grown */
    uint64_t begun, ended;   /* how often the thread has begun to ask, and has got its answer */
    bool started;            /* the thread exists */
    bool stop;               /* the thread is to end */
    pthread_t thread;
};

/* limit: bytes, or 0 for none.  keepback: whether the disk compresses pages.  root: see
 * os_memory_room; it must outlive the budget.  0; or -EMFILE, -ENFILE or -ENOMEM if there is no
 * limit and the machine cannot be asked now. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Start the thread; call this after the last fork.  With a limit there is none.  Without the
 * thread, budget_refresh asks the machine itself.  0, or -errno of pthread_create. */
int budget_start(struct budget *budget);

/* Stop the thread.  No other thread may use the budget any more. */
void budget_destroy(struct budget *budget);

/* Take n bytes, without a limit at most BUDGET_PIECE_MAX.
 *
 * 0
 * -ENOSPC   the limit does not allow it; or the machine could not give that much when it was last
 *           asked
 * -EAGAIN   the machine could, but that answer is too old for as much as was taken since.  Never
 *           with a limit.
 *
 * After an error nothing is taken.  If the machine counts, budget_refresh and another try may
 * help after either error. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* As budget_take, but ask the machine first, and take any amount that it can give now: for a disk
 * that takes all of its memory when it is made.  The caller must hold no lock.  0 or -ENOSPC. */
int budget_take_at_once(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Wait until the machine was asked, by a look that began after this call: some 100 microseconds.
 * With a limit there is nothing to ask, and nothing happens.  The caller must hold no lock and be
 * in no read section, since no thread may have to wait for the machine.  Other threads may use up
 * the new credit first, so after -EAGAIN a caller tries again and again. */
void budget_refresh(struct budget *budget);

/* Give back n bytes that were taken, for any purpose. */
void budget_give(struct budget *budget, uint64_t n);

/* Whether memory that was taken earlier, and is free now, may be used for that purpose.  Ask this
 * before each such use.  Otherwise new pages would get the memory that packing frees, while
 * packing itself would take from the keepback, until nothing is left to pack with. */
bool budget_allows(const struct budget *budget, enum budget_purpose purpose);

/* The most that may be taken in all, what is taken already included: the limit, or what the
 * machine could give when it was last asked.  Without bound if it has no files to ask. */
uint64_t budget_total(const struct budget *budget);

/* The most that could ever be taken in all: the limit, or the machine's memory and swap,
 * whichever is lower. */
uint64_t budget_ceiling(const struct budget *budget);

/* Verify that exactly `charged` bytes are taken, and not more than the limit.  No other thread
 * may take or give meanwhile.  0; or -EUCLEAN, and reason says what is wrong. */
int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason);

#endif
