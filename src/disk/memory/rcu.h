/* SPDX-License-Identifier: BSD-3-Clause */

/* rcu - read sections and grace periods
 *
 * A thread inside a read section may use numbers and addresses that it found in the page table.
 * Another thread may take a cell out of the table meanwhile.  Before it frees the cell, that
 * thread waits until every section that could have seen the cell has ended.  This wait is a grace
 * period.  A section must not wait for a client, for another section or for a grace period.
 * Sections may nest.
 *
 *     reader                          a thread that frees cell 7
 *     rcu_enter()
 *     finds cell 7 in the table       takes cell 7 out of the table
 *     uses cell 7                     rcu_wait()  . . . . . . waits for the reader
 *     rcu_leave()                     . . . . . . . . . . . . returns
 *                                     frees cell 7
 *
 * THREADS.  Any thread may call any function: liburcu's "bp" flavour registers a thread when the
 * thread first enters a section.  The thread sanitizer does not know what a grace period means.
 * So builds with this sanitizer declare it: everything that was done in sections that have ended
 * happened before everything that is done after the grace period.
 */

#ifndef NBDRAM_DISK_MEMORY_RCU_H
#define NBDRAM_DISK_MEMORY_RCU_H

#include "disk/memory/sabotage.h"
#include "os/sanitizer.h"

/* Make the functions of liburcu inline functions, which our licence allows.  The library's
 * thread-local variable is then compiled with our TLS model (meson.build).  Builds with a
 * sanitizer or for clang's analyzer do not use the inline functions.  A sanitizer would report
 * that the library misaligns its own structures.  The analyzer does not understand that a thread
 * registers itself. */
#if !defined NBDRAM_TSAN && !defined __SANITIZE_ADDRESS__ && !defined __clang_analyzer__
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-bp.h>

#ifdef NBDRAM_TSAN
#include <sanitizer/tsan_interface.h>
/* Sections and grace periods pass this address to the sanitizer when they end. */
extern char rcu_tsan_grace;
#endif

/* Begin a read section. */
static inline void rcu_enter(void)
{
    urcu_bp_read_lock();
}

/* End a read section.  The thread must not use numbers and addresses any more that it found in
 * the section. */
static inline void rcu_leave(void)
{
#ifdef NBDRAM_TSAN
    __tsan_release(&rcu_tsan_grace);
#endif
    urcu_bp_read_unlock();
}

/* Wait for a grace period: until all sections that had begun when this was called have ended.
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

/* Make liburcu allocate its memory for this number of threads.  Otherwise liburcu allocates
 * memory when a thread first enters a section, and if there is no memory, it aborts the
 * process in the middle of a request.  With this function, the abort comes at the start.
 * (liburcu's thread-local variable needs memory, too.  A setting in meson.build places the
 * variable in static TLS, so its memory is allocated together with the thread.)  This function
 * starts threads, so call it after the last fork.  If some of the threads cannot be started,
 * memory is allocated for fewer threads. */
void rcu_make_room(unsigned threads);

#endif
