/* SPDX-License-Identifier: BSD-3-Clause */

/* rcu - read sections and grace periods
 *
 * A thread inside a read section may follow numbers it finds in the page table: what leaves the
 * table meanwhile is not reused before every section that could have seen it has ended.  That is
 * a grace period.  A section must not wait for a client, for another section, or for a grace
 * period.
 *
 * liburcu's "bp" flavour registers threads by itself, so any thread of the host will do.  The
 * thread sanitizer does not see through the library; it is told what a grace period means: all
 * that was done in sections that have ended happened before what follows it.
 */

#ifndef NBDRAM_DISK_MEMORY_RCU_H
#define NBDRAM_DISK_MEMORY_RCU_H

#include "os/sanitizer.h"

/* Inline, which our licence allows, and which takes liburcu's thread-local variable into our TLS
 * model (meson.build).  Not for the sanitizers: it lays out its own structures misaligned.  Nor
 * for the analyzer, which cannot see that a thread is registered when it needs to be. */
#if !defined NBDRAM_TSAN && !defined __SANITIZE_ADDRESS__ && !defined __clang_analyzer__
#define _LGPL_SOURCE
#endif
#include <urcu/urcu-bp.h>

#ifdef NBDRAM_TSAN
#include <sanitizer/tsan_interface.h>
extern char rcu_tsan_grace; /* stands for all sections that have ended */
#endif

static inline void rcu_enter(void)
{
    urcu_bp_read_lock();
}

static inline void rcu_leave(void)
{
#ifdef NBDRAM_TSAN
    __tsan_release(&rcu_tsan_grace);
#endif
    urcu_bp_read_unlock();
}

/* Wait for a grace period.  Tens of microseconds; some ten milliseconds beside a section that the
 * scheduler has interrupted. */
static inline void rcu_wait(void)
{
#ifndef NBDRAM_BREAK_GRACE
    urcu_bp_synchronize_rcu();
#endif
#ifdef NBDRAM_TSAN
    __tsan_acquire(&rcu_tsan_grace);
#endif
}

/* Make room for that many threads.  The library takes memory when a thread first enters a
 * section, and aborts if there is none: better now than in the middle of a request.  (Its
 * thread-local variable would be another such case: meson.build has it allocated with the
 * thread.)  Needs threads, so it is to be called after the last fork; if there are none to be
 * had, nothing happens. */
void rcu_make_room(unsigned threads);

#endif
