/* SPDX-License-Identifier: BSD-3-Clause */

/* limit=: a full disk returns -ENOSPC, still has what it acknowledged, goes on serving, and takes
 * new data as soon as old data is trimmed.  (limit_together.c: by several threads.) */

#include "support/blocks.h"
#include "support/support.h"

#include <string.h>

#define SIZE (1 * TiB)

static void full_disk_keeps_what_it_has(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t n = blocks_fill(disk, 0, RANDOM);
    assert_true(n * BLOCK > LIMIT * 3 / 4);
    assert_true(n * BLOCK <= LIMIT);
    assert_within_limit(disk);
    assert_blocks(disk, 0, n, RANDOM);

    /* Further writes are refused, too, and a refusal takes no memory. */
    for (uint64_t i = 0; i < 200; i++) {
        uint8_t buf[BLOCK];
        block_make(i, RANDOM, buf);
        assert_int_equal(disk_write(disk, SIZE / 2 + i * 7 * MiB, BLOCK, buf), -ENOSPC);
        assert_int_equal(disk_zero(disk, SIZE / 4 + i * MiB, MiB, DISK_NO_HOLE), -ENOSPC);
        assert_int_equal(disk_zero(disk, SIZE / 4 + i * MiB, MiB, 0), 0);
    }
    assert_within_limit(disk);
    assert_blocks(disk, 0, n, RANDOM);
    assert_int_equal(disk_settle(disk), 0);
    assert_within_limit(disk);
    assert_blocks(disk, 0, n, RANDOM);
    disk_end(disk);
}

/* A write to a range that was reported as allocated must not fail for lack of memory. */
static void full_disk_is_overwritten(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t n = blocks_fill(disk, 0, RANDOM);
    uint8_t buf[BLOCK];
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < n; i++) {
            block_make(i + 1000000 * round, round == 1 ? TEXT : RANDOM, buf);
            assert_int_equal(disk_write(disk, i * BLOCK, BLOCK, buf), 0);
            assert_int_equal(disk_write(disk, i * BLOCK + 777, 99, buf + 777), 0);
        }
        assert_int_equal(disk_settle(disk), 0);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint8_t back[BLOCK];
        block_make(i + 2000000, RANDOM, buf);
        assert_int_equal(disk_read(disk, i * BLOCK, BLOCK, back), 0);
        assert_memory_equal(buf, back, BLOCK);
    }
    disk_end(disk);
}

/* Trim, then write, without waiting in between.  The room of what was trimmed can be used for
 * other pages, except for a sixteenth, for the index and for housekeeping. */
static void trimmed_room_is_had_again(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t first = 0, n = blocks_fill(disk, first, RANDOM);
    for (unsigned round = 0; round < 20; round++) {
        uint64_t gone = round % 4 == 3 ? n : n / 2;
        uint64_t stays = n - gone;
        assert_int_equal(disk_trim(disk, (first + stays) * BLOCK, gone * BLOCK), 0);
        uint64_t next = first + (round % 2 ? 3 : 1) * BLOCKS_MAX;
        uint64_t again = 0;
        while (again < gone && block_write(disk, next + again, RANDOM) == 0)
            again++;
        if (again < gone - gone / 16 - 1)
            fail_msg("round %u: %llu blocks were trimmed, and %llu taken again", round,
                     (unsigned long long)gone, (unsigned long long)again);
        assert_within_limit(disk);
        assert_blocks(disk, first, stays, RANDOM);
        assert_blocks(disk, next, again, RANDOM);

        /* One piece stays for the next round, in which the disk is filled again. */
        assert_int_equal(disk_trim(disk, first * BLOCK, n * BLOCK), 0);
        first = next;
        n = again + blocks_fill(disk, next + again, RANDOM);
    }
    disk_end(disk);
}

/* The same, a block at a time: trim one and write another one, as many as the disk has. */
static void full_disk_swaps_pages(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t n = blocks_fill(disk, 0, RANDOM);
    uint64_t refused = 0;
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(disk_trim(disk, i * BLOCK, BLOCK), 0);
        int err = block_write(disk, BLOCKS_MAX + i, RANDOM);
        assert_true(err == 0 || err == -ENOSPC);
        refused += err != 0;
    }
    assert_true(refused <= n / 16 + 1);
    assert_within_limit(disk);
    disk_end(disk);
}

