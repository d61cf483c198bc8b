/* SPDX-License-Identifier: BSD-3-Clause */

/* Only dead bytes count as wasted memory.  The unfilled end of a full segment does not count: if
 * the blobs of that segment were stored again, they would leave an unfilled end in another
 * segment.
 *
 * A segment with dead bytes is on a list, and a segment on a later list has more dead bytes
 * (BLOB_LISTS in blob_log.h).  So a segment to empty is on the last list that is not empty.  (At
 * first, the whole table was searched under the lock for the segment with the most dead bytes.
 * With 1 TiB there are half a million segments.)
 *
 * While a thread empties a segment, the segment is `held`.  The blobs in a held segment can still
 * be read, and the segment is not given back to the pool.
 */

#include "disk/zstd/blob_log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int blob_log_create(struct blob_log *blobs, const struct pool_options *options)
{
    struct pool_options segments = *options;
    segments.cell = options->chunk;
    segments.huge = false; /* huge pages would make the unfilled part of a segment resident */
    /* A word of the page table has only 40 bits for the number of a blob. */
    if (segments.capacity > POOL_CELLS_MAX * BLOB_UNIT)
        segments.capacity = POOL_CELLS_MAX * BLOB_UNIT;
    memset(blobs, 0, sizeof *blobs);
    int r = pool_create(&segments, &blobs->segments);
    if (r < 0)
        return r;
    blobs->segment_size = options->chunk;
    blobs->budget = options->budget;
    for (unsigned i = 0; i <= BLOB_LISTS; i++)
        blobs->lists[i] = NO_SEGMENT;
    pthread_mutex_init(&blobs->lock, NULL);
    return 0;
}

void blob_log_destroy(struct blob_log *blobs)
{
    if (blobs->segment_size == 0)
        return;
    pool_destroy(&blobs->segments);
    pthread_mutex_destroy(&blobs->lock);
    budget_give_overhead(blobs->budget, blobs->table_size * sizeof *blobs->table);
    free(blobs->table);
}

static uint64_t segment_of(const struct blob_log *blobs, uint64_t number)
{
    return number * BLOB_UNIT / blobs->segment_size;
}

static uint64_t segment_start(const struct blob_log *blobs, uint64_t segment)
{
    return segment * (blobs->segment_size / BLOB_UNIT);
}

static struct blob *at(const struct blob_log *blobs, uint64_t number)
{
    return (struct blob *)(blobs->segments.base + (size_t)number * BLOB_UNIT);
}

const struct blob *blob_log_at(const struct blob_log *blobs, uint64_t number)
{
    return at(blobs, number);
}

/* Make the array `table` large enough to have an entry for this segment. */
static int grow_table_locked(struct blob_log *blobs, uint64_t segment)
{
    if (segment < blobs->table_size)
        return 0;
    uint64_t size = blobs->table_size ? blobs->table_size * 2 : 64;
    while (size <= segment)
        size *= 2;
    struct segment *table = realloc(blobs->table, (size_t)size * sizeof *table);
    if (!table)
        return -ENOMEM;
    memset(table + blobs->table_size, 0, (size_t)(size - blobs->table_size) * sizeof *table);
    budget_charge(blobs->budget, (size - blobs->table_size) * sizeof *table);
    blobs->table = table;
    blobs->table_size = size;
    return 0;
}

unsigned blob_log_list_for(const struct blob_log *blobs, uint64_t number)
{
    const struct segment *segment = &blobs->table[number];
    uint64_t dead = segment->used - segment->live;
    bool is_open = blobs->any_open && blobs->open == number;
    if (!segment->in_use || is_open || dead == 0)
        return 0;
    return 1 + (unsigned)((dead - 1) * BLOB_LISTS / blobs->segment_size);
}

