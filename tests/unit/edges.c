/* SPDX-License-Identifier: BSD-3-Clause */

/* The edges of one disk, one caller at a time: sizes, ends, alignments, what is told as a hole,
 * and that memory which is trimmed is really given back. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "os/memory.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LARGEST DISK_SIZE_MAX

/* What stays with the process when a disk is emptied: free pieces kept, the C library's heap. */
#define ALLOWANCE (16 * MiB)

static uint8_t *buffer(size_t count)
{
    uint8_t *buf = malloc(count + 1);
    assert_non_null(buf);
    return buf;
}

static void assert_reads_zero(struct disk *disk, uint64_t offset, size_t count)
{
    uint8_t *buf = buffer(count);
    memset(buf, 0xa5, count);
    assert_int_equal(disk_read(disk, offset, count, buf), 0);
    assert_true(only_zeroes(buf, count));
    free(buf);
}

static void write_byte(struct disk *disk, uint64_t offset, uint8_t byte)
{
    assert_int_equal(disk_write(disk, offset, 1, &byte), 0);
}

static uint8_t read_byte(struct disk *disk, uint64_t offset)
{
    uint8_t byte = 0xa5;
    assert_int_equal(disk_read(disk, offset, 1, &byte), 0);
    return byte;
}

/* disk_create. */

static void options_out_of_range(void **state)
{
    (void)state;
    static const struct disk_options bad[] = {
        {.size = LARGEST + 1, .allocator = &allocator_sparse, .level = DISK_LEVEL_DEFAULT},
        {.size = UINT64_MAX, .allocator = &allocator_sparse, .level = DISK_LEVEL_DEFAULT},
        {.size = LARGEST + 1, .allocator = &allocator_zstd, .level = DISK_LEVEL_DEFAULT},
        {.size = LARGEST + 1, .allocator = &allocator_malloc, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .limit = 1, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .limit = DISK_LIMIT_MIN - 1, .level = DISK_LEVEL_DEFAULT},
        {.size = 4096, .allocator = &allocator_zstd, .level = DISK_LEVEL_MIN - 1},
        {.size = 4096, .allocator = &allocator_zstd, .level = DISK_LEVEL_MAX + 1},
        {.size = 4096, .allocator = &allocator_zstd, .level = -1},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
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
    disk_destroy(disk);
}

static void destroyed_unstarted(void **state)
{
    struct disk_options options = {
        .size = 100000, .allocator = allocator_of(state), .level = DISK_LEVEL_DEFAULT};
    struct disk *disk = NULL;
    assert_int_equal(disk_create(&options, &disk), 0);
    disk_destroy(disk);
    disk_destroy(NULL);
}

/* Ranges. */

/* Nothing of a range that does not lie within the disk is touched, however its end wraps. */
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
    struct told told;
    tell_extents(disk, offset, count, &told);
    assert_string_equal(told.wrong, "disk_extents fails");
    assert_int_equal(told.n, 0);
    assert_int_equal(byte, 0x5a);
}

