/* SPDX-License-Identifier: BSD-3-Clause */

/* os/thread - threads, processors and the clock
 *
 * Any thread may call any of these functions.
 */

#ifndef NBDRAM_OS_THREAD_H
#define NBDRAM_OS_THREAD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "os/sanitizer.h"

/* Start a thread.  It blocks all signals, because signals are for the program's own threads.  Its
 * stack has OS_STACK_SIZE bytes, so no function may keep more than some tens of kilobytes there.
 * The caller must join the thread.  Returns 0, or -errno of pthread_create. */
int os_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* The size of a thread's stack in bytes.  The C library's usual 8 MiB are too much in two cases:
 * if address space is limited (RLIMIT_AS), and if all memory is locked (mlockall), because the
 * whole stack is then in memory.  The most stack that was ever measured is 84 KiB, while a page
 * was compressed.  After TLS handshakes it was 28 KiB.  Sanitizers put more on the stack. */
#ifdef NBDRAM_SANITIZED
#define OS_STACK_SIZE ((size_t)4 << 20)
#else
#define OS_STACK_SIZE ((size_t)512 << 10)
#endif

/* Start `count` threads, which all exist at the same time, and call fn(arg) once in each.  No
 * thread ends before fn has returned in all of them.  If some threads cannot be started, fn is
 * called only in the others.  fn may use some ten kilobytes of stack.  Afterwards the memory of
 * the stacks is given back to the system.  (The C library would keep the stacks of ordinary
 * threads.) */
void os_thread_crowd(unsigned count, void (*fn)(void *arg), void *arg);

/* Lower the priority of the calling thread to niceness 10. */
void os_thread_background(void);

/* Take real-time priority away from the calling thread, which may have inherited it. */
void os_thread_ordinary(void);

/* The number of processors that may run this process, at least 1. */
unsigned os_cpu_count(void);

/* The time of a clock that never goes back (CLOCK_MONOTONIC). */
int64_t os_clock_ms(void); /* milliseconds */
int64_t os_clock_ns(void); /* nanoseconds */

/* The number of the processor that runs the caller.  The number may be os_cpu_count() or more.
 * The kernel can move the thread to another processor before this function returns.  So use the
 * number only to spread load. */
unsigned os_cpu_now(void);

#endif
