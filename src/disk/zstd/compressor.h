/* SPDX-License-Identifier: BSD-3-Clause */

/* compressor - the cold store of the zstd allocator (paged/cold_store.h)
 *
 * Writes land in frames, as fast as with sparse.  Background threads freeze frames that have not
 * been written for a while, or sooner if there are more than their share of the memory, and put a
 * blob in their place.  Writers that outrun the threads help them.  A frame that does not
 * compress is left alone until it is written again.
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
 * With nothing hot and nothing to tidy the threads sleep.
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
    /* constant after start */
    struct paged *paged;
    struct codec *codec;
    pthread_t threads[COMPRESSOR_THREADS_MAX];
    unsigned thread_count;

    struct blob_log blobs; /* has its own lock */
    _Atomic bool untidy;   /* too much of the log is dead */

    pthread_mutex_t lock;    /* guards what follows */
    pthread_cond_t wake;     /* for the threads: there may be something to do */
    pthread_cond_t progress; /* for everybody else: something was done */
    struct reclaim_item ripe[COMPRESSOR_RIPE_MAX];
    unsigned ripe_count; /* only a sweep adds pages, and only when there are none */
    unsigned packing;    /* pages that were taken from ripe and are not done */
    bool sweeping;       /* a thread is sweeping; at most one does */
    bool tidying;        /* a thread is emptying segments; at most one does */
    bool paused;         /* the threads are to do nothing */
    bool stop;

    uint64_t hand;              /* the page that the hand is at */
    bool round_begun;           /* the hand has set out, and has not come round */
    uint64_t rounds;            /* rounds completed so far */
    struct timespec next_round; /* when the next round is due */

    uint64_t packed;  /* pages that were taken out of their frames, so far */
    unsigned waiters; /* callers that wait for room */
    uint64_t
        waited_rounds; /* value of rounds at which the last of them has seen the whole disk */
    bool no_room_for_blobs; /* packing found no memory: the threads wait for the next round */

    struct reclaim_item frozen[COMPRESSOR_RIPE_MAX]; /* belongs to the thread that sweeps */
    unsigned frozen_count;
};

/* Make the cold store of a paged disk, and set paged->cold.  level is zstd's.  0, or -ENOMEM, and
 * paged->cold is as it was. */
int compressor_create(struct paged *paged, int level);

/* Inside: what the threads do.  Functions that end in _locked are called with the lock held. */

/* Pack a few ripe pages, of which there must be one.  Releases the lock, and takes it again. */
void compressor_pack_locked(struct compressor *compressor);

bool compressor_should_sweep_locked(struct compressor *compressor);

/* Send the hand on for a while, until enough pages are frozen or it has come round; then wait
 * until these are ripe.  No page may be ripe before.  Releases the lock, and takes it again. */
void compressor_sweep_locked(struct compressor *compressor);

/* Whether the next round is due. */
bool compressor_is_round_due_locked(const struct compressor *compressor);

bool compressor_should_tidy_locked(struct compressor *compressor);

/* Empty segments of the log: until it is tidy, or, for a caller that needs room, one of them.
 * Releases the lock, and takes it again.  False if nothing was gained. */
bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need);

#endif
