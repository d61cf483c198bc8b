/* SPDX-License-Identifier: BSD-3-Clause */

/* Sizes and ranges: disks of every size, requests that reach past the end, and requests that
 * begin and end anywhere in a page. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static void options_out_of_range(void **state)
{
    (void)state;
    static const struct disk_options bad[] = {
        {.size = DISK_SIZE_MAX + 1, .allocator = &allocator_sparse, .level = DISK_LEVEL_DEFAULT},
        {.size = UINT64_MAX, .allocator = &allocator_sparse, .level = DISK_LEVEL_DEFAULT},
        {.size = DISK_SIZE_MAX + 1, .allocator = &allocator_zstd, .level = DISK_LEVEL_DEFAULT},
        {.size = DISK_SIZE_MAX + 1, .allocator = &allocator_malloc, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .limit = 1, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .limit = DISK_LIMIT_MIN - 1, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .allocator = &allocator_zstd, .level = DISK_LEVEL_MIN - 1},
        {.size = 4096, .allocator = &allocator_zstd, .level = DISK_LEVEL_MAX + 1},
        {.size = 4096, .allocator = &allocator_zstd, .level = -1},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct disk *disk = NULL;
        int err = disk_create(&bad[i], &disk);
        if (err != -EINVAL)
            fail_msg("bad options %zu: %d instead of -EINVAL", i, err);
    }
}

static void smallest_limit(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 256 * KiB, DISK_LIMIT_MIN);
    write_byte(disk, 70000, 1);
    assert_int_equal(read_byte(disk, 70000), 1);
    assert_int_equal(stats_of(disk).limit, DISK_LIMIT_MIN);
    assert_true(stats_of(disk).memory <= DISK_LIMIT_MIN);
    disk_end(disk);
}

static void destroyed_unstarted(void **state)
{
    struct disk_options options = {
        .size = 100000, .allocator = allocator_of(state), .level = DISK_LEVEL_DEFAULT};
    struct disk *disk = NULL;
    assert_int_equal(disk_create(&options, &disk), 0);
    disk_end(disk);
    disk_destroy(NULL);
}

/* A range that does not lie within the disk is refused, even if its end wraps, and nothing is
 * changed. */
static void assert_refused(struct disk *disk, uint64_t offset, uint64_t count)
{
    uint8_t byte = 0x5a;
    if (count <= SIZE_MAX) {
        assert_int_equal(disk_read(disk, offset, (size_t)count, &byte), -EINVAL);
        assert_int_equal(disk_write(disk, offset, (size_t)count, &byte), -ENOSPC);
    }
    assert_int_equal(disk_zero(disk, offset, count, 0), -ENOSPC);
    assert_int_equal(disk_zero(disk, offset, count, DISK_NO_HOLE), -ENOSPC);
    assert_int_equal(disk_trim(disk, offset, count), -EINVAL);
    struct extent_list extents;
    list_extents(disk, offset, count, &extents);
    assert_string_equal(extents.wrong, "disk_extents fails");
    assert_int_equal(extents.count, 0);
    assert_int_equal(byte, 0x5a);
}

static void assert_ranges_past_the_end_refused(struct disk *disk)
{
    uint64_t size = disk_size(disk);
    static const uint64_t counts[] = {
        1, 2, 512, 4096, UINT32_MAX, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        uint64_t count = counts[i];
        assert_refused(disk, size, count);
        assert_refused(disk, size + 1, count);
        assert_refused(disk, UINT64_MAX, count);
        assert_refused(disk, UINT64_MAX - 4096, count);
        assert_refused(disk, (uint64_t)1 << 63, count);
        assert_refused(disk, 0 - count, count); /* the end is 2^64, which wraps to 0 */
        if (count <= size)
            assert_refused(disk, size - count + 1, count);
        else
            assert_refused(disk, 0, count);
    }
    assert_refused(disk, 0, UINT64_MAX);
    assert_refused(disk, 1, UINT64_MAX);
    assert_refused(disk, size + 1, 0);
    if (size > 0) {
        assert_refused(disk, size - 1, UINT64_MAX);
        assert_refused(disk, size - 1, 2);
        assert_refused(disk, 0, size + 1);
    }
}

