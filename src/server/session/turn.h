/* SPDX-License-Identifier: BSD-3-Clause */

/* turn - how long a connection has the loop before the next one is served
 *
 * One rule: a connection has the loop for one turn, and a turn is a span of time.  Receives,
 * requests, refusals, sends, TLS records and handshakes all spend the same turn, because all are
 * measured by the same clock.  loop.h says in which order the connections get their turns.
 *
 * Looking at the clock takes some 30 nanoseconds, a small request less than a microsecond.  So
 * work whose cost is known by its length is counted in bytes (turn_spend), and the clock is looked
 * at after every TURN_LOOK_BYTES of it.  Work whose length says nothing of its cost is followed by
 * a look at once (turn_look): inflating a page, walking a range for a block status, zeroing,
 * refusing a request, a batch of TLS records.
 *
 * What cannot be interrupted has to be short, since nobody else is served meanwhile: a send of
 * 512 KiB, a slice of a zeroing, one inflated page, one step of a TLS handshake.
 *
 * Threads: a turn belongs to the thread of its loop.
 */

#ifndef NBDRAM_SERVER_SESSION_TURN_H
#define NBDRAM_SERVER_SESSION_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/thread.h"

#define TURN_SHORT_NS 50000        /* of a connection that was cheap the last time */
#define TURN_LONG_NS 1000000       /* of any other one, after it has waited in line */
#define TURN_CHEAP_NS 20000        /* a turn that took no longer was cheap */
#define TURN_ACCEPTS 64            /* connections accepted at one listener in a row */
#define TURN_QUICK_SLICE_NS 100000 /* a slice that took less is followed by one twice as long */
#define TURN_LOOK_BYTES (64 << 10)
#define TURN_CALL_BYTES (8 << 10) /* a system call costs about as much as copying this */

struct turn {
    int64_t began;   /* nanoseconds of os_clock_ns */
    int64_t ends;    /* the same */
    size_t unlooked; /* bytes of work since the last look at the clock */
    bool is_over;    /* as the last look found it */
};

static inline void turn_begin(struct turn *turn, int64_t nanoseconds)
{
    turn->began = os_clock_ns();
    turn->ends = turn->began + nanoseconds;
    turn->unlooked = 0;
    turn->is_over = false;
}

static inline bool turn_is_over(const struct turn *turn)
{
    return turn->is_over;
}

static inline void turn_look(struct turn *turn)
{
    turn->unlooked = 0;
    turn->is_over = os_clock_ns() >= turn->ends;
}

/* A long range is worked on in slices.  How long a slice takes depends on what is there, not on
 * its length, so quick ones get longer: returns the size of the slice after one of `slice` bytes
 * that began at `start` (os_clock_ns).  Looks at the clock. */
static inline uint64_t turn_next_slice(struct turn *turn, uint64_t slice, int64_t start)
{
    int64_t now = os_clock_ns();
    turn->unlooked = 0;
    turn->is_over = now >= turn->ends;
    return now - start < TURN_QUICK_SLICE_NS && slice < UINT64_MAX / 4 ? 2 * slice : slice;
}

/* Work that costs what copying so many bytes costs was done. */
static inline void turn_spend(struct turn *turn, size_t bytes)
{
    turn->unlooked += bytes;
    if (turn->unlooked >= TURN_LOOK_BYTES)
        turn_look(turn);
}

#endif
