/* SPDX-License-Identifier: BSD-3-Clause */

#include "support/blocks.h"

#include <string.h>

#include "support/support.h"

/* A full disk may exceed the limit by this much: for batches of items that wait for a grace
 * period, which it needs to free memory. */
#define BATCHES (32 * KiB)

uint64_t blocks_limit(void)
{
    return test_ops(UINT64_MAX) < 100000 ? 8 * MiB : 16 * MiB;
}

void block_make(uint64_t number, enum content content, uint8_t *buf)
{
    struct prng prng;
    prng_init(&prng, test_seed(), number);
    if (content == TEXT)
        fill_text(&prng, buf, BLOCK);
    else
        fill_random(&prng, buf, BLOCK);
}

int block_write(struct disk *disk, uint64_t number, enum content content)
{
    uint8_t buf[BLOCK];
    block_make(number, content, buf);
    return disk_write(disk, number * BLOCK, BLOCK, buf);
}

bool block_is_there(struct disk *disk, uint64_t number, enum content content)
{
    uint8_t wanted[BLOCK], found[BLOCK];
    block_make(number, content, wanted);
    return disk_read(disk, number * BLOCK, BLOCK, found) == 0 &&
           memcmp(wanted, found, BLOCK) == 0;
}

uint64_t blocks_fill(struct disk *disk, uint64_t number, enum content content)
{
    uint64_t n = 0;
    int err = 0;
    while (n < BLOCKS_MAX && (err = block_write(disk, number + n, content)) == 0)
        n++;
    if (n == BLOCKS_MAX)
        fail_msg("%s took %llu MiB of data with a limit of %llu MiB",
                 content == TEXT ? "text" : "random", (unsigned long long)(n * BLOCK / MiB),
                 (unsigned long long)(LIMIT / MiB));
    assert_int_equal(err, -ENOSPC);
    return n;
}

void assert_blocks(struct disk *disk, uint64_t number, uint64_t n, enum content content)
{
    for (uint64_t i = number; i < number + n; i++)
        if (!block_is_there(disk, i, content))
            fail_msg("block %llu was acknowledged and is not there", (unsigned long long)i);
}

void assert_within_limit(struct disk *disk)
{
    struct disk_stats stats = stats_of(disk);
    assert_int_equal(stats.limit, LIMIT);
    assert_true(stats.memory - stats.overhead <= LIMIT);
    assert_true(stats.memory <= LIMIT + BATCHES);
}