static int not_called(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    (void)opaque;
    (void)offset;
    (void)count;
    (void)hole;
    return -EIO;
}

static void assert_nothing_is_no_error(struct disk *disk, uint64_t offset)
{
    uint8_t byte = 0x5a;
    assert_int_equal(disk_read(disk, offset, 0, &byte), 0);
    assert_int_equal(disk_write(disk, offset, 0, &byte), 0);
    assert_int_equal(disk_zero(disk, offset, 0, 0), 0);
    assert_int_equal(disk_zero(disk, offset, 0, DISK_NO_HOLE), 0);
    assert_int_equal(disk_trim(disk, offset, 0), 0);
    assert_int_equal(disk_extents(disk, offset, 0, not_called, NULL), 0);
    assert_int_equal(byte, 0x5a);
}

/* Write and read the first and the last byte of a disk, and list them as extents. */
static void assert_ends_work(struct disk *disk, const struct allocator *allocator)
{
    uint64_t size = disk_size(disk), last = size - 1;
    uint64_t page = disk_page_size(disk);
    write_byte(disk, last, 0x11);
    write_byte(disk, 0, 0x22);
    assert_int_equal(read_byte(disk, last), size == 1 ? 0x22 : 0x11);
    assert_int_equal(read_byte(disk, 0), 0x22);
    assert_true(all_data(disk, last, 1));
    assert_true(all_data(disk, 0, 1));

    struct extent_list extents;
    list_extents(disk, 0, size, &extents);
    assert_null(extents.wrong);
    if (allocator != &allocator_malloc && last / page > 1) {
        assert_int_equal(extents.count, 3);
        assert_int_equal(extents.first[0].count, page);
        assert_true(extents.first[1].hole);
        assert_int_equal(extents.first[2].offset, last / page * page);
    }
    assert_int_equal(disk_zero(disk, last, 1, 0), 0);
    assert_int_equal(read_byte(disk, last), 0);
    assert_int_equal(disk_trim(disk, 0, size), 0);
    assert_int_equal(read_byte(disk, 0), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(read_byte(disk, last), 0);
    if (allocator != &allocator_malloc)
        assert_true(all_hole(disk, 0, size));
}

static void assert_holds_all_its_bytes(struct disk *disk)
{
    size_t size = (size_t)disk_size(disk);
    uint8_t *buf = buffer_made(size), *back = buffer_made(size);
    struct prng prng;
    prng_init(&prng, test_seed(), size);
    fill_random(&prng, buf, size);
    if (size) /* if the last page had a single byte, and that was zero, it would stay a hole */
        buf[size - 1] |= 1;
    assert_int_equal(disk_write(disk, 0, size, buf), 0);
    assert_int_equal(disk_read(disk, 0, size, back), 0);
    assert_memory_equal(buf, back, size);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(disk_read(disk, 0, size, back), 0);
    assert_memory_equal(buf, back, size);
    assert_true(all_data(disk, 0, size));
    assert_int_equal(disk_zero(disk, 0, size, DISK_NO_HOLE), 0);
    assert_reads_zero(disk, 0, size);
    assert_true(all_data(disk, 0, size));
    free(buf);
    free(back);
}

static void sizes(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    static const uint64_t small[] = {0,     1,     511,    512,    4095,  4096,
                                     4097,  16383, 16384,  16385,  32767, 32768,
                                     32769, 65537, 262143, 262144, 262145};
    for (size_t i = 0; i < COUNT_OF(small); i++) {
        uint64_t size = small[i];
        struct disk *disk = disk_made(allocator, size, 0);
        assert_int_equal(disk_size(disk), size);
        assert_true(disk_page_size(disk) >= 512);
        assert_int_equal(disk_page_size(disk) & (disk_page_size(disk) - 1), 0);
        assert_ranges_past_the_end_refused(disk);
        assert_nothing_is_no_error(disk, 0);
        assert_nothing_is_no_error(disk, size / 2);
        assert_nothing_is_no_error(disk, size);
        assert_reads_zero(disk, 0, (size_t)size);
        if (size > 0) {
            assert_ends_work(disk, allocator);
            assert_holds_all_its_bytes(disk);
        }
        assert_ranges_past_the_end_refused(disk);
        disk_end(disk);
    }
}

/* The height of the page table depends on the size: try all powers of two, and one byte more and
 * less. */
static void large_sizes(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    for (unsigned shift = 20; shift <= 63; shift++) {
        for (int more = -1; more <= 1; more++) {
            uint64_t size = ((uint64_t)1 << shift) + (uint64_t)(int64_t)more;
            if (size > DISK_SIZE_MAX)
                continue;
            struct disk *disk = disk_made(allocator, size, 0);
            assert_ends_work(disk, allocator);
            if (more == -1)
                assert_ranges_past_the_end_refused(disk);
            disk_end(disk);
        }
    }
}

/* A disk, and the bytes that it has to hold. */
struct twin {
    struct disk *disk;
    size_t size;
    uint8_t *bytes, *back;
};

static void assert_twins(struct twin *twin)
{
    assert_int_equal(disk_read(twin->disk, 0, twin->size, twin->back), 0);
    assert_memory_equal(twin->bytes, twin->back, twin->size);
}

static void twin_write(struct twin *twin, struct prng *prng, size_t offset, size_t count)
{
    fill_random(prng, twin->bytes + offset, count);
    assert_int_equal(disk_write(twin->disk, offset, count, twin->bytes + offset), 0);
}

/* Every pair of ends near the boundaries of pages, on a disk that ends in the middle of a
 * page. */
static void unaligned(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1, 0);
    size_t page = disk_page_size(disk);
    disk_end(disk);

    struct twin twin = {.size = 3 * page + 123};
    twin.disk = disk_made(allocator_of(state), twin.size, 0);
    twin.bytes = buffer_made(twin.size);
    twin.back = buffer_made(twin.size);
    memset(twin.bytes, 0, twin.size);
    const size_t ends[] = {0,
                           1,
                           511,
                           512,
                           page - 1,
                           page,
                           page + 1,
                           page + 9,
                           2 * page - 1,
                           2 * page,
                           2 * page + 1,
                           3 * page - 7,
                           3 * page,
                           3 * page + 122,
                           3 * page + 123};
    struct prng prng;
    prng_init(&prng, test_seed(), 2);
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        for (size_t j = i; j < COUNT_OF(ends); j++) {
            size_t offset = ends[i], count = ends[j] - ends[i];
            twin_write(&twin, &prng, offset, count);
            assert_twins(&twin);
            assert_int_equal(disk_read(twin.disk, offset, count, twin.back), 0);
            assert_memory_equal(twin.bytes + offset, twin.back, count);

            twin_write(&twin, &prng, 0, twin.size);
            int err = j % 3 == 0   ? disk_trim(twin.disk, offset, count)
                      : j % 3 == 1 ? disk_zero(twin.disk, offset, count, 0)
                                   : disk_zero(twin.disk, offset, count, DISK_NO_HOLE);
            assert_int_equal(err, 0);
            memset(twin.bytes + offset, 0, count);
            assert_twins(&twin);
            if (prng_one_in(&prng, 8)) {
                assert_int_equal(disk_settle(twin.disk), 0);
                assert_twins(&twin);
            }
        }
    }
    disk_end(twin.disk);
    free(twin.bytes);
    free(twin.back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range),
        TEST_OF_ALL(smallest_limit),
        TEST_OF_ALL(destroyed_unstarted),
        TEST_OF_ALL(sizes),
        TEST_OF_PAGED(large_sizes),
        TEST_OF_ALL(unaligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
