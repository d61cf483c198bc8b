/* SPDX-License-Identifier: BSD-3-Clause */

/* A job is in one place at a time, and `owner` says whose it is:
 *
 *     owner->queue      waits for a thread
 *     thread->job       a thread runs it
 *     returns->jobs     has run, and waits for the loop
 *     owner->finished   the loop has it, and answers it when the client takes replies
 *
 * An owner is in park->turns exactly if a job is in its queue and fewer than PARK_RUNNING_MAX of
 * its jobs are running.
 *
 * The lock is held for a few instructions, and also while an eventfd is written: as soon as the
 * lock is free, the loop may abandon the owner, end, and close its eventfd.
 */

#include "server/session/park.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk/disk.h"
#include "os/thread.h"

void park_init(struct park *park, struct disk *disk)
{
    *park = (struct park){.disk = disk};
    pthread_mutex_init(&park->lock, NULL);
    pthread_cond_init(&park->work, NULL);
    TAILQ_INIT(&park->turns);
}

void park_returns_init(struct park_returns *returns, int wake_event)
{
    TAILQ_INIT(&returns->jobs);
    returns->wake_event = wake_event;
}

void park_owner_init(struct park_owner *owner, struct connection *connection,
                     struct park_returns *returns)
{
    *owner = (struct park_owner){.connection = connection, .returns = returns};
    TAILQ_INIT(&owner->finished);
    TAILQ_INIT(&owner->queue);
}

/* Jobs. */

static void drop_data(struct park *park, struct park_job *job)
{
    if (!job->data)
        return;
    free(job->data);
    job->data = NULL;
    atomic_fetch_sub_explicit(&park->bytes, (size_t)job->count, memory_order_relaxed);
}

static void free_job(struct park *park, struct park_job *job)
{
    drop_data(park, job);
    free(job);
}

static struct park_job *make_job(struct park *park, struct park_owner *owner,
                                 const struct park_job *wanted, const void *data)
{
    struct park_job *job = malloc(sizeof *job);
    if (!job)
        return NULL;
    *job = *wanted;
    job->owner = owner;
    job->data = NULL;
    if (!data)
        return job;
    job->data = malloc((size_t)job->count);
    if (!job->data) {
        free(job);
        return NULL;
    }
    memcpy(job->data, data, (size_t)job->count);
    atomic_fetch_add_explicit(&park->bytes, (size_t)job->count, memory_order_relaxed);
    return job;
}

static void run_job(struct disk *disk, struct park_job *job)
{
    bool provide = job->request.flags & NBD_CMD_FLAG_NO_HOLE;
    if (job->request.type == NBD_CMD_WRITE)
        job->error = disk_write(disk, job->offset, (size_t)job->count, job->data);
    else if (job->request.type == NBD_CMD_TRIM)
        job->error = disk_trim(disk, job->offset, job->count);
    else
        job->error = disk_zero(disk, job->offset, job->count, provide ? DISK_NO_HOLE : 0);
}

/* The threads. */

static void *park_main(void *arg);

/* Start a thread if there are more owners to serve than idle threads.  A thread counts as idle
 * from its start.  If none can be started, the others do its work. */
static void start_thread_locked(struct park *park)
{
    if (park->turn_count <= park->idle_count || park->thread_count == PARK_THREADS)
        return;
    struct park_thread *thread = &park->threads[park->thread_count];
    thread->park = park;
    if (os_thread_start(&thread->thread, park_main, thread) < 0)
        return;
    park->thread_count++;
    park->idle_count++;
}

/* Let the owner join park->turns if a thread may take one of its jobs. */
static void offer_locked(struct park *park, struct park_owner *owner)
{
    if (owner->is_in_turn || TAILQ_EMPTY(&owner->queue) || owner->running == PARK_RUNNING_MAX)
        return;
    TAILQ_INSERT_TAIL(&park->turns, owner, in_turns);
    owner->is_in_turn = true;
    park->turn_count++;
    start_thread_locked(park);
    pthread_cond_signal(&park->work);
}

static void withdraw_locked(struct park *park, struct park_owner *owner)
{
    if (!owner->is_in_turn)
        return;
    TAILQ_REMOVE(&park->turns, owner, in_turns);
    owner->is_in_turn = false;
    park->turn_count--;
}

/* Take a job of the owner that has waited longest, and let the owner wait for its next turn. */
static struct park_job *take_job_locked(struct park *park)
{
    struct park_owner *owner = TAILQ_FIRST(&park->turns);
    struct park_job *job = TAILQ_FIRST(&owner->queue);
    withdraw_locked(park, owner);
    TAILQ_REMOVE(&owner->queue, job, link);
    owner->running++;
    offer_locked(park, owner);
    return job;
}

