/* SPDX-License-Identifier: BSD-3-Clause */

/* disk_fill: what it offers to receive into, and what becomes of a fill that receives all that
 * was offered, a part of it, or nothing.
 *
 * That everything else works while memory is lent is for the model and the stress tests.
 *
 * Seen to catch: a fresh frame whose rest is not cleared, and one that is swapped in for a blob
 * although it was filled in part. */

#include "support/loan.h"
#include "support/loan_stage.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill_in_part(struct loan_stage *stage, enum loan_ground ground, size_t offset,
                         size_t count, size_t most)
{
    char how[100];
    snprintf(how, sizeof how, "ground %d, %zu of %zu+%zu", (int)ground, most, offset, count);
    loan_stage_lay(stage, ground);
    fill_random(&stage->prng, stage->fresh, count);
    struct source source = {.most = most};
    ssize_t r = loan_stage_fill(stage, offset, count, &source);
    size_t covered = offset % stage->page + count < stage->page ? 0 : 1;
    if (r == -ENOBUFS) {
        assert_ptr_equal(stage->allocator, &allocator_zstd);
        assert_int_not_equal(ground, HOLES);
        assert_true(offset % stage->page != 0 || !covered);
        assert_int_equal(source.calls, 0);
    } else {
        assert_int_equal(source.calls, 1);
        assert_int_equal(r, most < source.offered ? most : source.offered);
        if (ground == HOLES || stage->allocator != &allocator_zstd)
            assert_true(source.offered == count || source.offered >= 500 * KiB - stage->page);
    }
    loan_stage_check(stage, how);
}

static void parts(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t p = stage.page, end = stage.size;
    const size_t offsets[] = {
        0, 1, p - 1, 5 * p, 5 * p + p / 2, end - LOAN_STAGE_ODD, end - LOAN_STAGE_ODD - p + 3};
    const size_t counts[] = {1, p - 1, p, p + 1, 2 * p, 3 * p + 5, 17 * p + 1};
    unsigned n = 0;
    for (enum loan_ground ground = HOLES; ground < GROUNDS; ground++)
        for (size_t i = 0; i < COUNT_OF(offsets); i++)
            for (size_t j = 0; j < COUNT_OF(counts); j++) {
                size_t offset = offsets[i], left = end - offset;
                size_t count = counts[j] < left ? counts[j] : left;
                const size_t mosts[] = {0, 1, p - 1, p, p + 1, count - 1, count};
                for (size_t k = 0; k < COUNT_OF(mosts); k++)
                    if (mosts[k] <= count && (ground != PACKED || n++ % 8 == 0))
                        fill_in_part(&stage, ground, offset, count, mosts[k]);
            }
    loan_stage_free(&stage);
}

static void refusals(void **state)
{
    struct loan_stage stage;
    struct disk_piece piece;
    loan_stage_make(&stage, allocator_of(state));
    loan_stage_lay(&stage, EVERY_OTHER_PAGE);
    struct source source = {.most = SIZE_MAX};
    assert_int_equal(loan_stage_fill(&stage, stage.size, 1, &source), -ENOSPC);
    assert_int_equal(loan_stage_fill(&stage, 1, stage.size, &source), -ENOSPC);
    assert_int_equal(loan_stage_fill(&stage, 1, SIZE_MAX, &source), -ENOSPC);
    assert_int_equal(loan_fill(stage.disk, UINT64_MAX, 2, &source), -ENOSPC);
    assert_int_equal(loan_stage_fill(&stage, 0, 0, &source), 0);
    assert_int_equal(loan_stage_fill(&stage, stage.size, 0, &source), 0);
    assert_int_equal(source.calls, 0);
    source.err = -ECONNRESET;
    assert_int_equal(loan_stage_fill(&stage, 0, 9 * stage.page, &source), -ECONNRESET);
    assert_int_equal(source.calls, 1);
    loan_stage_check(&stage, "after refusals");
    disk_lend_begin(stage.disk);
    assert_int_equal(disk_lend(stage.disk, 0, 0, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, stage.size, 1, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, 1, stage.size, &piece), -EINVAL);
    assert_int_equal(disk_lend(stage.disk, UINT64_MAX, 2, &piece), -EINVAL);
    disk_lend_end(stage.disk);
    loan_stage_free(&stage);
}

static ssize_t soil(void *opaque, struct iovec *iov, int iov_count)
{
    (void)opaque;
    for (int i = 0; i < iov_count; i++)
        memset(iov[i].iov_base, 0xa5, iov[i].iov_len);
    return 0;
}

/* Cells with old bytes come from the pool, and are filled in part.  (A receiver writes the old
 * bytes and reports that it received nothing, which it must not do; over holes this has no other
 * effect.) */
static void recycled_bytes_are_not_seen(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page, recycled = 0;
    memset(stage.fresh, 0x5a, stage.size);
    for (unsigned round = 0; round < 200; round++) {
        size_t lent, most = (size_t)prng_below(&stage.prng, 6 * page);
        size_t offset = 3 * page + (size_t)prng_below(&stage.prng, 3) * (page / 2 - 1);
        struct source source = {.most = round % 4 ? most : most / page * page, .old = 0xa5};
        loan_stage_lay(&stage, HOLES);
        assert_int_equal(disk_fill(stage.disk, 0, 30 * page, &lent, soil, NULL), 0);
        assert_true(loan_stage_fill(&stage, offset, 7 * page, &source) >= 0);
        recycled += source.recycled;
        loan_stage_check(&stage, "recycled");
        loan_stage_write_text(&stage, offset + 2 * page, 2 * page); /* next to the filled bytes */
        loan_stage_check(&stage, "recycled, then written");
    }
    assert_true(recycled > 0); /* else nothing was tested */
    loan_stage_free(&stage);
}

