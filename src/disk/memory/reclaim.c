/* SPDX-License-Identifier: BSD-3-Clause */

/* Items are collected in a list of batches; the newest batch is the first.  A round takes the
 * whole list, waits for one grace period, and processes the items.  So however many items have
 * come in, they share one wait.
 *
 * A reservation keeps one spare batch for the thread that made the reservation.  One batch is
 * enough, because the thread then hands in at most RECLAIM_RESERVED_MAX items, and a batch holds
 * more.  When all items of a batch are processed, the batch becomes a spare, so that a busy disk
 * seldom calls malloc here.
 *
 * A round is run under the lock `running`, so no two rounds run at once.  When a thread begins a
 * round, all earlier rounds have ended.  So when reclaim_run returns, all items that were handed
 * in before the call are processed, even those that another thread's round had taken.
 *
 * A thread that needs memory does not run a round itself, and does not wait for `running`: it
 * could not be called away from there.  It asks reclaim's thread, and waits for `progress`.
 */

#include "disk/memory/reclaim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/memory/rcu.h"
#include "os/thread.h"

#define BATCH_ITEMS 168 /* a batch with this many items takes 4 KiB */

/* The most rounds that one reclaim_run runs.  There is a limit because other threads may hand in
 * new items forever.  ROUNDS_MAX is more than one item can need: one round for a page that is
 * found all zero, one for each level of nodes that becomes empty, and one to release the last
 * node. */
#define ROUNDS_MAX 20

struct reclaim_batch {
    struct reclaim_batch *next;
    size_t count;
    struct reclaim_item items[BATCH_ITEMS];
};

_Static_assert(sizeof(struct reclaim_batch) <= 4096, "a batch fits into one page");
_Static_assert(RECLAIM_RESERVED_MAX <= BATCH_ITEMS, "one new batch is enough");

#define PAGES_PER_WAKE 64 /* after so many pages, threads that need memory may go on */

#define SPARES_KEPT 2 /* spare batches to keep in addition to the reserved ones */

void reclaim_create(struct reclaim *reclaim, struct budget *budget, reclaim_fn *fn,
                    reclaim_shrink_fn *shrink, void *opaque)
{
    pthread_condattr_t monotonic;
    memset(reclaim, 0, sizeof *reclaim);
    reclaim->budget = budget;
    reclaim->fn = fn;
    reclaim->shrink = shrink;
    reclaim->opaque = opaque;
    pthread_mutex_init(&reclaim->running, NULL);
    pthread_mutex_init(&reclaim->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&reclaim->wake, &monotonic);
    pthread_cond_init(&reclaim->progress, NULL);
    pthread_condattr_destroy(&monotonic);
}

/* The next two functions make and free a batch.  A batch is charged to the budget even if the
 * budget is used up, because the disk needs it to free memory. */

/* Returns NULL if there is no memory. */
static struct reclaim_batch *make_batch(struct reclaim *reclaim)
{
    struct reclaim_batch *batch = malloc(sizeof *batch);
    if (batch)
        budget_charge(reclaim->budget, sizeof *batch);
    return batch;
}

static void destroy_batch(struct reclaim *reclaim, struct reclaim_batch *batch)
{
    budget_give_overhead(reclaim->budget, sizeof *batch);
    free(batch);
}

/* Take a spare batch, or allocate a batch if all spares are reserved for other threads.
 * is_reserved says that the caller has a reservation, so there is a spare for it.  Returns NULL
 * if there is no memory. */
static struct reclaim_batch *take_spare_locked(struct reclaim *reclaim, bool is_reserved)
{
    struct reclaim_batch *batch = reclaim->spares;
    if (!is_reserved && reclaim->spare_count <= reclaim->reserved)
        return make_batch(reclaim);
    reclaim->spares = batch->next;
    reclaim->spare_count--;
    return batch;
}

static void put_spare_locked(struct reclaim *reclaim, struct reclaim_batch *batch)
{
    batch->next = reclaim->spares;
    reclaim->spares = batch;
    reclaim->spare_count++;
}

static void free_batch(struct reclaim *reclaim, struct reclaim_batch *batch)
{
    pthread_mutex_lock(&reclaim->lock);
    bool is_kept = reclaim->spare_count < reclaim->reserved + SPARES_KEPT;
    if (is_kept)
        put_spare_locked(reclaim, batch);
    pthread_mutex_unlock(&reclaim->lock);
    if (!is_kept)
        destroy_batch(reclaim, batch);
}

