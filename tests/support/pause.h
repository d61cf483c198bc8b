/* SPDX-License-Identifier: BSD-3-Clause */

/* pause - a buffer that holds up whoever copies from it or to it
 *
 * What goes wrong beside a copy that is half done goes wrong once in a million copies: they take
 * nanoseconds.  So here is a buffer whose later part cannot be touched at first.  The first to
 * touch it faults, and waits in the signal handler, in the middle of disk_write or disk_read,
 * until it is told to go on:
 *
 *     |  open: an ordinary page  |  shut: PAUSE_SHUT bytes that fault until opened  |
 *                                ^ border
 *
 * The disk sees a buffer like any other, since a client's memory may well fault too.
 *
 * One thread uses a pause's buffer at a time; another one may watch and release it.
 */

#ifndef NBDRAM_TESTS_PAUSE_H
#define NBDRAM_TESTS_PAUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAUSE_OPEN ((size_t)4096) /* at least so much before the border can be used */
#define PAUSE_SHUT ((size_t)64 << 10)
#define PAUSES_MAX 32 /* at the same time */

struct pause {
    uint8_t *border;
    uint64_t patience_us; /* after so long it opens by itself */
    atomic_bool reached, released;
};

/* Must not be called by two threads at once; nor pause_free. */
void pause_make(struct pause *pause);
void pause_free(struct pause *pause);

/* Shut it; what it holds stays.  Whoever touches it gives way to others until pause_release, or
 * for patience_us microseconds at the most. */
void pause_arm(struct pause *pause, uint64_t patience_us);

/* Open it, if nobody has reached it. */
void pause_disarm(struct pause *pause);

/* Give way to other threads for so long. */
void pause_here(uint64_t us);

/* Give way to others for as long as they need to do what they must not do: a grace period is over
 * when liburcu has looked again twice, which it does every 10 ms. */
void pause_turn(void);

bool pause_is_reached(struct pause *pause);
void pause_release(struct pause *pause);

#endif
