/* SPDX-License-Identifier: BSD-3-Clause */

/* os/thread - threads, processors and the clock
 *
 * Any thread may call any of these functions.
 */

#ifndef NBDRAM_OS_THREAD_H
#define NBDRAM_OS_THREAD_H

#include <pthread.h>
#include <stdint.h>

/* Start a thread with all signals blocked, because signals are for the program's own threads.
 * The caller must join the thread.  Returns 0, or -errno of pthread_create. */
int os_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* Lower the priority of the calling thread: niceness 10. */
void os_thread_background(void);

/* The number of processors that may run this process, at least 1. */
unsigned os_cpu_count(void);

/* The time of a clock that never goes back (CLOCK_MONOTONIC). */
int64_t os_clock_ms(void); /* milliseconds */
int64_t os_clock_ns(void); /* nanoseconds */

/* The number of the processor that runs the caller.  The number may be os_cpu_count() or more.
 * The thread may be moved to another processor before this returns, so the number is only good
 * for spreading load. */
unsigned os_cpu_now(void);

#endif
