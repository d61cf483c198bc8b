/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * A disk asks its budget before it takes memory.  So a full machine leads to an error, "no
 * space", and not to the kernel's out-of-memory killer.  If the disk has a limit, only the limit
 * counts.  If the disk has no limit, it may take what the machine and its control groups can give
 * while a reserve stays free.  The reserve is 1/16 of the memory, at least 32 MiB and at most 1
 * GiB.
 *
 * Asking the machine takes long (os/machine.h), so no request does it.  Instead the budget has a
 * thread that asks.  Each answer grants a credit: memory that the disk may take before the
 * machine has to be asked again.  budget_take uses only this credit.  A request that finds too
 * little credit leaves its section, releases its locks, and calls budget_refresh, which waits for
 * the next answer.
 *
 *     request                        budget                         the budget's thread
 *     budget_take  ----------------> enough credit: returns 0
 *     budget_take  ----------------> half the credit is used -----> asks, and grants more credit
 *     budget_take  ----------------> no credit left: -EAGAIN
 *     leaves section and locks
 *     budget_refresh  --------------------------------------------> asks, and grants more credit
 *     tries again
 *
 * If the disk compresses pages, a part of the room is kept back from new pages: the keepback.
 * Half of the keepback may be used to inflate stored pages that are about to be written.  All of
 * the keepback may be used for packing, which takes memory in order to free more.
 *
 *     0                                                limit, or what the machine can give
 *     |---------------------------------|---- keepback ----|
 *     |============= GROW =============>|         |        |
 *     |============= INFLATE =====================>        |
 *     |============= PACK ================================>|
 *
 * UNITS.  Everything is in bytes.
 *
 * THREADS.  While budget_init, budget_start or budget_destroy runs, no other function may run on
 * the same budget.  Otherwise any thread may call any function at any time.  Only budget_init,
 * budget_take_at_once and budget_refresh may ask the machine or wait.  The other functions may be
 * called inside a read section and under a lock.
 */

#ifndef NBDRAM_DISK_MEMORY_BUDGET_H
#define NBDRAM_DISK_MEMORY_BUDGET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct reason; /* text/reason.h */

/* The purpose for which memory is taken. */
enum budget_purpose {
    BUDGET_GROW,    /* new pages: may use none of the keepback */
    BUDGET_INFLATE, /* inflating a page that will be written: may use half of the keepback */
    BUDGET_PACK,    /* compressing, which frees more than it takes: may use all of the keepback */
};

/* The most bytes that one budget_take may ask for, if there is no limit.  Each answer of the
 * machine grants at least this much credit.  (If there is less room, it grants all of the room.)
 * So if the machine has the memory, repeating budget_refresh and budget_take succeeds in the
 * end. */
#define BUDGET_PIECE_MAX ((uint64_t)4 << 20)

struct budget {
    /* Set by budget_init, and constant. */
    uint64_t limit;    /* bytes; 0: there is no limit, and the machine is asked */
    uint64_t keepback; /* bytes that new pages may not use */
    uint64_t reserve;  /* bytes of the machine's memory that stay free; 0 if there is a limit */
    const char *root;  /* see os_memory_room */

    /* All accesses are relaxed: no other data depends on these sums. */
    _Atomic uint64_t used;    /* bytes taken from the budget and not given back */
    _Atomic uint64_t total;   /* bytes: the result of budget_total */
    _Atomic uint64_t ceiling; /* bytes: the result of budget_ceiling */
    _Atomic int64_t credit;   /* bytes that may be taken before the machine is asked again */
    _Atomic int64_t low;      /* bytes: if less credit than this is left, the thread is woken */
    atomic_bool woken;        /* the thread was woken, and has not begun to ask since */

    pthread_mutex_t asking; /* held while a thread asks the machine; never taken under `lock` */

    pthread_mutex_t lock;    /* guards the fields below; held only briefly */
    pthread_cond_t wake;     /* wakes the thread: signalled when woken or stop is set */
    pthread_cond_t answered; /* wakes callers of budget_refresh: signalled when `ended` grows */
    uint64_t begun, ended;   /* how often the thread has begun, and has finished, asking */
    bool started;            /* the thread exists */
    bool stop;               /* the thread must end */
    pthread_t thread;
};

/* Set up a budget.  limit is in bytes; 0 means that there is no limit.  keepback says whether the
 * disk compresses pages.  root is passed to os_memory_room, and must outlive the budget.  Returns
 * 0.  If there is no limit and the machine cannot be asked now, returns -EMFILE, -ENFILE or
 * -ENOMEM. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Start the thread that asks the machine.  Call this after the last fork.  If the budget has a
 * limit, it needs no thread, and none is started.  If there is no thread, budget_refresh asks the
 * machine itself.  Returns 0, or -errno of pthread_create. */
int budget_start(struct budget *budget);

/* Stop the thread that asks the machine.  No other thread may use the budget any more. */
void budget_destroy(struct budget *budget);

/* Take n bytes.  Without a limit, n is at most BUDGET_PIECE_MAX.
 *
 * 0         the bytes are taken
 * -ENOSPC   the limit does not allow it; or the machine could not give that much when it was last
 *           asked
 * -EAGAIN   the machine could give that much when it was last asked, but so much was taken since
 *           then that the answer is no longer reliable.  Never returned if there is a limit.
 *
 * After an error nothing is taken.  If there is no limit, another try may succeed after
 * budget_refresh, whichever error it was. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* As budget_take, but for a disk that takes all of its memory when it is made.  Without a limit,
 * this asks the machine first, and n may be any amount that the machine can give now.  The caller
 * must hold no lock.  Returns 0 or -ENOSPC. */
int budget_take_at_once(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Ask the machine anew, and wait for the answer, which takes some 100 microseconds.  With a
 * limit, this does nothing.  The caller must hold no lock and be in no read section, because
 * other threads would have to wait for the machine, too.  Other threads may use up the new credit
 * first.  So a caller that gets -EAGAIN from budget_take must be ready to refresh and try several
 * times. */
void budget_refresh(struct budget *budget);

/* Give back n bytes, for whichever purpose they were taken. */
void budget_give(struct budget *budget, uint64_t n);

/* Whether memory that is free, but already charged to the budget, may be used for this purpose.
 * Ask this before each such use.  Otherwise new pages would get the memory that packing frees,
 * while packing would take its memory from the keepback until the keepback is used up. */
bool budget_allows(const struct budget *budget, enum budget_purpose purpose);

/* The most bytes that may be taken in all, including the bytes that are taken already.  With a
 * limit, this is the limit.  Without a limit, it is what the machine could give when it was last
 * asked.  If the machine has no files to ask, it is INT64_MAX, which is in effect no bound. */
uint64_t budget_total(const struct budget *budget);

/* The most bytes that could ever be taken in all.  This is the limit, or the memory and swap of
 * the machine, whichever is lower. */
uint64_t budget_ceiling(const struct budget *budget);

/* Verify that exactly `charged` bytes are taken, and that the limit is not exceeded.  No other
 * thread may take or give during this call.  Returns 0 or -EUCLEAN.  If it returns -EUCLEAN,
 * reason says what is wrong. */
int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason);

#endif
