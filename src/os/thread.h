/* SPDX-License-Identifier: BSD-3-Clause */

/* os/thread - threads and processors.  Any thread may call any of these. */

#ifndef NBDRAM_OS_THREAD_H
#define NBDRAM_OS_THREAD_H

#include <pthread.h>
#include <stdint.h>

/* Start a thread that takes no signals: those are for the program's own threads. */
int os_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* Let the calling thread give way to others. */
void os_thread_background(void);

/* Processors that may run this process, at least 1. */
unsigned os_cpu_count(void);

/* Milliseconds, and nanoseconds, of a clock that only goes forward. */
int64_t os_clock(void);
int64_t os_clock_fine(void);

/* The processor that runs the caller now: only good for spreading load. */
unsigned os_cpu_now(void);

#endif
