/* SPDX-License-Identifier: BSD-3-Clause */

/* pause - a buffer that holds up the thread that copies from it or to it
 *
 * A fault that needs a copy to be half done shows once in a million copies, because they take
 * nanoseconds.  So the later part of this buffer cannot be touched at first.  The first thread
 * that touches it faults, and waits in the signal handler, in the middle of disk_write or
 * disk_read, until it is released:
 *
 *     |  open: an ordinary page  |  shut: PAUSE_SHUT bytes that fault until opened  |
 *                                ^ border
 *
 * For the disk this is a buffer like any other: a client's memory may fault as well.
 *
 * One thread at a time uses the buffer of a pause; another one may watch and release it.
 */

#ifndef NBDRAM_TESTS_PAUSE_H
#define NBDRAM_TESTS_PAUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAUSE_OPEN ((size_t)4096) /* at least this many bytes before the border can be used */
#define PAUSE_SHUT ((size_t)64 << 10)
#define PAUSES_MAX 32 /* that there can be at the same time */

struct pause {
    uint8_t *border;
    uint64_t patience_us; /* after this time it opens by itself */
    atomic_bool reached, released;
};

/* Two threads must not be in pause_make or pause_free at the same time. */
void pause_make(struct pause *pause);
void pause_free(struct pause *pause);

/* Shut the buffer; its bytes stay.  A thread that touches it gives way to others until
 * pause_release, or for patience_us microseconds at most. */
void pause_arm(struct pause *pause, uint64_t patience_us);

/* Open the buffer, if no thread has reached it. */
void pause_disarm(struct pause *pause);

/* Give way to other threads for this time. */
void pause_here(uint64_t us);

/* Give way to others for as long as they need to do what they must not do: a grace period is over
 * when liburcu has looked again twice, which it does every 10 ms. */
void pause_turn(void);

bool pause_is_reached(struct pause *pause);
void pause_release(struct pause *pause);

#endif
