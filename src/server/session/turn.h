/* SPDX-License-Identifier: BSD-3-Clause */

/* turn - how long the loop serves one connection before it serves the next
 *
 * One rule: the loop serves a connection for one turn, and a turn is a span of time.  Receiving,
 * requests, refusals, sending, TLS records and handshakes all use up the same turn, because one
 * clock measures them all.  loop.h says in which order the connections get their turns.
 *
 * Reading the clock takes some 30 nanoseconds, and a small request takes less than a microsecond.
 * So work whose time follows from its length is counted in bytes (turn_spend), and the clock is
 * read once for every TURN_LOOK_BYTES bytes of work.  After other work the clock is read at once
 * (turn_look): after decompressing a page, looking at a range for a block status, zeroing,
 * refusing a request, or receiving a batch of TLS records.
 *
 * Work that cannot be interrupted has to be short, because no other connection is served
 * meanwhile: a send of 512 KiB, a slice of a zeroing, decompressing one page, one step of a TLS
 * handshake.
 *
 * Threads: a turn belongs to the thread of its loop.
 */

#ifndef NBDRAM_SERVER_SESSION_TURN_H
#define NBDRAM_SERVER_SESSION_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/thread.h"

#define TURN_SHORT_NS 50000        /* a turn of a connection whose last turn was cheap */
#define TURN_LONG_NS 1000000       /* a turn of a connection that has waited in the line */
#define TURN_CHEAP_NS 20000        /* a turn is cheap if it takes at most this time */
#define TURN_ACCEPTS 64            /* connections accepted at one listener in a row, at most */
#define TURN_QUICK_SLICE_NS 100000 /* a slice is quick if it takes less than this time */
#define TURN_LOOK_BYTES (64 << 10) /* bytes of work from one reading of the clock to the next */
#define TURN_CALL_BYTES (8 << 10)  /* a system call takes about as long as copying these bytes */

struct turn {
    int64_t began;   /* when the turn began, time of os_clock_ns */
    int64_t ends;    /* when the turn ends, time of os_clock_ns */
    size_t unlooked; /* bytes of work since the clock was read last */
    bool is_over;    /* the last reading of the clock was not before `ends` */
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

/* Read the clock, and note whether the turn is over.  Returns the time. */
static inline int64_t turn_look(struct turn *turn)
{
    int64_t now = os_clock_ns();
    turn->unlooked = 0;
    turn->is_over = now >= turn->ends;
    return now;
}

/* The length of the next slice of a long range, after a slice of `slice` bytes that began at
 * `start` (os_clock_ns).  The time that a slice takes depends on the content of the range more
 * than on its length, so the slice after a quick one is twice as long.  Reads the clock. */
static inline uint64_t turn_next_slice(struct turn *turn, uint64_t slice, int64_t start)
{
    bool is_quick = turn_look(turn) - start < TURN_QUICK_SLICE_NS;
    return is_quick && slice < UINT64_MAX / 4 ? 2 * slice : slice;
}

/* Count work that took about as long as copying so many bytes. */
static inline void turn_spend(struct turn *turn, size_t bytes)
{
    turn->unlooked += bytes;
    if (turn->unlooked >= TURN_LOOK_BYTES)
        turn_look(turn);
}

#endif
