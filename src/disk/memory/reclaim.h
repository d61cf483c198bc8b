/* SPDX-License-Identifier: BSD-3-Clause */

/* reclaim - what has to happen after a grace period
 *
 * Two things wait for one: words that were taken out of the table, to be released, and words that
 * were frozen, to be looked at again.  They are handed in here; a thread waits for the grace
 * period that covers all that has come together, hands them on, and starts anew.
 *
 * Nothing here may be called inside a read section.  Any thread may call but create and destroy.
 */

#ifndef NBDRAM_DISK_MEMORY_RECLAIM_H
#define NBDRAM_DISK_MEMORY_RECLAIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One thing that waits: a word taken out of the table, or one frozen on the way to a page. */
struct pending {
    uint64_t word;
    uint64_t page;
    bool frozen;
};

/* Called once for each thing, outside of a section, from any thread.  It may hand in more. */
typedef void reclaim_fn(void *opaque, const struct pending *pending);

/* Called by the thread when nothing was handed in for a second, once until something is. */
typedef void reclaim_idle_fn(void *opaque);

struct reclaim {
    reclaim_fn *fn;
    reclaim_idle_fn *idle;
    void *opaque;

    pthread_mutex_t running; /* held for a whole round; before lock */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct reclaim_batch *waiting;
    bool started, stop;
    pthread_t thread;

    _Atomic uint64_t released; /* see reclaim_released */
};

void reclaim_create(struct reclaim *reclaim, reclaim_fn *fn, reclaim_idle_fn *idle, void *opaque);

/* Start the thread.  Before that things just wait, for reclaim_run. */
int reclaim_start(struct reclaim *reclaim);

/* Stop the thread and finish all that waits.  A reclaim of all zeroes is accepted. */
void reclaim_destroy(struct reclaim *reclaim);

/* Hand in count things.  If there is no memory to note them, the caller waits for the grace
 * period himself. */
void reclaim_add(struct reclaim *reclaim, const struct pending *pending, size_t count);

/* Finish all that was handed in before the call, and what came of it. */
void reclaim_run(struct reclaim *reclaim);

/* How many words were released so far.  What was released before a word is counted can be had: so
 * who failed to get memory, and finds the count as it was before he tried, has missed nothing. */
uint64_t reclaim_released(struct reclaim *reclaim);

#endif
