/* SPDX-License-Identifier: BSD-3-Clause */

/* budget - how much memory a disk may take
 *
 * A disk asks its budget before it takes memory.  So a full machine leads to an error, "no
 * space", and not to the kernel's out-of-memory killer.  If the disk has a limit, only the limit
 * counts.  If the disk has no limit, it may take what the machine and its control groups can give
 * while a reserve stays free.  The reserve is 1/16 of the machine's memory, at least 32 MiB and
 * at most 1 GiB.
 *
 * To ask the machine how much it can give takes long (os/machine.h), so requests do not ask it.
 * Instead the budget has a thread that asks.  Each answer grants a credit: memory that the disk
 * may take before the machine has to be asked again.  budget_take uses only this credit.  A
 * request that finds too little credit leaves its section, releases its locks, and calls
 * budget_refresh, which waits for the next answer.
 *
 *     request                        budget                         the budget's thread
 *     budget_take  ----------------> enough credit: returns 0
 *     budget_take  ----------------> half the credit is used -----> asks, and grants more credit
 *     budget_take  ----------------> no credit left: -EAGAIN
 *     leaves section and locks
 *     budget_refresh  --------------------------------------------> asks, and grants more credit
 *     tries again
 *
 * If the disk compresses pages, new pages may not use all of the memory.  The part that they must
 * leave is the keepback.  Half of the keepback may be used to inflate stored pages that are about
 * to be written.  All of the keepback may be used to compress pages, which takes memory in order
 * to free more.
 *
 *     0                                                limit, or what the machine can give
 *     |---------------------------------|---- keepback ----|
 *     |============= GROW =============>|         |        |
 *     |============= INFLATE =====================>        |
 *     |============= PACK ================================>|
 *
 * OVERHEAD.  Most memory of a disk is in the cells of its pools.  The memory that it takes from
 * malloc counts as well: it is the overhead.
 *
 *     WHAT                                            WHERE                CHARGED BY
 *     bitmaps and records of chunks that were used    pool_chunk.c         budget_charge
 *     records of segments                             zstd/blob_log.c      budget_charge
 *     items that wait for a grace period              reclaim.c            budget_charge
 *     contexts of libzstd, except the common ones     zstd/codec.c         budget_take_overhead
 *     caches of inflated pages                        zstd/compressor.c    budget_take_overhead
 *
 * The disk can do without contexts and caches, so it asks for them.  It cannot do without the
 * rest, which it needs in order to free memory.  So the rest is charged even if the budget is
 * used up.  A full disk may exceed its limit by that, which is some kilobytes.  Memory that every
 * disk needs, whatever it stores, is not charged: about a mebibyte, most of it for the common
 * contexts.  If it were charged, a disk with the lowest limit could store nothing.
 *
 * UNITS.  Everything is in bytes.
 *
 * THREADS.  While budget_init, budget_start or budget_destroy runs, no other function may run on
 * the same budget.  Otherwise any thread may call any function at any time.  budget_init,
 * budget_take_at_once and budget_refresh can wait, because they ask the machine.  The other
 * functions do not wait, and may be called inside a read section or by a thread that holds a
 * lock.
 */

#ifndef NBDRAM_DISK_MEMORY_BUDGET_H
#define NBDRAM_DISK_MEMORY_BUDGET_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct reason; /* text/reason.h */

/* What memory is taken for. */
enum budget_purpose {
    BUDGET_GROW,    /* new pages: may use none of the keepback */
    BUDGET_INFLATE, /* inflating a page that will be written: may use half of the keepback */
    BUDGET_PACK,    /* compressing, which frees more than it takes: may use all of the keepback */
};

/* Without a limit, the most bytes that one budget_take may ask for.  Each answer of the machine
 * grants at least this much credit, or all that the machine can give if that is less.  So if the
 * machine can give the memory, a thread that calls budget_refresh and budget_take in turn
 * succeeds in the end. */
#define BUDGET_PIECE_MAX ((uint64_t)4 << 20)

struct budget {
    /* budget_init sets the fields from limit to root.  They do not change afterwards. */
    uint64_t limit;    /* bytes; 0 means that there is no limit, and the machine is asked */
    uint64_t keepback; /* bytes that new pages may not use */
    uint64_t reserve;  /* bytes of the machine's memory that stay free; 0 if there is a limit */
    const char *root;  /* os_memory_room puts this text before the path of each file */

    /* The fields from used to woken are accessed with relaxed order, because no other data
     * depends on them. */
    _Atomic uint64_t used;     /* bytes taken from the budget and not given back */
    _Atomic uint64_t overhead; /* the bytes of `used` that are overhead */
    _Atomic uint64_t total;    /* the most bytes that may be taken; see budget_total */
    _Atomic uint64_t ceiling;  /* the most bytes that could ever be taken; see budget_ceiling */
    _Atomic int64_t credit;    /* bytes that may be taken before the machine is asked again */
    _Atomic int64_t low;       /* bytes; when credit falls below this, the thread is woken */
    atomic_bool woken;         /* set when the thread is woken, cleared when it begins to ask */