static void return_job_locked(struct park *park, struct park_job *job)
{
    struct park_owner *owner = job->owner;
    uint64_t one = 1;
    if (!owner) {
        free_job(park, job);
        return;
    }
    owner->running--;
    offer_locked(park, owner);
    TAILQ_INSERT_TAIL(&owner->returns->jobs, job, link);
    if (write(owner->returns->wake_event, &one, sizeof one) < 0)
        return; /* the loop is awake already: the counter of its eventfd is full */
}

static void *park_main(void *arg)
{
    struct park_thread *self = arg;
    struct park *park = self->park;
    os_thread_ordinary(); /* the loop that started it may have real-time priority (--swap) */
    pthread_mutex_lock(&park->lock);
    for (;;) {
        while (!park->stop && TAILQ_EMPTY(&park->turns))
            pthread_cond_wait(&park->work, &park->lock);
        if (park->stop)
            break;
        park->idle_count--;
        struct park_job *job = self->job = take_job_locked(park);
        pthread_mutex_unlock(&park->lock);
        run_job(park->disk, job);
        drop_data(park, job);
        pthread_mutex_lock(&park->lock);
        self->job = NULL;
        park->idle_count++;
        return_job_locked(park, job);
    }
    pthread_mutex_unlock(&park->lock);
    return NULL;
}

void park_stop(struct park *park)
{
    pthread_mutex_lock(&park->lock);
    assert(TAILQ_EMPTY(&park->turns));
    park->stop = true;
    unsigned count = park->thread_count;
    if (park->idle_count < count)
        disk_give_up_waiting(park->disk);
    pthread_cond_broadcast(&park->work);
    pthread_mutex_unlock(&park->lock);
    for (unsigned i = 0; i < count; i++)
        pthread_join(park->threads[i].thread, NULL);
    assert(atomic_load_explicit(&park->bytes, memory_order_relaxed) == 0);
    pthread_cond_destroy(&park->work);
    pthread_mutex_destroy(&park->lock);
}

/* What the loops call. */

int park_add(struct park *park, struct park_owner *owner, const struct park_job *wanted,
             const void *data)
{
    struct park_job *job = make_job(park, owner, wanted, data);
    if (!job)
        return -ENOMEM;
    assert(owner->count < PARK_JOBS_MAX);
    pthread_mutex_lock(&park->lock);
    TAILQ_INSERT_TAIL(&owner->queue, job, link);
    offer_locked(park, owner);
    bool is_hopeless = park->thread_count == 0;
    if (is_hopeless) {
        TAILQ_REMOVE(&owner->queue, job, link);
        withdraw_locked(park, owner);
    }
    pthread_mutex_unlock(&park->lock);
    if (is_hopeless) {
        free_job(park, job);
        return -ENOMEM;
    }
    owner->count++;
    return 0;
}

bool park_is_full(const struct park *park, const struct park_owner *owner)
{
    return owner->count == PARK_JOBS_MAX ||
           (owner->count &&
            atomic_load_explicit(&park->bytes, memory_order_relaxed) >= PARK_BYTES_MAX);
}

struct park_owner *park_collect(struct park *park, struct park_returns *returns)
{
    pthread_mutex_lock(&park->lock);
    struct park_job *job = TAILQ_FIRST(&returns->jobs);
    struct park_owner *owner = job ? job->owner : NULL;
    if (job)
        TAILQ_REMOVE(&returns->jobs, job, link);
    pthread_mutex_unlock(&park->lock);
    if (job)
        TAILQ_INSERT_TAIL(&owner->finished, job, link);
    return owner;
}

struct park_job *park_take_finished(struct park_owner *owner)
{
    struct park_job *job = TAILQ_FIRST(&owner->finished);
    if (!job)
        return NULL;
    TAILQ_REMOVE(&owner->finished, job, link);
    owner->count--;
    return job;
}

/* Free the jobs of a list that belong to the owner. */
static void free_jobs_of(struct park *park, struct park_owner *owner, struct park_job_list *list)
{
    struct park_job *job = TAILQ_FIRST(list);
    while (job) {
        struct park_job *next = TAILQ_NEXT(job, link);
        if (job->owner == owner) {
            TAILQ_REMOVE(list, job, link);
            free_job(park, job);
        }
        job = next;
    }
}

void park_abandon(struct park *park, struct park_owner *owner)
{
    if (owner->count == 0)
        return;
    pthread_mutex_lock(&park->lock);
    withdraw_locked(park, owner);
    free_jobs_of(park, owner, &owner->queue);
    free_jobs_of(park, owner, &owner->returns->jobs);
    free_jobs_of(park, owner, &owner->finished);
    for (unsigned i = 0; i < park->thread_count; i++)
        if (park->threads[i].job && park->threads[i].job->owner == owner)
            park->threads[i].job->owner = NULL;
    pthread_mutex_unlock(&park->lock);
    owner->count = 0;
}
