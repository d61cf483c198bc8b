/* SPDX-License-Identifier: BSD-3-Clause */

/* What is a hole, and what is not: after writes of zeroes, zeroing with and without a hole, and
 * trims of parts of pages. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static void empty_disk_is_one_hole(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    struct extent_list extents;
    list_extents(disk, 0, DISK_SIZE_MAX, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 1);
    assert_true(extents.first[0].hole);
    assert_int_equal(extents.first[0].count, DISK_SIZE_MAX);

    /* Neither clearing nor reading makes pages. */
    assert_int_equal(disk_zero(disk, 0, DISK_SIZE_MAX, 0), 0);
    assert_int_equal(disk_trim(disk, 0, DISK_SIZE_MAX), 0);
    assert_int_equal(disk_zero(disk, 12345, DISK_SIZE_MAX - 23456, 0), 0);
    assert_int_equal(disk_trim(disk, 777, DISK_SIZE_MAX - 777), 0);
    assert_reads_zero(disk, DISK_SIZE_MAX / 2 - 77777, 200000);
    assert_true(all_hole(disk, 1, DISK_SIZE_MAX - 2));
    assert_int_equal(stats_of(disk).pages, 0);
    disk_end(disk);
}

/* Trimming 2^63 bytes takes as long as there are pages, and leaves the bytes outside of the
 * range. */
static void trim_of_nearly_everything(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    uint64_t page = disk_page_size(disk);
    struct prng prng;
    prng_init(&prng, test_seed(), 1);
    write_byte(disk, 0, 1);
    write_byte(disk, page, 2);
    write_byte(disk, page + 1, 3);
    write_byte(disk, DISK_SIZE_MAX - 2, 4);
    write_byte(disk, DISK_SIZE_MAX - 1, 5);
    for (int i = 0; i < 300; i++)
        write_byte(disk, 2 * page + prng_below(&prng, DISK_SIZE_MAX - 10 * page), 6);
    assert_int_equal(disk_trim(disk, page + 1, DISK_SIZE_MAX - page - 2), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(read_byte(disk, 0), 1);
    assert_int_equal(read_byte(disk, page), 2);
    assert_int_equal(read_byte(disk, page + 1), 0);
    assert_int_equal(read_byte(disk, DISK_SIZE_MAX - 2), 0);
    assert_int_equal(read_byte(disk, DISK_SIZE_MAX - 1), 5);
    assert_int_equal(stats_of(disk).pages, 3);
    struct extent_list extents;
    list_extents(disk, 0, DISK_SIZE_MAX, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 3);
    assert_int_equal(extents.first[0].count, 2 * page);
    disk_end(disk);
}

static void zeroes_written_to_a_hole_leave_it(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk);
    uint8_t *zeroes = calloc(1, MiB);
    assert_non_null(zeroes);
    static const uint64_t offsets[] = {0, 1, 4095, 65536, 65536 - 1, 300 * MiB + 17};
    static const size_t counts[] = {1, 7, 64, 4095, 4096, 4097, 65536, 100001, MiB};
    for (size_t i = 0; i < COUNT_OF(offsets); i++)
        for (size_t j = 0; j < COUNT_OF(counts); j++)
            assert_int_equal(disk_write(disk, offsets[i], counts[j], zeroes), 0);
    assert_true(all_hole(disk, 0, 1 * GiB));
    assert_int_equal(stats_of(disk).pages, 0);

    /* A single byte in a large write allocates its page and no other. */
    zeroes[10 * page - 1] = 1;
    assert_int_equal(disk_write(disk, 0, MiB, zeroes), 0);
    struct extent_list extents;
    list_extents(disk, 0, 1 * GiB, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.data, page);
    assert_int_equal(extents.first[1].offset, 9 * page);
    assert_int_equal(stats_of(disk).pages, 1);
    free(zeroes);
    disk_end(disk);
}

static void no_hole_provides_memory(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    uint64_t page = disk_page_size(disk);
    uint8_t *buf = buffer_made(8 * page);
    memset(buf, 0x77, 8 * page);

    /* Over holes, over data, and over a range that begins and ends in the middle of a page. */
    assert_int_equal(disk_write(disk, 2 * page, 2 * page, buf), 0);
    assert_int_equal(disk_zero(disk, page, 4 * page, DISK_NO_HOLE), 0);
    assert_int_equal(disk_zero(disk, 10 * page + 100, 50, DISK_NO_HOLE), 0);
    assert_int_equal(disk_zero(disk, 20 * page + 1, 2 * page, DISK_NO_HOLE), 0);
    for (int settled = 0; settled < 3; settled++) {
        assert_true(all_hole(disk, 0, page));
        assert_true(all_data(disk, page, 4 * page));
        assert_true(all_hole(disk, 5 * page, 5 * page));
        assert_true(all_data(disk, 10 * page + 100, 50));
        assert_true(all_data(disk, 20 * page + 1, 2 * page));
        assert_reads_zero(disk, 0, 30 * (size_t)page);
        assert_int_equal(disk_settle(disk), 0);
    }

    /* Write it, and zero it again in the same way. */
    assert_int_equal(disk_write(disk, page, 4 * page, buf), 0);
    assert_int_equal(disk_zero(disk, page, 4 * page, DISK_NO_HOLE), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_data(disk, page, 4 * page));
    assert_reads_zero(disk, page, 4 * (size_t)page);

    /* Write it, and clear it in parts, which trims no page. */
    write_byte(disk, 3 * page + 7, 0x77);
    assert_int_equal(disk_zero(disk, 3 * page + 7, 1, 0), 0);
    assert_int_equal(disk_zero(disk, 2 * page - 5, 10, 0), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_data(disk, page, 4 * page));

    assert_int_equal(disk_trim(disk, page, 4 * page), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 10 * page));
    assert_int_equal(disk_trim(disk, 0, 30 * page), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, DISK_SIZE_MAX));
    assert_int_equal(stats_of(disk).pages, 0);
    free(buf);
    disk_end(disk);
}

