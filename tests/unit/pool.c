/* SPDX-License-Identifier: BSD-3-Clause */

/* The pool: cells of all sizes are taken and given in random order, and compared with a list of
 * them. */

#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "disk/memory/pool.h"
#include "disk/memory/pool_inside.h"
#include "text/reason.h"

#define CHUNK (256 * KiB)

struct bench {
    struct budget budget;
    struct pool pool;
};

/* The budget is a little higher than limit, for the overhead, but by less than a granule. */
static void bench_make(struct bench *bench, size_t cell, uint64_t limit)
{
    budget_init(&bench->budget, limit + 4095, false, "");
    const struct pool_options options = {
        .cell = cell, .chunk = CHUNK, .capacity = limit, .huge = true, .budget = &bench->budget};
    assert_int_equal(pool_create(&options, &bench->pool), 0);
}

static void expect_whole(struct bench *bench)
{
    struct reason reason;
    if (pool_check(&bench->pool, &reason) < 0)
        fail_msg("%s", reason.text);
}

static uint64_t used(struct bench *bench)
{
    return atomic_load(&bench->budget.used) - budget_overhead(&bench->budget);
}

/* Each cell has its number written into it, which must stay until the cell is given back. */
static void a_cell_has_one_owner(void **state)
{
    static const size_t sizes[] = {16, 128, 4096, 32768};
    enum { HELD = 3000 };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct bench bench;
        struct prng prng;
        static uint64_t held[HELD];
        unsigned count = 0;
        bench_make(&bench, sizes[i], 256 * MiB);
        prng_init(&prng, test_seed(), i);
        for (uint64_t op = test_ops(200000); op > 0; op--) {
            if (count < HELD && !prng_one_in(&prng, 2)) {
                uint64_t cell;
                assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), 0);
                memcpy(pool_at(&bench.pool, cell), &cell, sizeof cell);
                held[count++] = cell;
            } else if (count) {
                unsigned at = (unsigned)prng_below(&prng, count);
                assert_memory_equal(pool_at(&bench.pool, held[at]), &held[at], sizeof held[at]);
                pool_give(&bench.pool, held[at]);
                held[at] = held[--count];
            }
            if (prng_one_in(&prng, 5000)) {
                expect_whole(&bench);
                pool_shrink(&bench.pool);
                expect_whole(&bench);
            }
        }
        assert_int_equal(pool_cells_used(&bench.pool), count);
        while (count) {
            count--;
            assert_memory_equal(pool_at(&bench.pool, held[count]), &held[count],
                                sizeof held[count]);
            pool_give(&bench.pool, held[count]);
        }
        pool_shrink(&bench.pool);
        assert_int_equal(used(&bench), 0);
        expect_whole(&bench);
        pool_destroy(&bench.pool);
    }
}

/* Take cells until the budget ends; then a cell that is given back can be taken again. */
static void every_cell_of_the_budget_can_be_taken(void **state)
{
    struct bench bench;
    uint64_t cell, count = 0;
    (void)state;
    bench_make(&bench, 4096, 4 * CHUNK);
    while (pool_take(&bench.pool, BUDGET_GROW, &cell) == 0)
        count++;
    assert_int_equal(count, 4 * CHUNK / 4096);
    assert_int_equal(used(&bench), 4 * CHUNK);
    pool_give(&bench.pool, cell = 7);
    assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), 0);
    assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), -ENOSPC);
    expect_whole(&bench);
    pool_destroy(&bench.pool);
}

/* Single granules that are given back are no longer charged, and are charged when they are taken
 * again. */
static void single_granules_go_back(void **state)
{
    struct bench bench;
    uint64_t cell;
    const uint64_t cells = 64 * CHUNK / 4096;
    (void)state;
    bench_make(&bench, 4096, 64 * CHUNK);
    for (uint64_t i = 0; i < cells; i++) {
        assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), 0);
        memset(pool_at(&bench.pool, cell), 0x5a, 4096);
    }
    for (uint64_t i = 0; i < cells; i++)
        if (i % 8 != 0)
            pool_give(&bench.pool, i);
    pool_shrink(&bench.pool);
    assert_int_equal(used(&bench), 64 * CHUNK / 8);
    for (uint64_t i = 0; i < cells; i += 8)
        assert_int_equal(*(uint8_t *)pool_at(&bench.pool, i), 0x5a);
    for (uint64_t i = 0; i < cells / 8 * 7; i++)
        assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), 0);
    assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), -ENOSPC);
    assert_int_equal(used(&bench), 64 * CHUNK);
    expect_whole(&bench);
    pool_destroy(&bench.pool);
}

/* A disk that is filled in order lies in memory in order, so that one copy can take many
 * pages. */
static void cells_come_in_order(void **state)
{
    struct bench bench;
    uint64_t cell, last = 0, in_order = 0;
    (void)state;
    bench_make(&bench, 4096, 64 * CHUNK);
    for (unsigned i = 0; i < 1024; i++) {
        assert_int_equal(pool_take(&bench.pool, BUDGET_GROW, &cell), 0);
        in_order += cell == last + 1;
        last = cell;
    }
    assert_true(in_order > 512); /* the scheduler may move us to another magazine */
    expect_whole(&bench);
    pool_destroy(&bench.pool);
}

/* A cell's number has 40 bits, however much a pool is to hold. */
static void numbers_suffice(void **state)
{
    static const size_t sizes[] = {16, 128, 4096, 2 * MiB};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct pool_options options = {
            .cell = sizes[i], .chunk = 2 * MiB, .capacity = UINT64_MAX};
        uint64_t cells = chunk_count_wanted(&options) * (2 * MiB / sizes[i]);
        assert_true(cells > 0 && cells <= POOL_CELLS_MAX);
        options.capacity = 6 * MiB + 1;
        assert_int_equal(chunk_count_wanted(&options), 4);
        options.capacity = 0;
        assert_int_equal(chunk_count_wanted(&options), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cell_has_one_owner),
        cmocka_unit_test(every_cell_of_the_budget_can_be_taken),
        cmocka_unit_test(single_granules_go_back),
        cmocka_unit_test(cells_come_in_order),
        cmocka_unit_test(numbers_suffice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
