/* SPDX-License-Identifier: BSD-3-Clause */

/* blobs - compressed pages, in a log
 *
 * Blobs are appended to segments of one chunk each, side by side whatever their length.  A blob
 * is never changed.  A segment whose blobs are all gone is given back; one in which few are left
 * can be emptied by storing those again: blob_log_worst names it, blob_log_next walks it.
 *
 * Any thread may call anything but create and destroy.  A blob's bytes may be read inside the
 * read section in which its word was found, and blob_log_drop waits for no section: call it after a
 * grace period, or for a blob that nobody else has seen.
 */

#ifndef NBDRAM_DISK_ZSTD_BLOB_LOG_H
#define NBDRAM_DISK_ZSTD_BLOB_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/memory/pool.h"

struct blob {
    uint64_t page; /* whose it is */
    uint32_t size; /* of bytes */
    uint32_t reserved;
    unsigned char bytes[];
};

struct blob_log {
    struct pool segments;
    size_t segment_size;
    pthread_mutex_t lock;  /* guards what follows */
    struct segment *table; /* by number */
    uint64_t table_size;
    bool any_open;
    uint64_t open;          /* the segment that is being filled */
    uint64_t segment_count; /* in use */
    uint64_t blob_count;
    uint64_t used; /* bytes appended, in all segments in use */
    uint64_t live; /* bytes of these that are not dropped */
};

/* options gives chunk, capacity and budget. */
int blob_log_create(struct blob_log *blobs, const struct pool_options *options);
void blob_log_destroy(struct blob_log *blobs); /* all zeroes are accepted */

/* Copy size bytes of a page into the log.  -ENOSPC, -ENOMEM: as pool_take. */
int blob_log_store(struct blob_log *blobs, uint64_t page, const void *bytes, size_t size,
                uint64_t *number);

const struct blob *blob_log_at(const struct blob_log *blobs, uint64_t number);

/* True if so much of the log is dead by now (1/16 and two segments) that some should be emptied.
 */
bool blob_log_drop(struct blob_log *blobs, uint64_t number);

/* The segment with most that is dead, if some should be emptied, or if one must be and there is
 * one to be gained: true, and in *number the place of its first blob.  Only one thread may empty
 * segments; blob_log_next has to be called to the end. */
bool blob_log_worst(struct blob_log *blobs, bool must, uint64_t *number);

/* The next blob of the same segment; false at the end. */
bool blob_log_next(struct blob_log *blobs, uint64_t *number);

struct blob_log_stats {
    uint64_t count, bytes;
};
void blob_log_stats(struct blob_log *blobs, struct blob_log_stats *stats);

#endif