/* The bytes of pages and index. */
static uint64_t cells_of(struct disk *disk)
{
    struct disk_stats stats = stats_of(disk);
    return stats.memory - stats.overhead;
}

static void zeroes_leave_holes(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    struct source all = {.most = SIZE_MAX}, nothing = {.most = 0}, broken = {.err = -EIO};
    assert_int_equal(disk_settle(stage.disk), 0);
    uint64_t memory = cells_of(stage.disk);
    memset(stage.fresh, 0, stage.size);
    for (size_t at = 0; at < 7 * page; at += page / 2 + 1) {
        assert_true(loan_stage_fill(&stage, at, 9 * page, &all) > 0);
        memset(stage.fresh, 1, stage.size);
        assert_int_equal(loan_stage_fill(&stage, at, 9 * page, &nothing), 0);
        assert_int_equal(loan_stage_fill(&stage, at, 9 * page, &broken), -EIO);
        memset(stage.fresh, 0, stage.size);
    }
    assert_true(all_hole(stage.disk, 0, stage.size));
    assert_int_equal(stats_of(stage.disk).pages, 0);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(cells_of(stage.disk), memory); /* no memory for the index either */

    stage.fresh[5 * page + 7] = 1; /* in page 6, as the fill begins in page 1 */
    assert_int_equal(loan_stage_fill(&stage, page, 9 * page, &all), 9 * page);
    assert_true(all_hole(stage.disk, 0, 6 * page));
    assert_true(all_data(stage.disk, 6 * page, page));
    assert_true(all_hole(stage.disk, 7 * page, stage.size - 7 * page));
    loan_stage_check(&stage, "a single byte");

    stage.fresh[5 * page + 7] = 0; /* zeroes over data */
    assert_int_equal(loan_stage_fill(&stage, page, 9 * page, &all), 9 * page);
    loan_stage_check(&stage, "zeroes over a byte");
    loan_stage_free(&stage);
}

static void reserved_pages_stay(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    size_t page = stage.page;
    struct source all = {.most = SIZE_MAX};
    memset(stage.fresh, 0, stage.size);
    assert_int_equal(disk_zero(stage.disk, page, 4 * page, DISK_NO_HOLE), 0);
    assert_int_equal(loan_stage_fill(&stage, 0, 9 * page, &all), 9 * page);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_true(all_data(stage.disk, page, 4 * page));
    fill_text(&stage.prng, stage.fresh, stage.size);
    assert_int_equal(loan_stage_fill(&stage, 2 * page, page, &all), page);
    assert_int_equal(disk_settle(stage.disk), 0);
    assert_int_equal(stats_of(stage.disk).compressed, 0);
    loan_stage_check(&stage, "reserved");
    loan_stage_free(&stage);
}

static void frames_in_a_row_are_one_piece(void **state)
{
    struct loan_stage stage;
    loan_stage_make(&stage, allocator_of(state));
    struct source all = {.most = SIZE_MAX};
    assert_int_equal(disk_zero(stage.disk, 0, stage.size, DISK_NO_HOLE), 0);
    fill_random(&stage.prng, stage.fresh, stage.size);
    ssize_t r = loan_stage_fill(&stage, 0, 16 * stage.page, &all);
    assert_int_equal(r, 16 * stage.page);
    assert_true(
        all.pieces <=
        8); /* the pool hands out half a magazine at a time, and a thread may move to another processor */
    loan_stage_check(&stage, "in a row");
    loan_stage_free(&stage);
}

/* Frames that are out of order as far as possible. */
static void scattered_frames_fill_the_list(void **state)
{
    enum { MANY = 3 * DISK_FILL_IOV_MAX };
    struct disk *disk = disk_made(allocator_of(state), 64 * MiB, 0);
    size_t page = disk_page_size(disk);
    uint8_t *buf = malloc(MANY * page), *back = malloc(MANY * page);
    struct prng prng;
    assert_non_null(buf);
    assert_non_null(back);
    prng_init(&prng, test_seed(), 11);
    fill_random(&prng, buf, MANY * page);
    for (size_t i = 0; i < MANY; i++) {
        size_t at = (i * 2 + i * 2 / MANY) % MANY * page;
        assert_int_equal(disk_write(disk, at, page, buf + at), 0);
    }
    fill_random(&prng, buf, MANY * page);
    struct source source = {.from = buf, .most = SIZE_MAX};
    ssize_t r = loan_fill(disk, 0, MANY * page, &source);
    assert_null(source.wrong);
    assert_true(r > 0 && (size_t)r < MANY * page);
    if (page == 4096)
        assert_int_equal(source.pieces, DISK_FILL_IOV_MAX);
    assert_int_equal(loan_write(disk, (size_t)r, MANY * page - (size_t)r, buf + r, &prng), 0);
    assert_int_equal(loan_read(disk, 0, MANY * page, back), 0);
    assert_memory_equal(buf, back, MANY * page);
    free(buf);
    free(back);
    disk_end(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OF_ALL(parts),
        TEST_OF_ALL(refusals),
        TEST_OF_PAGED(recycled_bytes_are_not_seen),
        TEST_OF_PAGED(zeroes_leave_holes),
        TEST_OF_PAGED(reserved_pages_stay),
        TEST_OF_ALL(frames_in_a_row_are_one_piece),
        TEST_OF_PAGED(scattered_frames_fill_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
