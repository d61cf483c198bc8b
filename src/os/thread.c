/* SPDX-License-Identifier: BSD-3-Clause */

#include "os/thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/memory.h"

static int start_with(const pthread_attr_t *attributes, pthread_t *thread, void *(*main)(void *),
                      void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(thread, attributes, main, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

int os_thread_start(pthread_t *thread, void *(*main)(void *), void *arg)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, OS_STACK_SIZE);
    int r = start_with(&attributes, thread, main, arg);
    pthread_attr_destroy(&attributes);
    return r;
}

/* A crowd. */

#ifdef NBDRAM_SANITIZED
#define CROWD_STACK OS_STACK_SIZE
#else
/* Bytes.  On some processors the C library accepts no smaller stack. */
#define CROWD_STACK ((size_t)128 << 10)
#endif
#define CROWD_MAX 256 /* threads */

struct crowd {
    void (*fn)(void *arg);
    void *arg;
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t changed;
    unsigned returned; /* number of threads in which fn has returned */
    bool may_end;
};

static void *crowd_thread(void *opaque)
{
    struct crowd *crowd = opaque;
    crowd->fn(crowd->arg);
    pthread_mutex_lock(&crowd->lock);
    crowd->returned++;
    pthread_cond_broadcast(&crowd->changed);
    while (!crowd->may_end)
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    return NULL;
}

static int crowd_start(struct crowd *crowd, pthread_t *thread, char *stack)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    int r = -pthread_attr_setstack(&attributes, stack, CROWD_STACK);
    if (r == 0)
        r = start_with(&attributes, thread, crowd_thread, crowd);
    pthread_attr_destroy(&attributes);
    return r;
}

static void crowd_run(struct crowd *crowd, unsigned count, char *stacks)
{
    pthread_t threads[CROWD_MAX];
    unsigned started = 0;
    while (started < count &&
           crowd_start(crowd, &threads[started], stacks + started * CROWD_STACK) == 0)
        started++;
    pthread_mutex_lock(&crowd->lock);
    while (crowd->returned < started)
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    crowd->may_end = true;
    pthread_cond_broadcast(&crowd->changed);
    pthread_mutex_unlock(&crowd->lock);
    while (started)
        pthread_join(threads[--started], NULL);
}

void os_thread_crowd(unsigned count, void (*fn)(void *arg), void *arg)
{
    struct crowd crowd = {.fn = fn,
                          .arg = arg,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    void *stacks;
    if (count > CROWD_MAX)
        count = CROWD_MAX;
    if (os_memory_reserve(count * CROWD_STACK, os_page_size(), false, &stacks) < 0)
        return;
    if (os_memory_commit(stacks, count * CROWD_STACK) == 0)
        crowd_run(&crowd, count, stacks);
    os_memory_unreserve(stacks, count * CROWD_STACK);
}

/* Processors and the clock. */

/* On Linux each thread has its own policy, and 0 is the calling thread. */
void os_thread_ordinary(void)
{
    const struct sched_param none = {.sched_priority = 0};
    sched_setscheduler(0, SCHED_OTHER, &none);
}

/* On Linux each thread has its own niceness, and setpriority accepts the id of a thread. */
void os_thread_background(void)
{
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
}

unsigned os_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    /* sched_getaffinity fails if the machine has more processors than a cpu_set_t can hold. */
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (unsigned)count : 1;
}

unsigned os_cpu_now(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (unsigned)cpu;
}

int64_t os_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t os_clock_ms(void)
{
    return os_clock_ns() / 1000000;
}
