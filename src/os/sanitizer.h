/* SPDX-License-Identifier: BSD-3-Clause */

/* os/sanitizer - macros for builds with a sanitizer of gcc or clang
 *
 *     NBDRAM_TSAN        defined in builds with the thread sanitizer
 *     NBDRAM_SANITIZED   defined in builds with the thread sanitizer or the address sanitizer
 */

#ifndef NBDRAM_OS_SANITIZER_H
#define NBDRAM_OS_SANITIZER_H

#if defined __has_feature
#if __has_feature(thread_sanitizer)
#define NBDRAM_TSAN 1
#endif
#endif
#if defined __SANITIZE_THREAD__
#define NBDRAM_TSAN 1
#endif

#if defined __has_feature
#if __has_feature(address_sanitizer)
#define NBDRAM_SANITIZED 1
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined NBDRAM_TSAN
#define NBDRAM_SANITIZED 1
#endif

#endif