/* Append an item to the list of items that wait.  Returns false if there is no memory for it. */
static bool append_item_locked(struct reclaim *reclaim, const struct reclaim_item *item,
                               bool is_reserved)
{
    struct reclaim_batch *batch = reclaim->waiting;
    if (!batch || batch->count == BATCH_ITEMS) {
        batch = take_spare_locked(reclaim, is_reserved);
        if (!batch)
            return false;
        batch->count = 0;
        batch->next = reclaim->waiting;
        reclaim->waiting = batch;
    }
    batch->items[batch->count++] = *item;
    return true;
}

/* Append items to the list of items that wait, until there is no memory for the next one.
 * Returns the number of items that were appended. */
static size_t append_all_locked(struct reclaim *reclaim, const struct reclaim_item *items,
                                size_t count, bool is_reserved)
{
    size_t appended = 0;
    bool was_idle = reclaim->waiting == NULL;
    while (appended < count && append_item_locked(reclaim, &items[appended], is_reserved))
        appended++;
    if (was_idle && appended > 0)
        pthread_cond_signal(&reclaim->wake);
    return appended;
}

static void wake_waiters(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->lock);
    if (reclaim->waiters)
        pthread_cond_broadcast(&reclaim->progress);
    pthread_mutex_unlock(&reclaim->lock);
}

/* Release order, paired with the acquire in reclaim_released: a thread that sees the new count
 * also sees that the memory is free. */
void reclaim_count_page(struct reclaim *reclaim)
{
    uint64_t before = atomic_fetch_add_explicit(&reclaim->released, 1, memory_order_release);
    if (before % PAGES_PER_WAKE == 0)
        wake_waiters(reclaim);
}

/* Release order, as above. */
static void process_item(struct reclaim *reclaim, const struct reclaim_item *item)
{
    bool frozen = item->frozen;
    reclaim->fn(reclaim->opaque, item);
    if (!frozen)
        atomic_fetch_add_explicit(&reclaim->released, 1, memory_order_release);
}

void reclaim_add(struct reclaim *reclaim, const struct reclaim_item *items, size_t count)
{
    if (count == 0)
        return;
    pthread_mutex_lock(&reclaim->lock);
    size_t appended = append_all_locked(reclaim, items, count, false);
    pthread_mutex_unlock(&reclaim->lock);
    if (appended == count)
        return;
    rcu_wait();
    for (; appended < count; appended++)
        process_item(reclaim, &items[appended]);
}

bool reclaim_reserve(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->lock);
    if (reclaim->spare_count == reclaim->reserved) {
        struct reclaim_batch *batch = make_batch(reclaim);
        if (batch)
            put_spare_locked(reclaim, batch);
    }
    bool is_reserved = reclaim->spare_count > reclaim->reserved;
    reclaim->reserved += is_reserved;
    pthread_mutex_unlock(&reclaim->lock);
    return is_reserved;
}

void reclaim_add_reserved(struct reclaim *reclaim, const struct reclaim_item *items, size_t count)
{
    pthread_mutex_lock(&reclaim->lock);
    size_t appended = append_all_locked(reclaim, items, count, true);
    assert(appended == count && reclaim->reserved > 0);
    reclaim->reserved--;
    pthread_mutex_unlock(&reclaim->lock);
}

static struct reclaim_batch *take_waiting(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->lock);
    struct reclaim_batch *batch = reclaim->waiting;
    reclaim->waiting = NULL;
    pthread_mutex_unlock(&reclaim->lock);
    return batch;
}

/* Take all items that wait, wait for a grace period, and process the items.  Returns false if no
 * item was waiting. */
static bool run_round(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->running);
    struct reclaim_batch *batch = take_waiting(reclaim), *next;
    bool any = batch != NULL;
    if (any)
        rcu_wait();
    for (; batch; batch = next) {
        next = batch->next;
        for (size_t i = 0; i < batch->count; i++)
            process_item(reclaim, &batch->items[i]);
        free_batch(reclaim, batch);
    }
    pthread_mutex_unlock(&reclaim->running);
    return any;
}

void reclaim_run(struct reclaim *reclaim)
{
    for (unsigned round = 0; round < ROUNDS_MAX && run_round(reclaim); round++)
        ;
}

/* The acquire order is paired with the release order in process_item. */
uint64_t reclaim_released(struct reclaim *reclaim)
{
    return atomic_load_explicit(&reclaim->released, memory_order_acquire);
}

