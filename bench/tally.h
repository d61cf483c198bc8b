/* SPDX-License-Identifier: BSD-3-Clause */

/* tally - the results of a run of requests
 *
 * Each thread has a tally of its own; tally_merge() adds them up.  Latencies are in nanoseconds,
 * counted in buckets of 1/64 of their power of two: a percentile is right to 1.6 %, the largest
 * latency exactly.
 */

#ifndef NBDRAM_BENCH_TALLY_H
#define NBDRAM_BENCH_TALLY_H

#include <stdbool.h>
#include <stdint.h>

enum { TALLY_FINE_BITS = 6, TALLY_BUCKETS = (64 - TALLY_FINE_BITS + 1) << TALLY_FINE_BITS };

struct tally {
    uint64_t requests, bytes; /* answered without an error; bytes as the client sees them */
    uint64_t errors;          /* answered with an error */
    uint64_t mismatches;      /* reads that returned what was not written */
    uint64_t latency_ns_max;
    uint64_t buckets[TALLY_BUCKETS];
};

/* What tally_print() prints besides. */
struct tally_run {
    double seconds;
    double client_cpu, server_cpu; /* seconds; 0: not known */
    uint64_t seed;
    uint64_t stalled_requests;
    bool is_json;
};

static inline unsigned tally_bucket(uint64_t ns)
{
    const unsigned shift =
        ns >> TALLY_FINE_BITS ? 63U - (unsigned)__builtin_clzll(ns) - TALLY_FINE_BITS : 0;

    return (shift << TALLY_FINE_BITS) + (unsigned)(ns >> shift);
}

static inline void tally_add(struct tally *tally, uint64_t bytes, uint64_t latency_ns)
{
    tally->requests++;
    tally->bytes += bytes;
    tally->buckets[tally_bucket(latency_ns)]++;
    if (latency_ns > tally->latency_ns_max)
        tally->latency_ns_max = latency_ns;
}

void tally_merge(struct tally *into, const struct tally *from);

/* Print one line: text, or a JSON object. */
void tally_print(const struct tally *tally, const struct tally_run *run);

#endif
