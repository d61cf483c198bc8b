/* SPDX-License-Identifier: BSD-3-Clause */

/* os/check - whether this build verifies its own structures
 *
 * Each structure that keeps invariants has a function that verifies them:
 *
 *     int pool_check(struct pool *pool, struct reason *reason);
 *
 * The function returns 0 or -EUCLEAN.  If it returns -EUCLEAN, reason says which invariant does
 * not hold.  Tests call the function after every round.  A build with NBDRAM_CHECK also calls it
 * when the structure is destroyed:
 *
 *     struct reason reason;
 *     if (OS_CHECK_ENABLED && pool_check(pool, &reason) < 0)
 *         os_check_failed(reason.text);
 *
 * meson's option self_check decides whether NBDRAM_CHECK is defined.  By default it is defined in
 * builds of type debug and in builds with a sanitizer, and not in other builds.
 */

#ifndef NBDRAM_OS_CHECK_H
#define NBDRAM_OS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#ifdef NBDRAM_CHECK
enum { OS_CHECK_ENABLED = 1 };
#else
enum { OS_CHECK_ENABLED = 0 };
#endif

/* Write the broken invariant to standard error, and end the process with SIGABRT, as a failed
 * assert does.  Any thread may call this function. */
_Noreturn static inline void os_check_failed(const char *invariant)
{
    fprintf(stderr, "nbdram: broken invariant: %s\n", invariant);
    abort();
}

#endif
