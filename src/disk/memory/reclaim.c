/* SPDX-License-Identifier: BSD-3-Clause */

/* Things gather in a list of batches, newest first.  A round takes the whole list, waits for one
 * grace period and works it off: the more comes in, the more is paid for by one wait.
 *
 * Rounds exclude each other (`running`), so whoever gets to run one knows that all earlier rounds
 * are over: that is what reclaim_run promises.
 */

#include "disk/memory/reclaim.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disk/memory/rcu.h"
#include "os/thread.h"

#define BATCH_THINGS 168 /* a batch then takes 4 KiB */

/* A page found all zero is one round, each level of nodes left empty by it another, and releasing
 * the last a third: more than can come of one thing.  Others may hand in new ones for ever. */
#define ROUNDS_MAX 20

struct reclaim_batch {
    struct reclaim_batch *next;
    size_t count;
    struct pending things[BATCH_THINGS];
};

void reclaim_create(struct reclaim *reclaim, reclaim_fn *fn, reclaim_idle_fn *idle, void *opaque)
{
    pthread_condattr_t monotonic;
    memset(reclaim, 0, sizeof *reclaim);
    reclaim->fn = fn;
    reclaim->idle = idle;
    reclaim->opaque = opaque;
    pthread_mutex_init(&reclaim->running, NULL);
    pthread_mutex_init(&reclaim->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&reclaim->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static bool note(struct reclaim *reclaim, const struct pending *pending)
{
    struct reclaim_batch *batch = reclaim->waiting;
    if (!batch || batch->count == BATCH_THINGS) {
        batch = malloc(sizeof *batch);
        if (!batch)
            return false;
        batch->count = 0;
        batch->next = reclaim->waiting;
        reclaim->waiting = batch;
    }
    batch->things[batch->count++] = *pending;
    return true;
}

static void hand_on(struct reclaim *reclaim, const struct pending *pending)
{
    bool frozen = pending->frozen;
    reclaim->fn(reclaim->opaque, pending);
    if (!frozen) /* release, for reclaim_released */
        atomic_fetch_add_explicit(&reclaim->released, 1, memory_order_release);
}

void reclaim_add(struct reclaim *reclaim, const struct pending *pending, size_t count)
{
    if (count == 0)
        return;
    size_t noted = 0;
    pthread_mutex_lock(&reclaim->lock);
    bool was_idle = reclaim->waiting == NULL;
    while (noted < count && note(reclaim, &pending[noted]))
        noted++;
    if (was_idle)
        pthread_cond_signal(&reclaim->wake);
    pthread_mutex_unlock(&reclaim->lock);
    if (noted == count)
        return;
    rcu_wait();
    for (; noted < count; noted++)
        hand_on(reclaim, &pending[noted]);
}

static struct reclaim_batch *take_all(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->lock);
    struct reclaim_batch *batch = reclaim->waiting;
    reclaim->waiting = NULL;
    pthread_mutex_unlock(&reclaim->lock);
    return batch;
}

/* False if there was nothing to do. */
static bool one_round(struct reclaim *reclaim)
{
    pthread_mutex_lock(&reclaim->running);
    struct reclaim_batch *batch = take_all(reclaim), *next;
    bool any = batch != NULL;
    if (any)
        rcu_wait();
    for (; batch; batch = next) {
        next = batch->next;
        for (size_t i = 0; i < batch->count; i++)
            hand_on(reclaim, &batch->things[i]);
        free(batch);
    }
    pthread_mutex_unlock(&reclaim->running);
    return any;
}

void reclaim_run(struct reclaim *reclaim)
{
    for (unsigned round = 0; round < ROUNDS_MAX && one_round(reclaim); round++)
        ;
}

/* acquire: pairs with the release in hand_on */
uint64_t reclaim_released(struct reclaim *reclaim)
{
    return atomic_load_explicit(&reclaim->released, memory_order_acquire);
}

/* False if there was nothing to wait for within a second. */
static bool wait_a_second_locked(struct reclaim *reclaim)
{
    struct timespec until;
    int r = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    while (r == 0 && !reclaim->waiting && !reclaim->stop)
        r = pthread_cond_timedwait(&reclaim->wake, &reclaim->lock, &until);
    return reclaim->waiting || reclaim->stop;
}

static void *thread_main(void *arg)
{
    struct reclaim *reclaim = arg;
    bool was_idle = true;
    pthread_mutex_lock(&reclaim->lock);
    while (!reclaim->stop) {
        if (was_idle)
            while (!reclaim->waiting && !reclaim->stop)
                pthread_cond_wait(&reclaim->wake, &reclaim->lock);
        was_idle = !wait_a_second_locked(reclaim);
        pthread_mutex_unlock(&reclaim->lock);
        if (was_idle)
            reclaim->idle(reclaim->opaque);
        else
            one_round(reclaim);
        pthread_mutex_lock(&reclaim->lock);
    }
    pthread_mutex_unlock(&reclaim->lock);
    return NULL;
}

int reclaim_start(struct reclaim *reclaim)
{
    int r = os_thread_start(&reclaim->thread, thread_main, reclaim);
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
    pthread_cond_destroy(&reclaim->wake);
    pthread_mutex_destroy(&reclaim->lock);
    pthread_mutex_destroy(&reclaim->running);
    reclaim->fn = NULL;
}
