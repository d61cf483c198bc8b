/* SPDX-License-Identifier: BSD-3-Clause */

/* Memory of pages that are trimmed goes back to the system. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "os/memory.h"

/* What may stay with the process when a disk is empty: free cells of the pools, and the heap of
 * the C library. */
#define ALLOWANCE (16 * MiB)

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
    if (resident_size_is_meaningful())
        assert_not_above(value, most, what);
}

static void fill_dense(struct disk *disk, uint64_t size, uint64_t stream)
{
    struct prng prng;
    prng_init(&prng, test_seed(), stream);
    uint8_t *buf = buffer_made(MiB);
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
    disk_end(disk);
    assert_resident(os_memory_resident(), before + ALLOWANCE, "resident after disk_destroy");
}

/* 50,000 writes of 4 KiB, scattered over 16 TiB; then nine in ten are trimmed, in random order.
 * This is the worst case for an allocator that takes memory in large pieces. */
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
    for (uint64_t i = 0; i < PAGES; i++) { /* one in each stripe, so that all are different */
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
    disk_end(disk);
    assert_resident(os_memory_resident(), before + ALLOWANCE, "resident after disk_destroy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(trim_frees_memory),
        TEST_OF_PAGED(scattered_pages_are_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
