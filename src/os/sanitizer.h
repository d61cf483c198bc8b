/* SPDX-License-Identifier: BSD-3-Clause */

/* os/sanitizer - defines NBDRAM_TSAN in builds with the thread sanitizer, of gcc or clang */

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

#endif
