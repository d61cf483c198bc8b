/* SPDX-License-Identifier: BSD-3-Clause */

/* blob_log - compressed pages, in a log
 *
 * The log is made of segments, and each segment is one chunk of a pool.  New blobs are appended
 * to the open segment, one right after the other.  A blob is never changed.  When all blobs of a
 * segment have been dropped, the segment is given back to the pool.
 *
 * If few blobs are left in a segment, the caller can empty the segment: it stores these blobs
 * again, and drops the old ones.  blob_log_worst chooses such a segment, and blob_log_next walks
 * its blobs.
 *
 * Any thread may call any function except create and destroy.  A blob may be read inside the read
 * section in which its word was found in the page table.  blob_log_drop does not wait for
 * sections.  So call it after a grace period, or for a blob that no other thread has seen.
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

/* List 1 has the segments of which up to 1/64 is dead, list 2 those of which up to 2/64 is dead,
 * and so on.  Segments without dead bytes are on no list, and neither is the open segment. */
#define BLOB_LISTS 64

struct blob_log {
    struct pool segments;
    size_t segment_size;
    _Atomic uint64_t recycled; /* number of segments given back so far; written under the lock */
    pthread_mutex_t lock;      /* guards the fields below */
    struct segment *table;     /* the segments; the index is a segment's number */
    uint64_t table_size;
    uint32_t lists[BLOB_LISTS + 1]; /* the first segment of each list, or NO_SEGMENT */
    bool any_open;                  /* whether a segment is open: new blobs are appended to it */
    uint64_t open;                  /* the number of the open segment, if any_open */
    uint64_t segment_count;         /* number of segments in use */
    uint64_t blob_count;            /* number of live blobs */
    uint64_t used;                  /* bytes appended so far to the segments that are in use */
    uint64_t live;                  /* bytes of live blobs; the rest of `used` is dead */
};

/* Make an empty log.  Its pool of segments gets chunk, capacity and budget from options.  Returns
 * 0 or -ENOMEM. */
int blob_log_create(struct blob_log *blobs, const struct pool_options *options);
void blob_log_destroy(struct blob_log *blobs); /* does nothing if *blobs is all zeroes */

/* Append a blob to the log.  bytes is the compressed form of the page with the number `page`.
 * Returns 0, and *number is the blob's number; or returns an error of pool_take. */
int blob_log_store(struct blob_log *blobs, uint64_t page, const void *bytes, size_t size,
                   uint64_t *number);

const struct blob *blob_log_at(const struct blob_log *blobs, uint64_t number);

/* The number of segments given back so far.  A blob can get the number of an earlier blob only
 * after this counter has grown; cache.c relies on that.  Relaxed order is enough: the later
 * blob's word is swapped into the page table (release) after the counter has grown. */
static inline uint64_t blob_log_recycled(const struct blob_log *blobs)
{
    return atomic_load_explicit(&blobs->recycled, memory_order_relaxed);
}

/* Free a blob.  Returns true if too much of the log is dead now, so that segments should be
 * emptied.  The limit is two segments, plus 1/16 of the log. */
bool blob_log_drop(struct blob_log *blobs, uint64_t number);

/* Why segments are emptied. */
enum blob_log_need {
    BLOB_LOG_TIDY, /* to tidy: empty a segment only if too much of the log is dead */
    BLOB_LOG_ROOM, /* to free memory: empty a segment only if a whole segment can be gained */
};

/* Choose a segment to be emptied, if one should be.  No other segment has more dead bytes than
 * this one and 1/64 of a segment.  Returns true and the number of the segment's first blob.
 * Only one thread at a time may empty segments, and it must call blob_log_next until that
 * returns false. */
bool blob_log_worst(struct blob_log *blobs, enum blob_log_need need, uint64_t *number);

/* Set *number to the next blob of the same segment.  That blob may be dead.  Returns false at the
 * end of the segment: the walk has ended. */
bool blob_log_next(struct blob_log *blobs, uint64_t *number);

/* The number of the list that a segment must be on; 0: none. */
unsigned blob_log_list_for(const struct blob_log *blobs, uint64_t segment);

/* Verify the invariants of blob_log_check.c.  For tests and debug builds, while no other thread
 * uses the log.  `alive` has `count` entries: the blobs to which the page table leads.  They must
 * be exactly the live blobs of the log.  This function sorts `alive`.  Returns 0; -EUCLEAN, and
 * reason says what is broken; or -ENOMEM. */
struct blob_alive {
    uint64_t number, page;
};
int blob_log_check(struct blob_log *blobs, struct blob_alive *alive, size_t count,
                   struct reason *reason);

struct blob_log_stats {
    uint64_t count; /* number of live blobs */
    uint64_t bytes; /* bytes of live blobs, including headers and rounding */
};
void blob_log_stats(struct blob_log *blobs, struct blob_log_stats *stats);

#endif
