/* SPDX-License-Identifier: BSD-3-Clause */

/* sanitize_first - start the address sanitizer before anything else
 *
 * This is preloaded into a stock nbdkit, together with the library of the sanitizer.  That
 * library starts with the first malloc, which is inside newlocale(3), called by a constructor of
 * libp11-kit, while the lock of the locales is held.  The sanitizer calls dlerror(3), which takes
 * that lock and releases it.  From then on the lock's count is wrong: if nbdkit has printed an
 * error, it waits forever in freelocale(3) when it ends.
 *
 * A module that is built with the sanitizer starts it.  This module is linked to be the first one
 * (-z initfirst), and needs no code. */

#include <sanitizer/asan_interface.h>
