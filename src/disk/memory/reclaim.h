/* SPDX-License-Identifier: BSD-3-Clause */

/* reclaim - work that has to wait for a grace period
 *
 * Two kinds of words of the page table wait for a grace period.  Words that were taken out of the
 * table are released after it.  Words that were frozen are examined again after it (DESIGN.md,
 * "One word a page, and freezing").  Threads hand these words in as items.  reclaim has a thread
 * of its own.  Again and again, this thread takes all items that were handed in, waits for one
 * grace period, and processes the items.
 *
 * THREADS.  While reclaim_create, reclaim_start or reclaim_destroy runs, no other function may
 * run on the same structure.  Otherwise any thread may call any function.  reclaim_reserve,
 * reclaim_add_reserved and reclaim_released do not wait, and may be called inside a read section
 * (rcu.h).  The other functions can wait for a grace period, so their caller must not be inside a
 * read section.
 */

#ifndef NBDRAM_DISK_MEMORY_RECLAIM_H
#define NBDRAM_DISK_MEMORY_RECLAIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/budget.h"

/* A word that waits for a grace period. */
struct reclaim_item {
    uint64_t word; /* the word, in the format of entry.h */
    uint64_t page; /* the page's number; for a node, the number of any page below it */
    bool frozen;   /* whether the word is in the table and frozen; if not, it was taken out */
};

/* The function that processes an item.  It is called once for each item, by any thread, after a
 * grace period and outside of a read section.  The function may hand in more items. */
typedef void reclaim_fn(void *opaque, const struct reclaim_item *item);

/* Give free memory back to the system.  Called by reclaim's thread for threads that need
 * memory, and when nothing was handed in for a second.  After that second, the function is not
 * called again until something has been handed in or a thread needs memory. */
typedef void reclaim_shrink_fn(void *opaque);

struct reclaim {
    /* reclaim_create sets the fields budget, fn, shrink and opaque.  They do not change
     * afterwards. */
    struct budget *budget;
    reclaim_fn *fn;
    reclaim_shrink_fn *shrink;
    void *opaque;

    pthread_mutex_t running; /* held during a round and while shrink runs; taken before `lock` */

    pthread_mutex_t lock;          /* guards the fields below */
    pthread_cond_t wake;           /* signals that the thread has something to do */
    pthread_cond_t progress;       /* signals that threads that wait for memory may go on */
    struct reclaim_batch *waiting; /* items that no round has taken yet */
    struct reclaim_batch *spares;  /* empty batches */
    size_t spare_count;            /* the number of spares, at least `reserved` */
    size_t reserved;               /* number of reservations whose items were not handed in yet */
    uint64_t asked, answered;      /* number of requests for memory, and of those answered */
    unsigned waiters;              /* number of threads that wait for memory */
    bool gives_up;                 /* no thread waits for memory any more */
    bool started;                  /* the thread exists */
    bool stop;                     /* the thread must end */
    pthread_t thread;

    _Atomic uint64_t released; /* number of words and pages released so far */
};

/* Set up the structure.  Before reclaim_start is called, only reclaim_run processes items.
 * budget is charged for the memory that items take while they wait.  opaque is passed to fn and
 * shrink, and belongs to the caller. */
void reclaim_create(struct reclaim *reclaim, struct budget *budget, reclaim_fn *fn,
                    reclaim_shrink_fn *shrink, void *opaque);

/* Start the thread.  Call this after the last fork.  Returns 0, or -errno of pthread_create. */
int reclaim_start(struct reclaim *reclaim);

/* Stop the thread, and process all items that were handed in.  A structure of all zeroes is
 * accepted. */
void reclaim_destroy(struct reclaim *reclaim);

/* Hand in items, which are copied.  If there is no memory for the copies, reclaim_add itself
 * waits for a grace period and processes the items. */
void reclaim_add(struct reclaim *reclaim, const struct reclaim_item *items, size_t count);

/* Two functions that hand in items without waiting.
 *
 * reclaim_reserve        reserves memory for items.  Call this before words are taken out of the
 *                        table or frozen.  Returns false if there is no memory.
 * reclaim_add_reserved   hands in the items, at most RECLAIM_RESERVED_MAX.  Call this once for
 *                        each reservation, even if there is no item in the end. */
#define RECLAIM_RESERVED_MAX 64
bool reclaim_reserve(struct reclaim *reclaim);
void reclaim_add_reserved(struct reclaim *reclaim, const struct reclaim_item *items,
                          size_t count);

/* Process all items that were handed in before the call.  If this makes fn hand in more items,
 * process these, too. */
void reclaim_run(struct reclaim *reclaim);

/* For a thread that needs memory: have reclaim's thread do what reclaim_run does, and then call
 * shrink.  Wait until that is done, and return true.  Or return false at once when
 *  - reclaim_give_up_waiting was called, or
 *  - the number of words released is not `released` any more (reclaim_await only).
 * A release of many pages can take seconds, and nobody has to wait for all of it. */
bool reclaim_await(struct reclaim *reclaim, uint64_t released);
bool reclaim_await_all(struct reclaim *reclaim);

/* From now on reclaim_await and reclaim_await_all do not wait, and threads that are waiting there
 * go on. */
void reclaim_give_up_waiting(struct reclaim *reclaim);

/* The number of words released so far, and of pages released so far with the node that led to
 * them.  When one is counted, its memory is already free.  So if the count is the same before and
 * after a failed attempt to get memory, nothing was released in between. */
uint64_t reclaim_released(struct reclaim *reclaim);

/* To be called by fn: count a page that was released with the node that led to it. */
void reclaim_count_page(struct reclaim *reclaim);

#endif
