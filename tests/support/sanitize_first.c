/* SPDX-License-Identifier: BSD-3-Clause */

/* sanitize_first - start the address sanitizer before all else
 *
 * Preloaded into a stock nbdkit beside the sanitizer's library, which starts with the first
 * malloc.  That is in a constructor of libp11-kit, inside newlocale(3), while the lock on locales
 * is held; the sanitizer calls dlerror(3), which takes that lock and releases it, and from then
 * on it counts wrong: once nbdkit has told of an error it waits for ever at its end, in
 * freelocale(3).  A module built with the sanitizer starts it, and this one is linked to be the
 * first (-z initfirst); it needs nothing inside. */

#include <sanitizer/asan_interface.h>