static void assert_ranges_past_the_end_refused(struct disk *disk)
{
    uint64_t size = disk_size(disk);
    static const uint64_t counts[] = {
        1, 2, 512, 4096, UINT32_MAX, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < COUNT(counts); i++) {
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

/* Write, read, and tell the first and the last byte of a disk. */
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

    struct told told;
    tell_extents(disk, 0, size, &told);
    assert_null(told.wrong);
    if (allocator != &allocator_malloc && last / page > 1) {
        assert_int_equal(told.n, 3);
        assert_int_equal(told.first[0].count, page);
        assert_true(told.first[1].hole);
        assert_int_equal(told.first[2].offset, last / page * page);
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
    uint8_t *buf = buffer(size), *back = buffer(size);
    struct prng prng;
    prng_init(&prng, test_seed(), size);
    fill_random(&prng, buf, size);
    if (size) /* a last page of a single byte, and that zero, would stay a hole */
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
    for (size_t i = 0; i < COUNT(small); i++) {
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
        disk_destroy(disk);
    }
}

/* The table's height depends on the size: try all powers of two, and one byte to either side. */
static void large_sizes(void **state)
{
    const struct allocator *allocator = allocator_of(state);
    for (unsigned shift = 20; shift <= 63; shift++) {
        for (int beside = -1; beside <= 1; beside++) {
            uint64_t size = ((uint64_t)1 << shift) + (uint64_t)(int64_t)beside;
            if (size > LARGEST)
                continue;
            struct disk *disk = disk_made(allocator, size, 0);
            assert_ends_work(disk, allocator);
            if (beside == -1)
                assert_ranges_past_the_end_refused(disk);
            disk_destroy(disk);
        }
    }
}

static void empty_disk_is_one_hole(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), LARGEST, 0);
    struct told told;
    tell_extents(disk, 0, LARGEST, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 1);
    assert_true(told.first[0].hole);
    assert_int_equal(told.first[0].count, LARGEST);

    /* Nor does clearing or asking make anything. */
    assert_int_equal(disk_zero(disk, 0, LARGEST, 0), 0);
    assert_int_equal(disk_trim(disk, 0, LARGEST), 0);
    assert_int_equal(disk_zero(disk, 12345, LARGEST - 23456, 0), 0);
    assert_int_equal(disk_trim(disk, 777, LARGEST - 777), 0);
    assert_reads_zero(disk, LARGEST / 2 - 77777, 200000);
    assert_true(all_hole(disk, 1, LARGEST - 2));
    assert_int_equal(stats_of(disk).pages, 0);
    disk_destroy(disk);
}

/* Trimming 2^63 bytes costs what is there, and leaves what is beside the range. */
static void trim_of_nearly_everything(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), LARGEST, 0);
    uint64_t page = disk_page_size(disk);
    struct prng prng;
    prng_init(&prng, test_seed(), 1);
    write_byte(disk, 0, 1);
    write_byte(disk, page, 2);
    write_byte(disk, page + 1, 3);
    write_byte(disk, LARGEST - 2, 4);
    write_byte(disk, LARGEST - 1, 5);
    for (int i = 0; i < 300; i++)
        write_byte(disk, 2 * page + prng_below(&prng, LARGEST - 10 * page), 6);
    assert_int_equal(disk_trim(disk, page + 1, LARGEST - page - 2), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_int_equal(read_byte(disk, 0), 1);
    assert_int_equal(read_byte(disk, page), 2);
    assert_int_equal(read_byte(disk, page + 1), 0);
    assert_int_equal(read_byte(disk, LARGEST - 2), 0);
    assert_int_equal(read_byte(disk, LARGEST - 1), 5);
    assert_int_equal(stats_of(disk).pages, 3);
    struct told told;
    tell_extents(disk, 0, LARGEST, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 3);
    assert_int_equal(told.first[0].count, 2 * page);
    disk_destroy(disk);
}

/* Alignment: every pair of ends near the boundaries of pages, on a disk that ends in mid-page. */

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

static void unaligned(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1, 0);
    size_t page = disk_page_size(disk);
    disk_destroy(disk);

    struct twin twin = {.size = 3 * page + 123};
    twin.disk = disk_made(allocator_of(state), twin.size, 0);
    twin.bytes = buffer(twin.size);
    twin.back = buffer(twin.size);
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
    for (size_t i = 0; i < COUNT(ends); i++) {
        for (size_t j = i; j < COUNT(ends); j++) {
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
    disk_destroy(twin.disk);
    free(twin.bytes);
    free(twin.back);
}

/* Extents. */

static void extents_are_clipped(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), LARGEST, 0);
    uint64_t page = disk_page_size(disk);
    write_byte(disk, page + 5, 1);
    struct told told;

    tell_extents(disk, page + 10, 20, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 1);
    assert_false(told.first[0].hole);

    tell_extents(disk, 10, page, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 2);
    assert_int_equal(told.first[0].count, page - 10);
    assert_true(told.first[0].hole);
    assert_int_equal(told.first[1].count, 10);

    tell_extents(disk, 2 * page - 1, 2, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 2);
    assert_false(told.first[0].hole);

    /* NBD's largest request, over memory that is there to the end and beyond. */
    uint8_t *buf = buffer(256 * KiB);
    memset(buf, 1, 256 * KiB);
    assert_int_equal(disk_write(disk, UINT32_MAX - 128 * KiB, 256 * KiB, buf), 0);
    tell_extents(disk, 0, UINT32_MAX, &told);
    assert_null(told.wrong);
    assert_int_equal(told.n, 4);
    free(buf);
    disk_destroy(disk);
}

