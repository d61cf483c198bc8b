/* SPDX-License-Identifier: BSD-3-Clause */

/* compressor - the cold store of the zstd allocator (paged/cold_store.h)
 *
 * Writes are stored in frames, as fast as with sparse.  Background threads freeze frames that
 * have not been written for a while, and put blobs in their place.  If more frames are hot than
 * the hot share, the threads also freeze younger frames.  If writers outrun the threads, the
 * writers help.  A frame that does not compress is left alone until it is written again.
 *
 * A thread looks for work in this order:
 *
 *     pack.c    pack the pages that are ripe
 *     sweep.c   send the hand round the disk, to find cold pages
 *     tidy.c    empty segments of the log that have few live blobs
 *
 * What happens to a hot frame:
 *
 *     hot frame --sweep--> frozen --grace period--> ripe --pack--> blob  shrank by 1/32 or more
 *         ^                  |                              +----> hole  is all zero
 *         '----- written ----'                              '----> INERT  did not shrink enough
 *
 * If no frame is hot and the log is tidy, the threads sleep.
 *
 * LOCKS.  `lock` guards the hand, the ripe pages and the fields that say what the threads are
 * doing.  A thread releases the lock before it packs, sweeps or tidies, and before it waits for a
 * grace period.  A thread takes no other lock while it holds this lock.
 */

#ifndef NBDRAM_DISK_ZSTD_COMPRESSOR_H
#define NBDRAM_DISK_ZSTD_COMPRESSOR_H

#include <pthread.h>
#include <time.h>

#include "disk/paged/paged.h"
#include "disk/zstd/blob_log.h"
#include "disk/zstd/codec.h"

#define COMPRESSOR_RIPE_MAX 256 /* pages: the most that one sweep freezes */
#define COMPRESSOR_THREADS_MAX 16

struct compressor {
    /* Constant after start. */
    struct paged *paged;
    struct codec *codec;
    pthread_t threads[COMPRESSOR_THREADS_MAX];
    unsigned thread_count;

    struct blob_log blobs; /* has its own lock */
    _Atomic bool untidy;   /* too much of the log is dead: it should be tidied */

    _Atomic uint64_t cache_bytes; /* bytes that the budget is charged for caches of pages */

    pthread_mutex_t lock;    /* guards the fields below, except `frozen` */
    pthread_cond_t wake;     /* wakes the threads when there may be work */
    pthread_cond_t progress; /* wakes waiting callers when work has been done */
    struct reclaim_item ripe[COMPRESSOR_RIPE_MAX];
    unsigned ripe_count; /* number of entries in `ripe`; a sweep starts only if there are none */
    unsigned packing;    /* number of pages from `ripe` that threads are packing now */
    bool sweeping;       /* a thread is sweeping; only one thread at a time sweeps */
    bool tidying;        /* a thread is emptying segments; only one thread at a time does */
    bool paused;         /* the threads must not start any work */
    bool stop;

    uint64_t hand;              /* number of the page where the hand is */
    bool round_begun;           /* a round has begun and has not ended */
    uint64_t rounds;            /* number of rounds completed so far */
    struct timespec next_round; /* when the next round is due, by CLOCK_MONOTONIC */

    uint64_t packed;  /* number of pages that packing has taken out of their frames so far */
    unsigned waiters; /* number of callers that wait for packing */
    uint64_t waited_rounds; /* value of `rounds` at which no caller waits any more */
    bool no_room_for_blobs; /* packing found no memory: the threads wait for the next round */

    /* Pages that the current sweep has frozen.  Only the thread that sweeps uses these two
     * fields. */
    struct reclaim_item frozen[COMPRESSOR_RIPE_MAX];
    unsigned frozen_count;
};

/* Make the cold store of a paged disk, and set paged->cold to it.  level is a compression level
 * of zstd.  Returns 0 or -ENOMEM.  On an error paged->cold is unchanged. */
int compressor_create(struct paged *paged, int level);

/* The threads work by means of the functions below.  If a function's name ends in _locked, the
 * caller holds the lock. */

/* Pack a few ripe pages.  At least one page must be ripe.  Releases the lock during the work, and
 * takes it again. */
void compressor_pack_locked(struct compressor *compressor);

bool compressor_should_sweep_locked(struct compressor *compressor);

/* Move the hand on for a while.  Stop early if enough pages are frozen, or if the hand reaches
 * the end of the disk.  Then wait until the frozen pages are ripe.  No page may be ripe at the
 * start.  Releases the lock during the work, and takes it again. */
void compressor_sweep_locked(struct compressor *compressor);

bool compressor_is_round_due_locked(const struct compressor *compressor);

bool compressor_should_tidy_locked(struct compressor *compressor);

/* Empty segments of the log.  With BLOB_LOG_TIDY, go on until the log is tidy.  With
 * BLOB_LOG_ROOM, empty one segment.  Returns true if at least one segment was emptied.  Releases
 * the lock during the work, and takes it again. */
bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need);

#endif
