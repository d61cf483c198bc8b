/* SPDX-License-Identifier: BSD-3-Clause */

/* compressor - the cold store of the zstd allocator (paged/cold_store.h)
 *
 * Writes are stored in frames, as fast as with sparse.  Background threads freeze frames that
 * have not been written for a while, and put blobs in their place.  If more frames are hot than
 * the hot share, the threads also freeze frames of age 1.  If writers outrun the threads, the
 * writers help.  A frame that does not shrink when it is compressed is left alone until it is
 * written again.
 *
 * A thread does the first of these that is needed:
 *
 *     pack.c    compress the pages that are ripe
 *     sweep.c   scan the disk for cold pages: move the hand on, and freeze frames
 *     tidy.c    empty segments of the log that have few live blobs
 *
 * What happens to a hot frame:
 *
 *     hot frame --freeze-> frozen --grace period-> ripe --compress-> blob  shrank by 1/32 or more
 *         ^                  |                            +--------> hole  is all zero
 *         '---- written -----'                            '--------> INERT did not shrink enough
 *
 * If no frame is hot and the log has few dead bytes, the threads sleep.
 *
 * LOCKS.  `lock` guards the hand, the ripe pages and the fields that say what the threads are
 * doing.  A thread releases the lock before it compresses pages, scans the disk or empties
 * segments, and before it waits for a grace period.  A thread takes no other lock while it holds
 * this lock.
 */

#ifndef NBDRAM_DISK_ZSTD_COMPRESSOR_H
#define NBDRAM_DISK_ZSTD_COMPRESSOR_H

#include <pthread.h>
#include <time.h>

#include "disk/paged/paged.h"
#include "disk/zstd/blob_log.h"
#include "disk/zstd/codec.h"

#define COMPRESSOR_RIPE_MAX 256 /* the most pages that one scan freezes */
#define COMPRESSOR_THREADS_MAX 16

struct compressor {
    /* After start, the fields from paged to thread_count do not change. */
    struct paged *paged;
    struct codec *codec;
    pthread_t threads[COMPRESSOR_THREADS_MAX];
    unsigned thread_count;

    struct blob_log blobs; /* has its own lock */
    _Atomic bool untidy;   /* the log has too many dead bytes: segments should be emptied */

    pthread_mutex_t lock;    /* guards the fields below, except `frozen` */
    pthread_cond_t wake;     /* wakes the threads when there may be work */
    pthread_cond_t progress; /* wakes waiting callers when work has been done */
    struct reclaim_item ripe[COMPRESSOR_RIPE_MAX];
    unsigned ripe_count; /* number of entries in `ripe`; a scan starts only when it is 0 */
    unsigned packing;    /* number of ripe pages that threads are compressing now */
    bool sweeping;       /* a thread is scanning the disk; only one thread at a time does */
    bool tidying;        /* a thread is emptying segments; only one thread at a time does */
    bool paused;         /* the threads must not start any work */
    bool stop;

    uint64_t hand;              /* number of the page that the hand has reached */
    bool round_begun;           /* a round has begun and has not ended yet */
    uint64_t rounds;            /* number of rounds completed so far */
    struct timespec next_round; /* when the next round is due, by CLOCK_MONOTONIC */

    uint64_t packed;        /* number of pages whose frames compressing has freed so far */
    unsigned waiters;       /* number of callers in wait_for_packing */
    uint64_t waited_rounds; /* the value of `rounds` for which callers wait */
    bool no_room_for_blobs; /* there was no memory for a blob: wait for the next round */

    /* Pages that the current scan has frozen.  Only the thread that scans the disk uses this
     * array and frozen_count. */
    struct reclaim_item frozen[COMPRESSOR_RIPE_MAX];
    unsigned frozen_count;
};

/* Make the cold store of a paged disk, and set paged->cold to it.  level is a compression level
 * of zstd.  Returns 0 or -ENOMEM.  On an error paged->cold is unchanged. */
int compressor_create(struct paged *paged, int level);

/* The compressor's threads call the functions below to do their work.  If a function's name
 * ends in _locked, the caller must hold the lock. */

/* Compress a few ripe pages.  At least one page must be ripe.  This function releases the lock
 * while it works, and takes it again before it returns. */
void compressor_pack_locked(struct compressor *compressor);

bool compressor_should_sweep_locked(struct compressor *compressor);

/* Scan a part of the disk for cold pages: move the hand on, and freeze frames.  The scan stops
 * early if it has frozen COMPRESSOR_RIPE_MAX pages, or if the hand reaches the end of the disk.
 * Then this function waits until the frozen pages are ripe.  No page may be ripe before the call.
 * This function releases the lock while it works, and takes it again before it returns. */
void compressor_sweep_locked(struct compressor *compressor);

bool compressor_is_round_due_locked(const struct compressor *compressor);

bool compressor_should_tidy_locked(struct compressor *compressor);

/* Empty segments of the log.  With BLOB_LOG_TIDY, go on until the log does not have too many dead
 * bytes.  With BLOB_LOG_ROOM, empty one segment.  Returns true if at least one segment was
 * emptied.  This function releases the lock while it works, and takes it again before it
 * returns. */
bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need);

#endif
