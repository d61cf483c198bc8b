/* SPDX-License-Identifier: BSD-3-Clause */

#include "disk/memory/rcu.h"

#include "os/thread.h"

#ifdef NBDRAM_TSAN
char rcu_tsan_grace;
#endif

static void visit_section(void *opaque)
{
    (void)opaque;
    rcu_enter();
    rcu_leave();
}

/* liburcu allocates memory for each thread that enters a section.  When a thread ends, its memory
 * is kept, and the next new thread gets it.  So to make liburcu allocate memory for many threads,
 * all of these threads must exist at the same time. */
void rcu_make_room(unsigned threads)
{
    os_thread_crowd(threads, visit_section, NULL);
}
