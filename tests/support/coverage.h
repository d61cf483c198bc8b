/* SPDX-License-Identifier: BSD-3-Clause */

/* Included before all else where coverage is measured: what a process has run is written when it
 * ends by exit(), and these are the other ways in which ours end. */

#ifndef NBDRAM_TESTS_SUPPORT_COVERAGE_H
#define NBDRAM_TESTS_SUPPORT_COVERAGE_H

#include <unistd.h>

void __gcov_dump(void);

#define _exit(status) (__gcov_dump(), _exit(status))
#define execl(...) (__gcov_dump(), execl(__VA_ARGS__))

#endif
