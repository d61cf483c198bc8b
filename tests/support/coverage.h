/* SPDX-License-Identifier: BSD-3-Clause */

/* Included before anything else when coverage is measured.  A process writes what it has run when
 * it ends by exit(); these are the other ways in which our processes end. */

#ifndef NBDRAM_TESTS_SUPPORT_COVERAGE_H
#define NBDRAM_TESTS_SUPPORT_COVERAGE_H

#include <unistd.h>

void __gcov_dump(void);

#define _exit(status) (__gcov_dump(), _exit(status))
#define execl(...) (__gcov_dump(), execl(__VA_ARGS__))

#endif