struct stopper {
    int calls, stop_at, value;
};

static int stop(void *opaque, uint64_t offset, uint64_t count, bool hole)
{
    struct stopper *stopper = opaque;
    (void)offset;
    (void)count;
    (void)hole;
    return ++stopper->calls == stopper->stop_at ? stopper->value : 0;
}

static void extents_stop_when_told(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk);
    for (uint64_t i = 0; i < 8; i++)
        write_byte(disk, i * 1000 * page, 1);
    static const int values[] = {1, 42, -ECANCELED, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < COUNT(values); i++) {
        for (int at = 1; at <= 16; at++) {
            struct stopper stopper = {.stop_at = at, .value = values[i]};
            assert_int_equal(disk_extents(disk, 0, 1 * GiB, stop, &stopper), values[i]);
            assert_int_equal(stopper.calls, at);
        }
    }
    disk_destroy(disk);
}

/* Random pages of a few hundred, some far off, all kinds of ranges: tiled, in order, neighbours
 * differ, holes and data where they are. */
static void extents_tile(void **state)
{
    enum { NEAR = 200 };
    struct disk *disk = disk_made(allocator_of(state), LARGEST, 0);
    uint64_t page = disk_page_size(disk);
    bool there[NEAR] = {0};
    struct prng prng;
    prng_init(&prng, test_seed(), 3);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 12; i++) {
            uint64_t at = prng_below(&prng, NEAR), n = 1 + prng_below(&prng, 8);
            n = n < NEAR - at ? n : NEAR - at;
            bool put = prng_one_in(&prng, 2);
            for (uint64_t p = at; p < at + n; p++) {
                there[p] = put;
                if (put)
                    write_byte(disk, p * page + prng_below(&prng, page), 1);
            }
            if (!put)
                assert_int_equal(disk_trim(disk, at * page, n * page), 0);
        }
        for (int i = 0; i < 200; i++) {
            uint64_t offset = prng_below(&prng, NEAR * page);
            uint64_t count =
                1 + prng_below(&prng, prng_one_in(&prng, 3) ? LARGEST / 2 : 9 * page);
            struct told told;
            tell_extents(disk, offset, count, &told);
            if (told.wrong != NULL)
                fail_msg("%s", told.wrong);
            for (size_t e = 0; e < told.n && e < TOLD_MAX; e++) {
                uint64_t first = told.first[e].offset / page;
                uint64_t last = (told.first[e].offset + told.first[e].count - 1) / page;
                for (uint64_t p = first; p <= last && p < NEAR; p++)
                    assert_int_equal(told.first[e].hole, !there[p]);
            }
        }
    }
    disk_destroy(disk);
}

/* What is a hole, and what is not. */

static void zeroes_written_to_a_hole_leave_it(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk);
    uint8_t *zeroes = calloc(1, MiB);
    assert_non_null(zeroes);
    static const uint64_t offsets[] = {0, 1, 4095, 65536, 65536 - 1, 300 * MiB + 17};
    static const size_t counts[] = {1, 7, 64, 4095, 4096, 4097, 65536, 100001, MiB};
    for (size_t i = 0; i < COUNT(offsets); i++)
        for (size_t j = 0; j < COUNT(counts); j++)
            assert_int_equal(disk_write(disk, offsets[i], counts[j], zeroes), 0);
    assert_true(all_hole(disk, 0, 1 * GiB));
    assert_int_equal(stats_of(disk).pages, 0);

    /* A single byte in a large write allocates its page and no other. */
    zeroes[10 * page - 1] = 1;
    assert_int_equal(disk_write(disk, 0, MiB, zeroes), 0);
    struct told told;
    tell_extents(disk, 0, 1 * GiB, &told);
    assert_null(told.wrong);
    assert_int_equal(told.data, page);
    assert_int_equal(told.first[1].offset, 9 * page);
    assert_int_equal(stats_of(disk).pages, 1);
    free(zeroes);
    disk_destroy(disk);
}

