/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * A disk asks its budget before it takes memory.  So a full machine leads to an error, "no
 * space", and not to the kernel's out-of-memory killer.  If the disk has a limit, only the limit
 * counts.  If it has none, the disk may take what the machine and its control groups can give
 * while a reserve stays free: 1/16 of the memory, at least 32 MiB and at most 1 GiB.
 *
 * Asking the machine takes long (os/machine.h), so no request asks it.  Instead the budget has a
 * thread that asks.  Each answer grants a credit: memory that the disk may take before the
 * machine has to be asked again.  budget_take uses this credit only.  A request that finds too
 * little credit leaves its section, releases its locks, and calls budget_refresh, which waits for
 * the next answer.
 *
 *     request                        budget                       the budget's thread
 *     budget_take  ----------------> credit is there: 0
 *     budget_take  ----------------> half of it is used  -------> asks, and grants more credit
 *     budget_take  ----------------> none is left: -EAGAIN
 *     leaves section and locks
 *     budget_refresh  ------------------------------------------> asks, and grants more credit
 *     tries again
 *
 * Where pages are compressed, new pages may not use a part of the room, the keepback.  Half of
 * the keepback is for inflating stored pages, so that they can be written again.  All of it is
 * for packing, which takes memory in order to free more.
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
 * budget_refresh may ask the machine or wait.  The other functions may be called inside a read
 * section and under a lock.
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
    BUDGET_GROW,    /* new pages: none of the keepback */
    BUDGET_INFLATE, /* inflating a page that is about to be written: half of the keepback */
    BUDGET_PACK,    /* compressing, which frees more than it takes: all of the keepback */
};

/* Without a limit, the most that one budget_take may ask for.  Each answer of the machine gives a
 * credit of at least this much, or of all the room that there is, if that is less.  So if the
 * machine has the memory, budget_refresh and enough tries make the call succeed. */
#define BUDGET_PIECE_MAX ((uint64_t)4 << 20)

struct budget {
    /* Set by budget_init, and constant. */
    uint64_t limit;    /* bytes; 0: there is no limit, and the machine is asked */
    uint64_t keepback; /* bytes that new pages may not use */
    uint64_t reserve;  /* bytes of the machine's memory to leave free; 0 with a limit */
    const char *root;  /* see os_memory_room */

    /* All accesses are relaxed: no other data depends on these sums. */
    _Atomic uint64_t used;    /* bytes taken from the budget and not given back */
    _Atomic uint64_t total;   /* bytes: what budget_total returns */
    _Atomic uint64_t ceiling; /* bytes: what budget_ceiling returns */
    _Atomic int64_t credit;   /* bytes that may be taken before the machine is asked again */
    _Atomic int64_t low;      /* bytes: when less credit is left, the thread is woken */
    atomic_bool woken;        /* the thread has been woken, and has not asked since */

    pthread_mutex_t asking; /* held while the machine is asked; taken before lock or alone */

    pthread_mutex_t lock;    /* guards the fields below; held for moments only */
    pthread_cond_t wake;     /* signalled for the thread when woken or stop is set */
    pthread_cond_t answered; /* signalled for callers of budget_refresh when `ended` grows */
    uint64_t begun, ended;   /* how often the thread has begun and has ended asking */
    bool started;            /* the thread exists */
    bool stop;               /* the thread is to end */
    pthread_t thread;
};

/* limit: bytes, or 0 for no limit.  keepback: whether the disk compresses pages.  root: the
 * argument of os_memory_room; it must outlive the budget.  Returns 0.  Without a limit it may
 * also return -EMFILE, -ENFILE or -ENOMEM, if the machine cannot be asked now. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Start the thread that asks the machine; call this after the last fork.  A budget with a limit
 * needs no thread, and starts none.  Without the thread, budget_refresh asks the machine itself.
 * Returns 0, or -errno of pthread_create. */
int budget_start(struct budget *budget);

/* Stop the thread that asks the machine.  No other thread may use the budget any more. */
void budget_destroy(struct budget *budget);

/* Take n bytes.  Without a limit, n is at most BUDGET_PIECE_MAX.
 *
 * 0         the bytes are taken
 * -ENOSPC   the limit does not allow it; or the machine could not give that much when it was last
 *           asked
 * -EAGAIN   the machine could give that much when it was last asked, but too much was taken since
 *           to rely on that answer.  Does not occur with a limit.
 *
 * After an error nothing is taken.  Without a limit, budget_refresh and another try may help
 * after either error. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* As budget_take, but ask the machine first, and take any amount that the machine can give now:
 * for a disk that takes all of its memory when it is made.  The caller must hold no lock.
 * Returns 0 or -ENOSPC. */
int budget_take_at_once(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Wait for an answer of the machine to a question asked after this call began: some 100
 * microseconds.  With a limit this does nothing.  The caller must hold no lock and be in no read
 * section, because it would make other threads wait for the machine.  Other threads may use up
 * the new credit first, so after -EAGAIN a caller tries again and again. */
void budget_refresh(struct budget *budget);

/* Give back n bytes.  For which purpose they were taken does not matter. */
void budget_give(struct budget *budget, uint64_t n);

/* Whether memory that is charged already, and is free now, may be used for that purpose.  Ask
 * this before each such use.  Otherwise new pages would get the memory that packing frees, while
 * packing itself would take memory from the keepback, until nothing is left for packing. */
bool budget_allows(const struct budget *budget, enum budget_purpose purpose);

/* The most bytes that may be taken in all, including those that are taken already: the limit, or
 * what the machine could give when it was last asked.  INT64_MAX, in effect no bound, if the
 * machine has no files to ask. */
uint64_t budget_total(const struct budget *budget);

/* The most bytes that could ever be taken in all: the limit, or the machine's memory and swap,
 * whichever is lower. */
uint64_t budget_ceiling(const struct budget *budget);

/* Verify that exactly `charged` bytes are taken, and no more than the limit.  No other thread may
 * take or give during this call.  Returns 0; or -EUCLEAN, and reason says what is wrong. */
int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason);

#endif
