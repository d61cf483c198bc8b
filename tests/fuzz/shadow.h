/* SPDX-License-Identifier: BSD-3-Clause */

/* shadow - what a disk has to hold, byte by byte
 *
 * After a write that failed or was not answered a byte is unsure: it may be anything until it is
 * written again.  At first all bytes are zero.
 */

#ifndef NBDRAM_TESTS_SHADOW_H
#define NBDRAM_TESTS_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHADOW_SIZE_MAX ((size_t)9 << 20) /* bytes of a disk, with SHADOW_ODD */
#define SHADOW_ODD 513u                   /* a disk may have this many bytes more */

struct disk;

/* Make everything zero again: the shadow, and the disk by a trim of everything that was changed.
 * False: the disk is not all zero, which can happen if its memory is limited. */
bool shadow_reset(struct disk *disk);

void shadow_write(uint64_t offset, const uint8_t *bytes, size_t count);
void shadow_zero(uint64_t offset, size_t count);

/* A write, or a zero, that may have been carried out in part. */
void shadow_doubt(uint64_t offset, size_t count);
void shadow_doubt_zero(uint64_t offset, size_t count);

/* The first byte of a range in which bytes (NULL: zeroes) differ from what has to be there; count
 * if there is none. */
size_t shadow_differs(uint64_t offset, const uint8_t *bytes, size_t count);

/* Compare everything that was changed with the disk. */
void shadow_check(struct disk *disk);

#endif
