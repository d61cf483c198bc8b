/* SPDX-License-Identifier: BSD-3-Clause */

/* rcu - read sections and grace periods
 *
 * A thread inside a read section may use numbers and addresses that it found in the page table.
 * Another thread may take a cell out of the table meanwhile.  Before it frees the cell, that
 * thread waits until every section that could have seen the cell has ended.  This wait is a grace
 * period.  A section must not wait for a client, for another section or for a grace period.
 * Sections may nest.
 *
 *     reader                          a thread that takes something away
 *     rcu_enter()
 *     finds cell 7 in the table       takes cell 7 out of the table
 *     uses cell 7                     rcu_wait()  . . . . . . waits for the reader
 *     rcu_leave()                     . . . . . . . . . . . . returns
 *                                     frees cell 7
 *
 * THREADS.  Any thread may call any function: liburcu's "bp" flavour registers a thread when the
 * thread first enters a section.  The thread sanitizer does not understand liburcu.  So builds
 * with this sanitizer declare what a grace period means: everything that was done in sections
 * that have ended happened before everything that is done after the grace period.
 */

#ifndef NBDRAM_DISK_MEMORY_RCU_H
#define NBDRAM_DISK_MEMORY_RCU_H

#include "disk/memory/sabotage.h"
#include "os/sanitizer.h"

/* Inline the functions of liburcu, which our licence allows.  The library's thread-local variable
 * is then compiled with our TLS model (meson.build).  The functions are not inlined in two kinds
 * of builds.  The sanitizers would report that the library misaligns its own structures.  Clang's
 * analyzer does not understand that a thread registers itself. */
#if !defined NBDRAM_TSAN && !defined __SANITIZE_ADDRESS__ && !defined __clang_analyzer__
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-bp.h>

#ifdef NBDRAM_TSAN
#include <sanitizer/tsan_interface.h>
extern char rcu_tsan_grace; /* its address stands for all sections that have ended */
#endif

/* Begin a read section. */
static inline void rcu_enter(void)
{
    urcu_bp_read_lock();
}

/* End a read section.  Numbers and addresses that the thread found in the section must not be
 * used any more. */
static inline void rcu_leave(void)
{
#ifdef NBDRAM_TSAN
    __tsan_release(&rcu_tsan_grace);
#endif
    urcu_bp_read_unlock();
}

/* Wait for a grace period: until all sections that were open when this was called have ended.
 * The caller must not be in a section.  The wait takes tens of microseconds.  If the scheduler
 * has interrupted a thread inside a section, the wait takes some ten milliseconds. */
static inline void rcu_wait(void)
{
    if (!sabotage_skips_grace_period())
        urcu_bp_synchronize_rcu();
#ifdef NBDRAM_TSAN
    __tsan_acquire(&rcu_tsan_grace);
#endif
}

/* Make liburcu allocate its memory for that many threads.  Otherwise liburcu allocates memory
 * when a thread first enters a section, and aborts if there is none.  An abort now is better than
 * an abort in the middle of a request.  (The library's thread-local variable could fail in the
 * same way; meson.build makes it part of each thread's initial memory.)  This starts threads, so
 * call it after the last fork.  If a thread cannot be started, memory is allocated for fewer
 * threads. */
void rcu_make_room(unsigned threads);

#endif