static bool has_work_locked(const struct reclaim *reclaim)
{
    return reclaim->waiting || reclaim->asked != reclaim->answered || reclaim->stop;
}

/* Returns false if there was nothing to do for a second.  Releases the lock and takes it
 * again. */
static bool wait_a_second_locked(struct reclaim *reclaim)
{
    struct timespec until;
    int r = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    while (r == 0 && !has_work_locked(reclaim))
        r = pthread_cond_timedwait(&reclaim->wake, &reclaim->lock, &until);
    return has_work_locked(reclaim);
}

/* Call the function under `running`.  A round by another thread then waits for it, so after
 * reclaim_run this thread is at rest. */
static void run_shrink(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->running);
    reclaim->shrink(reclaim->opaque);
    pthread_mutex_unlock(&reclaim->running);
}

/* Do what the threads that wait have asked for.  Releases the lock and takes it again. */
static void answer_locked(struct reclaim *reclaim)
{
    uint64_t asked = reclaim->asked;
    pthread_mutex_unlock(&reclaim->lock);
    reclaim_run(reclaim);
    run_shrink(reclaim);
    pthread_mutex_lock(&reclaim->lock);
    reclaim->answered = asked;
    pthread_cond_broadcast(&reclaim->progress);
}

static void *reclaim_thread(void *arg)
{
    struct reclaim *reclaim = arg;
    bool was_idle = true;
    pthread_mutex_lock(&reclaim->lock);
    while (!reclaim->stop) {
        if (was_idle)
            while (!has_work_locked(reclaim))
                pthread_cond_wait(&reclaim->wake, &reclaim->lock);
        was_idle = !wait_a_second_locked(reclaim);
        if (reclaim->asked != reclaim->answered) {
            answer_locked(reclaim);
            continue;
        }
        pthread_mutex_unlock(&reclaim->lock);
        if (was_idle)
            run_shrink(reclaim);
        else
            run_round(reclaim);
        pthread_mutex_lock(&reclaim->lock);
    }
    pthread_mutex_unlock(&reclaim->lock);
    return NULL;
}

/* released is NULL if a change of the count does not end the wait. */
static bool await(struct reclaim *reclaim, const uint64_t *released)
{
    if (!reclaim->started) {
        reclaim_run(reclaim);
        reclaim->shrink(reclaim->opaque);
        return true;
    }
    pthread_mutex_lock(&reclaim->lock);
    uint64_t mine = ++reclaim->asked;
    reclaim->waiters++;
    pthread_cond_signal(&reclaim->wake);
    while (reclaim->answered < mine && !reclaim->gives_up &&
           (!released || reclaim_released(reclaim) == *released))
        pthread_cond_wait(&reclaim->progress, &reclaim->lock);
    reclaim->waiters--;
    bool is_answered = reclaim->answered >= mine;
    pthread_mutex_unlock(&reclaim->lock);
    return is_answered;
}

bool reclaim_await(struct reclaim *reclaim, uint64_t released)
{
    return await(reclaim, &released);
}

bool reclaim_await_all(struct reclaim *reclaim)
{
    return await(reclaim, NULL);
}

void reclaim_give_up_waiting(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->lock);
    reclaim->gives_up = true;
    pthread_cond_broadcast(&reclaim->progress);
    pthread_mutex_unlock(&reclaim->lock);
}

int reclaim_start(struct reclaim *reclaim)
{
    int r = os_thread_start(&reclaim->thread, reclaim_thread, reclaim);
    reclaim->started = r == 0;
    return r;
}

void reclaim_destroy(struct reclaim *reclaim)
{
    if (!reclaim->fn)
        return;
    if (reclaim->started) {
        pthread_mutex_lock(&reclaim->lock);
        reclaim->stop = true;
        pthread_cond_signal(&reclaim->wake);
        pthread_mutex_unlock(&reclaim->lock);
        pthread_join(reclaim->thread, NULL);
    }
    reclaim_run(reclaim);
    while (reclaim->spares)
        destroy_batch(reclaim, take_spare_locked(reclaim, true));
    pthread_cond_destroy(&reclaim->wake);
    pthread_cond_destroy(&reclaim->progress);
    pthread_mutex_destroy(&reclaim->lock);
    pthread_mutex_destroy(&reclaim->running);
    reclaim->fn = NULL;
}