/* A range that was reserved with NO_HOLE can be written when the disk is full: also with data
 * that does not compress, and after the compressor has seen all pages. */
static void reserved_range_can_be_written(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t reserved = 4 * MiB / BLOCK, elsewhere = SIZE / 2 / BLOCK;
    assert_int_equal(disk_zero(disk, 0, reserved * BLOCK, DISK_NO_HOLE), 0);
    assert_int_equal(disk_settle(disk), 0);
    uint64_t n = blocks_fill(disk, elsewhere, RANDOM);
    assert_int_equal(disk_settle(disk), 0);
    n += blocks_fill(disk, elsewhere + n, RANDOM);
    for (uint64_t i = 0; i < reserved; i++)
        assert_int_equal(block_write(disk, i, RANDOM), 0);
    assert_blocks(disk, 0, reserved, RANDOM);
    assert_blocks(disk, elsewhere, n, RANDOM);
    assert_within_limit(disk);
    disk_end(disk);
}

/* The same for what is left of each page after a part of it was trimmed. */
static void rest_of_a_reserved_range_can_be_written(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), SIZE, LIMIT);
    uint64_t page = disk_page_size(disk), elsewhere = SIZE / 2 / BLOCK;
    uint8_t byte = 0x77;
    assert_int_equal(disk_zero(disk, 0, 4 * MiB, DISK_NO_HOLE), 0);
    for (uint64_t at = 0; at < 4 * MiB; at += page) {
        assert_int_equal(disk_trim(disk, at, page / 8), 0);
        assert_int_equal(disk_trim(disk, at + page / 2, page / 2), 0);
    }
    assert_int_equal(disk_settle(disk), 0);
    uint64_t n = blocks_fill(disk, elsewhere, RANDOM);
    assert_int_equal(disk_settle(disk), 0);
    n += blocks_fill(disk, elsewhere + n, RANDOM);
    for (uint64_t at = 0; at < 4 * MiB; at += page)
        assert_int_equal(disk_write(disk, at + page / 8, 1, &byte), 0);
    assert_blocks(disk, elsewhere, n, RANDOM);
    assert_within_limit(disk);
    disk_end(disk);
}

/* A reservation for which there is no room is refused soon, even one of 2^63 bytes. */
static void reservation_too_large(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, LIMIT);
    assert_int_equal(block_write(disk, 5, RANDOM), 0);
    assert_int_equal(disk_zero(disk, 6 * BLOCK, DISK_SIZE_MAX - 6 * BLOCK, DISK_NO_HOLE),
                     -ENOSPC);
    assert_within_limit(disk);
    assert_blocks(disk, 5, 1, RANDOM);
    assert_int_equal(disk_trim(disk, 6 * BLOCK, DISK_SIZE_MAX - 6 * BLOCK), 0);
    assert_int_equal(block_write(disk, 77, RANDOM), 0);
    assert_blocks(disk, 77, 1, RANDOM);
    disk_end(disk);
}

/* The index counts as well: pages that are far apart need more memory for the index than for
 * themselves. */
static void scattered_pages_count_their_index(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, LIMIT);
    uint64_t page = disk_page_size(disk), n = 0;
    uint8_t buf[4096], back[4096];
    struct prng places, content;
    prng_init(&places, test_seed(), 1);
    prng_init(&content, test_seed(), 2);
    int err = 0;
    while (err == 0 && n < 10 * LIMIT / page) {
        uint64_t at = prng_below(&places, DISK_SIZE_MAX / page) * page;
        fill_random(&content, buf, sizeof buf);
        err = disk_write(disk, at, sizeof buf, buf);
        n += err == 0;
    }
    assert_int_equal(err, -ENOSPC);
    assert_within_limit(disk);
    assert_true(n > LIMIT / page / 8);
    prng_init(&places, test_seed(), 1);
    prng_init(&content, test_seed(), 2);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = prng_below(&places, DISK_SIZE_MAX / page) * page;
        fill_random(&content, buf, sizeof buf);
        assert_int_equal(disk_read(disk, at, sizeof back, back), 0);
        assert_memory_equal(buf, back, sizeof buf);
    }
    disk_end(disk);
}

