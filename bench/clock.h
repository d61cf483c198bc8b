/* SPDX-License-Identifier: BSD-3-Clause */

/* clock - the clocks of the benchmarks */

#ifndef NBDRAM_BENCH_CLOCK_H
#define NBDRAM_BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Time since some moment in the past. */
static inline uint64_t clock_ns(void)
{
    return clock_ns_of(CLOCK_MONOTONIC);
}

static inline double clock_seconds(void)
{
    return (double)clock_ns() / 1e9;
}

#endif
