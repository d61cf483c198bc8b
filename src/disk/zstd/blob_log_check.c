/* SPDX-License-Identifier: BSD-3-Clause */

/* The invariants of the log of blobs while no thread uses it:
 *
 *  1. The blobs of a segment in use fill it from its start up to `used`, without gaps.  `used` is
 *     not greater than the size of a segment.
 *  2. Each live blob is one of the blobs of invariant 1.  Exactly one page has it, and its header
 *     names that page.
 *  3. `live` of a segment is the number of bytes that its live blobs take.
 *  4. A segment in use is open, or has a live blob.  No segment is held.
 *  5. The counters of the log are the sums over its segments.
 *  6. A segment is in use if and only if its cell in the pool is in use.
 *  7. Each segment is on the list that blob_log_list_for returns, or on no list if that is 0.  No
 *     list has any other entry.
 *
 * The comment above a function gives the numbers of the invariants that it verifies.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "disk/memory/pool_marks.h"
#include "disk/zstd/blob_log.h"
#include "text/reason.h"

#define BROKEN(reason, number, ...)                                                              \
    reason_set(reason, -EUCLEAN, "blob log: invariant " #number ": " __VA_ARGS__)

struct walk {
    const struct blob_log *blobs;
    const struct blob_alive *next, *end; /* live blobs that the walk has not reached yet */
    uint64_t segments, used, live;       /* sums over the segments walked so far */
    uint64_t listed;                     /* number of these segments that must be on a list */
    struct pool_marks marks;
    struct reason *reason;
};

static int compare_numbers(const void *left, const void *right)
{
    const struct blob_alive *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* Report that invariant 2 (top of this file) is broken: the walk has passed the number of the
 * next live blob and has not found this blob.  Either no blob has that number, or two pages have
 * the same blob. */
static int report_missing(const struct walk *walk)
{
    return BROKEN(walk->reason, 2,
                  "page %" PRIu64 " has blob %" PRIu64 ", which is another page's or none",
                  walk->next->page, walk->next->number);
}

/* Verify invariant 2 (top of this file) for one blob: if the blob is live, its header names the
 * only page that has it.  Adds the bytes of a live blob to *live. */
static int check_blob(struct walk *walk, uint64_t number, uint64_t *live)
{
    const struct blob *blob = blob_log_at(walk->blobs, number);
    if (walk->next == walk->end || walk->next->number > number)
        return 0;
    if (walk->next->number < number)
        return report_missing(walk);
    if (blob->page != walk->next->page)
        return BROKEN(walk->reason, 2, "blob %" PRIu64 " is of page %" PRIu64 ", not %" PRIu64,
                      number, blob->page, walk->next->page);
    *live += blob_footprint(blob->size);
    walk->next++;
    return 0;
}

/* Verify invariants 1 to 4 (top of this file) for one segment: its blobs leave no gaps, its live
 * blobs are those of the page table, `live` is the sum of their bytes, and the segment is
 * needed. */
static int check_segment(struct walk *walk, uint64_t number)
{
    const struct blob_log *blobs = walk->blobs;
    const struct segment *segment = &blobs->table[number];
    uint64_t at = 0, live = 0;
    int r = 0;
    while (r == 0 && at < segment->used && segment->used <= blobs->segment_size) {
        uint64_t blob = (number * blobs->segment_size + at) / BLOB_UNIT;
        at += blob_footprint(blob_log_at(blobs, blob)->size);
        r = check_blob(walk, blob, &live);
    }
    if (r < 0)
        return r;
    if (at != segment->used)
        return BROKEN(walk->reason, 1, "segment %" PRIu64 " has %" PRIu32 " bytes, not %" PRIu64,
                      number, segment->used, at);
    if (live != segment->live)
        return BROKEN(walk->reason, 3,
                      "segment %" PRIu64 " counts %" PRIu32 " live bytes of %" PRIu64, number,
                      segment->live, live);
    if (segment->held || (live == 0 && !(blobs->any_open && blobs->open == number)))
        return BROKEN(walk->reason, 4, "segment %" PRIu64 " should have been given back", number);
    walk->segments++;
    walk->listed += blob_log_list_for(blobs, number) > 0;
    walk->used += at;
    walk->live += live;
    return pool_marks_add(&walk->marks, number, walk->reason); /* 6 */
}

/* Verify invariant 5 (top of this file): the counters of the log are the sums over its
 * segments. */
static int check_sums(const struct walk *walk, size_t count)
{
    const struct blob_log *blobs = walk->blobs;
    if (walk->segments != blobs->segment_count || count != blobs->blob_count)
        return BROKEN(walk->reason, 5,
                      "%" PRIu64 " segments and %" PRIu64 " blobs are counted, of %" PRIu64
                      " and %zu",
                      blobs->segment_count, blobs->blob_count, walk->segments, count);
    if (walk->used != blobs->used || walk->live != blobs->live)
        return BROKEN(walk->reason, 5,
                      "%" PRIu64 " bytes used and %" PRIu64 " live are counted, of %" PRIu64
                      " and %" PRIu64,
                      blobs->used, blobs->live, walk->used, walk->live);
    return 0;
}

/* Verify invariant 7 (top of this file): each list has exactly the segments that belong on it.
 * If the segments of a list form a circle, the walk of the lists ends all the same. */
static int check_lists(const struct walk *walk)
{
    const struct blob_log *blobs = walk->blobs;
    uint64_t listed = 0;
    for (unsigned list = 1; list <= BLOB_LISTS; list++)
        for (uint32_t i = blobs->lists[list]; i != NO_SEGMENT && listed <= walk->listed;
             i = blobs->table[i].next, listed++)
            if (blob_log_list_for(blobs, i) != list)
                return BROKEN(walk->reason, 7, "segment %" PRIu32 " is on list %u, not %u", i,
                              list, blob_log_list_for(blobs, i));
    if (listed != walk->listed)
        return BROKEN(walk->reason, 7, "%" PRIu64 " segments are on lists, not %" PRIu64, listed,
                      walk->listed);
    return 0;
}

static int check_all(struct walk *walk, size_t count)
{
    const struct blob_log *blobs = walk->blobs;
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < blobs->table_size; i++)
        if (blobs->table[i].in_use)
            r = check_segment(walk, i);
    if (r == 0)
        r = check_lists(walk);
    if (r < 0)
        return r;
    if (walk->next < walk->end)
        return report_missing(walk);
    r = check_sums(walk, count);
    return r < 0 ? r : pool_marks_compare(&walk->marks, walk->reason); /* 6 */
}

int blob_log_check(struct blob_log *blobs, struct blob_alive *alive, size_t count,
                   struct reason *reason)
{
    struct walk walk = {.blobs = blobs, .next = alive, .end = alive + count, .reason = reason};
    int r = pool_marks_make(&walk.marks, &blobs->segments, "segment");
    if (count)
        qsort(alive, count, sizeof *alive, compare_numbers);
    if (r == 0)
        r = check_all(&walk, count);
    pool_marks_free(&walk.marks);
    return r;
}
