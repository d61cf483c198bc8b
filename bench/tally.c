/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>

#include "tally.h"

void tally_merge(struct tally *into, const struct tally *from)
{
    into->requests += from->requests;
    into->bytes += from->bytes;
    into->errors += from->errors;
    into->mismatches += from->mismatches;
    if (from->latency_ns_max > into->latency_ns_max)
        into->latency_ns_max = from->latency_ns_max;
    for (unsigned i = 0; i < TALLY_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* The middle of a bucket: the inverse of tally_bucket(). */
static double bucket_ns(unsigned bucket)
{
    const unsigned fine = 1U << TALLY_FINE_BITS;
    const unsigned shift = bucket < 2 * fine ? 0 : (bucket >> TALLY_FINE_BITS) - 1;
    const uint64_t low = (uint64_t)(bucket - (shift << TALLY_FINE_BITS)) << shift;

    return (double)low + (double)((UINT64_C(1) << shift) - 1) / 2;
}

static double percentile_us(const struct tally *tally, double percent)
{
    const double wanted = (double)tally->requests * percent / 100;
    uint64_t seen = 0;

    for (unsigned i = 0; i < TALLY_BUCKETS; i++) {
        seen += tally->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return bucket_ns(i) / 1e3;
    }
    return 0;
}

static void print_text(const struct tally *tally, const struct tally_run *run)
{
    printf("%.0f requests/s, %.1f MiB/s, us: p50 %.1f p90 %.1f p99 %.1f p99.9 %.1f max %.1f, "
           "client CPU %.2f s, server CPU %.2f s, errors %" PRIu64 ", mismatches %" PRIu64
           ", seed %" PRIu64 "\n",
           (double)tally->requests / run->seconds,
           (double)tally->bytes / run->seconds / (1 << 20), percentile_us(tally, 50),
           percentile_us(tally, 90), percentile_us(tally, 99), percentile_us(tally, 99.9),
           (double)tally->latency_ns_max / 1e3, run->client_cpu, run->server_cpu, tally->errors,
           tally->mismatches, run->seed);
}

static void print_number(const char *name, double value)
{
    printf(", \"%s\": %.9g", name, value);
}

static void print_json(const struct tally *tally, const struct tally_run *run)
{
    printf("{\"requests\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"mismatches\": %" PRIu64 ", \"stalled_requests\": %" PRIu64 ", \"seed\": %" PRIu64,
           tally->requests, tally->bytes, tally->errors, tally->mismatches, run->stalled_requests,
           run->seed);
    print_number("seconds", run->seconds);
    print_number("rate", (double)tally->requests / run->seconds);
    print_number("mib_rate", (double)tally->bytes / run->seconds / (1 << 20));
    print_number("p50_us", percentile_us(tally, 50));
    print_number("p90_us", percentile_us(tally, 90));
    print_number("p99_us", percentile_us(tally, 99));
    print_number("p99_9_us", percentile_us(tally, 99.9));
    print_number("max_us", (double)tally->latency_ns_max / 1e3);
    print_number("client_cpu", run->client_cpu);
    print_number("server_cpu", run->server_cpu);
    puts("}");
}

void tally_print(const struct tally *tally, const struct tally_run *run)
{
    if (run->is_json)
        print_json(tally, run);
    else
        print_text(tally, run);
    fflush(stdout);
}
