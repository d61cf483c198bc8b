/* SPDX-License-Identifier: BSD-3-Clause */

/* shadow - what a disk has to hold, byte by byte
 *
 * A byte is unsure after a write that failed or was not answered: then it may hold anything,
 * until it is written again.  At first all are zero.
 */

#ifndef NBDRAM_TESTS_SHADOW_H
#define NBDRAM_TESTS_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHADOW_SIZE_MAX ((size_t)9 << 20) /* bytes of a disk, with SHADOW_ODD */
#define SHADOW_ODD 513u                   /* a disk may be that much larger */

struct disk;

/* Everything is zero again, in the shadow and, by a trim of what was changed, on the disk that it
 * was the shadow of.  False: on the disk it is not, which may be so where memory is limited. */
bool shadow_reset(struct disk *disk);

void shadow_write(uint64_t offset, const uint8_t *bytes, size_t count);
void shadow_zero(uint64_t offset, size_t count);

/* A write, or a zero, that may have been carried out in part. */
void shadow_doubt(uint64_t offset, size_t count);
void shadow_doubt_zero(uint64_t offset, size_t count);

/* The first byte of a range in which bytes (NULL: zeroes) differ from what has to be there; count
 * if there is none. */
size_t shadow_differs(uint64_t offset, const uint8_t *bytes, size_t count);

/* All of what was changed, beside the disk. */
void shadow_check(struct disk *disk);

#endif