static void list_remove_locked(struct blob_log *blobs, const struct segment *segment)
{
    if (segment->previous != NO_SEGMENT)
        blobs->table[segment->previous].next = segment->next;
    else
        blobs->lists[segment->list] = segment->next;
    if (segment->next != NO_SEGMENT)
        blobs->table[segment->next].previous = segment->previous;
}

static void list_put_locked(struct blob_log *blobs, uint32_t number, unsigned list)
{
    struct segment *segment = &blobs->table[number];
    segment->next = blobs->lists[list];
    segment->previous = NO_SEGMENT;
    if (segment->next != NO_SEGMENT)
        blobs->table[segment->next].previous = number;
    blobs->lists[list] = number;
}

/* Call this after a segment has changed: move the segment to the list on which it belongs now
 * (see BLOB_LISTS). */
static void relist_locked(struct blob_log *blobs, uint64_t number)
{
    struct segment *segment = &blobs->table[number];
    unsigned list = blob_log_list_for(blobs, number);
    if (list == segment->list)
        return;
    if (segment->list)
        list_remove_locked(blobs, segment);
    segment->list = (uint8_t)list;
    if (list)
        list_put_locked(blobs, (uint32_t)number, list);
}

static bool is_dead_locked(const struct blob_log *blobs, uint64_t number)
{
    const struct segment *segment = &blobs->table[number];
    bool is_open = blobs->any_open && blobs->open == number;
    return segment->in_use && segment->live == 0 && !segment->held && !is_open;
}

/* Call this after a segment has changed.  If the segment has no live blobs and is neither open
 * nor held, it goes back to the pool.  Otherwise it goes to the list on which it belongs now (see
 * BLOB_LISTS).  Returns true if the segment went back to the pool. */
static bool release_if_dead_locked(struct blob_log *blobs, uint64_t number)
{
    struct segment *segment = &blobs->table[number];
    bool is_dead = is_dead_locked(blobs, number);
    if (is_dead) {
        segment->in_use = false;
        blobs->used -= segment->used;
        blobs->segment_count--;
        atomic_fetch_add_explicit(&blobs->recycled, 1, memory_order_relaxed);
        pool_untake(&blobs->segments, number);
    }
    relist_locked(blobs, number);
    return is_dead;
}

static int open_segment_locked(struct blob_log *blobs)
{
    uint64_t number;
    int r = pool_take(&blobs->segments, BUDGET_PACK, &number);
    if (r < 0)
        return r;
    r = grow_table_locked(blobs, number);
    if (r < 0) {
        pool_untake(&blobs->segments, number);
        return r;
    }
    bool had = blobs->any_open;
    uint64_t before = blobs->open;
    blobs->table[number] = (struct segment){.in_use = true};
    blobs->segment_count++;
    blobs->open = number;
    blobs->any_open = true;
    if (had)
        release_if_dead_locked(blobs, before);
    return 0;
}

/* Reserve the bytes of a blob in the open segment, and write the blob's header.  A walk of the
 * segment needs the header to find the next blob. */
static int append_blob_locked(struct blob_log *blobs, uint64_t page, size_t size,
                              uint64_t *number)
{
    size_t takes = blob_footprint(size);
    if (!blobs->any_open || blobs->segment_size - blobs->table[blobs->open].used < takes) {
        int r = open_segment_locked(blobs);
        if (r < 0)
            return r;
    }
    struct segment *segment = &blobs->table[blobs->open];
    *number = segment_start(blobs, blobs->open) + segment->used / BLOB_UNIT;
    *at(blobs, *number) = (struct blob){.page = page, .size = (uint32_t)size};
    segment->used += (uint32_t)takes;
    segment->live += (uint32_t)takes;
    blobs->used += takes;
    blobs->live += takes;
    blobs->blob_count++;
    return 0;
}

int blob_log_store(struct blob_log *blobs, uint64_t page, const void *bytes, size_t size,
                   uint64_t *number)
{
    pthread_mutex_lock(&blobs->lock);
    int r = append_blob_locked(blobs, page, size, number);
    pthread_mutex_unlock(&blobs->lock);
    if (r == 0)
        memcpy(at(blobs, *number)->bytes, bytes, size);
    return r;
}