static void no_hole_provides_memory(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), LARGEST, 0);
    uint64_t page = disk_page_size(disk);
    uint8_t *buf = buffer(8 * page);
    memset(buf, 0x77, 8 * page);

    /* Where there is nothing, where there is data, and where it begins and ends in mid-page. */
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

    /* Written over, then made to be zero again in the same way. */
    assert_int_equal(disk_write(disk, page, 4 * page, buf), 0);
    assert_int_equal(disk_zero(disk, page, 4 * page, DISK_NO_HOLE), 0);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_data(disk, page, 4 * page));
    assert_reads_zero(disk, page, 4 * (size_t)page);

    /* Written, and cleared in parts: that trims no page. */
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
    assert_true(all_hole(disk, 0, LARGEST));
    assert_int_equal(stats_of(disk).pages, 0);
    free(buf);
    disk_destroy(disk);
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
    uint8_t *buf = buffer(64 * page);
    memset(buf, 0x77, 64 * page);
    assert_int_equal(disk_write(disk, 0, 64 * page, buf), 0);
    uint64_t full = stats_of(disk).memory;

    /* Two halves, by zero and by trim; page 20 keeps its last byte and page 21 its first. */
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

    /* One range from mid-page to mid-page, then what is left of the first and the last. */
    assert_int_equal(disk_write(disk, 0, 64 * page, buf), 0);
    assert_int_equal(disk_settle(disk), 0);
    clear(disk, false, 5, 64 * page - 10);
    assert_true(all_hole(disk, page, 62 * page)); /* whole pages go at once */
    clear(disk, false, 0, 5);
    clear(disk, true, 64 * page - 5, 5);
    assert_int_equal(disk_settle(disk), 0);
    assert_true(all_hole(disk, 0, 1 * GiB));
    assert_int_equal(stats_of(disk).pages, 0);
    free(buf);
    disk_destroy(disk);
}

/* A page that was found empty, or compressed, can be written like any other. */
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
    disk_destroy(disk);
}

/* Memory. */

/* The resident size, once housekeeping is done. */
static uint64_t settled_size(struct disk *disk)
{
    assert_int_equal(disk_settle(disk), 0);
    return os_memory_resident();
}

static void assert_not_above(uint64_t value, uint64_t most, const char *what)
{
    if (value > most)
        fail_msg("%s: %llu KiB, at most %llu KiB were expected", what,
                 (unsigned long long)(value / KiB), (unsigned long long)(most / KiB));
}

static void assert_resident(uint64_t value, uint64_t most, const char *what)
{
    if (resident_size_is_telling())
        assert_not_above(value, most, what);
}

static void fill_dense(struct disk *disk, uint64_t size, uint64_t stream)
{
    struct prng prng;
    prng_init(&prng, test_seed(), stream);
    uint8_t *buf = buffer(MiB);
    for (uint64_t at = 0; at < size; at += MiB) {
        fill_random(&prng, buf, MiB);
        assert_int_equal(disk_write(disk, at, MiB, buf), 0);
    }
    free(buf);
}

static void trim_frees_memory(void **state)
{
    uint64_t size = 96 * MiB;
    uint64_t before = os_memory_resident();
    struct disk *disk = disk_made(allocator_of(state), size, 0);
    uint64_t empty = stats_of(disk).memory;
    for (unsigned round = 0; round < 3; round++) {
        fill_dense(disk, size, 4 + round);
        uint64_t full = stats_of(disk).memory;
        assert_not_above(size, full, "memory counted, less than what is stored,");
        assert_not_above(full, size + size / 8 + ALLOWANCE, "memory counted");
        assert_resident(os_memory_resident(), before + full + full / 8 + ALLOWANCE,
                        "resident with a full disk");
        if (round == 0)
            assert_int_equal(disk_trim(disk, 0, size), 0);
        else if (round == 1)
            assert_int_equal(disk_zero(disk, 0, size, 0), 0);
        else
            for (uint64_t at = 0; at < size; at += 4096)
                assert_int_equal(disk_trim(disk, at, 4096), 0);
        assert_resident(settled_size(disk), before + ALLOWANCE, "resident after trimming all");
        assert_not_above(stats_of(disk).memory, empty + ALLOWANCE, "memory counted after it");
        assert_int_equal(stats_of(disk).pages, 0);
        assert_true(all_hole(disk, 0, size));
    }
    disk_destroy(disk);
    assert_resident(os_memory_resident(), before + ALLOWANCE, "resident after disk_destroy");
}

