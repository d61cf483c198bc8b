/* SPDX-License-Identifier: BSD-3-Clause */

/* Emptying segments of the blob log: live blobs are moved to other segments, so that a segment
 * can be given back to its pool.  A blob never changes.  So to move a blob, it is enough to copy
 * it and to swap the word of its page.  The page need not be frozen. */

#include <errno.h>

#include "disk/memory/rcu.h"
#include "disk/paged/deferred.h"
#include "disk/zstd/compressor.h"

/* If the blob is live, move it to another segment.  Returns 0, or an error of blob_log_store. */
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

/* Move a blob, as move_blob does.  If the budget must first ask the machine how much memory it
 * can give, wait for the answer, and try again. */
static int move_blob_waiting(struct compressor *compressor, uint64_t number)
{
    int r;
    while ((r = move_blob(compressor, number)) == -EAGAIN)
        budget_refresh(compressor->paged->budget);
    return r;
}

/* Empty the segment that blob_log_worst chooses.  Returns false if it chooses no segment, or if
 * there is no memory for moving all live blobs of the segment.  The old blobs are freed only
 * after a grace period.  This function waits until they are freed, so that the next call does not
 * choose the same segment. */
static bool empty_segment(struct compressor *compressor, enum blob_log_need need)
{
    uint64_t number;
    int r = 0;
    if (!blob_log_worst(&compressor->blobs, need, &number))
        return false;
    do
        r = r < 0 ? r : move_blob_waiting(compressor, number);
    while (blob_log_next(&compressor->blobs, &number));
    if (need == BLOB_LOG_ROOM)
        reclaim_await_all(&compressor->paged->reclaim); /* until waiting is given up */
    else
        reclaim_run(&compressor->paged->reclaim);
    return r == 0;
}

bool compressor_tidy_locked(struct compressor *compressor, enum blob_log_need need)
{
    compressor->tidying = true;
    atomic_store_explicit(&compressor->untidy, false, memory_order_relaxed);
    bool gained;
    do {
        pthread_mutex_unlock(&compressor->lock);
        gained = empty_segment(compressor, need);
        pthread_mutex_lock(&compressor->lock);
    } while (gained && need == BLOB_LOG_TIDY && !compressor->stop);
    compressor->tidying = false;
    pthread_cond_broadcast(&compressor->progress);
    return gained;
}

/* Relaxed order is enough: nothing is lost if a thread sees a new value of `untidy` late.  If
 * more blobs become dead, `untidy` is set again. */
bool compressor_should_tidy_locked(struct compressor *compressor)
{
    return !compressor->tidying &&
           atomic_load_explicit(&compressor->untidy, memory_order_relaxed);
}
