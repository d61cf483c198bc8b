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

/* Start a thread with all signals blocked, because signals are for the program's own threads.
 * Its stack has OS_STACK_SIZE bytes, so no function may keep more than some tens of kilobytes
 * there.  The caller must join the thread.  Returns 0, or -errno of pthread_create. */
int os_thread_start(pthread_t *thread, void *(*main)(void *), void *arg);

/* Bytes.  The C library's usual 8 MiB are only address space, but address space may be limited
 * (RLIMIT_AS), and where all memory is locked (mlockall) the whole stack is in memory.  The
 * deepest stack measured had 84 KiB, while a page was compressed; after TLS handshakes it was
 * 28 KiB.  Sanitizers put more on the stack. */
#ifdef NBDRAM_SANITIZED
#define OS_STACK_SIZE ((size_t)4 << 20)
#else
#define OS_STACK_SIZE ((size_t)512 << 10)
#endif

/* Call fn(arg) once in each of `count` threads, all of which exist at the same time: no thread
 * ends before fn has returned in all of them.  If some threads cannot be started, the others call
 * fn without them.  fn may use some ten kilobytes of stack.  The stacks are given back to the
 * system, while the C library would keep those of ordinary threads. */
void os_thread_crowd(unsigned count, void (*fn)(void *arg), void *arg);

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
