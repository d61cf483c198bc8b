/* SPDX-License-Identifier: BSD-3-Clause */

/* turn - how long the loop serves one connection before it serves the next
 *
 * A turn is the time for which a loop serves one connection before it serves the next.  Its
 * length is fixed before it begins.  All work for the connection takes time from its turn:
 * receiving, requests, refusals, sending, TLS records, handshakes.  loop.h says in which order
 * the connections get their turns.
 *
 * Reading the clock takes some 30 nanoseconds, and a small request takes less than a microsecond.
 * So the clock is not read after every piece of work:
 *
 *     turn_spend  after work whose time depends on its length: counts the length in bytes, and
 *                 reads the clock once for every TURN_LOOK_BYTES bytes
 *     turn_look   after all other work: reads the clock at once.  Such work is decompressing a
 *                 page, looking at a range for a block status, zeroing, refusing a request, and
 *                 receiving a batch of TLS records
 *
 * Some work cannot be interrupted, so the other connections have to wait until it is done.  Such
 * work has to be short.  This applies to a send of 512 KiB, to zeroing one slice, to
 * decompressing one page, and to one step of a TLS handshake.
 *
 * Threads: a turn belongs to the thread of its loop.
 */

#ifndef NBDRAM_SERVER_SESSION_TURN_H
#define NBDRAM_SERVER_SESSION_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os/thread.h"

#define TURN_SHORT_NS 50000  /* length of a turn of a connection that need not wait in the line */
#define TURN_LONG_NS 1000000 /* length of a turn of a connection that had to wait in the line */
#define TURN_CHEAP_NS 20000  /* a turn that takes at most this time is cheap, else it is costly */
/* after this many costly turns in a row, a connection has to wait in the line */
#define TURN_COSTLY_MAX 2
#define TURN_SHORT_SEND (128u << 10) /* the most data, in bytes, of one send in a short turn */
#define TURN_ACCEPTS 64 /* the most connections that one call of server_accept accepts */
#define TURN_QUICK_SLICE_NS 100000 /* a slice that takes less time than this is quick */
#define TURN_LOOK_BYTES (64 << 10) /* the clock is read after this many bytes of work */
#define TURN_CALL_BYTES (8 << 10)  /* a system call takes as long as copying this many bytes */

struct turn {
    int64_t began;   /* when the turn began, time of os_clock_ns */
    int64_t ends;    /* when the turn ends, time of os_clock_ns */
    size_t unlooked; /* bytes that turn_spend counted since the clock was last read */
    bool is_over;    /* the time was `ends` or later when the clock was last read */
    bool is_short;   /* the turn was given TURN_SHORT_NS or less */
};

static inline void turn_begin(struct turn *turn, int64_t nanoseconds)
{
    turn->began = os_clock_ns();
    turn->ends = turn->began + nanoseconds;
    turn->unlooked = 0;
    turn->is_over = false;
    turn->is_short = nanoseconds <= TURN_SHORT_NS;
}

static inline bool turn_is_over(const struct turn *turn)
{
    return turn->is_over;
}

/* Read the clock, and set is_over if the turn is over.  Returns the time. */
static inline int64_t turn_look(struct turn *turn)
{
    int64_t now = os_clock_ns();
    turn->unlooked = 0;
    turn->is_over = now >= turn->ends;
    return now;
}

/* Returns the length of the next slice of a long range, in bytes.  The previous slice had `slice`
 * bytes, and began at the time `start` (os_clock_ns).  The function reads the clock.
 *
 * The time for a slice depends more on the contents of the range than on its length.  So if the
 * previous slice was quick, the next slice is twice as long. */
static inline uint64_t turn_next_slice(struct turn *turn, uint64_t slice, int64_t start)
{
    bool is_quick = turn_look(turn) - start < TURN_QUICK_SLICE_NS;
    return is_quick && slice < UINT64_MAX / 4 ? 2 * slice : slice;
}

/* Count work that took as long as copying `bytes` bytes.  Reads the clock once for every
 * TURN_LOOK_BYTES bytes. */
static inline void turn_spend(struct turn *turn, size_t bytes)
{
    turn->unlooked += bytes;
    if (turn->unlooked >= TURN_LOOK_BYTES)
        turn_look(turn);
}

#endif
