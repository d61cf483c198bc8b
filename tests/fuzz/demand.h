/* SPDX-License-Identifier: BSD-3-Clause */

/* demand - an expectation of a fuzz target: if it is not met, print a line, and abort() */

#ifndef NBDRAM_TESTS_DEMAND_H
#define NBDRAM_TESTS_DEMAND_H

#include <stdio.h>
#include <stdlib.h>

/* DEMAND(condition, format, ...) */
#define DEMAND(condition, ...)                                                                   \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition);              \
            fprintf(stderr, __VA_ARGS__);                                                        \
            fputc('\n', stderr);                                                                 \
            abort();                                                                             \
        }                                                                                        \
    } while (0)

#endif
