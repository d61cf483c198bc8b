/* SPDX-License-Identifier: BSD-3-Clause */

/* blob_log - compressed pages, in a log
 *
 * Blobs are appended to segments of one chunk each, next to each other whatever their length.  A
 * blob is never changed.  A segment is given back when all of its blobs have been dropped.  If
 * few blobs are left in a segment, it can be emptied by storing these blobs again: blob_log_worst
 * chooses such a segment, and blob_log_next walks its blobs.
 *
 * Any thread may call any function except create and destroy.  A blob may be read inside the read
 * section in which its word was found in the page table.  blob_log_drop does not wait for
 * sections: call it after a grace period, or for a blob that no other thread has seen.
 */

#ifndef NBDRAM_DISK_ZSTD_BLOB_LOG_H
#define NBDRAM_DISK_ZSTD_BLOB_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/pool.h"
#include "disk/zstd/segment.h"

struct reason; /* text/reason.h */

struct blob_log {
    struct pool segments;
    size_t segment_size;
    _Atomic uint64_t recycled; /* segments given back so far; changes only under the lock */
    pthread_mutex_t lock;      /* guards the fields below */
    struct segment *table;     /* segments, by number */
    uint64_t table_size;
    bool any_open;          /* a segment is open: blobs are appended to it */
    uint64_t open;          /* the number of the open segment */
    uint64_t segment_count; /* segments in use */
    uint64_t blob_count;    /* blobs alive */
    uint64_t used;          /* bytes appended to the segments in use */
    uint64_t live;          /* bytes that belong to blobs that are alive; part of used */
};

/* Make an empty log.  Its pool gets chunk, capacity and budget from options.  Returns 0 or
 * -ENOMEM. */
int blob_log_create(struct blob_log *blobs, const struct pool_options *options);
void blob_log_destroy(struct blob_log *blobs); /* a log of all zeroes is accepted */

/* Copy size bytes, the compressed form of a page, into the log.  Returns 0 and the blob's number,
 * or an error of pool_take. */
int blob_log_store(struct blob_log *blobs, uint64_t page, const void *bytes, size_t size,
                   uint64_t *number);

const struct blob *blob_log_at(const struct blob_log *blobs, uint64_t number);

/* The number of segments that were given back so far.  Two different blobs can have had the same
 * number only if this has grown in between (cache.c).  Relaxed order: the swap that publishes the
 * word of the later blob orders it. */
static inline uint64_t blob_log_recycled(const struct blob_log *blobs)
{
    return atomic_load_explicit(&blobs->recycled, memory_order_relaxed);
}

/* Free a blob.  Returns true if so much of the log is dead now that some segments should be
 * emptied: 1/16 of the log, and two segments. */
bool blob_log_drop(struct blob_log *blobs, uint64_t number);

/* Why a segment is to be emptied. */
enum blob_log_need {
    BLOB_LOG_TIDY, /* empty a segment if too much of the log is dead, as blob_log_drop says */
    BLOB_LOG_ROOM, /* empty segments if that gains a segment, and so frees memory */
};

/* Choose the segment with the most dead bytes, if one should be emptied.  Returns true and the
 * number of the segment's first blob.  Only one thread at a time may empty segments, and it must
 * call blob_log_next until that returns false. */
bool blob_log_worst(struct blob_log *blobs, enum blob_log_need need, uint64_t *number);

/* Go on to the next blob of the same segment, dead or alive.  Returns false at the end of the
 * segment. */
bool blob_log_next(struct blob_log *blobs, uint64_t *number);

/* For tests and debug builds, while no other thread uses the log: verify the invariants of
 * blob_log_check.c, and that the blobs alive are exactly the `count` blobs in `alive`, which
 * this sorts.  Returns 0; -EUCLEAN, and reason says what is broken; or -ENOMEM. */
struct blob_alive {
    uint64_t number, page;
};
int blob_log_check(struct blob_log *blobs, struct blob_alive *alive, size_t count,
                   struct reason *reason);

struct blob_log_stats {
    uint64_t count; /* blobs that are alive */
    uint64_t bytes; /* bytes of the blobs that are alive, including headers and rounding */
};
void blob_log_stats(struct blob_log *blobs, struct blob_log_stats *stats);

#endif
