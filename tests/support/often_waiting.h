/* SPDX-License-Identifier: BSD-3-Clause */

/* often_waiting - a disk that often has to wait
 *
 * For programs that are linked with --wrap for the functions in often_waiting.c.  Every second
 * disk_try_write, disk_try_zero and disk_try_trim returns -EAGAIN, and every second disk_fill
 * returns -ENOBUFS.  So a server parks half of its writes, trims and write zeroes, and receives
 * half of the pieces of large payloads into its own memory.
 */

#ifndef NBDRAM_TESTS_OFTEN_WAITING_H
#define NBDRAM_TESTS_OFTEN_WAITING_H

#include <stdbool.h>

/* Whether this is so now: at first it is.  Set it while no other thread uses the disk. */
extern bool often_waiting;

#endif
