/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/memory/rcu.h"

#include <pthread.h>
#include <stdbool.h>

#include "os/thread.h"

#ifdef NBDRAM_TSAN
char rcu_tsan_grace;
#endif

#define THREADS_MAX 256

/* The library allocates memory for each registered thread.  When the thread ends, the memory
 * stays allocated for another thread.  So to get memory for many threads, all of them must be
 * registered at the same time: no thread may end before all have registered. */
struct gathering {
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t changed;
    unsigned registered; /* threads */
    bool may_end;
};

static void *register_and_wait(void *opaque)
{
    struct gathering *gathering = opaque;
    rcu_enter();
    rcu_leave();
    pthread_mutex_lock(&gathering->lock);
    gathering->registered++;
    pthread_cond_broadcast(&gathering->changed);
    while (!gathering->may_end)
        pthread_cond_wait(&gathering->changed, &gathering->lock);
    pthread_mutex_unlock(&gathering->lock);
    return NULL;
}

void rcu_make_room(unsigned threads)
{
    struct gathering gathering = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                  .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread[THREADS_MAX];
    unsigned started = 0;
    while (started < threads && started < THREADS_MAX &&
           os_thread_start(&thread[started], register_and_wait, &gathering) == 0)
        started++;
    pthread_mutex_lock(&gathering.lock);
    while (gathering.registered < started)
        pthread_cond_wait(&gathering.changed, &gathering.lock);
    gathering.may_end = true;
    pthread_cond_broadcast(&gathering.changed);
    pthread_mutex_unlock(&gathering.lock);
    while (started)
        pthread_join(thread[--started], NULL);
}
