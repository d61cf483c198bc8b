/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_fill when memory ends, before it has received and after. */

#include "support/holder.h"
#include "support/loan.h"
#include "support/loan_stage.h"
#include "support/support.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "disk/memory/pool.h"

static void out_of_memory(void **state)
{
    struct disk *disk = disk_made(allocator_of(state), TiB, 2 * MiB);
    size_t page = disk_page_size(disk), step = 64 * KiB;
    uint8_t *buf = malloc(2 * step);
    struct prng prng;
    assert_non_null(buf);
    prng_init(&prng, test_seed(), 12);
    fill_random(&prng, buf, step);
    struct source source = {.from = buf, .most = step};
    uint64_t end = 0;
    for (unsigned round = 0; round < 3; round++) {
        ssize_t r;
        uint64_t start = end;
        while ((r = loan_fill(disk, end, step, &source)) > 0)
            end += (uint64_t)r;
        assert_int_equal(r, -ENOBUFS);
        assert_null(source.wrong);
        assert_true(end - start > MiB / 2 && end - start < 2 * MiB);
        assert_true(stats_of(disk).memory <= 2 * MiB);
        /* The pages that are there can be filled again. */
        for (uint64_t at = start; at + step < end; at += step) {
            assert_int_equal(loan_fill(disk, at + 1, step - 2, &source), step - 2);
            assert_int_equal(disk_read(disk, at + 1, step - 2, buf + step), 0);
            assert_memory_equal(buf, buf + step, step - 2);
        }
        assert_int_equal(disk_trim(disk, start, (end - start + page) / page * page), 0);
        assert_int_equal(disk_settle(disk), 0);
        assert_int_equal(stats_of(disk).pages, 0);
    }
    free(buf);
    disk_end(disk);
}

/* A disk has address space for somewhat more frames than pages.  Frames that were trimmed wait
 * for a grace period: while there is none, they run out, and a fill is offered less than it asks
 * for, or nothing. */
static void frames_run_out_without_a_grace_period(void **state)
{
    struct loan_stage stage;
    struct holder holder;
    struct source all = {.most = SIZE_MAX};
    loan_stage_make(&stage, allocator_of(state));
    ssize_t wanted = (ssize_t)(8 * stage.page), r = wanted;
    fill_random(&stage.prng, stage.fresh, stage.size);
    holder_start(&holder, stage.disk);
    for (uint64_t filled = 0; r == wanted && filled < 256 * MiB; filled += (uint64_t)wanted) {
        assert_int_equal(disk_trim(stage.disk, 0, stage.size), 0);
        r = loan_stage_fill(&stage, 0, (size_t)wanted, &all);
    }
    holder_release(&holder);
    holder_join(&holder);
    assert_true(r == -ENOBUFS || (r > 0 && r < wanted));
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(loan_stage_fill(&stage, 0, (size_t)wanted, &all), wanted);
    loan_stage_check(&stage, "with frames again");
    loan_stage_free(&stage);
}

/* The linker puts the next function in place of the engine's pool_take: it lets a thread's
 * next `pass` requests pass, and refuses `refuse` after them, if that is not 0. */
static _Thread_local unsigned pass, refuse;

int __real_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);
int __wrap_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell);
int __wrap_pool_take(struct pool *pool, enum budget_purpose purpose, uint64_t *cell)
{
    if (refuse == 0 || pass > 0) {
        pass -= pass > 0;
        return __real_pool_take(pool, purpose, cell);
    }
    refuse--;
    return -ENOSPC;
}

static void refuse_from_now_on(void *opaque)
{
    (void)opaque;
    refuse = UINT_MAX;
}

/* There are cells to receive into; afterwards no node can be had to lead to them, and no frame in
 * which to inflate the page around what was received.  None is needed. */
static void no_memory_after_receiving(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page, count = 7 * page;
    for (unsigned round = 0; round < 40; round++) {
        enum loan_ground ground =
            round % 2 && stage.allocator == &allocator_zstd ? PACKED : HOLES;
        size_t most = round % 4 == 0 ? page / 2 : round % 4 == 1 ? 3 * page + 5 : count;
        struct source source = {.most = most, .meanwhile = refuse_from_now_on};
        loan_stage_lay(&stage, ground);
        fill_random(&stage.prng, stage.fresh, count);
        ssize_t r = loan_stage_fill(&stage, 3 * page, count, &source);
        refuse = 0;
        assert_int_equal(source.calls, 1);
        assert_int_equal(r, source.most);
        loan_stage_check(&stage, "no memory, after receiving");
    }
    loan_stage_lay(&stage, HOLES);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).pages, 0); /* no cell is lost */
    loan_stage_free(&stage);
}

/* The n-th request for memory is refused before there is anything to receive into: less is
 * lent, or nothing, and no cell is lost. */
static void no_memory_before_receiving(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page, count = 7 * page;
    unsigned refusals = 0;
    for (unsigned n = 0; n < 40; n++) {
        struct source source = {.most = count};
        loan_stage_lay(&stage, n % 2 ? PACKED : HOLES);
        fill_random(&stage.prng, stage.fresh, count);
        pass = n / 2;
        refuse = 1;
        ssize_t r = loan_stage_fill(&stage, 3 * page, count, &source);
        refusals += refuse == 0;
        refuse = 0;
        assert_true(r == -ENOBUFS || (r > 0 && (size_t)r <= count));
        loan_stage_check(&stage, "no memory, before receiving");
    }
    assert_true(refusals > 7);
    loan_stage_lay(&stage, HOLES);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).pages, 0);
    loan_stage_free(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_PAGED(out_of_memory),
        TEST_OF_PAGED(frames_run_out_without_a_grace_period),
        TEST_OF_PAGED(no_memory_after_receiving),
        TEST_OF_PAGED(no_memory_before_receiving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
