/* SPDX-License-Identifier: BSD-3-Clause */

/* Functions that verify the invariants of a pool.  pool_inside.h lists and numbers the
 * invariants. */

#include "disk/memory/pool_inside.h"

#include <errno.h>
#include <inttypes.h>

#include "disk/memory/bitmap.h"
#include "text/reason.h"

/* Write to reason which invariant is broken, and how.  The macro's value is -EUCLEAN. */
#define BROKEN(reason, number, ...)                                                              \
    reason_set(reason, -EUCLEAN, "pool: invariant " #number ": " __VA_ARGS__)

/* Verify a part of invariant 1 of pool_inside.h: no cell of the chunk is both free and absent. */
static int check_states(const struct pool_inside *in, uint64_t number, struct reason *reason)
{
    const struct chunk *chunk = &in->chunks[number];
    for (uint32_t i = 0; i < in->granules_per_chunk; i++) {
        if (bitmap_get(chunk_absent_bits(in, chunk), i) &&
            bitmap_count(chunk_free_bits(in, chunk), (size_t)i * in->cells_per_granule,
                         in->cells_per_granule) > 0)
            return BROKEN(reason, 1,
                          "granule %" PRIu32 " of chunk %" PRIu64 " is absent and has free cells",
                          i, number);
    }
    return 0;
}

/* Verify invariants 2, 6 and 11 of pool_inside.h: the chunk counts its free cells and its absent
 * granules correctly, is split if it is absent in part, and is committed unless it is vacant.
 * The bits of each bitmap are counted up to the end of its last word.  So the check also notices
 * a bit that is set after the chunk's last cell or granule. */
static int check_counts(const struct pool_inside *in, uint64_t number, struct reason *reason)
{
    const struct chunk *chunk = &in->chunks[number];
    size_t free = bitmap_count(chunk_free_bits(in, chunk), 0, in->free_words * 64);
    size_t absent = bitmap_count(chunk_absent_bits(in, chunk), 0, in->absent_words * 64);
    if (free != chunk->free)
        return BROKEN(reason, 2, "chunk %" PRIu64 " counts %" PRIu32 " free cells and has %zu",
                      number, chunk->free, free);
    if (absent != chunk->absent)
        return BROKEN(reason, 2,
                      "chunk %" PRIu64 " counts %" PRIu32 " absent granules and has %zu", number,
                      chunk->absent, absent);
    if (absent > 0 && absent < in->granules_per_chunk && !chunk->split)
        return BROKEN(reason, 6, "chunk %" PRIu64 " is absent in part and not split", number);
    if (absent < in->granules_per_chunk && !chunk->committed)
        return BROKEN(reason, 11, "chunk %" PRIu64 " is neither vacant nor committed", number);
    return 0;
}

/* Verify invariants 1 to 4, 6 and 11 of pool_inside.h, as far as they are about single chunks and
 * the sums over all chunks. */
static int check_chunks(const struct pool_inside *in, struct reason *reason)
{
    uint64_t free = 0, resident = 0;
    for (uint64_t i = 0; i < in->fresh; i++) {
        const struct chunk *chunk = &in->chunks[i];
        int r = check_counts(in, i, reason);
        if (r == 0)
            r = check_states(in, i, reason);
        if (r < 0)
            return r;
        if (chunk->list != chunk_list_for(in, chunk))
            return BROKEN(reason, 3, "chunk %" PRIu64 " says list %u and belongs on list %u", i,
                          chunk->list, chunk_list_for(in, chunk));
        free += chunk->free;
        resident += in->cells_per_chunk - chunk->absent * in->cells_per_granule;
    }
    if (free != in->free)
        return BROKEN(reason, 4, "the pool counts %" PRIu64 " free cells and has %" PRIu64,
                      in->free, free);
    if (resident != in->resident)
        return BROKEN(reason, 4, "the pool counts %" PRIu64 " resident cells and has %" PRIu64,
                      in->resident, resident);
    return 0;
}

/* Verify invariant 3 of pool_inside.h: each chunk that was ever used is on exactly one list.  If
 * the links of a list agree with each other, the list does not contain a chunk twice.  So it is
 * enough that no chunk is on a wrong list, and that all lists together contain as many chunks as
 * were ever used. */
static int check_lists(const struct pool_inside *in, struct reason *reason)
{
    uint64_t listed = 0;
    for (unsigned list = 0; list < CHUNK_LISTS; list++) {
        const struct chunk *previous = NULL;
        for (const struct chunk *chunk = in->lists[list]; chunk; chunk = chunk->next) {
            uint64_t number = chunk_number(in, chunk);
            if (number >= in->fresh || chunk->list != list)
                return BROKEN(reason, 3, "list %u has a chunk that does not belong there", list);
            if (chunk->previous != previous)
                return BROKEN(reason, 3, "chunk %" PRIu64 " has a wrong link on list %u", number,
                              list);
            previous = chunk;
            listed++;
        }
    }
    if (listed != in->fresh)
        return BROKEN(reason, 3, "%" PRIu64 " chunks are on lists, of %" PRIu64, listed,
                      in->fresh);
    return 0;
}

/* Verify invariant 7 of pool_inside.h: a fresh chunk was never touched.  This looks only at the
 * first fresh chunk, because there can be millions. */
static int check_fresh(const struct pool_inside *in, struct reason *reason)
{
    if (in->fresh > in->chunk_count)
        return BROKEN(reason, 7, "there are fewer chunks than were touched");
    if (in->fresh == in->chunk_count)
        return 0;
    const struct chunk *chunk = &in->chunks[in->fresh];
    if (chunk->free || chunk->absent || chunk->next || chunk->previous ||
        bitmap_count(chunk_free_bits(in, chunk), 0, in->free_words * 64) ||
        bitmap_count(chunk_absent_bits(in, chunk), 0, in->absent_words * 64))
        return BROKEN(reason, 7, "chunk %" PRIu64 " is fresh and was touched", in->fresh);
    return 0;
}

/* Whether a cell is in magazines twice.  The cell is entry `at` of a magazine.  The function
 * looks at all earlier entries of that magazine, and at all earlier magazines. */
static bool is_held_before(const struct pool_inside *in, unsigned magazine, unsigned at)
{
    uint64_t cell = in->magazines[magazine].cells[at];
    for (unsigned i = 0; i <= magazine; i++) {
        unsigned end = i == magazine ? at : in->magazines[i].count;
        for (unsigned j = 0; j < end; j++)
            if (in->magazines[i].cells[j] == cell)
                return true;
    }
    return false;
}

/* Verify invariant 1 of pool_inside.h for a cell in a magazine: the cell is not free, not absent,
 * and in no magazine twice. */
static int check_held_cell(const struct pool_inside *in, unsigned magazine, unsigned at,
                           struct reason *reason)
{
    uint64_t cell = in->magazines[magazine].cells[at];
    if (cell / in->cells_per_chunk >= in->fresh)
        return BROKEN(reason, 1, "cell %" PRIu64 " is in a magazine and was never made", cell);
    const struct chunk *chunk = &in->chunks[cell / in->cells_per_chunk];
    uint32_t within = (uint32_t)(cell % in->cells_per_chunk);
    if (bitmap_get(chunk_free_bits(in, chunk), within))
        return BROKEN(reason, 1, "cell %" PRIu64 " is in a magazine and free", cell);
    if (bitmap_get(chunk_absent_bits(in, chunk), within / in->cells_per_granule))
        return BROKEN(reason, 1, "cell %" PRIu64 " is in a magazine and absent", cell);
    if (is_held_before(in, magazine, at))
        return BROKEN(reason, 1, "cell %" PRIu64 " is in magazines twice", cell);
    return 0;
}

/* Verify invariants 1, 8 and 9 of pool_inside.h: a cell in a magazine is in no other state, no
 * magazine holds too many cells, and the cells in use are enough for the granules that the system
 * is taking back. */
static int check_magazines(const struct pool_inside *in, struct reason *reason)
{
    uint64_t held = 0;
    for (unsigned i = 0; i < in->magazine_count; i++) {
        unsigned count = in->magazines[i].count;
        if (count > in->magazine_cells)
            return BROKEN(reason, 8, "magazine %u holds %u cells of at most %u", i, count,
                          in->magazine_cells);
        for (unsigned j = 0; j < count; j++) {
            int r = check_held_cell(in, i, j, reason);
            if (r < 0)
                return r;
        }
        held += count;
    }
    uint64_t used = in->resident - in->free - held;
    if (in->discards > used / in->cells_per_granule)
        return BROKEN(reason, 9, "%u discards need more than the %" PRIu64 " cells in use",
                      in->discards, used);
    return 0;
}

/* Verify invariants 4, 5 and 10 of pool_inside.h: the budget is charged for the resident cells,
 * `leftover` is not too large, and there are not too many cells.  Other pools use the same
 * budget, so it can be charged for more than this pool's memory.  Relaxed order suffices, because
 * this pool charged the budget under the pool's lock, and the caller holds that lock. */
static int check_sums(const struct pool_inside *in, struct reason *reason)
{
    if (in->chunk_count * in->cells_per_chunk > POOL_CELLS_MAX)
        return BROKEN(reason, 10,
                      "there are %" PRIu64 " chunks, too many for their cells' numbers",
                      in->chunk_count);
    uint64_t charged = in->resident * in->options.cell + in->fresh * chunk_overhead(in);
    uint64_t used = atomic_load_explicit(&in->options.budget->used, memory_order_relaxed);
    if (charged > used)
        return BROKEN(reason, 4,
                      "the pool has %" PRIu64 " bytes in memory, the budget was charged %" PRIu64,
                      charged, used);
    if (in->leftover > in->free)
        return BROKEN(reason, 5, "leftover is %" PRIu64 " and free only %" PRIu64, in->leftover,
                      in->free);
    return 0;
}

/* Verify all invariants of pool_inside.h.  The caller holds the pool's lock and the locks of all
 * magazines. */
static int check_all_locked(const struct pool_inside *in, struct reason *reason)
{
    int r = check_fresh(in, reason);
    if (r == 0)
        r = check_chunks(in, reason);
    if (r == 0)
        r = check_lists(in, reason);
    if (r == 0)
        r = check_sums(in, reason);
    if (r == 0)
        r = check_magazines(in, reason);
    return r;
}

int pool_check(struct pool *pool, struct reason *reason)
{
    struct pool_inside *in = pool->inside;
    if (!in)
        return 0;
    for (unsigned i = 0; i < in->magazine_count; i++)
        pthread_mutex_lock(&in->magazines[i].lock);
    pthread_mutex_lock(&in->lock);
    int r = check_all_locked(in, reason);
    pthread_mutex_unlock(&in->lock);
    for (unsigned i = in->magazine_count; i-- > 0;)
        pthread_mutex_unlock(&in->magazines[i].lock);
    return r;
}