/* 50,000 writes of 4 KiB, scattered over 16 TiB; then nine in ten are trimmed, in random order.
 * That is the worst for whoever hands out memory in large pieces. */
static void scattered_pages_are_freed(void **state)
{
    enum { PAGES = 50000, STAY = PAGES / 10 };
    struct prng prng;
    prng_init(&prng, test_seed(), 7);
    uint64_t before = os_memory_resident();
    struct disk *disk = disk_made(allocator_of(state), 16 * TiB, 1 * GiB);
    uint64_t page = disk_page_size(disk);
    uint64_t *places = malloc(PAGES * sizeof *places);
    assert_non_null(places);
    uint8_t buf[4096], back[4096];
    for (uint64_t i = 0; i < PAGES; i++) { /* one in each stripe, so that no two are the same */
        uint64_t stripe = 16 * TiB / PAGES / page * page;
        places[i] = i * stripe + prng_below(&prng, stripe / page) * page;
    }
    for (size_t i = PAGES - 1; i > 0; i--) {
        size_t j = (size_t)prng_below(&prng, i + 1);
        uint64_t swap = places[i];
        places[i] = places[j];
        places[j] = swap;
    }
    for (size_t i = 0; i < PAGES; i++) {
        struct prng content;
        prng_init(&content, test_seed(), 1000 + i);
        fill_random(&content, buf, sizeof buf);
        assert_int_equal(disk_write(disk, places[i], sizeof buf, buf), 0);
    }
    assert_true(stats_of(disk).pages >= PAGES); /* one that is being compressed may count twice */
    assert_resident(os_memory_resident(),
                    before + stats_of(disk).memory + stats_of(disk).memory / 8 + ALLOWANCE,
                    "resident with all pages");

    for (size_t i = STAY; i < PAGES; i++)
        assert_int_equal(disk_trim(disk, places[i], page), 0);
    uint64_t resident = settled_size(disk);
    assert_int_equal(stats_of(disk).pages, STAY);
    uint64_t stored = STAY * (uint64_t)sizeof buf;
    assert_resident(resident, before + stored + stored * 15 / 100 + ALLOWANCE,
                    "resident after nine in ten were trimmed");
    assert_not_above(stats_of(disk).memory, stored + stored * 15 / 100 + ALLOWANCE,
                     "memory counted after nine in ten were trimmed");

    for (size_t i = 0; i < STAY; i++) {
        struct prng content;
        prng_init(&content, test_seed(), 1000 + i);
        fill_random(&content, buf, sizeof buf);
        assert_int_equal(disk_read(disk, places[i], sizeof back, back), 0);
        assert_memory_equal(buf, back, sizeof buf);
    }
    for (size_t i = STAY; i < PAGES; i++)
        assert_true(all_hole(disk, places[i], page));
    free(places);
    disk_destroy(disk);
    assert_resident(os_memory_resident(), before + ALLOWANCE, "resident after disk_destroy");
}

#define TEST_OF_ALL(function)                                                                    \
    TEST_OF(function, sparse), TEST_OF(function, malloc), TEST_OF(function, zstd)
#define TEST_OF_PAGED(function) TEST_OF(function, sparse), TEST_OF(function, zstd)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range),
        TEST_OF_ALL(smallest_limit),
        TEST_OF_ALL(destroyed_unstarted),
        TEST_OF_ALL(sizes),
        TEST_OF_PAGED(large_sizes),
        TEST_OF_PAGED(empty_disk_is_one_hole),
        TEST_OF_PAGED(trim_of_nearly_everything),
        TEST_OF_ALL(unaligned),
        TEST_OF_PAGED(extents_are_clipped),
        TEST_OF_PAGED(extents_stop_when_told),
        TEST_OF_PAGED(extents_tile),
        TEST_OF_PAGED(zeroes_written_to_a_hole_leave_it),
        TEST_OF_PAGED(no_hole_provides_memory),
        TEST_OF_PAGED(pages_cleared_piecemeal_become_holes),
        TEST_OF_PAGED(holes_and_pages_alternate),
        TEST_OF_PAGED(trim_frees_memory),
        TEST_OF_PAGED(scattered_pages_are_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
