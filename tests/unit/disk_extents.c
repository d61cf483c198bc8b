/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_extents: the extents tile the range that was asked for, and end when the caller says
 * so. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

static void extents_are_clipped(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
    uint64_t page = disk_page_size(disk);
    write_byte(disk, page + 5, 1);
    struct extent_list extents;

    list_extents(disk, page + 10, 20, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 1);
    assert_false(extents.first[0].hole);

    list_extents(disk, 10, page, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 2);
    assert_int_equal(extents.first[0].count, page - 10);
    assert_true(extents.first[0].hole);
    assert_int_equal(extents.first[1].count, 10);

    list_extents(disk, 2 * page - 1, 2, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 2);
    assert_false(extents.first[0].hole);

    /* The largest request of NBD, whose end lies within data. */
    uint8_t *buf = buffer_made(256 * KiB);
    memset(buf, 1, 256 * KiB);
    assert_int_equal(disk_write(disk, UINT32_MAX - 128 * KiB, 256 * KiB, buf), 0);
    list_extents(disk, 0, UINT32_MAX, &extents);
    assert_null(extents.wrong);
    assert_int_equal(extents.count, 4);
    free(buf);
    disk_end(disk);
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

static void extents_stop_when_the_caller_says_so(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), 1 * GiB, 0);
    uint64_t page = disk_page_size(disk);
    for (uint64_t i = 0; i < 8; i++)
        write_byte(disk, i * 1000 * page, 1);
    static const int values[] = {1, 42, -ECANCELED, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        for (int at = 1; at <= 16; at++) {
            struct stopper stopper = {.stop_at = at, .value = values[i]};
            assert_int_equal(disk_extents(disk, 0, 1 * GiB, stop, &stopper), values[i]);
            assert_int_equal(stopper.calls, at);
        }
    }
    disk_end(disk);
}

/* Some pages of a few hundred, chosen at random, and ranges of all kinds, also far beyond these
 * pages: the extents tile the range in order, neighbours differ, and holes and data are where
 * they should be. */
static void extents_tile(void **state)
{
    enum { NEAR = 200 };
    struct disk *disk = disk_made(allocator_of(state), DISK_SIZE_MAX, 0);
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
                1 + prng_below(&prng, prng_one_in(&prng, 3) ? DISK_SIZE_MAX / 2 : 9 * page);
            struct extent_list extents;
            list_extents(disk, offset, count, &extents);
            if (extents.wrong != NULL)
                fail_msg("%s", extents.wrong);
            for (size_t e = 0; e < extents.count && e < EXTENTS_LISTED_MAX; e++) {
                uint64_t first = extents.first[e].offset / page;
                uint64_t last = (extents.first[e].offset + extents.first[e].count - 1) / page;
                for (uint64_t p = first; p <= last && p < NEAR; p++)
                    assert_int_equal(extents.first[e].hole, !there[p]);
            }
        }
    }
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(extents_are_clipped),
        TEST_OF_PAGED(extents_stop_when_the_caller_says_so),
        TEST_OF_PAGED(extents_tile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
