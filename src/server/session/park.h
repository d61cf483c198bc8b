/* SPDX-License-Identifier: BSD-3-Clause */

/* park - requests that have to wait, and the threads that wait in place of the loops
 *
 * A loop must not wait, because all of its connections would wait with it.  So it calls the
 * variants of the disk's functions that never wait.  If one of them returns -EAGAIN, the loop
 * parks the rest of the request:
 *
 *     loop                                            thread of the park
 *
 *     park_add -------> owner->queue -----------+
 *                                               '---> disk_write, disk_zero or disk_trim
 *                                                                  |
 *     park_collect <--- returns->jobs, returns->wake_event <-------'
 *
 * The owner of a job is a connection.  The loop answers the request when the job has returned; so
 * replies go out in another order than the requests came in, which NBD leaves to the server.
 *
 * Fairness.  Owners take turns: a free thread takes one job of the owner that has waited longest.
 * Of one owner, PARK_RUNNING_MAX jobs run at the same time, which is fewer than there are
 * threads.
 *
 * Bounds.  An owner whose park_is_full must not add another job; the caller stops receiving from
 * the client.  The bounds are PARK_JOBS_MAX jobs for an owner, and PARK_BYTES_MAX bytes of data
 * for all owners together.  Beyond the latter, an owner may still add its first job.  So each
 * owner that waits has a job of its own whose return wakes it.
 *
 * The end of an owner.  park_abandon drops the owner's jobs.  A job that is running goes on
 * without an owner, and is freed when it ends.
 *
 * Threads: a loop's thread calls park_add, park_collect, park_abandon and park_is_full for its
 * own connections.  The main thread calls park_init and park_stop.
 */

#ifndef NBDRAM_SERVER_SESSION_PARK_H
#define NBDRAM_SERVER_SESSION_PARK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "nbd/command.h"

#define PARK_THREADS 4
#define PARK_RUNNING_MAX 2 /* jobs of one owner that run at the same time, at most */
#define PARK_JOBS_MAX 64   /* jobs of one owner that have not been answered, at most */
/* Bytes of data in all jobs, with the exception above.  The budget does not count them, so they
 * must fit into the memory that the budget leaves to the machine: 32 MiB or more. */
#define PARK_BYTES_MAX ((size_t)16 << 20)

_Static_assert(PARK_RUNNING_MAX < PARK_THREADS, "one owner could keep all threads busy");

struct connection; /* session/state.h */
struct disk;       /* disk/disk.h */

/* A part of a request that a thread of the park carries out: `count` bytes of a write, a trim or
 * a write zeroes, from `offset`. */
struct park_job {
    struct nbd_request request; /* the whole request, for the answer */
    uint64_t offset;
    uint64_t count;
    bool is_part; /* more of the request follows: the loop must not answer it yet */

    void *data; /* of a write: owned, `count` bytes, freed when the job has run; else NULL */
    int error;  /* the result, once the job has run: 0 or -errno */

    struct park_owner *owner;   /* NULL: the owner has gone.  Guarded by park->lock */
    TAILQ_ENTRY(park_job) link; /* in owner->queue, returns->jobs or owner->finished */
};
TAILQ_HEAD(park_job_list, park_job);

/* The jobs that return to one loop. */
struct park_returns {
    struct park_job_list jobs; /* guarded by park->lock */
    int wake_event;            /* the loop's eventfd, written when a job is added to `jobs` */
};

/* The parked requests of one connection. */
struct park_owner {
    struct connection *connection;
    struct park_returns *returns; /* where the jobs return */

    /* Only the loop uses these fields. */
    unsigned count;                /* jobs that were added and not answered */
    struct park_job_list finished; /* jobs that have returned and are not answered yet */

    /* These fields are guarded by park->lock. */
    struct park_job_list queue; /* jobs that wait for a thread, in order */
    unsigned running;           /* jobs that are running */
    bool is_in_turn;            /* the owner is in park->turns */
    TAILQ_ENTRY(park_owner) in_turns;
};
TAILQ_HEAD(park_owner_list, park_owner);

struct park_thread {
    struct park *park;
    pthread_t thread;
    struct park_job *job; /* the job that the thread runs, or NULL.  Guarded by park->lock */
};

struct park {
    struct disk *disk;
    _Atomic size_t bytes; /* of data in jobs; relaxed order, because it guards nothing */

    pthread_mutex_t lock; /* guards the fields below, and those that say so above */
    pthread_cond_t work;  /* signalled when an owner is added to `turns`, and at the end */
    struct park_owner_list turns; /* owners that a thread may serve, in order */
    unsigned turn_count;          /* owners in `turns` */
    struct park_thread threads[PARK_THREADS];
    unsigned thread_count; /* threads that have started */
    unsigned idle_count;   /* threads that wait for work */
    bool stop;             /* the threads end */
};

/* Set the park up.  The threads start when they are needed. */
void park_init(struct park *park, struct disk *disk);

/* Stop: end the jobs that run now early if they can (disk_give_up_waiting), and wait for the
 * threads.  All owners must have been abandoned.  Afterwards the disk may be destroyed. */
void park_stop(struct park *park);

void park_returns_init(struct park_returns *returns, int wake_event);

/* Set an owner up that has no jobs. */
void park_owner_init(struct park_owner *owner, struct connection *connection,
                     struct park_returns *returns);

/* Add a job.  The caller fills in the first fields of *wanted, up to is_part, except data: that
 * of a write is at `data`, and is copied.  For other requests, `data` is NULL.  Returns 0, or
 * -ENOMEM if there is no memory for the copies, or if no thread can be started. */
int park_add(struct park *park, struct park_owner *owner, const struct park_job *wanted,
             const void *data);

/* Whether the owner must not add another job now. */
bool park_is_full(const struct park *park, const struct park_owner *owner);

/* Move a job that has returned to the loop to the `finished` list of its owner.  Returns the
 * owner, or NULL if no job has returned. */
struct park_owner *park_collect(struct park *park, struct park_returns *returns);

/* Take the first finished job out of the list, and no longer count it.  The caller frees it with
 * free().  Returns NULL if no job is finished. */
struct park_job *park_take_finished(struct park_owner *owner);

/* Drop all jobs of an owner.  No thread of the park uses the owner afterwards. */
void park_abandon(struct park *park, struct park_owner *owner);

#endif
