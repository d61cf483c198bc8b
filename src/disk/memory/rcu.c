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

/* The library allocates memory for each registered thread.  When the thread ends, the memory
 * stays allocated for another thread.  So to get memory for many threads, all of them must be
 * registered at the same time. */
void rcu_make_room(unsigned threads)
{
    os_thread_crowd(threads, visit_section, NULL);
}
