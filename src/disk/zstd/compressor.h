/* SPDX-License-Identifier: BSD-3-Clause */

/* compressor - the cold store of the zstd allocator (paged/cold_store.h)
 *
 * Writes are stored in frames, as fast as with sparse.  Background threads freeze frames that
 * have not been written for a while, and put a blob in their place.  They freeze frames sooner if
 * more than a certain share of the memory is hot.  Writers that outrun the threads help them.  A
 * frame that does not compress is left alone until it is written again.
 *
 * What the threads do, in the order in which they look for work:
 *
 *     pack.c    pack the pages that are ripe
 *     sweep.c   send the hand round the disk, to find pages that are cold
 *     tidy.c    empty segments of the log in which little is left alive
 *
 *     hot frame --sweep--> frozen --grace period--> ripe --pack--> blob    it shrank by 1/32
 *         ^                  |                              +----> hole    it is all zero
 *         '----- written ----'                              '----> INERT   it did not shrink
 *
 * If nothing is hot and nothing is to be tidied, the threads sleep.
 *
 * Locks: `lock` guards the hand, the ripe pages and what the threads are doing.  It is not held
 * while anything is packed, swept, tidied or waited for.  No other lock is taken while it is
 * held.
 */

#ifndef NBDRAM_DISK_ZSTD_COMPRESSOR_H
#define NBDRAM_DISK_ZSTD_COMPRESSOR_H

#include <pthread.h>
#include <time.h>

#include "disk/paged/paged.h"
#include "disk/zstd/blob_log.h"
#include "disk/zstd/codec.h"

#define COMPRESSOR_RIPE_MAX 256 /* pages that one sweep freezes, for one grace period */
#define COMPRESSOR_THREADS_MAX 16

struct compressor {
    /* Constant after start. */
    struct paged *paged;
    struct codec *codec;
    pthread_t threads[COMPRESSOR_THREADS_MAX];
    unsigned thread_count;

    struct blob_log blobs; /* has its own lock */
    _Atomic bool untidy;   /* too much of the log is dead */

    _Atomic uint64_t cache_bytes; /* what the budget is charged for caches of inflated pages */

    pthread_mutex_t lock;    /* guards the fields below */
    pthread_cond_t wake;     /* signalled for the threads: there may be something to do */
    pthread_cond_t progress; /* signalled for all other waiters: something was done */
    struct reclaim_item ripe[COMPRESSOR_RIPE_MAX];
    unsigned ripe_count; /* entries of ripe; a sweep adds some when there are none */
    unsigned packing;    /* pages that threads have taken from ripe and are still packing */
    bool sweeping;       /* a thread is sweeping; at most one does */
    bool tidying;        /* a thread is emptying segments; at most one does */
    bool paused;         /* the threads are to do nothing */
    bool stop;

    uint64_t hand;              /* the page that the hand is at */
    bool round_begun;           /* the hand has set out, and has not come round yet */
    uint64_t rounds;            /* rounds completed so far */
    struct timespec next_round; /* when the next round is due */

    uint64_t packed;        /* pages that were taken out of their frames so far */
    unsigned waiters;       /* callers that wait for room */
    uint64_t waited_rounds; /* value of rounds when the last waiter has seen the whole disk */
    bool no_room_for_blobs; /* packing found no memory: the threads wait for the next round */

    struct reclaim_item
        frozen[COMPRESSOR_RIPE_MAX]; /* pages; belongs to the thread that sweeps */
    unsigned frozen_count;
};

/* Make the cold store of a paged disk, and set paged->cold.  level is zstd's.  Returns 0 or
 * -ENOMEM.  On an error paged->cold is as it was. */
int compressor_create(struct paged *paged, int level);

/* The functions below are the work of the threads.  If a name ends in _locked, the caller holds
 * the lock. */

/* Pack a few ripe pages.  There must be at least one.  Releases the lock, and takes it again. */
void compressor_pack_locked(struct compressor *compressor);

bool compressor_should_sweep_locked(struct compressor *compressor);

/* Send the hand on for a while, until enough pages are frozen or the hand has come round; then
 * wait until the frozen pages are ripe.  There must be no ripe page before.  Releases the lock,
 * and takes it again. */
void compressor_sweep_locked(struct compressor *compressor);

/* Whether the next round is due. */
bool compressor_is_round_due_locked(const struct compressor *compressor);

bool compressor_should_tidy_locked(struct compressor *compressor);

/* Empty segments of the log: for BLOB_LOG_TIDY until the log is tidy, for BLOB_LOG_ROOM only one
 * segment.  Releases the lock, and takes it again.  Returns false if nothing was gained. */
bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need);

#endif
