/* SPDX-License-Identifier: BSD-3-Clause */

/* turn - how long a connection may go on before the next one is served
 *
 * The connections of a loop take turns.  A turn is over after TURN_RECEIVES receives, TURN_SENT
 * bytes sent by one flush, or TURN_EFFORT.  Effort stands for time: a nanosecond counts as four
 * bytes, so that TURN_EFFORT is 4 ms.  It is counted
 *
 *     - by length, where the length says what a request costs: bytes copied into the disk
 *     - by the clock, where it does not: walking a long range for a block status, inflating a
 *       compressed page, waiting for room, zeroing
 *
 * Looking at the clock takes some 30 nanoseconds, so TURN_UNTIMED_MAX requests go by between two
 * looks.  Without the clock, 5,800 block states of 2 GiB in one piece once kept another client
 * waiting for 10.7 s.
 *
 * Every bound on a turn is in this file.  Who counts: requests.c (requests), commands.c (slices
 * of a long zeroing); who stops: connection.c, requests.c, replies.c, server.c (accepting).
 *
 * A turn belongs to its loop's thread.
 */

#ifndef NBDRAM_SERVER_SESSION_TURN_H
#define NBDRAM_SERVER_SESSION_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "os/thread.h"

#define TURN_RECEIVES 16        /* receives in one step of a connection */
#define TURN_SENT (2u << 20)    /* bytes sent by one flush of replies */
#define TURN_ACCEPTS 64         /* connections accepted at one listener in a row */
#define TURN_EFFORT (16u << 20) /* see above */
#define TURN_EFFORT_A_NANOSECOND 4
#define TURN_UNTIMED_MAX 4

struct turn {
    uint64_t effort;
    int64_t began;    /* nanoseconds of os_clock_ns */
    unsigned untimed; /* requests since the last look at the clock; goes on from turn to turn */
};

static inline void turn_begin(struct turn *turn)
{
    turn->effort = 0;
    turn->began = os_clock_ns();
}

static inline bool turn_is_over(const struct turn *turn)
{
    return turn->effort >= TURN_EFFORT;
}

/* Bytes were copied. */
static inline void turn_count_bytes(struct turn *turn, uint64_t bytes)
{
    turn->effort += bytes;
}

/* Something took so long. */
static inline void turn_count_nanoseconds(struct turn *turn, int64_t nanoseconds)
{
    turn->effort += (uint64_t)nanoseconds * TURN_EFFORT_A_NANOSECOND;
}

/* Look at the clock: the effort is at least the time since the turn began. */
static inline void turn_look_at_clock(struct turn *turn)
{
    uint64_t passed = (uint64_t)(os_clock_ns() - turn->began) * TURN_EFFORT_A_NANOSECOND;
    turn->untimed = 0;
    if (turn->effort < passed)
        turn->effort = passed;
}

#endif