static bool is_wasteful_locked(const struct blob_log *blobs)
{
    uint64_t total = blobs->segment_count * blobs->segment_size;
    return blobs->used - blobs->live > total / 16 + 2 * blobs->segment_size;
}

bool blob_log_drop(struct blob_log *blobs, uint64_t number)
{
    size_t takes = blob_footprint(blob_log_at(blobs, number)->size);
    uint64_t segment = segment_of(blobs, number);
    pthread_mutex_lock(&blobs->lock);
    assert(blobs->table[segment].live >= takes);
    blobs->table[segment].live -= (uint32_t)takes;
    blobs->live -= takes;
    blobs->blob_count--;
    bool is_released = release_if_dead_locked(blobs, segment);
    bool is_wasteful = is_wasteful_locked(blobs);
    pthread_mutex_unlock(&blobs->lock);
    if (is_released)
        pool_shrink_excess(&blobs->segments);
    return is_wasteful;
}

/* Whether a segment can be freed if live blobs are stored again in other segments.  It can if the
 * dead bytes of the log and the unfilled bytes of the open segment add up to more than one
 * segment.  This function requires another 1/128 of the log, for two reasons: some bytes are lost
 * at the ends of segments, and at most 128 bytes should be stored again for each dead byte. */
static bool has_segment_to_gain_locked(const struct blob_log *blobs)
{
    uint64_t total = blobs->segment_count * blobs->segment_size;
    uint64_t unfilled =
        blobs->any_open ? blobs->segment_size - blobs->table[blobs->open].used : 0;
    return blobs->used - blobs->live + unfilled > blobs->segment_size + total / 128;
}

static bool should_empty_locked(const struct blob_log *blobs, enum blob_log_need need)
{
    return need == BLOB_LOG_ROOM ? has_segment_to_gain_locked(blobs) : is_wasteful_locked(blobs);
}

/* Find a segment that has many dead bytes: one on the last list that is not empty.  Returns false
 * if all lists are empty. */
static bool find_worst_locked(const struct blob_log *blobs, uint64_t *worst)
{
    unsigned list = BLOB_LISTS;
    while (list && blobs->lists[list] == NO_SEGMENT)
        list--;
    *worst = blobs->lists[list];
    return list > 0;
}

bool blob_log_worst(struct blob_log *blobs, enum blob_log_need need, uint64_t *number)
{
    uint64_t worst = 0;
    pthread_mutex_lock(&blobs->lock);
    bool found = should_empty_locked(blobs, need) && find_worst_locked(blobs, &worst);
    if (found) {
        blobs->table[worst].held = true;
        *number = segment_start(blobs, worst);
    }
    pthread_mutex_unlock(&blobs->lock);
    return found;
}

bool blob_log_next(struct blob_log *blobs, uint64_t *number)
{
    uint64_t segment = segment_of(blobs, *number);
    uint64_t next = *number + blob_footprint(blob_log_at(blobs, *number)->size) / BLOB_UNIT;
    pthread_mutex_lock(&blobs->lock);
    uint64_t end = segment_start(blobs, segment) + blobs->table[segment].used / BLOB_UNIT;
    bool more = next < end, is_released = false;
    if (!more) {
        blobs->table[segment].held = false;
        is_released = release_if_dead_locked(blobs, segment);
    }
    pthread_mutex_unlock(&blobs->lock);
    if (is_released)
        pool_shrink_excess(&blobs->segments);
    if (more)
        *number = next;
    return more;
}

void blob_log_stats(struct blob_log *blobs, struct blob_log_stats *stats)
{
    pthread_mutex_lock(&blobs->lock);
    stats->count = blobs->blob_count;
    stats->bytes = blobs->live;
    pthread_mutex_unlock(&blobs->lock);
}
