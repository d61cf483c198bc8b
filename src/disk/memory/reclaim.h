/* SPDX-License-Identifier: BSD-3-Clause */

/* reclaim - work that has to wait for a grace period
 *
 * Two kinds of words of the page table wait for a grace period.  Words that were taken out of the
 * table are released after it.  Words that were frozen are examined again after it (DESIGN.md,
 * "One word a page, and freezing").  Threads hand these words in as items.  reclaim has a thread
 * of its own, which takes all items that were handed in, waits for one grace period, processes
 * the items, and begins anew.
 *
 * THREADS.  While reclaim_create, reclaim_start or reclaim_destroy runs, no other function may
 * run on the same structure.  Otherwise any thread may call any function.  The functions may wait
 * for a grace period, so a caller must not be inside a read section (rcu.h).  But
 * reclaim_reserve, reclaim_add_reserved and reclaim_released do not wait, and may be called
 * inside one.
 */

#ifndef NBDRAM_DISK_MEMORY_RECLAIM_H
#define NBDRAM_DISK_MEMORY_RECLAIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A word that waits for a grace period. */
struct reclaim_item {
    uint64_t word; /* the word, in the format of entry.h */
    uint64_t page; /* the page's number; for a node, the number of any page below it */
    bool frozen;   /* true: the word is in the table and frozen; false: it was taken out */
};

/* Process one item.  This function is called once for each item, by any thread, after a grace
 * period and outside of a read section.  The function may hand in more items. */
typedef void reclaim_fn(void *opaque, const struct reclaim_item *item);

/* Called by reclaim's thread when nothing was handed in for a second.  After that, the function
 * is not called again until something has been handed in. */
typedef void reclaim_idle_fn(void *opaque);

struct reclaim {
    /* Set by reclaim_create, and constant. */
    reclaim_fn *fn;
    reclaim_idle_fn *idle;
    void *opaque;

    pthread_mutex_t running; /* held for a whole round or idle call; taken before `lock` */

    pthread_mutex_t lock;          /* guards the fields below */
    pthread_cond_t wake;           /* signalled when an item is handed in or stop is set */
    struct reclaim_batch *waiting; /* items that were handed in and are not part of a round yet */
    struct reclaim_batch *spares;  /* empty batches */
    size_t spare_count;            /* the number of spares, at least `reserved` */
    size_t reserved;               /* reservations whose items were not handed in yet */
    bool started;                  /* the thread exists */
    bool stop;                     /* the thread must end */
    pthread_t thread;

    _Atomic uint64_t released; /* words released so far; see reclaim_released */
};

/* Set up the structure.  Until reclaim_start is called, items wait for reclaim_run.  opaque is
 * passed to fn and idle, and belongs to the caller. */
void reclaim_create(struct reclaim *reclaim, reclaim_fn *fn, reclaim_idle_fn *idle, void *opaque);

/* Start the thread; call this after the last fork.  Returns 0, or -errno of pthread_create. */
int reclaim_start(struct reclaim *reclaim);

/* Stop the thread and process all items that wait.  A structure of all zeroes is accepted. */
void reclaim_destroy(struct reclaim *reclaim);

/* Hand in items, which are copied.  If there is no memory for the copies, reclaim_add itself
 * waits for a grace period and processes the items. */
void reclaim_add(struct reclaim *reclaim, const struct reclaim_item *items, size_t count);

/* The same without waiting.  Before anything is taken out of the table or frozen, reserve
 * memory for the items: false if there is none.  Afterwards hand in the items, at most
 * RECLAIM_RESERVED_MAX: once for each reservation, even if there are none. */
#define RECLAIM_RESERVED_MAX 64
bool reclaim_reserve(struct reclaim *reclaim);
void reclaim_add_reserved(struct reclaim *reclaim, const struct reclaim_item *items,
                          size_t count);

/* Process all items that were handed in before the call, and the items that follow from them. */
void reclaim_run(struct reclaim *reclaim);

/* The number of words released so far.  When a word is counted, its memory is already free.  So
 * if the count is the same before and after a failed attempt to get memory, no word was released
 * in between. */
uint64_t reclaim_released(struct reclaim *reclaim);

#endif
