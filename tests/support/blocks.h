/* SPDX-License-Identifier: BSD-3-Clause */

/* blocks - fill a disk that has a limit
 *
 * Tests write in blocks.  The content of a block follows from its number and the seed, so a test
 * only has to remember which blocks were acknowledged.
 *
 * Any thread may write blocks and look at them.  What fails the test is for the test's thread:
 * blocks_fill and the asserts.
 */

#ifndef NBDRAM_TESTS_BLOCKS_H
#define NBDRAM_TESTS_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "disk/disk.h"

/* The limit of the disk, in bytes.  Most of the time goes into filling disks, so they are smaller
 * where everything is slow.  There are as many chunks then, because the size of a chunk depends
 * on the limit. */
#define LIMIT blocks_limit()
uint64_t blocks_limit(void);

#define BLOCK ((size_t)64 << 10)
#define BLOCKS_MAX (8 * LIMIT / BLOCK) /* more than any disk takes */

enum content { RANDOM, TEXT };

/* The content of a block. */
void block_make(uint64_t number, enum content content, uint8_t *buf);

/* Write it: what disk_write returns. */
int block_write(struct disk *disk, uint64_t number, enum content content);

bool block_is_there(struct disk *disk, uint64_t number, enum content content);

/* Write blocks, beginning with this number, until one is refused.  Returns how many were
 * acknowledged. */
uint64_t blocks_fill(struct disk *disk, uint64_t number, enum content content);

/* All of these n blocks are there. */
void assert_blocks(struct disk *disk, uint64_t number, uint64_t n, enum content content);

/* The disk has the limit LIMIT, and takes no more memory. */
void assert_within_limit(struct disk *disk);

#endif