static void clear(struct disk *disk, bool trim, uint64_t offset, uint64_t count)
{
    int err = trim ? disk_trim(disk, offset, count) : disk_zero(disk, offset, count, 0);
    assert_int_equal(err, 0);
}

static void pages_cleared_piecemeal_become_holes(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk);
    uint8_t *buf = buffer_made(64 * page);
    memset(buf, 0x77, 64 * page);
    assert_int_equal(disk_write(disk, 0, 64 * page, buf), 0);
    uint64_t full = stats_of(disk).memory;

    /* Clear each page in two parts, one by zero and one by trim; page 20 keeps its last byte, and
     * page 21 its first. */
    for (uint64_t p = 0; p < 64; p++) {
        bool trim = p % 2 == 0;
        uint64_t cut = 1 + p * 37 % (page - 2);
        uint64_t from = p == 21 ? 1 : 0, to = p == 20 ? page - 1 : page;
        clear(disk, trim, p * page + from, cut - from);
        clear(disk, !trim, p * page + cut, to - cut);
    }
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 20 * page));
    assert_true(all_data(disk, 20 * page, 2 * page));
    assert_true(all_hole(disk, 22 * page, 42 * page));
    assert_int_equal(read_byte(disk, 21 * page - 1), 0x77);
    assert_int_equal(read_byte(disk, 21 * page), 0x77);
    assert_reads_zero(disk, 0, 21 * (size_t)page - 1);
    assert_reads_zero(disk, 21 * page + 1, 43 * (size_t)page - 1);
    assert_int_equal(stats_of(disk).pages, 2);
    assert_true(stats_of(disk).memory <= full);

    /* Clear from the middle of the first page to the middle of the last one, and then the rest of
     * these two. */
    assert_int_equal(disk_write(disk, 0, 64 * page, buf), 0);
    assert_int_equal(disk_settle(disk), 0);
    clear(disk, false, 5, 64 * page - 10);
    assert_true(all_hole(disk, page, 62 * page)); /* whole pages are freed immediately */
    clear(disk, false, 0, 5);
    clear(disk, true, 64 * page - 5, 5);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 1 * GiB));
    assert_int_equal(stats_of(disk).pages, 0);
    free(buf);
    disk_end(disk);
}

/* Pages zeroed with NO_HOLE and trimmed in pieces stay data until the last piece, and then become
 * holes. */
enum order { ASCENDING, DESCENDING, ODD_ONES_FIRST };

static void trim_pinned_page(struct disk *disk, uint64_t at, uint64_t piece, enum order order)
{
    uint64_t page = disk_page_size(disk), count = page / piece;
    assert_int_equal(disk_zero(disk, at, page, DISK_NO_HOLE), 0);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t turn = order == ASCENDING    ? i
                        : order == DESCENDING ? count - 1 - i
                                              : (2 * i + (2 * i < count)) % count;
        assert_true(all_data(disk, at, page));
        clear(disk, i % 3 != 0, at + turn * piece, piece);
    }
}

static void pinned_pages_trimmed_piecemeal_become_holes(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk), at = page;
    for (unsigned order = 0; order <= ODD_ONES_FIRST; order++)
        for (uint64_t pieces = 2; pieces <= 16; pieces *= 2, at += 2 * page)
            trim_pinned_page(disk, at, page / pieces, order);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 1 * GiB));
    assert_int_equal(stats_of(disk).pages, 0);
    disk_end(disk);
}

/* The rest of a page that ends beyond the disk, of which nothing was promised. */
static void a_pinned_page_at_the_end_of_the_disk(void **state)
{
    uint64_t page = allocator_of(state)->page_size, size = 4 * page + 5000 % page + 1;
    struct disk *disk = disk_made(allocator_of(state), size, 0);
    assert_int_equal(disk_zero(disk, 4 * page, size - 4 * page, DISK_NO_HOLE), 0);
    clear(disk, true, 4 * page, 512);
    assert_true(all_data(disk, 4 * page, size - 4 * page));
    clear(disk, true, 4 * page + 512, size - 4 * page - 512);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, size));
    disk_end(disk);
}

/* A page that was found empty, or was compressed, can be written like any other. */
static void holes_and_pages_alternate(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 128 * KiB, 0);
    uint64_t page = disk_page_size(disk);
    for (unsigned round = 1; round <= 60; round++) {
        uint64_t at = round % 3 * page + round * 61 % page;
        write_byte(disk, at, (uint8_t)round);
        if (round % 2)
            assert_int_equal(disk_settle(disk), 0);
        assert_int_equal(read_byte(disk, at), round);
        clear(disk, round % 4 < 2, at, 1);
        assert_int_equal(disk_settle(disk), 0);
        assert_true(all_hole(disk, 0, 128 * KiB));
    }
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(empty_disk_is_one_hole),
        TEST_OF_PAGED(trim_of_nearly_everything),
        TEST_OF_PAGED(zeroes_written_to_a_hole_leave_it),
        TEST_OF_PAGED(no_hole_provides_memory),
        TEST_OF_PAGED(pages_cleared_piecemeal_become_holes),
        TEST_OF_PAGED(pinned_pages_trimmed_piecemeal_become_holes),
        TEST_OF_PAGED(a_pinned_page_at_the_end_of_the_disk),
        TEST_OF_PAGED(holes_and_pages_alternate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