/* zstd. */

static void more_than_the_limit_is_stored(void **state)
{
    (void)state;
    struct disk *disk = disk_made(&allocator_zstd, SIZE, LIMIT);
    uint64_t n = blocks_fill(disk, 0, TEXT);
    if (n * BLOCK <= LIMIT + LIMIT / 2)
        fail_msg("only %llu MiB of text fit into %llu MiB", (unsigned long long)(n * BLOCK / MiB),
                 (unsigned long long)(LIMIT / MiB));
    assert_within_limit(disk);
    assert_blocks(disk, 0, n, TEXT);
    assert_int_equal(disk_settle(disk), 0);
    assert_within_limit(disk);
    assert_blocks(disk, 0, n, TEXT);

    /* To overwrite text with data that does not compress takes room that may not be there.  So a
     * write may be refused; then each byte of its block is the old one or the new one. */
    uint8_t old[BLOCK], new[BLOCK], found[BLOCK];
    for (uint64_t i = 0; i < n; i += 3) {
        block_make(i, TEXT, old);
        block_make(i, RANDOM, new);
        int err = disk_write(disk, i * BLOCK, BLOCK, new);
        assert_true(err == 0 || err == -ENOSPC);
        assert_int_equal(disk_read(disk, i * BLOCK, BLOCK, found), 0);
        for (size_t at = 0; at < BLOCK; at++)
            assert_true(found[at] == new[at] || (err != 0 && found[at] == old[at]));
    }
    for (uint64_t i = 0; i < n; i++)
        if (i % 3 != 0)
            assert_blocks(disk, i, 1, TEXT);
    assert_within_limit(disk);
    disk_end(disk);
}

static void write_in_part(struct disk *disk, uint64_t number)
{
    assert_int_equal(disk_write(disk, number * BLOCK + 100, 4, "else"), 0);
}

/* All pages are compressed, and no frame is left.  The memory that the budget keeps back lets
 * each page be inflated, written in part, and compressed again: first in order, so that whole
 * segments of blobs die; then scattered, so that some blobs of each segment die, together more
 * than the memory kept back. */
static void compressed_pages_can_be_written_in_part(void **state)
{
    enum { STRIDE = 11 };
    (void)state;
    struct disk *disk = disk_made(&allocator_zstd, SIZE, LIMIT);
    uint64_t n = blocks_fill(disk, 0, TEXT);
    assert_int_equal(disk_settle(disk), 0);
    n += blocks_fill(disk, n, TEXT);
    uint8_t expected[BLOCK], found[BLOCK];
    for (uint64_t i = 0; i < n; i++)
        write_in_part(disk, i);
    for (uint64_t first = 0; first < STRIDE; first++)
        for (uint64_t i = first; i < n; i += STRIDE)
            write_in_part(disk, i);
    assert_within_limit(disk);
    for (uint64_t i = 0; i < n; i++) {
        block_make(i, TEXT, expected);
        memcpy(expected + 100, "else", 4);
        assert_int_equal(disk_read(disk, i * BLOCK, BLOCK, found), 0);
        assert_memory_equal(found, expected, BLOCK);
    }
    disk_end(disk);
}

/* The pages at either end of a range are compressed, and there is no room to inflate one.  The
 * pages between them are freed first, and make room. */
static void zeroing_makes_its_own_room(void **state)
{
    (void)state;
    uint8_t noise[BLOCK];
    struct prng prng;
    uint64_t at = 1, page, half;
    prng_init(&prng, test_seed(), 0);
    fill_random(&prng, noise, sizeof noise);
    struct disk *disk = disk_made(&allocator_zstd, SIZE, LIMIT);
    page = disk_page_size(disk);
    half = page / 2;
    uint64_t n = blocks_fill(disk, 0, TEXT);
    assert_int_equal(disk_settle(disk), 0);
    while (at < n && disk_write(disk, at * BLOCK + half, half, noise) == 0)
        at++;
    assert_true(at < n - 1);
    assert_int_equal(disk_zero(disk, half, n * BLOCK - page, 0), 0);
    assert_true(all_hole(disk, page, n * BLOCK - 2 * page));
    disk_end(disk);
}

