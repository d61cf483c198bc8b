/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/memory/pool_marks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "disk/memory/bitmap.h"
#include "disk/memory/pool_inside.h"
#include "text/reason.h"

int pool_marks_make(struct pool_marks *marks, struct pool *pool, const char *what)
{
    struct pool_inside *in = pool->inside;
    pthread_mutex_lock(&in->lock);
    uint64_t count = in->fresh * in->cells_per_chunk;
    pthread_mutex_unlock(&in->lock);
    *marks = (struct pool_marks){.pool = pool, .what = what, .count = count};
    marks->bits = calloc(count / 64 + 1, sizeof *marks->bits);
    return marks->bits ? 0 : -ENOMEM;
}

void pool_marks_free(struct pool_marks *marks)
{
    free(marks->bits);
    memset(marks, 0, sizeof *marks);
}

int pool_marks_add(struct pool_marks *marks, uint64_t cell, struct reason *reason)
{
    if (cell >= marks->count)
        return reason_set(reason, -EUCLEAN,
                          "something leads to %s %" PRIu64 ", and only %" PRIu64 " were made",
                          marks->what, cell, marks->count);
    if (bitmap_get(marks->bits, cell))
        return reason_set(reason, -EUCLEAN, "two things lead to %s %" PRIu64, marks->what, cell);
    bitmap_set(marks->bits, cell, 1, true);
    return 0;
}

/* Mark the cells of a magazine.  No structure uses these cells, so if one of them is marked
 * already, it was freed too early.  When the cells of all magazines are marked, too, the marked
 * cells must be exactly those that are neither free nor absent. */
static int mark_magazine_locked(struct pool_marks *marks, const struct magazine *magazine,
                                struct reason *reason)
{
    for (unsigned i = 0; i < magazine->count; i++) {
        uint64_t cell = magazine->cells[i];
        if (cell < marks->count && bitmap_get(marks->bits, cell))
            return reason_set(reason, -EUCLEAN,
                              "something leads to %s %" PRIu64 ", which is in a magazine",
                              marks->what, cell);
        int r = pool_marks_add(marks, cell, reason);
        if (r < 0)
            return r;
    }
    return 0;
}

static int compare_locked(const struct pool_marks *marks, struct reason *reason)
{
    const struct pool_inside *in = marks->pool->inside;
    for (uint64_t cell = 0; cell < marks->count; cell++) {
        const struct chunk *chunk = &in->chunks[cell / in->cells_per_chunk];
        size_t within = cell % in->cells_per_chunk;
        bool used = !bitmap_get(chunk_free_bits(in, chunk), within) &&
                    !bitmap_get(chunk_absent_bits(in, chunk), within / in->cells_per_granule);
        if (used != bitmap_get(marks->bits, cell))
            return reason_set(reason, -EUCLEAN,
                              used ? "%s %" PRIu64 " is in use, and nothing leads to it"
                                   : "something leads to %s %" PRIu64 ", which is not in use",
                              marks->what, cell);
    }
    return 0;
}

int pool_marks_compare(struct pool_marks *marks, struct reason *reason)
{
    struct pool_inside *in = marks->pool->inside;
    int r = pool_check(marks->pool, reason);
    for (unsigned i = 0; r == 0 && i < in->magazine_count; i++) {
        pthread_mutex_lock(&in->magazines[i].lock);
        r = mark_magazine_locked(marks, &in->magazines[i], reason);
        pthread_mutex_unlock(&in->magazines[i].lock);
    }
    if (r < 0)
        return r;
    pthread_mutex_lock(&in->lock);
    r = compare_locked(marks, reason);
    pthread_mutex_unlock(&in->lock);
    return r;
}
