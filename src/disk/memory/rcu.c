/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/memory/rcu.h"

#include <pthread.h>
#include <stdbool.h>

#include "os/thread.h"

#ifdef NBDRAM_TSAN
char rcu_tsan_grace;
#endif

#define THREADS_MAX 256

/* The threads that are registered at the same time are what the library makes room for, and what
 * it keeps when they end. */
struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned there;
    bool may_go;
};

static void *stand_there(void *opaque)
{
    struct crowd *crowd = opaque;
    rcu_enter();
    rcu_leave();
    pthread_mutex_lock(&crowd->lock);
    crowd->there++;
    pthread_cond_broadcast(&crowd->changed);
    while (!crowd->may_go)
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    return NULL;
}

void rcu_make_room(unsigned threads)
{
    struct crowd crowd = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t thread[THREADS_MAX];
    unsigned started = 0;
    while (started < threads && started < THREADS_MAX &&
           os_thread_start(&thread[started], stand_there, &crowd) == 0)
        started++;
    pthread_mutex_lock(&crowd.lock);
    while (crowd.there < started)
        pthread_cond_wait(&crowd.changed, &crowd.lock);
    crowd.may_go = true;
    pthread_cond_broadcast(&crowd.changed);
    pthread_mutex_unlock(&crowd.lock);
    while (started)
        pthread_join(thread[--started], NULL);
}
