/* SPDX-License-Identifier: BSD-3-Clause */

/* Tidying the log of blobs: live blobs are moved out of a segment, so that the segment can be
 * given back.  A blob never changes.  So moving a blob takes a copy and a swap of the page's
 * word, but no freeze. */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/deferred.h"
#include "disk/zstd/compressor.h"

/* If the blob is alive, move it to another segment.  Returns 0, or an error of blob_log_store. */
static int move_blob(struct compressor *compressor, uint64_t number)
{
    const struct blob *blob = blob_log_at(&compressor->blobs, number);
    struct table *table = &compressor->paged->table;
    struct deferred deferred;
    uint64_t span, moved;
    int r = 0;
    deferred_init(&deferred);
    rcu_enter();
    slot_t *slot = table_find(table, blob->page, &span);
    uint64_t word = slot ? slot_load(slot = table_resolve(table, slot)) : 0;
    if (entry_kind(word) == ENTRY_BLOB && entry_number(word) == number) {
        r = blob_log_store(&compressor->blobs, blob->page, blob->bytes, blob->size, &moved);
        if (r == 0 && slot_swap(slot, &word, entry_make(ENTRY_BLOB, moved)))
            deferred_add_unlinked(&deferred, word);
        else if (r == 0)
            blob_log_drop(&compressor->blobs, moved);
    }
    rcu_leave();
    deferred_flush(&deferred, &compressor->paged->reclaim);
    return r;
}

/* As move_blob, but if the budget must ask the machine for memory first, wait for the answer. */
static int move_blob_waiting(struct compressor *compressor, uint64_t number)
{
    int r;
    while ((r = move_blob(compressor, number)) == -EAGAIN)
        budget_refresh(compressor->paged->budget);
    return r;
}

/* Empty the segment that blob_log_worst chooses.  Returns false if no segment is chosen, or if
 * there is no memory for moving all of its live blobs.  The old blobs are freed only after a
 * grace period.  This function waits for that, so that the same segment is not chosen again. */
static bool empty_segment(struct compressor *compressor, enum blob_log_need need)
{
    uint64_t number;
    int r = 0;
    if (!blob_log_worst(&compressor->blobs, need, &number))
        return false;
    do
        r = r < 0 ? r : move_blob_waiting(compressor, number);
    while (blob_log_next(&compressor->blobs, &number));
    reclaim_run(&compressor->paged->reclaim);
    return r == 0;
}

bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need)
{
    compressor->tidying = true;
    atomic_store_explicit(&compressor->untidy, false, memory_order_relaxed);
    pthread_mutex_unlock(&compressor->lock);
    bool gained = empty_segment(compressor, need);
    while (gained && need == BLOB_LOG_TIDY && empty_segment(compressor, need))
        ;
    pthread_mutex_lock(&compressor->lock);
    compressor->tidying = false;
    pthread_cond_broadcast(&compressor->progress);
    return gained;
}

/* Relaxed order is enough: `untidy` is only a hint.  If more of the log dies, `untidy` is set
 * again. */
bool compressor_should_tidy_locked(struct compressor *compressor)
{
    return !compressor->tidying &&
           atomic_load_explicit(&compressor->untidy, memory_order_relaxed);
}