/* Five of these blobs fit into a segment, and leave an eighth of it empty.  Storing them again
 * does not gain that eighth, so neither a writer that waits for room nor the threads that tidy
 * may try it forever. */
static void ends_of_segments_are_not_waste(void **state)
{
    enum { NOISE = 24600, PAGE = 32 << 10 };
    static uint8_t page[PAGE];
    struct prng prng;
    uint64_t n = 0;
    (void)state;
    struct disk *disk = disk_made(&allocator_zstd, SIZE, 4 * MiB);
    assert_int_equal(disk_page_size(disk), PAGE);
    prng_init(&prng, test_seed(), 1);
    fill_random(&prng, page, NOISE);
    while (disk_write(disk, n * PAGE, PAGE, page) == 0) {
        n++;
        fill_random(&prng, page, NOISE);
    }
    assert_true(n * NOISE > 2 * MiB);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(disk_trim(disk, 0, 20 * PAGE), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(disk_write(disk, 0, PAGE, page), 0);
    disk_end(disk);
}

/* The user may set a limit far above the memory of the machine. */
static void limit_beyond_the_machine(void **state)
{
    const struct disk_options options = {.size = DISK_SIZE_MAX,
                                         .limit = (uint64_t)1 << 60,
                                         .allocator = allocator_of(state),
                                         .level = 1};
    struct disk *disk;
    assert_int_equal(disk_create(&options, &disk), 0);
    assert_int_equal(disk_start(disk), 0);
    assert_int_equal(disk_write(disk, DISK_SIZE_MAX - 5, 5, "hello"), 0);
    disk_end(disk);
}

/* malloc. */

static void array_larger_than_the_limit(void **state)
{
    (void)state;
    struct disk_options options = {.size = LIMIT + 4096,
                                   .limit = LIMIT,
                                   .allocator = &allocator_malloc,
                                   .level = DISK_LEVEL_DEFAULT};
    struct disk *disk = NULL;
    assert_int_equal(disk_create(&options, &disk), -ENOMEM);
    options.size = DISK_SIZE_MAX;
    assert_int_equal(disk_create(&options, &disk), -ENOMEM);
    options.limit = 0; /* no machine has that much either */
    assert_int_equal(disk_create(&options, &disk), -ENOMEM);

    disk = disk_made(&allocator_malloc, LIMIT / 2, LIMIT);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < LIMIT / 2 / BLOCK; i++)
            assert_int_equal(block_write(disk, i, round == 1 ? TEXT : RANDOM), 0);
        assert_blocks(disk, 0, LIMIT / 2 / BLOCK, round == 1 ? TEXT : RANDOM);
    }
    assert_int_equal(disk_trim(disk, 0, LIMIT / 2), 0);
    assert_int_equal(block_write(disk, 3, RANDOM), 0);
    assert_within_limit(disk);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(full_disk_keeps_what_it_has),
        TEST_OF(full_disk_is_overwritten, sparse),
        TEST_OF_PAGED(trimmed_room_is_had_again),
        TEST_OF_PAGED(full_disk_swaps_pages),
        TEST_OF_PAGED(reserved_range_can_be_written),
        TEST_OF_PAGED(rest_of_a_reserved_range_can_be_written),
        TEST_OF_PAGED(reservation_too_large),
        TEST_OF_PAGED(scattered_pages_count_their_index),
        cmocka_unit_test(more_than_the_limit_is_stored),
        cmocka_unit_test(compressed_pages_can_be_written_in_part),
        cmocka_unit_test(zeroing_makes_its_own_room),
        cmocka_unit_test(ends_of_segments_are_not_waste),
        TEST_OF_PAGED(limit_beyond_the_machine),
        cmocka_unit_test(array_larger_than_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
