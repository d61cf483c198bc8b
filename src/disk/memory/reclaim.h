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

/* A word that waits for a grace period. */
struct reclaim_item {
    uint64_t word; /* the word, in the format of entry.h */
    uint64_t page; /* the page's number; for a node, the number of any page below it */
    bool frozen;   /* whether the word is in the table and frozen; if not, it was taken out */
};

/* The function that processes an item.  It is called once for each item, by any thread, after a
 * grace period and outside of a read section.  The function may hand in more items. */
typedef void reclaim_fn(void *opaque, const struct reclaim_item *item);

/* The function that reclaim's thread calls when no item was handed in for a second.  After that,
 * it is not called again until an item has been handed in. */
typedef void reclaim_idle_fn(void *opaque);

struct reclaim {
    /* reclaim_create sets the fields fn, idle and opaque.  They do not change afterwards. */
    reclaim_fn *fn;
    reclaim_idle_fn *idle;
    void *opaque;

    pthread_mutex_t running; /* held during a round and while idle runs; taken before `lock` */

    pthread_mutex_t lock;          /* guards the fields below */
    pthread_cond_t wake;           /* signals that an item was handed in or `stop` is set */
    struct reclaim_batch *waiting; /* items that no round has taken yet */
    struct reclaim_batch *spares;  /* empty batches */
    size_t spare_count;            /* the number of spares, at least `reserved` */
    size_t reserved;               /* number of reservations whose items were not handed in yet */
    bool started;                  /* the thread exists */
    bool stop;                     /* the thread must end */
    pthread_t thread;

    _Atomic uint64_t released; /* number of words released so far */
};

/* Set up the structure.  Before reclaim_start is called, only reclaim_run processes items.
 * opaque is passed to fn and idle, and belongs to the caller. */
void reclaim_create(struct reclaim *reclaim, reclaim_fn *fn, reclaim_idle_fn *idle, void *opaque);

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

/* The number of words that were released so far.  When a word is counted, its memory is already
 * free.  So if a thread tries to get memory and fails, and the count is the same before and
 * after, no word was released in between. */
uint64_t reclaim_released(struct reclaim *reclaim);

#endif