    pthread_mutex_t asking; /* held while a thread asks the machine; never taken under `lock` */

    pthread_mutex_t lock;    /* guards the fields below; held only for a short time */
    pthread_cond_t wake;     /* signals to the thread that `woken` or `stop` is set */
    pthread_cond_t answered; /* signals to callers of budget_refresh that `ended` has grown */
    uint64_t begun, ended;   /* how often the thread began to ask the machine, and finished */
    bool started;            /* the thread exists */
    bool stop;               /* the thread must end */
    pthread_t thread;
};

/* Set up a budget.  limit is in bytes; 0 means that there is no limit.  keepback says whether
 * there is a keepback: memory that new pages may not use, so that a disk can still compress pages
 * when it is full.  root is passed to os_memory_room, and must outlive the budget.  Returns 0.
 * If there is no limit and the machine cannot be asked now, returns -EMFILE, -ENFILE or
 * -ENOMEM. */
int budget_init(struct budget *budget, uint64_t limit, bool keepback, const char *root);

/* Start the thread that asks the machine.  Call this after the last fork.  If the budget has a
 * limit, it needs no thread, and none is started.  If there is no thread, budget_refresh asks the
 * machine itself.  Returns 0, or -errno of pthread_create. */
int budget_start(struct budget *budget);

/* Stop the thread that asks the machine.  No other thread may use the budget any more. */
void budget_destroy(struct budget *budget);

/* Take n bytes from the budget.  Without a limit, n is at most BUDGET_PIECE_MAX.
 *
 * 0         the bytes are taken
 * -ENOSPC   the limit does not allow it; or the machine could not give that much when it was last
 *           asked
 * -EAGAIN   the machine could give that much when it was last asked, but so much was taken since
 *           then that the answer is no longer reliable.  Never returned if there is a limit.
 *
 * After an error nothing is taken.  If there is no limit, then after either error the caller can
 * call budget_refresh, and another try may succeed. */
int budget_take(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Like budget_take, but for a disk that takes all of its memory when it is made.  Without a
 * limit, this asks the machine first, and n can be any amount that the machine can give now.  The
 * caller must hold no lock.  Returns 0 or -ENOSPC. */
int budget_take_at_once(struct budget *budget, uint64_t n, enum budget_purpose purpose);

/* Ask the machine how much memory it can give, and wait for the answer, which takes some 100
 * microseconds.  With a limit, this does nothing.  The caller must hold no lock and be in no read
 * section, because other threads would have to wait for the machine, too.  Other threads can use
 * up the new credit before the caller does.  So if budget_take returns -EAGAIN, the caller must
 * be ready to call budget_refresh and budget_take several times. */
void budget_refresh(struct budget *budget);

/* Give back n bytes that were taken from the budget, for any purpose. */
void budget_give(struct budget *budget, uint64_t n);

/* Like budget_take and budget_give, but for overhead. */
int budget_take_overhead(struct budget *budget, uint64_t n, enum budget_purpose purpose);
void budget_give_overhead(struct budget *budget, uint64_t n);

/* Take n bytes of overhead, even if the budget does not have them.  budget_give_overhead gives
 * them back. */
void budget_charge(struct budget *budget, uint64_t n);

/* The bytes of overhead that are taken and were not given back. */
uint64_t budget_overhead(const struct budget *budget);

/* Whether memory that is free, but already charged to the budget, may be used for this purpose.
 * Ask this before each such use.  Otherwise new pages would get the memory that compression
 * frees, while compression would take its own memory from the keepback until the keepback is used
 * up. */
bool budget_allows(const struct budget *budget, enum budget_purpose purpose);

/* The most bytes that may be taken in all, including the bytes that are taken already.  With a
 * limit, this is the limit.  Without a limit, it is what the machine could give when it was last
 * asked.  If the machine cannot be asked, because it has no /proc/meminfo, it is INT64_MAX, and
 * in effect there is no limit. */
uint64_t budget_total(const struct budget *budget);

/* The most bytes that could ever be taken in all.  This is the limit, or the memory and swap of
 * the machine, whichever is lower. */
uint64_t budget_ceiling(const struct budget *budget);

/* Verify that exactly `charged` bytes are taken besides the overhead, and that these bytes do not
 * exceed the limit.  No other thread may take or give bytes during this call.  Returns 0 or
 * -EUCLEAN.  If it returns -EUCLEAN, reason says what is wrong. */
int budget_check(const struct budget *budget, uint64_t charged, struct reason *reason);

#endif
