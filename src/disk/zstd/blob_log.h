/* SPDX-License-Identifier: BSD-3-Clause */

/* blob_log - compressed pages, in a log
 *
 * The log is made of segments, and each segment is one chunk of a pool.  New blobs are appended
 * to the open segment, one right after the other.  A blob is never changed.  When all blobs of a
 * segment have been dropped, the segment is given back to the pool.
 *
 * If few live blobs are left in a segment, the caller can empty the segment: it stores these
 * blobs again, and drops the old ones.  blob_log_worst chooses such a segment, and blob_log_next
 * walks its blobs.
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

/* The segments with dead bytes are kept in lists, by the share of a segment that is dead.  List 1
 * has the segments of which at most 1/64 is dead, list 2 those of which more than 1/64 and at
 * most 2/64 is dead, and so on.  The open segment and the segments without dead bytes are on no
 * list. */
#define BLOB_LISTS 64

struct blob_log {
    struct pool segments;
    size_t segment_size;
    struct budget *budget;
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

/* The number of segments that were given back to the pool so far.  Before a blob can get the
 * number of an earlier blob, this counter has grown; cache.c relies on that.  Relaxed order is
 * enough: after the counter has grown, the word of the later blob is swapped into the page table
 * with release order. */
static inline uint64_t blob_log_recycled(const struct blob_log *blobs)
{
    return atomic_load_explicit(&blobs->recycled, memory_order_relaxed);
}

/* Free a blob.  Returns true if the caller should empty segments, because the log now has too
 * many dead bytes: more than two segments plus 1/16 of the log. */
bool blob_log_drop(struct blob_log *blobs, uint64_t number);

/* Conditions for emptying a segment. */
enum blob_log_need {
    BLOB_LOG_TIDY, /* normally: only if the log has too many dead bytes (see blob_log_drop) */
    BLOB_LOG_ROOM, /* when memory is short: only if a whole segment can be freed */
};

/* Choose a segment to empty, with about the most dead bytes: another segment can have more, but
 * by 1/64 of a segment at most.  Returns false if no segment should be emptied.  Otherwise
 * returns true, and *number is the number of the first blob of the segment.  The caller must then
 * call blob_log_next until that returns false.  Only one thread at a time may empty segments. */
bool blob_log_worst(struct blob_log *blobs, enum blob_log_need need, uint64_t *number);

/* Set *number to the number of the next blob in the same segment.  That blob can be dead.
 * Returns false if the segment has no further blob. */
bool blob_log_next(struct blob_log *blobs, uint64_t *number);

/* The number of the list on which a segment belongs, or 0 if it belongs on no list. */
unsigned blob_log_list_for(const struct blob_log *blobs, uint64_t segment);

/* Verify the invariants of blob_log_check.c.  Only tests and debug builds call this function,
 * while no other thread uses the log.  `alive` has `count` entries: the blobs to which the page
 * table leads.  They must be exactly the live blobs of the log.  This function sorts `alive`.
 * Returns 0; -EUCLEAN, and reason says what is broken; or -ENOMEM. */
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
